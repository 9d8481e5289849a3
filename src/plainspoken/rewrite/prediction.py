"""Predicted activations: a simulation and the calibration that turns its levels into a latent's values."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plainspoken.calibrators import Calibration
from plainspoken.errors import RunError
from plainspoken.types import Simulation


@dataclass(frozen=True)
class Coverage:
    """(latent, token) pairs that a simulator was asked about, and those of them that it answered."""

    asked: int
    answered: int

    @property
    def share(self) -> float | None:
        """The share answered; None where nothing was asked."""
        return self.answered / self.asked if self.asked else None

    def __add__(self, other: "Coverage") -> "Coverage":
        return Coverage(self.asked + other.asked, self.answered + other.answered)


@dataclass(frozen=True, eq=False)
class Taught:
    """Of each latent, how many pairs of the calibrate part were asked about, and how many of those got no answer."""

    asked: Int[np.ndarray, " latents"]
    unanswered: Int[np.ndarray, " latents"]

    def with_latents_of(self, other: "Taught", latents: Int[np.ndarray, " some"]) -> "Taught":
        """The same with some latents' counts taken from another."""
        theirs = np.isin(np.arange(len(self.asked)), latents)
        return Taught(np.where(theirs, other.asked, self.asked), np.where(theirs, other.unanswered, self.unanswered))


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the explanations of a site say about some rows, in activations.

    `calibration`: level to activation; `sizes`: level to the activation of a latent that is known to fire.
    A latent without an explanation (`explained` False) is predicted to be exactly 0 everywhere, and so is one at a
    token where the simulator gave no answer for it: not the calibration's value for level 0, which is what was found
    where the simulator says "silent", but the 0 of zero-latents, so that what is not answered wins nothing back.
    `coverage` counts such pairs, `calibrated` those that the calibration was to learn from, by `taught` (None: it
    learns from none). What is asked of the tokens that the simulator was not asked about raises RunError.
    """

    simulation: Simulation
    calibration: Calibration
    sizes: Calibration
    explained: Bool[np.ndarray, " latents"]
    taught: Taught | None = None

    def values(
        self, rows: Int[np.ndarray, " b"], spliced: Bool[np.ndarray, "b t"], *, sizes: bool = False
    ) -> Float[Tensor, "n latents"]:
        """Activations (`sizes`: those of latents known to fire) at the n spliced positions of the rows, in order."""
        curves = self.sizes if sizes else self.calibration
        place, latent, entry = self._listed(rows, spliced)
        floor = torch.from_numpy(np.where(self.explained, curves.floor, np.float32(0)).astype(np.float32))
        out = floor.repeat(int(spliced.sum()), 1)
        found = torch.from_numpy((self._sizes if sizes else self._values)[entry])
        out.view(-1)[torch.from_numpy(place * len(floor) + latent)] = found
        missing = self.simulation.missing_position, self.simulation.missing_latent
        silent, unanswered, _ = self._at(*missing, self._missing_row_ends, rows, spliced)
        out.view(-1)[torch.from_numpy(silent * len(floor) + unanswered)] = 0.0
        return out

    def heard(self, rows: Int[np.ndarray, " b"], spliced: Bool[np.ndarray, "b t"]) -> Bool[Tensor, "n latents"]:
        """Where the simulator says anything: a level above 0."""
        place, latent, _ = self._listed(rows, spliced)
        out = torch.zeros(int(spliced.sum()), self.simulation.latents, dtype=torch.bool)
        out.view(-1)[torch.from_numpy(place * self.simulation.latents + latent)] = True
        return out

    def coverage(self, spliced: Bool[np.ndarray, "rows t"], chosen: Bool[np.ndarray, " latents"]) -> Coverage:
        """Of the chosen latents with an explanation, how many pairs with a spliced token were asked and answered.

        What a gate dropped was not asked.
        """
        counted = chosen & self.explained
        asked, lacks = (int(pairs[counted].sum()) for pairs in self.simulation.pairs_by_latent(spliced))
        return Coverage(asked, asked - lacks)

    def calibrated(self, chosen: Bool[np.ndarray, " latents"]) -> Coverage:
        """Of the chosen latents with an explanation, how many pairs that calibrate were asked about and answered."""
        if self.taught is None:
            return Coverage(0, 0)
        counted = chosen & self.explained
        asked, lacks = (int(pairs[counted].sum()) for pairs in (self.taught.asked, self.taught.unanswered))
        return Coverage(asked, asked - lacks)

    def with_latents_of(self, other: "Prediction", latents: Int[np.ndarray, " some"]) -> "Prediction":
        """This prediction with some latents predicted as another does, over the same rows."""
        explained = self.explained.copy()
        explained[latents] = other.explained[latents]
        return Prediction(
            self.simulation.with_latents_of(other.simulation, latents),
            self.calibration.with_latents_of(other.calibration, latents),
            self.sizes.with_latents_of(other.sizes, latents),
            explained,
            self.taught and other.taught and self.taught.with_latents_of(other.taught, latents),
        )

    @cached_property
    def digests(self) -> tuple[bytes, ...]:
        """For each latent a hash of all that its predicted values depend on."""
        order = np.argsort(self.simulation.latent, kind="stable")
        ends = np.searchsorted(self.simulation.latent[order], np.arange(self.simulation.latents + 1))
        position = self.simulation.position[order].astype(np.int64)
        level = self.simulation.level[order].astype(np.float32)
        missing, missing_latent = self.simulation.missing_position.astype(np.int64), self.simulation.missing_latent
        found = []
        for latent, (low, high) in enumerate(pairwise(ends)):
            digest = hashlib.sha256(b"explained" if self.explained[latent] else b"not")
            for curves in (self.calibration, self.sizes):
                digest.update(curves.curve(latent).tobytes())
            digest.update(position[low:high].tobytes())
            digest.update(level[low:high].tobytes())
            if (silent := missing[missing_latent == latent]).size:
                digest.update(b"missing" + silent.tobytes())
            found.append(digest.digest())
        return tuple(found)

    @cached_property
    def _values(self) -> Float[np.ndarray, " n"]:
        return self._applied(self.calibration)

    @cached_property
    def _sizes(self) -> Float[np.ndarray, " n"]:
        return self._applied(self.sizes)

    def _applied(self, curves: Calibration) -> Float[np.ndarray, " n"]:
        found = curves.apply(self.simulation.latent, self.simulation.level.astype(np.float32))
        return np.where(self.explained[self.simulation.latent], found, np.float32(0)).astype(np.float32)

    @cached_property
    def _row_ends(self) -> Int[np.ndarray, " rows_1"]:
        return np.searchsorted(self.simulation.position, np.arange(self.simulation.rows + 1) * self.simulation.t)

    @cached_property
    def _missing_row_ends(self) -> Int[np.ndarray, " rows_1"]:
        starts = np.arange(self.simulation.rows + 1) * self.simulation.t
        return np.searchsorted(self.simulation.missing_position, starts)

    def _listed(
        self, rows: Int[np.ndarray, " b"], spliced: Bool[np.ndarray, "b t"]
    ) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
        """The simulation's entries at spliced positions: (which of the n positions, latent, entry)."""
        self._require_asked(rows, spliced)
        return self._at(self.simulation.position, self.simulation.latent, self._row_ends, rows, spliced)

    def _at(
        self,
        position: Int[np.ndarray, " e"],
        latent: Int[np.ndarray, " e"],
        ends: Int[np.ndarray, " rows_1"],
        rows: Int[np.ndarray, " b"],
        spliced: Bool[np.ndarray, "b t"],
    ) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
        """Of pairs sorted by position those at spliced positions: (which of the n positions, latent, pair).

        The rows of `spliced` may be cut shorter than the simulation's, at their end. `ends`: where each row's begin.
        """
        entry = np.concatenate([np.arange(int(ends[row]), int(ends[row + 1])) for row in rows])
        count = ends[rows + 1] - ends[rows]
        column = position[entry] - np.repeat(rows * self.simulation.t, count)
        inside = column < spliced.shape[1]
        flat = np.repeat(np.arange(len(rows)) * spliced.shape[1], count)[inside] + column[inside]
        hit = spliced.ravel()[flat]
        entry = entry[inside][hit]
        return (np.cumsum(spliced.ravel()) - 1)[flat[hit]], latent[entry].astype(np.int64), entry

    def _require_asked(self, rows: Int[np.ndarray, " b"], spliced: Bool[np.ndarray, "b t"]) -> None:
        asked = self.simulation.asked
        if asked is None:
            return
        unknown = np.argwhere(spliced & ~asked[rows, : spliced.shape[1]])
        if len(unknown):
            row, column = int(rows[unknown[0, 0]]), int(unknown[0, 1])
            raise RunError(
                f"the simulator was not asked about {len(unknown)} of the tokens to rewrite (row {row}, token {column} "
                "is the first): a token not asked about is unknown, not level 0; simulate with the evaluate.positions "
                "that are evaluated, with --force simulate"
            )


def permuted(simulation: Simulation, permutation: Int[np.ndarray, " latents"]) -> Simulation:
    """The simulation with explanations handed round: latent l gets what was said about latent permutation[l]."""
    return simulation.permuted(permutation)


def shuffle(explained: Bool[np.ndarray, " latents"], seed: int) -> Int[np.ndarray, " latents"] | None:
    """A permutation of the explained latents that leaves none its own explanation (one cycle through all of them).

    None where fewer than two are explained: nobody has another's explanation to take, and the identity is no control.
    """
    order = np.random.default_rng([seed, 0x5F1E]).permutation(np.flatnonzero(explained))
    if len(order) < 2:
        return None
    permutation = np.arange(len(explained))
    permutation[order] = np.roll(order, 1)
    return permutation
