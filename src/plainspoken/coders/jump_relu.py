"""JumpReLU: each latent fires above a learned threshold of its own (Rajamanoharan et al. 2024, arXiv 2407.14435)."""

from jaxtyping import Float
from torch import Tensor

from plainspoken.coders.activation import Activation, above
from plainspoken.coders.code import SparseCode


def encode(pre: Float[Tensor, "n latents"], _: int | None, threshold: Tensor | None) -> SparseCode:
    """ReLU(pre) where it is above the latent's threshold (equation 3)."""
    assert threshold is not None
    return above(pre, threshold)


JUMP_RELU = Activation("jump_relu", threshold="each", learned=True, encode=encode)
