"""What an activation is: how pre-activations become a sparse code, in training and after it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from plainspoken.coders.code import SparseCode
from plainspoken.coders.support import Dense, Sparse, Support

Gather = Callable[[Shaped[Tensor, " mine"]], Shaped[Tensor, " all"]]
"""What all processes that share a batch hold of a vector, one after the other; alone: what one holds itself."""


def alone(vector: Shaped[Tensor, " n"]) -> Shaped[Tensor, " n"]:
    """The `Gather` of a process that shares its batch with nobody."""
    return vector


Choose = Callable[
    [Float[Tensor, "n columns"], int | None, Float[Tensor, "..."] | None, Gather], Int[Tensor, "n k"] | Support
]
Value = Callable[[Float[Tensor, "*nnz"], Float[Tensor, "..."] | None], Float[Tensor, "*nnz"]]
Penalty = Callable[
    [Support, Float[Tensor, "*nnz"], Float[Tensor, "..."] | None, Float[Tensor, "latents d_out"], float],
    Float[Tensor, ""],
]


@dataclass(frozen=True)
class Activation:
    """A kind of sparsity: a file with one of these and a line in the registry."""

    name: str
    encode: Callable[[Float[Tensor, "n latents"], int | None, Float[Tensor, "..."] | None], SparseCode]
    """(pre-activations, k, threshold) -> the code, each row by itself: what the coder is after training."""
    choose: Choose
    """(pre-activations, k, threshold, gather) -> the entries of a training batch through which anything flows."""
    value: Value
    """(pre-activations at entries, their thresholds) -> z at the entries, differentiable in both."""
    by: Literal["row", "batch", "threshold"]
    """What chooses entries: being among the largest of their row or of the batch, or a threshold (and a penalty)."""
    threshold: Literal["none", "one", "each"] = "none"
    """Below which a latent counts as silent: none, one number for all latents, or one for each."""
    learned: bool = False
    """Whether the threshold is a parameter with a gradient; else it is measured in training and kept."""
    start: float = 0.0
    """The threshold before training."""
    penalty: Penalty | None = None
    """(support, pre-activations at entries, their thresholds, W_dec, variance of y) -> what training holds down, summed
    over the rows."""


def relu(pre: Float[Tensor, "*nnz"], _: Float[Tensor, "..."] | None) -> Float[Tensor, "*nnz"]:
    """The value of most: ReLU(pre)."""
    return pre.relu()


def above(pre: Float[Tensor, "n latents"], threshold: Float[Tensor, "..."] | float) -> SparseCode:
    """ReLU(pre) where it is above the threshold (one, or one a latent); rows are filled up with values of 0."""
    z = torch.where(pre > threshold, pre, 0).relu()
    most = max(1, int((z > 0).sum(1).max())) if len(z) else 1
    values, indices = z.topk(most, dim=1, sorted=False)
    return SparseCode(values, indices)


def entries_above(pre: Float[Tensor, "n latents"], threshold: Float[Tensor, "..."] | float) -> Support:
    """The entries above the threshold, as a list where they are few, else all entries there are."""
    mask = pre > threshold
    return Dense(pre.shape[1]) if int(mask.sum()) > DENSE * mask.numel() else Sparse.where(mask)


DENSE = 1 / 16
"""The share of entries from which on dense products are faster than sums over a list (on two cores at d = 768)."""
