"""What an activation is: how pre-activations become a sparse code, and what of that can be learned."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from plainspoken.coders.code import SparseCode


@dataclass(frozen=True)
class Activation:
    """A kind of sparsity: a file with one of these and a line in the registry."""

    name: str
    threshold: Literal["none", "one", "each"]
    """Below which a latent counts as silent: none, one number for all latents, or one for each."""
    learned: bool
    """Whether the threshold is a parameter with a gradient; else it is measured in training and kept."""
    encode: Callable[[Float[Tensor, "n latents"], int | None, Float[Tensor, "..."] | None], SparseCode]
    """(pre-activations, k, threshold) -> the code, each row by itself: what the coder is after training."""


def above(pre: Float[Tensor, "n latents"], threshold: Float[Tensor, "..."] | float) -> SparseCode:
    """ReLU(pre) where it is above the threshold (one, or one a latent); rows are filled up with values of 0."""
    z = torch.where(pre > threshold, pre, 0).relu()
    most = max(1, int((z > 0).sum(1).max())) if len(z) else 1
    values, indices = z.topk(most, dim=1, sorted=False)
    return SparseCode(values, indices)
