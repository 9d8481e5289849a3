"""The order in which training sees its vectors: every epoch a new shuffle that follows from the seed alone."""

import hashlib

import torch
from jaxtyping import Int
from torch import Tensor


def derived_generator(*parts: object) -> torch.Generator:
    """A CPU generator whose seed is a hash of the parts: streams for different purposes never meet."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


class EpochOrder:
    """The endless sequence shuffle 0, shuffle 1, ... of n vectors, read at any place.

    Shuffle e depends on (seed, e) only, so a run that resumes needs to know nothing but how far it had come.
    """

    def __init__(self, n: int, seed: int) -> None:
        self.n, self._seed, self._epoch = n, seed, -1
        self._shuffle = torch.empty(0, dtype=torch.long)

    def between(self, start: int, stop: int) -> Int[Tensor, " batch"]:
        """Places [start, stop) of the sequence; a batch may reach over the end of an epoch."""
        parts = []
        while start < stop:
            epoch, offset = divmod(start, self.n)
            if epoch != self._epoch:
                generator = derived_generator("epoch", self._seed, epoch)
                self._epoch, self._shuffle = epoch, torch.randperm(self.n, generator=generator)
            part = self._shuffle[offset : offset + stop - start]
            parts.append(part)
            start += len(part)
        return torch.cat(parts)
