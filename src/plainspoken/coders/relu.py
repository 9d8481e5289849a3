"""ReLU: every latent above zero fires; an L1 penalty in training keeps them few (Dunefsky et al., arXiv 2406.11944)."""

from jaxtyping import Float
from torch import Tensor

from plainspoken.coders.activation import Activation, above
from plainspoken.coders.code import SparseCode


def encode(pre: Float[Tensor, "n latents"], _: int | None, __: Tensor | None = None) -> SparseCode:
    """ReLU(pre)."""
    return above(pre, 0.0)


RELU = Activation("relu", threshold="none", learned=False, encode=encode)
