"""TopK: the k largest latents of each input, the others absent (Gao et al. 2024, arXiv 2406.04093; the paper's)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from plainspoken.coders.activation import Activation, Gather, relu
from plainspoken.coders.code import SparseCode

_GROUP = 16
_WIDE = 4096
"""Latents from which on two small searches are faster than one large."""


def largest(pre: Float[Tensor, "n m"], k: int) -> Int[Tensor, "n k"]:
    """Where the k largest of each row are, in any order.

    In wide rows by groups of 16: the k largest lie in the k groups whose maxima are largest, so that what has to be
    searched are the m / 16 maxima and the 16 k members of those groups. Exact.
    """
    n, m = pre.shape
    if m < _WIDE or m % _GROUP or _GROUP * k >= m // 2 or pre.is_cuda:
        return pre.topk(k, dim=1, sorted=False).indices
    step = m // _GROUP  # a group is every step-th entry, so that maxima are taken of whole vectors
    groups = pre.view(n, _GROUP, step).amax(1).topk(k, dim=1, sorted=False).indices
    members = (groups[:, None, :] + torch.arange(0, m, step)[None, :, None]).view(n, _GROUP * k)
    return members.gather(1, pre.gather(1, members).topk(k, dim=1, sorted=False).indices)


def encode(pre: Float[Tensor, "n latents"], k: int | None, _: Tensor | None = None) -> SparseCode:
    """The k largest of ReLU(pre) in each row; a row with fewer positive ones is filled up with values of 0."""
    assert k is not None
    indices = largest(pre, k)
    return SparseCode(pre.gather(1, indices).relu(), indices)


def choose(pre: Float[Tensor, "n m"], k: int | None, _: Tensor | None, __: Gather) -> Int[Tensor, "n k"]:
    """The k largest of each row."""
    assert k is not None
    return largest(pre, k)


TOPK = Activation("topk", encode, choose, relu, by="row")
