"""What there is to say of each latent in numbers, over all the tokens of some rows."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from plainspoken.latents.table import FiringTable


@dataclass(frozen=True, eq=False)
class LatentStatistics:
    """Per latent, in float64. Means are over every token of the text, those where the latent is silent included."""

    tokens: int
    firings: Int[np.ndarray, " latents"]
    rate: Float[np.ndarray, " latents"]
    """firings / tokens."""
    mean: Float[np.ndarray, " latents"]
    """E[z]."""
    second_moment: Float[np.ndarray, " latents"]
    """E[z²]."""
    maximum: Float[np.ndarray, " latents"]
    """Largest activation; 0 for a latent that never fires."""
    decoder_norm: Float[np.ndarray, " latents"]
    """||W_dec[l]||."""

    @property
    def mass(self) -> Float[np.ndarray, " latents"]:
        """E[z] ||W_dec[l]||: how far a latent moves the output, on average."""
        return self.mean * self.decoder_norm

    @property
    def dead(self) -> float:
        """The share of latents that never fire on these rows."""
        return float((self.firings == 0).mean())


def statistics(table: FiringTable, W_dec: Float[Tensor, "latents d_out"]) -> LatentStatistics:
    """The statistics of a table, read a latent at a time."""
    sums = np.zeros((3, table.latents))
    for index in range(table.latents):
        sums[:, index] = moments(table.latent(index)[1])
    return of_moments(table, sums, W_dec)


def moments(value: Float[np.ndarray, " n"]) -> tuple[float, float, float]:
    """(sum, sum of squares, maximum) of one latent's activations; zeros of one that never fires."""
    if not len(value):
        return 0.0, 0.0, 0.0
    value = value.astype(np.float64)
    return float(value.sum()), float(np.square(value).sum()), float(value.max())


def of_moments(
    table: FiringTable, sums: Float[np.ndarray, "3 latents"], W_dec: Float[Tensor, "latents d_out"]
) -> LatentStatistics:
    """The statistics of a table whose latents have these `moments`."""
    tokens, firings = table.rows.token_count, np.diff(table.pointer)
    return LatentStatistics(
        tokens=tokens,
        firings=firings,
        rate=firings / tokens,
        mean=sums[0] / tokens,
        second_moment=sums[1] / tokens,
        maximum=sums[2],
        decoder_norm=W_dec.detach().double().norm(dim=1).cpu().numpy(),
    )
