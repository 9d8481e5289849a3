"""In which order the mixing buffer serves the tokens of the text: arithmetic on row lengths, before any vector is read.

An epoch's rows, in a random order, are cut into chunks. The tokens of chunk c fall at random into two halves: window c
is the second half of chunk c - 1 and the first of chunk c, shuffled; of the last chunk all is taken. So every window
but the first mixes two chunks, a chunk is wanted for two windows in a row and never again, and the windows together
hold every token of the text once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from plainspoken.activations.order import derived_generator
from plainspoken.errors import ConfigError


@dataclass(frozen=True)
class Stretch:
    """Places [start, stop) of a window."""

    epoch: int
    window: int
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Epoch:
    """One epoch's chunks and windows: what follows from the rows' lengths, the seed and the epoch's number."""

    tokens: Int[np.ndarray, " rows"]
    """Tokens of text in each row."""
    chunk: int
    """Tokens in a chunk, at most."""
    seed: int
    number: int

    @cached_property
    def rows(self) -> Int[np.ndarray, " rows"]:
        """The rows in the order in which they are read."""
        return torch.randperm(len(self.tokens), generator=self._generator("rows")).numpy()

    @cached_property
    def _cuts(self) -> Int[np.ndarray, " chunks_and_one"]:
        """Chunk c is rows[cuts[c] : cuts[c + 1]]: as many as its tokens allow."""
        ends = np.cumsum(self.tokens[self.rows])
        cuts = [0]
        while cuts[-1] < len(ends):
            before = ends[cuts[-1] - 1] if cuts[-1] else 0
            cuts.append(int(np.searchsorted(ends, before + self.chunk, side="right")))
        return np.array(cuts)

    @cached_property
    def _sizes(self) -> Int[np.ndarray, " chunks"]:
        """Tokens in each chunk."""
        return np.add.reduceat(self.tokens[self.rows], self._cuts[:-1])

    @cached_property
    def ends(self) -> Int[np.ndarray, " chunks"]:
        """Where each window ends, in places from the start of the epoch."""
        return np.cumsum(self._sizes) - self._sizes + [self._early(c) for c in range(self.chunks)]

    @property
    def chunks(self) -> int:
        """How many chunks there are, and windows."""
        return len(self._cuts) - 1

    def rows_of(self, chunk: int) -> Int[np.ndarray, " n"]:
        """The rows of a chunk, in the order in which they are read."""
        return self.rows[self._cuts[chunk] : self._cuts[chunk + 1]]

    def window(self, window: int) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
        """(chunk, token among the chunk's) of each place of a window."""
        parts = [(window, self._split(window)[: self._early(window)])]
        if window:
            parts.append((window - 1, self._split(window - 1)[self._early(window - 1) :]))
        chunks = torch.cat([torch.full_like(tokens, chunk) for chunk, tokens in parts])
        shuffle = torch.randperm(len(chunks), generator=self._generator("window", window))
        return chunks[shuffle], torch.cat([tokens for _, tokens in parts])[shuffle]

    def _early(self, chunk: int) -> int:
        """How many of a chunk's tokens are served in its own window, not the next."""
        size = int(self._sizes[chunk])
        return size if chunk == self.chunks - 1 else size // 2

    def _split(self, chunk: int) -> Int[Tensor, " n"]:
        """A chunk's tokens in a random order: the first half is served early, the rest late."""
        return torch.randperm(int(self._sizes[chunk]), generator=self._generator("split", chunk))

    def _generator(self, *purpose: object) -> torch.Generator:
        return derived_generator("mixing", self.seed, self.number, *purpose)


class MixingOrder:
    """The endless sequence epoch 0, epoch 1, ... of all tokens of some rows, read at any place.

    Raises ConfigError for a chunk that does not hold the longest row.
    """

    def __init__(self, tokens: Int[np.ndarray, " rows"], chunk: int, seed: int) -> None:
        """`tokens`: those of text in each row. `chunk`: tokens in a chunk, at most."""
        longest = int(tokens.max())
        if chunk < longest:
            raise ConfigError(
                f"a mixing buffer of two chunks of {chunk:,} vectors does not hold the longest row, of {longest:,} "
                f"tokens: allow it {2 * longest:,} vectors or more, better a hundred times as many"
            )
        self._tokens, self._chunk, self._seed = tokens, chunk, seed
        self._n = int(tokens.sum())
        self._epoch = self._draw(0)

    def epoch(self, number: int) -> Epoch:
        """The epoch of that number; the latest is kept."""
        if self._epoch.number != number:
            self._epoch = self._draw(number)
        return self._epoch

    def between(self, start: int, stop: int) -> Iterator[Stretch]:
        """Places [start, stop) of the sequence as stretches of windows, in their order."""
        while start < stop:
            number, place = divmod(start, self._n)
            ends = self.epoch(number).ends
            window = int(np.searchsorted(ends, place, side="right"))
            begin = int(ends[window - 1]) if window else 0
            length = min(stop - start, int(ends[window]) - place)
            yield Stretch(number, window, place - begin, place - begin + length)
            start += length

    def _draw(self, number: int) -> Epoch:
        return Epoch(self._tokens, self._chunk, self._seed, number)
