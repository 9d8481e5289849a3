"""How well a latent's weights tell which earlier latents contribute most to it on average.

The latents that are largest by their mean contribution (`means`) are held against those that are largest by a pullback.
(Dunefsky et al., arXiv 2406.11944, section 4.3, and the note of April 2024, where the top 10, 20 and 50 of layer 2
overlap by 30, 25 and 14 % for latents of layer 8 of GPT-2.)

Documents are what varies. Resampled with replacement, the largest of so many are noisier than those of the documents
themselves, so that nearly all resamples overlap less: percentiles of them are no interval. Each document is left out
once instead (a jackknife), and the interval is Student's around the overlap itself, at least one place of the top to
each side. Where means are noisy the overlap of more documents would be larger, so that the truth may lie above the
interval, and hardly ever below it (tests/circuits/test_overlaps.py simulates both).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from plainspoken.circuits.means import MeanAttribution

TOPS = (10, 20, 50)
LEVEL = 0.05
FEWEST = 30
"""Documents in which the latent fires below which no bounds are told: in simulations they held the truth too seldom."""
NOISE = "noise in the means makes an overlap too low, beyond these intervals"
"""What an interval does not hold, to be told beside it."""


@dataclass(frozen=True)
class Overlap:
    """Of the `top` largest latents by the mean, the share that is also among the `top` largest by the pullback.

    `low`, `high`: 95 %; None with fewer than `FEWEST` documents, or with a single one of several pullbacks to vary.
    """

    top: int
    share: float
    low: float | None
    high: float | None


def told_tops(mean: MeanAttribution, tops: Sequence[int] = TOPS) -> list[int]:
    """The tops that an overlap can be told of: less than all latents, and no more than contribute at all.

    Of all latents the largest are the same by any measure; of fewer than `top` that contribute not all places can be
    filled, and the overlap could not come to 1.
    """
    value = mean.mean
    return [top for top in tops if top < len(value) and top <= np.count_nonzero(value)]


def mean_overlap(mean: MeanAttribution, pullback: Float[np.ndarray, " latents"], top: int) -> Overlap:
    """How far the `top` largest latents by the mean are those of the latent's own pullback to that layer.

    Largest are those of most size, whatever their sign (the paper ranks by value, and knows no inhibition). A latent
    whose mean is 0 is none of the largest.
    """
    shares = _shares(mean, pullback[None], top)[:, 0]
    documents = len(mean.firings)
    return _with_bounds(top, shares[0], _jackknifed(shares[1:]), documents, documents - 1)


def control_overlap(mean: MeanAttribution, pullbacks: Float[np.ndarray, "others latents"], top: int) -> Overlap:
    """The same with pullbacks of other latents, averaged; that others might have been drawn is in the bounds."""
    shares, others, documents = _shares(mean, pullbacks, top), len(pullbacks), len(mean.firings)
    if others < 2:
        return Overlap(top, float(shares[0].mean()), None, None)
    variance = _jackknifed(shares[1:].mean(1)) + shares[0].var(ddof=1) / others
    return _with_bounds(top, shares[0].mean(), variance, documents, min(documents, others) - 1, others)


def _shares(
    mean: MeanAttribution, pullbacks: Float[np.ndarray, "n latents"], top: int
) -> Float[np.ndarray, "samples n"]:
    """The overlap with each pullback, of all documents, then without each of them."""
    sums, firings = mean.sums.sum(0), mean.firings.sum()
    every = [sums / firings]
    if len(mean.firings) > 1:
        every += [(sums - out) / (firings - some) for out, some in zip(mean.sums, mean.firings, strict=True)]
    means = np.stack(every)
    chosen = np.zeros(pullbacks.shape, bool)
    np.put_along_axis(chosen, _largest(pullbacks, top), True, axis=1)
    first = _largest(means, top)
    counts = np.take_along_axis(means, first, 1) != 0
    return np.stack([(mine[first] & counts).sum(1) / top for mine in chosen], axis=1)


def _largest(values: Float[np.ndarray, "n latents"], top: int) -> Int[np.ndarray, "n top"]:
    return np.argsort(-np.abs(values), axis=1, kind="stable")[:, :top]


def _jackknifed(without: Float[np.ndarray, " documents"]) -> float:
    """The variance of a statistic by its values without each document."""
    n = len(without)
    return float((n - 1) / n * ((without - without.mean()) ** 2).sum()) if n else 0.0


def _with_bounds(top: int, share: float, variance: float, documents: int, freedom: int, pullbacks: int = 1) -> Overlap:
    """`pullbacks`: over how many the overlap is averaged."""
    if documents < FEWEST:
        return Overlap(top, float(share), None, None)
    # Overlaps come in whole places: where no document by itself moves one, one place either way is still not excluded.
    width = max(float(stats.t.ppf(1 - LEVEL / 2, freedom) * np.sqrt(variance)), 1 / (top * pullbacks))
    return Overlap(top, float(share), max(0.0, float(share) - width), min(1.0, float(share) + width))
