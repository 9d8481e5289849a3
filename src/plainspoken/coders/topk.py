"""TopK: the k largest latents of each input, the others absent (Gao et al. 2024, arXiv 2406.04093; the paper's)."""

from jaxtyping import Float, Int
from torch import Tensor

from plainspoken.coders.activation import Activation, Gather, relu
from plainspoken.coders.code import SparseCode
from plainspoken.coders.largest import largest


def encode(pre: Float[Tensor, "n latents"], k: int | None, _: Float[Tensor, "..."] | None = None) -> SparseCode:
    """The k largest of ReLU(pre) in each row; a row with fewer positive ones is filled up with values of 0."""
    assert k is not None
    values, indices = largest(pre, k)
    return SparseCode(values.relu(), indices)


def choose(pre: Float[Tensor, "n m"], k: int | None, _: Float[Tensor, "..."] | None, __: Gather) -> Int[Tensor, "n k"]:
    """The k largest of each row."""
    assert k is not None
    return largest(pre, k)[1]


TOPK = Activation("topk", encode, choose, relu, by="row")
