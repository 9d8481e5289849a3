"""TopK: the k largest latents of each input, the others absent (Gao et al. 2024, arXiv 2406.04093; the paper's)."""

from jaxtyping import Float
from torch import Tensor

from plainspoken.coders.activation import Activation
from plainspoken.coders.code import SparseCode
from plainspoken.coders.largest import largest


def topk(pre: Float[Tensor, "n latents"], k: int | None, _: Tensor | None = None) -> SparseCode:
    """The k largest of ReLU(pre) in each row; a row with fewer positive ones is filled up with values of 0."""
    assert k is not None
    values, indices = largest(pre, k)
    return SparseCode(values.relu(), indices)


TOPK = Activation("topk", threshold="none", learned=False, encode=topk)
