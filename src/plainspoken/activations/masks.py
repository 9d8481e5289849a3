"""Vectors that no coder should learn from: attention sinks, whose norm is many times that of all others.

A few tokens, the first of a text above all, carry activations a hundred times as large as any other (massive
activations: Sun et al., arXiv 2402.17762). They say nothing about the token, and in a mean squared error they outweigh
everything that does. BOS is no token of the text to begin with (`Rows.mask`); the rest are known by their norm.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plainspoken.activations.shares import Share
from plainspoken.errors import ConfigError
from plainspoken.types import Rows


@dataclass(frozen=True)
class NormLimits:
    """The largest norms of x and of y that are trained on at a site.

    Of both, because an FFN's input comes out of a norm layer and is of one length at every token: what marks a sink
    there is the output.
    """

    x: float
    y: float

    def kept(self, norms_x: Float[Tensor, " n"], norms_y: Float[Tensor, " n"]) -> Bool[Tensor, " n"]:
        """True where neither norm is above its limit."""
        return (norms_x <= self.x) & (norms_y <= self.y)


@dataclass(frozen=True)
class MaskCounts:
    """What of the text a coder is trained on, and what not; norms as they were where they were looked at."""

    text: int
    """Tokens of text: neither BOS nor padding."""
    bos: int
    """Rows that start with a BOS token, which is never trained on."""
    examined: int
    """Tokens of text whose norms were looked at to find the limits: all of them, or a sample."""
    outliers: int
    """How many of the examined are masked."""
    median_x: float
    largest_x: float
    median_y: float
    largest_y: float


def norms(x: Float[Tensor, "n d_in"], y: Float[Tensor, "n d_out"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """||x|| and ||y|| of each vector."""
    norms_x = torch.linalg.vector_norm(x, dim=1)
    return norms_x, norms_x if y is x else torch.linalg.vector_norm(y, dim=1)


def find_outliers(
    norms_x: Float[Tensor, " n"], norms_y: Float[Tensor, " n"], factor: float, rows: Rows, share: Share
) -> tuple[NormLimits, MaskCounts]:
    """The limits, `factor` times the median norm of x and of y (0: none), and what they mask of the rows' vectors.

    Medians are exact, over the vectors of all processes. Raises ConfigError for a factor between 0 and 1, which would
    mask what is not even above the median.
    """
    if factor != 0 and not factor >= 1:
        raise ConfigError(f"train.outlier_norm is {factor:g}; use 1 or more (times the median norm), or 0 to mask none")
    examined = int(share.total(torch.tensor(float(len(norms_x)), dtype=torch.float64)))
    medians, largest = (
        [nth_smallest(norms, place, share) for norms in (norms_x, norms_y)]
        for place in ((examined - 1) // 2, examined - 1)
    )
    # Where most outputs are zero nothing can be said to be many times the usual.
    limits = NormLimits(*(factor * median or float("inf") for median in medians))
    masked = int(share.total((~limits.kept(norms_x, norms_y)).sum().double().cpu()))
    bos = int((~rows.mask[:, 0]).sum())
    counts = MaskCounts(rows.token_count, bos, examined, masked, medians[0], largest[0], medians[1], largest[1])
    return limits, counts


def nth_smallest(values: Float[Tensor, " n"], place: int, share: Share) -> float:
    """The value at `place`, from 0, when the non-negative float32 values of all processes are sorted.

    Such floats sort as their bits do, so that two histograms find it exactly, of the upper sixteen bits and then of the
    lower: processes exchange counts, never values. Two calls of `share.total`.
    """
    bits = values.view(torch.int32).long()
    upper, place = _bin_of(bits >> 16, place, share)
    lower, _ = _bin_of(bits[bits >> 16 == upper] & 0xFFFF, place, share)
    return torch.tensor(upper << 16 | lower, dtype=torch.int32).view(torch.float32).item()


def _bin_of(bins: Int[Tensor, " n"], place: int, share: Share) -> tuple[int, int]:
    """The bin in which the `place`-th smallest lies, and its place among those of that bin."""
    ends = share.total(torch.bincount(bins, minlength=2**16).double().cpu()).long().cumsum(0)
    found = int(torch.searchsorted(ends, place, right=True))
    return found, place - (int(ends[found - 1]) if found else 0)
