"""ReLU: every latent above zero fires; an L1 penalty in training keeps them few (Dunefsky et al., arXiv 2406.11944)."""

import math

from jaxtyping import Float
from torch import Tensor

from plainspoken.coders.activation import Activation, Gather, above, entries_above, relu
from plainspoken.coders.code import SparseCode
from plainspoken.coders.support import Support


def encode(pre: Float[Tensor, "n latents"], _: int | None, __: Float[Tensor, "..."] | None = None) -> SparseCode:
    """ReLU(pre)."""
    return above(pre, 0.0)


def choose(pre: Float[Tensor, "n latents"], _: int | None, __: Float[Tensor, "..."] | None, ___: Gather) -> Support:
    """Every positive entry."""
    return entries_above(pre, 0.0)


def l1(
    support: Support,
    pre: Float[Tensor, "*nnz"],
    _: Float[Tensor, "..."] | None,
    W_dec: Float[Tensor, "latents d_out"],
    variance: float,
) -> Float[Tensor, ""]:
    """Sum of z ||W_dec[l]||, in standard deviations of y.

    The seed paper's ||z||_1 where decoder rows have norm 1, and unlike that the same when a latent is halved and its
    decoder row doubled (Conerly et al., Anthropic's update of April 2024).
    """
    return (pre.relu() * support.of_latent(W_dec.norm(dim=1))).sum() / math.sqrt(variance)


RELU = Activation("relu", encode, choose, relu, by="threshold", penalty=l1)
