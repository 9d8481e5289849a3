"""A calibration: for each latent a monotone, piecewise linear curve from a simulator's level to an activation."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from plainspoken.errors import StoreError
from plainspoken.latents.evidence import level_keys
from plainspoken.store import write_atomic

LEVEL_MAX = 9.0


@dataclass(frozen=True, eq=False)
class Calibration:
    """Knots of one curve a latent: x ascends from 0, y never falls; a latent with fewer knots repeats its last.

    Between knots the curve is straight, beyond the last it stays level. `name`: the calibrator's.
    """

    name: str
    x: Float[np.ndarray, "latents knots"]
    y: Float[np.ndarray, "latents knots"]

    @property
    def floor(self) -> Float[np.ndarray, " latents"]:
        """The activation at level 0, where the simulator says nothing."""
        return self.y[:, 0]

    def apply(self, latent: Int[np.ndarray, " n"], level: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """The activation for each (latent, level): n curves looked up at once. Exact at the knots. float32."""
        knots = self.x.shape[1]
        keys = level_keys(np.repeat(np.arange(len(self.x)), knots), self.x.ravel())
        left = np.searchsorted(keys, level_keys(latent, level), side="right") - 1
        last = np.asarray(latent, np.int64) * knots + knots - 1
        right = np.minimum(left + 1, last)
        x, y = self.x.ravel(), self.y.ravel()
        run = x[right] - x[left]
        share = np.divide(level - x[left], run, out=np.zeros(len(left), np.float32), where=run > 0)
        return y[left] + share * (y[right] - y[left])

    def curve(self, latent: int) -> Float[np.ndarray, "2 own_knots"]:
        """One latent's x and y, without the repetitions that fill up the table."""
        knots = np.stack([self.x[latent], self.y[latent]])
        return knots[:, : 1 + int(np.flatnonzero(np.r_[True, np.diff(knots).any(axis=0)])[-1])]

    def with_latents_of(self, other: "Calibration", latents: Int[np.ndarray, " some"]) -> "Calibration":
        """This calibration with the curves of some latents taken from another."""
        knots = max(self.x.shape[1], other.x.shape[1])
        x, y = (np.pad(table, ((0, 0), (0, knots - table.shape[1])), mode="edge") for table in (self.x, self.y))
        for mine, theirs in ((x, other.x), (y, other.y)):
            mine[latents] = np.pad(theirs[latents], ((0, 0), (0, knots - theirs.shape[1])), mode="edge")
        return Calibration(self.name, x, y)

    def save(self, path: Path) -> None:
        """Write the knots as safetensors, atomically."""
        with write_atomic(path) as file:
            file.write(save({"x": self.x, "y": self.y}, {"calibrator": self.name}))

    @staticmethod
    def load(path: Path) -> "Calibration":
        """Read what `save` wrote. Raises StoreError where the file is truncated or holds something else."""
        try:
            with safe_open(path, framework="numpy") as file:
                name = (file.metadata() or {})["calibrator"]
                return Calibration(name, file.get_tensor("x"), file.get_tensor("y"))
        except (SafetensorError, KeyError) as error:
            raise StoreError(f"{path} is no calibration ({error}); remove it and calibrate again") from error


def packed(
    name: str,
    latents: int,
    latent: Int[np.ndarray, " n"],
    x: Float[np.ndarray, " n"],
    y: Float[np.ndarray, " n"],
) -> Calibration:
    """A calibration from a list of knots sorted by latent and x; every latent must have at least one."""
    count = np.bincount(latent, minlength=latents)
    start = np.cumsum(count) - count
    at = start[:, None] + np.minimum(np.arange(count.max()), count[:, None] - 1)
    return Calibration(name, x[at].astype(np.float32), y[at].astype(np.float32))
