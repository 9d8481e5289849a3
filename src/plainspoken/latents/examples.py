"""Text where a latent fires, drawn from every height of its activation.

A window is known by the first of its firings: its index in the latent's list. That makes windows easy to draw. Of the
firings drawn at random keep those that are the first of their window: every window has exactly one, so that however
many firings a window holds, it is as likely as any other.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from plainspoken.latents.table import FiringTable

FEW = 2**14
"""Firings of a latent of which every window is looked at."""
SAMPLE = 2**10
"""Windows that are drawn of a latent with more firings."""
_DRAWN_AT_ONCE = 2**12


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

    The groups are of all the windows in which the latent fires, or, of a latent with more than `FEW` firings, of
    `SAMPLE` windows drawn with replacement, each as likely as any other: the time no longer grows with the firings.
    Only the groups' borders are then estimates: the share of all windows below one that should have q below it has a
    standard error of at most sqrt(q (1 - q) / SAMPLE), 1.6 percentage points at the median. Whoever wants more than a
    quarter of such a sample has every window looked at, however long that takes.
    (arXiv 2501.18838, section 3: 4 windows of 32 tokens from each decile.)
    """
    # Not as memory maps: slices of those are slow to make.
    position, value = map(np.asarray, table.latent(latent))
    if not len(position):
        return []
    t = table.rows.tokens.shape[1]
    if len(position) > FEW and 4 * per_quantile * quantiles <= SAMPLE:
        first = _draw_windows(position, t, window, generator)
        maxima = _maxima(position, value, first, t, window)
    else:
        first = np.flatnonzero(np.diff(_window_start(position, t, window), prepend=-1))
        maxima = np.maximum.reduceat(value, first)
    order = np.argsort(maxima, kind="stable")
    chosen: list[Example] = []
    for quantile, group in enumerate(np.array_split(order, quantiles)):
        drawn = generator.choice(group, min(per_quantile, len(group)), replace=False)
        chosen += [_example(table, position, value, int(first[i]), window, quantile) for i in sorted(drawn)]
    return chosen


def _window_start(position: Int[np.ndarray, "*n"], t: int, window: int) -> Int[np.ndarray, "*n"]:
    """The position at which each position's window starts: names the window."""
    return position - position % t % window


def _draw_windows(
    position: Int[np.ndarray, " n"], t: int, window: int, generator: np.random.Generator
) -> Int[np.ndarray, " windows"]:
    """The distinct windows of `SAMPLE` independent draws, all windows equally likely; each as its first firing.

    A draw is kept with probability windows / firings >= 1 / window.
    """
    found, kept = [], 0
    while kept < SAMPLE:
        drawn = generator.integers(len(position), size=_DRAWN_AT_ONCE)
        before = position[drawn - 1]
        first = drawn[(before < _window_start(position[drawn], t, window)) | (drawn == 0)]
        found.append(first)
        kept += len(first)
    return np.unique(np.concatenate(found)[:SAMPLE])


def _maxima(
    position: Int[np.ndarray, " n"],
    value: Float[np.ndarray, " n"],
    first: Int[np.ndarray, " windows"],
    t: int,
    window: int,
) -> Float[np.ndarray, " windows"]:
    """The latent's largest activation in each window."""
    # A window has at most `window` firings, one after another; beyond the last firing, the last again.
    near = np.minimum(first[:, None] + np.arange(window), len(position) - 1)
    start = _window_start(position[first], t, window)
    stop = np.minimum(start + window, (start // t + 1) * t)
    return np.where(position[near] < stop[:, None], value[near], 0).max(axis=1)


def _example(
    table: FiringTable,
    position: Int[np.ndarray, " n"],
    value: Float[np.ndarray, " n"],
    first: int,
    window: int,
    quantile: int,
) -> Example:
    row, column = divmod(int(position[first]), table.rows.tokens.shape[1])
    low = column - column % window
    text = low + np.flatnonzero(table.rows.mask[row, low : low + window])
    start, stop = int(text[0]), int(text[-1]) + 1
    fires = position[first : first + window] - (row * table.rows.tokens.shape[1] + start)
    fires = fires[fires < stop - start]
    values = np.zeros(stop - start, np.float32)
    values[fires] = value[first : first + len(fires)]
    return Example(row, start, table.rows.tokens[row, start:stop], values, quantile)
