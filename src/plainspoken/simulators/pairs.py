"""Which (position, latent) pairs a language model is asked about, and in which order."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from plainspoken.types import Pairs, Rows


@dataclass(frozen=True, eq=False)
class ToAsk:
    """The pairs of every latent with a sentence and every token asked about, or those of them that `only` lists.

    `latents`: those with a sentence, ascending; `positions` (row * t + column): tokens of the text that are asked
    about, ascending.
    """

    latents: Int[np.ndarray, " l"]
    positions: Int[np.ndarray, " p"]
    only: Pairs | None

    @classmethod
    def of(
        cls, sentences: Iterable[int], rows: Rows, asked: Bool[np.ndarray, "row t"] | None, only: Pairs | None
    ) -> "ToAsk":
        """Arguments as `Simulate` is given them. BOS and padding are no text: nothing is asked about them."""
        latents = np.array(sorted(sentences), np.int64)
        positions = np.flatnonzero(rows.mask if asked is None else rows.mask & asked)
        if only is not None:
            kept = np.isin(only.position, positions) & np.isin(only.latent, latents)
            only = Pairs(only.position[kept].astype(np.int64), only.latent[kept].astype(np.int64))
        return cls(latents, positions, only)

    def __len__(self) -> int:
        return len(self.latents) * len(self.positions) if self.only is None else len(self.only)

    def by_latent(self) -> Iterator[tuple[int, Int[np.ndarray, " p"]]]:
        """Each latent with its positions, ascending; latents without any are left out."""
        if self.only is None:
            yield from ((latent, self.positions) for latent in self.latents.tolist() if len(self.positions))
            return
        order = np.argsort(self.only.latent, kind="stable")
        yield from _runs(self.only.latent[order], self.only.position[order])

    def by_batch(
        self, size: int
    ) -> Iterator[tuple[Int[np.ndarray, " b"], Iterator[tuple[int, Int[np.ndarray, " l"]]]]]:
        """Batches of so many latents, ascending, each with its positions, and at each those of the latents asked about.

        All latents with a sentence are in a batch, whatever `only` lists; positions without any of them are left out.
        """
        if self.only is None:
            for batch in batches(self.latents, size):
                yield batch, ((position, batch) for position in self.positions.tolist())
            return
        order = np.argsort(self.only.latent, kind="stable")
        latent, position = self.only.latent[order], self.only.position[order]
        for batch in batches(self.latents, size):
            low, high = np.searchsorted(latent, batch[0]), np.searchsorted(latent, batch[-1], "right")
            here = low + np.argsort(position[low:high], kind="stable")
            yield batch, _runs(position[here], latent[here])

    def by_row(self, t: int) -> Iterator[tuple[int, list[tuple[int, Int[np.ndarray, " p"]]]]]:
        """Each row with its latents and the positions of each, all ascending; `t`: tokens in a row."""
        if self.only is None:
            for row, positions in _runs(self.positions // t, self.positions):
                yield row, [(latent, positions) for latent in self.latents.tolist()]
            return
        for row, places in _runs(self.only.position // t, np.arange(len(self.only))):
            order = places[np.argsort(self.only.latent[places], kind="stable")]
            yield row, list(_runs(self.only.latent[order], self.only.position[order]))


def batches(latents: Iterable[int] | Int[np.ndarray, " l"], size: int) -> Iterator[Int[np.ndarray, " b"]]:
    """Latents in batches of so many, ascending; the last may be smaller."""
    ordered = np.array(sorted(latents), np.int64)
    return (ordered[first : first + size] for first in range(0, len(ordered), size))


def _runs(key: Int[np.ndarray, " n"], value: Int[np.ndarray, " n"]) -> Iterator[tuple[int, Int[np.ndarray, " m"]]]:
    """Each key, ascending, with the values that stand beside it."""
    keys, first = np.unique(key, return_index=True)
    ends = np.append(first, len(key))[1:]  # none of no keys
    for one, low, high in zip(keys.tolist(), first.tolist(), ends.tolist(), strict=True):
        yield one, value[low:high]
