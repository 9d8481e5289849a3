"""Mean and variance of a site's vectors: what FVU is measured against, and what units are made of."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plainspoken.activations.shares import Share

_BLOCK = 2**16
"""Vectors summed together: what lies in mapped files is never in memory as a whole, in float64 least of all."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Of a site's inputs x and outputs y, summed in float64 and centred once, over all the vectors that they are of."""

    mean_x: Float[Tensor, " d_in"]
    mean_y: Float[Tensor, " d_out"]
    variance_x: float
    """mean ||x - mean x||²."""
    variance_y: float
    """mean ||y - mean y||²: the denominator of FVU."""
    vectors: int
    """How many vectors these are the moments of."""


def moments(x: Float[Tensor, "n d_in"], y: Float[Tensor, "n d_out"], kept: Bool[Tensor, " n"], share: Share) -> Moments:
    """The moments of the kept vectors of all processes, of which x, y are this one's.

    Equal in every process, and up to the rounding of float64 whatever their number. Two calls of `share.total`.
    """
    tables = (x,) if y is x else (x, y)
    sums = [_sum(table, kept) for table in tables]
    total = share.total(torch.cat([*sums, kept.sum().double().cpu()[None]]))
    vectors = total[-1].item()
    means = [(mean / vectors).float() for mean in total[:-1].split([table.shape[1] for table in tables])]
    squares = torch.stack([_squares(table, kept, mean) for table, mean in zip(tables, means, strict=True)])
    variances = [square.item() / vectors for square in share.total(squares)]
    return Moments(means[0], means[-1], variances[0], variances[-1], int(vectors))


def _sum(table: Float[Tensor, "n d"], kept: Bool[Tensor, " n"]) -> Float[Tensor, " d"]:
    """Sum of the kept vectors."""
    total = torch.zeros(table.shape[1], dtype=torch.float64)
    for block in _blocks(table, kept):
        total += block.sum(0).cpu()
    return total


def _squares(table: Float[Tensor, "n d"], kept: Bool[Tensor, " n"], mean: Float[Tensor, " d"]) -> Float[Tensor, ""]:
    """Sum of ||v - mean||² over the kept vectors."""
    mean, total = mean.to(table.device), torch.zeros((), dtype=torch.float64)
    for block in _blocks(table, kept):
        total += (block - mean).square().sum().cpu()
    return total


def _blocks(table: Float[Tensor, "n d"], kept: Bool[Tensor, " n"]) -> Iterator[Float[Tensor, "m d"]]:
    """The kept vectors, a block at a time, in float64."""
    for block, here in zip(table.split(_BLOCK), kept.split(_BLOCK), strict=True):
        yield block[here].double()
