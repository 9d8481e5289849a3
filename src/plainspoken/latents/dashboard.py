"""What a dashboard shows of every latent's firings: how often, how strongly, and on which text, in one pass.

The table lies sorted by latent, so one walk over it, each latent's firings read once and then left, gives statistics,
histograms and examples of all; memory grows with what is shown, not with the firings.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from plainspoken.latents.examples import Example, examples
from plainspoken.latents.statistics import LatentStatistics, moments, of_moments
from plainspoken.latents.table import FiringTable
from plainspoken.latents.windows import Windows

EVERY = 64
"""Latents between two calls of `progress`."""


@dataclass(frozen=True)
class Shown:
    """How much of each latent is shown."""

    bands: int = 5
    """Groups of equal size of the windows in which it fires, by their maximum; the last is the strongest."""
    per_band: int = 3
    """Windows drawn at random from each band, and of the strongest of all."""
    window: int = 32
    """Tokens of a window."""
    bins: int = 20
    """Of the histogram, from 0 to the latent's maximum."""


@dataclass(frozen=True, eq=False)
class BandExamples:
    """Windows of text of all latents, in columns: latent l's are [pointer[l], pointer[l + 1]).

    Window e is `row[e]`'s tokens from column `start[e]` on: entries [text[e], text[e + 1]) of `token` and `value`, the
    latent's activation at each, 0 where it is silent.
    """

    pointer: Int[np.ndarray, " latents_1"]
    row: Int[np.ndarray, " windows"]
    start: Int[np.ndarray, " windows"]
    band: Int[np.ndarray, " windows"]
    text: Int[np.ndarray, " windows_1"]
    token: Int[np.ndarray, " entries"]
    value: Float[np.ndarray, " entries"]

    def of(self, latent: int) -> list[Example]:
        """The windows of one latent."""
        found = []
        for window in range(int(self.pointer[latent]), int(self.pointer[latent + 1])):
            entries = slice(int(self.text[window]), int(self.text[window + 1]))
            row, start, band = (int(each[window]) for each in (self.row, self.start, self.band))
            found.append(Example(row, start, self.token[entries], self.value[entries], band))
        return found

    @staticmethod
    def joined(by_latent: list[list[Example]]) -> "BandExamples":
        """The windows of each latent, one after another."""
        flat = [example for found in by_latent for example in found]
        return BandExamples(
            pointer=_ends([len(found) for found in by_latent]),
            row=np.array([example.row for example in flat], np.int32),
            start=np.array([example.start for example in flat], np.int32),
            band=np.array([example.quantile for example in flat], np.int32),
            text=_ends([len(example.tokens) for example in flat]),
            token=np.concatenate([np.zeros(0, np.int32), *(example.tokens for example in flat)]).astype(np.int32),
            value=np.concatenate([np.zeros(0, np.float32), *(example.values for example in flat)]),
        )


@dataclass(frozen=True, eq=False)
class Activity:
    """What the firings of all latents over some rows look like.

    `histogram[l, b]`: firings of latent l with an activation in [b, b + 1) / bins of its maximum, the maximum itself in
    the last bin; a row sums to the latent's firings. `strongest`: the windows with the largest maxima, the largest
    first, of no band (0); None in files that were written before there were any. `examples`: drawn at random within
    each band, the lowest first.
    """

    statistics: LatentStatistics
    histogram: Int[np.ndarray, "latents bins"]
    examples: BandExamples
    strongest: BandExamples | None


def activity(
    table: FiringTable,
    W_dec: Float[Tensor, "latents d_out"],
    shown: Shown,
    seed: int,
    progress: Callable[[int], object] | None = None,
) -> Activity:
    """Statistics, histogram and examples of every latent of a table.

    Latent l's examples are `examples(table, l, shown.per_band, shown.bands, shown.window, generator_of(seed, l))`: they
    do not depend on which other latents there are. Its strongest windows are as many as are drawn of a band. `progress`
    is told how many more latents are done.
    """
    sums = np.zeros((3, table.latents))
    histogram = np.zeros((table.latents, shown.bins), np.int64)
    found: list[list[Example]] = []
    strongest: list[list[Example]] = []
    windows = Windows(table, shown.window)
    for latent in range(table.latents):
        value = np.asarray(table.latent(latent)[1])
        sums[:, latent] = moments(value)
        histogram[latent] = _histogram(value, shown.bins)
        generator = generator_of(seed, latent)
        found.append(examples(table, latent, shown.per_band, shown.bands, shown.window, generator))
        strongest.append(windows.strongest(latent, shown.per_band))
        if progress is not None and ((latent + 1) % EVERY == 0 or latent + 1 == table.latents):
            progress((latent % EVERY) + 1)
    statistics = of_moments(table, sums, W_dec)
    return Activity(statistics, histogram, BandExamples.joined(found), BandExamples.joined(strongest))


def generator_of(seed: int, latent: int) -> np.random.Generator:
    """What a latent's examples are drawn with."""
    return np.random.default_rng([seed, latent])


def _histogram(value: Float[np.ndarray, " n"], bins: int) -> Int[np.ndarray, " bins"]:
    if not len(value):
        return np.zeros(bins, np.int64)
    # In float32 a value just below the maximum may be scaled onto the end: it belongs to the last bin, as that does.
    place = (value * np.float32(bins / float(value.max()))).astype(np.int64)
    return np.bincount(np.minimum(place, bins - 1), minlength=bins)


def _ends(lengths: list[int]) -> Int[np.ndarray, " n_1"]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.array(lengths, np.int64))])
