"""The k largest entries of each row, without looking closely at most of them."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

_SORTED_PART = 64
"""From rows of 64 k entries on, torch's top-k on a CPU keeps a heap of k; below, it partitions, which is slower."""


def largest(entries: Float[Tensor, "n m"], k: int) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """(values, indices) of each row's k largest entries, in no order, as `topk(k, sorted=False)` gives them.

    Long rows on a CPU are searched in two steps. Cut a row into groups, and take the k groups with the largest maxima:
    those maxima are k entries no smaller than anything outside these groups, so the k largest of the row are the k
    largest of these groups (where entries tie, others of the same value may be named). The maxima are one vectorised
    pass; torch's own search copies every entry beside its index first.
    """
    groups = _groups(entries.shape[1], k)
    if groups == entries.shape[1] or not entries.is_cpu:
        values, indices = entries.topk(k, dim=1, sorted=False)
        return values, indices
    # A group is every groups-th entry: so the maxima run along the rows as they lie in memory.
    chosen = entries.unflatten(1, (-1, groups)).amax(1).topk(k, dim=1, sorted=False).indices
    steps = torch.arange(0, entries.shape[1], groups)
    members = (chosen.unsqueeze(2) + steps).flatten(1)
    values, among = entries.gather(1, members).topk(k, dim=1, sorted=False)
    return values, members.gather(1, among)


def _groups(m: int, k: int) -> int:
    """Into how many groups a row of m entries is cut: m halved while it can be; m itself where that is too little."""
    groups = m
    while groups % 2 == 0 and groups // 2 >= _SORTED_PART * k:
        groups //= 2
    return groups if groups <= m // 4 else m
