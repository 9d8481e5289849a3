"""Which rows are read by which of several processes: whole forward passes, so that all of them stay the same ones."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from plainspoken.errors import ConfigError

Total = Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]]
"""A float64 tensor on the CPU to its sum over all processes, the same bits in each of them."""


def only_mine(partial: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The sum over all processes where there is but one."""
    return partial


@dataclass(frozen=True)
class Share:
    """Process `rank` of `world`, and how they add up what each of them knows a part of.

    Every process calls `total` equally often, in the same order and on tensors of the same shapes. Raises ConfigError
    for a rank that is not among the processes, or several processes that cannot add up.
    """

    rank: int = 0
    world: int = 1
    total: Total = only_mine

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise ConfigError(f"there is no process {self.rank} of {self.world}; ranks go from 0 to {self.world - 1}")
        if self.world > 1 and self.total is only_mine:
            raise ConfigError(f"{self.world} processes share the vectors; pass the `total` that sums over all of them")


ALONE = Share()


class Portion:
    """The tokens of a sequence of rows that are one process's own, and where each of them lies among its own.

    The rows are read `batch_rows` at a time, and of these batches every `world`-th is a process's. As a vector's last
    bits depend on what else is in its forward pass, it has the same bits whichever process, of however many, reads it.
    """

    def __init__(self, tokens: Int[np.ndarray, " rows"], batch_rows: int, share: Share) -> None:
        """`tokens`: those of text in each row of the sequence."""
        rows = len(tokens)
        self.batches = [
            slice(first, min(first + batch_rows, rows))
            for first in range(share.rank * batch_rows, rows, share.world * batch_rows)
        ]
        """The rows of each of this process's forward passes."""
        counts = torch.from_numpy(tokens).long()
        own = torch.zeros_like(counts)
        for batch in self.batches:
            own[batch] = counts[batch]
        self._ends = counts.cumsum(0)
        self._mine = own > 0
        self._shift = (own.cumsum(0) - own) - (self._ends - counts)
        self.size = int(own.sum())
        """Tokens that are this process's own."""

    def local(self, places: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Places among all the sequence's tokens to places among one's own; -1 for what another process has."""
        row = torch.searchsorted(self._ends, places, right=True)
        return torch.where(self._mine[row], places + self._shift[row], -1)
