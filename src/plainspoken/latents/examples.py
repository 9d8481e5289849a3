"""Text where a latent fires, drawn from every height of its activation."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from plainspoken.latents.table import FiringTable


@dataclass(frozen=True, eq=False)
class Example:
    """A window of one row: tokens [start, start + n) with the latent's activation at each, 0 where it is silent."""

    row: int
    start: int
    tokens: Int[np.ndarray, " n"]
    values: Float[np.ndarray, " n"]
    quantile: int
    """0: among the windows with the lowest maxima."""


def examples(
    table: FiringTable, latent: int, per_quantile: int, quantiles: int, window: int, generator: np.random.Generator
) -> list[Example]:
    """`per_quantile` windows from each of `quantiles` equal groups of windows sorted by their maximum, lowest first.

    Rows are cut into windows of `window` tokens at fixed places, so that no two examples overlap; BOS and padding are
    left out of them, so the last of a row may be shorter. A quantile with fewer windows gives what it has. Drawn
    without replacement from the generator: equal seeds, equal examples.
    (arXiv 2501.18838, section 3: 4 windows of 32 tokens from each decile.)
    """
    position, value = table.latent(latent)
    if not len(position):
        return []
    cells, maxima = _cells(position, value, table.rows.tokens.shape[1], window)
    order = np.argsort(maxima, kind="stable")
    chosen: list[Example] = []
    for quantile, group in enumerate(np.array_split(order, quantiles)):
        drawn = generator.choice(group, min(per_quantile, len(group)), replace=False)
        chosen += [
            _example(table, position, value, (int(cells[i, 0]), int(cells[i, 1])), window, quantile)
            for i in sorted(drawn)
        ]
    return chosen


def _cells(
    position: Int[np.ndarray, " n"], value: Float[np.ndarray, " n"], t: int, window: int
) -> tuple[Int[np.ndarray, "cells 2"], Float[np.ndarray, " cells"]]:
    """(row, start) of every window in which the latent fires, and its largest activation there."""
    row, column = np.divmod(np.asarray(position), t)
    start = column // window * window
    first = np.flatnonzero(np.diff(row * t + start, prepend=-1))
    return np.stack([row[first], start[first]], axis=1), np.maximum.reduceat(value, first)


def _example(
    table: FiringTable,
    position: Int[np.ndarray, " n"],
    value: Float[np.ndarray, " n"],
    cell: tuple[int, int],
    window: int,
    quantile: int,
) -> Example:
    row, low = cell
    text = low + np.flatnonzero(table.rows.mask[row, low : low + window])
    start, stop = int(text[0]), int(text[-1]) + 1
    flat = row * table.rows.tokens.shape[1]
    found = slice(*np.searchsorted(position, (flat + start, flat + stop)))
    values = np.zeros(stop - start, np.float32)
    values[position[found] - flat - start] = value[found]
    return Example(row, start, table.rows.tokens[row, start:stop], values, quantile)
