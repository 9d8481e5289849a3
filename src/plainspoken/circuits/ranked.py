"""The largest products of rows with columns, row by row, in blocks: the whole matrix of products is never held."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

BLOCK = 2**22
"""Products held at a time: 16 MB in float32, however large the vocabulary and however many the latents."""
ACROSS = 2**13
"""Columns taken at a time: a copy of so many is made where the model's weights are in half precision."""


@dataclass(frozen=True, eq=False)
class Ranked:
    """For each row k columns, best first, and the products there."""

    index: Int[np.ndarray, "n k"]
    value: Float[np.ndarray, "n k"]


def ranked(
    rows: Float[Tensor, "n d"],
    columns: Sequence[Float[Tensor, "_ d"]],
    k: int,
    by: Sequence[Callable[[Tensor], Tensor]],
    centred: bool = False,
    kept: Bool[Tensor, " columns"] | None = None,
    entering: Callable[[Tensor], Tensor] | None = None,
) -> list[Ranked]:
    """For each measure in `by` the k products row · column that are largest by it; columns count on over the matrices.

    centred: products less their mean over all columns of their matrix. kept: the columns, over all matrices, that may
    be among the k (None: all). entering: what becomes of columns before they are multiplied, some at a time; not with
    centred. Computed in blocks: what is held at a time does not grow with rows x columns.
    """
    nothing = torch.zeros(len(rows), 0, dtype=torch.long, device=rows.device)
    best = [Best(rows.new_zeros(len(rows), 0), nothing) for _ in by]
    first = 0
    for matrix in columns:
        mean = rows @ matrix.mean(0, dtype=rows.dtype) if centred else None
        for piece in matrix.split(ACROSS):
            ids = torch.arange(first, first + len(piece), device=rows.device)
            ids = ids if kept is None else ids[kept[ids]]
            some = piece.to(rows)[ids - first]
            best = _with_piece(best, rows, some if entering is None else entering(some), mean, ids, k, by)
            first += len(piece)
    return [Ranked(each.index.cpu().numpy().astype(np.int32), each.value.float().cpu().numpy()) for each in best]


@dataclass(frozen=True, eq=False)
class Best:
    """The largest so far of each row."""

    value: Float[Tensor, "n m"]
    index: Int[Tensor, "n m"]

    def with_products(
        self, products: Float[Tensor, "n c"], ids: Int[Tensor, " c"], k: int, measure: Callable[[Tensor], Tensor]
    ) -> "Best":
        """The k largest of these and of products with the columns `ids`."""
        here = measure(products).topk(min(k, products.shape[1]), dim=1).indices
        value = torch.cat([self.value, products.gather(1, here)], 1)
        index = torch.cat([self.index, ids[here]], 1)
        kept = measure(value).topk(min(k, value.shape[1]), dim=1).indices
        return Best(value.gather(1, kept), index.gather(1, kept))


def _with_piece(
    best: Sequence[Best],
    rows: Float[Tensor, "n d"],
    piece: Float[Tensor, "c d"],
    mean: Float[Tensor, " n"] | None,
    ids: Int[Tensor, " c"],
    k: int,
    by: Sequence[Callable[[Tensor], Tensor]],
) -> list[Best]:
    """Each measure's largest, with those of the rows with some more columns: a block of rows at a time."""
    found: list[list[Best]] = [[] for _ in by]
    for some in torch.arange(len(rows), device=rows.device).split(max(1, BLOCK // max(1, len(piece)))):
        products = rows[some] @ piece.T
        if mean is not None:
            products -= mean[some, None]
        for each, old, measure in zip(found, best, by, strict=True):
            each.append(Best(old.value[some], old.index[some]).with_products(products, ids, k, measure))
    return [Best(torch.cat([p.value for p in parts]), torch.cat([p.index for p in parts])) for parts in found]
