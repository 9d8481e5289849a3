"""A sparse code: which latents fire at each input and how strongly, without a dense [n, latents] array."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from plainspoken.coders.support import Sparse


@dataclass(frozen=True, eq=False)
class SparseCode:
    """The latents of n inputs, at most k each. A value of 0 says that the latent beside it is absent.

    Within a row every index stands at most once; the order of a row's entries means nothing.
    """

    values: Float[Tensor, "n k"]
    indices: Int[Tensor, "n k"]
    support: Sparse | None = None
    """The indices with their sorting, shared by whoever differentiates through this code."""
