"""The conditional mean: monotone regression of the true activation on the level, shrunk where data is thin.

The best prediction in squared error given the level alone. For each latent it minimises, over curves q that never fall,

    sum over levels v of  weight_v (mean_v - q_v)^2  +  n_v (q_v - m)^2,        m the latent's mean activation,

where mean_v is the mean true activation at level v. The second term is a prior of n_v imagined tokens with the latent's
mean at each level (on latents of a real model 1 to 4 tokens predict held-out text best, and it matters little). The
constant curve q = m is among those compared and pays nothing for the prior, so the minimiser never loses to
`mean-latents` in squared error on its own data, whatever n_v. Minimiser: isotonic regression of the shrunk means
(weight_v mean_v + n_v m) / (weight_v + n_v) with weights weight_v + n_v.
"""

import numpy as np
from jaxtyping import Float

from plainspoken.calibrators.calibration import Calibration, packed
from plainspoken.latents.evidence import Evidence

BINS = 32
PRIOR = 2.0
_CHUNK = 2048  # latents regressed at a time: bounds the [latents, bins, bins] array


def fit_conditional_mean(
    evidence: Evidence, maximum: Float[np.ndarray, " latents"], prior: float = PRIOR
) -> Calibration:
    """Isotonic regression per latent on its distinct levels, zeros included by counting.

    `prior`: imagined tokens at each level, 0 for none; of sampled tokens, each as heavy as a token of
    that level is on average, so that a few heavy ones do not pass for many. More than `BINS` distinct levels are
    gathered into bins of about equal weight, the lowest and the highest level alone, with straight lines between the
    bins' mean levels.
    """
    level, weight, total, heaviness, kept = _binned(evidence)
    curve, mean = np.zeros_like(level), evidence.mean[:, None]
    for low in range(0, evidence.latents, _CHUNK):
        part = slice(low, low + _CHUNK)
        imagined = prior * heaviness[part]
        curve[part] = isotonic(total[part] + imagined * mean[part], weight[part] + imagined)
    latent, column = np.nonzero(kept)
    fitted = packed("conditional_mean", evidence.latents, latent, level[latent, column], curve[latent, column])
    return _no_worse_than_mean(fitted, evidence)


def isotonic(
    total: Float[np.ndarray, "latents bins"], weight: Float[np.ndarray, "latents bins"]
) -> Float[np.ndarray, "latents bins"]:
    """The curve that never falls nearest to total / weight in weighted squares, for all latents at once.

    By the min-max formula (Robertson, Wright & Dykstra 1988): q_i = max over a <= i of min over b >= i of the mean of
    a..b. For totals that are not negative; trailing bins without weight repeat the last value, 0 where there is none.
    """
    bins = total.shape[1]
    sums, weights = (np.pad(np.cumsum(table, axis=1), ((0, 0), (1, 0))) for table in (total, weight))
    # [latents, a, b]: sums over the stretch from bin a to bin b.
    stretch_sum = sums[:, None, 1:] - sums[:, :-1, None]
    stretch_weight = weights[:, None, 1:] - weights[:, :-1, None]
    means = np.full(stretch_sum.shape, -np.inf)
    np.divide(stretch_sum, stretch_weight, out=means, where=stretch_weight > 0)
    below = np.tril(np.ones((bins, bins), bool), -1)
    lowest = np.minimum.accumulate(np.where(below, np.inf, means)[:, :, ::-1], axis=2)[:, :, ::-1]
    return np.maximum(np.where(below, -np.inf, lowest).max(axis=1), 0.0)


def _binned(evidence: Evidence) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(mean level, weight, total, mean weight of a token, whether there is such a bin), each [latents, bins]."""
    count = np.diff(evidence.pointer)
    latent, width = evidence.latent, int(min(BINS, count.max()))
    column = np.arange(len(latent)) - evidence.pointer[latent]
    # Weight above level 0 that stands up to the middle of each entry, as a share of the latent's.
    positive = np.where(column > 0, evidence.weight, 0.0)
    ends = np.cumsum(positive)
    start = (ends - positive)[evidence.pointer[:-1]]
    whole = np.maximum(ends[evidence.pointer[1:] - 1] - start, 1e-300)
    share = (ends - 0.5 * positive - start[latent]) / whole[latent]
    gathered = 1 + np.minimum((share * (width - 2)).astype(np.int64), width - 3)
    gathered = np.where(column == 0, 0, np.where(column == count[latent] - 1, width - 1, gathered))
    bin_of = np.where(count[latent] <= width, column, gathered)
    # Bins that stayed empty are closed up, so that a latent's bins are its first columns.
    used = np.zeros((evidence.latents, width), bool)
    used[latent, bin_of] = True
    cell = latent * width + (np.cumsum(used, axis=1) - 1)[latent, bin_of]

    def gather(quantity: np.ndarray) -> np.ndarray:
        return np.bincount(cell, quantity, minlength=evidence.latents * width).reshape(-1, width)

    weight = gather(evidence.weight)
    level = gather(evidence.weight * evidence.level) / np.where(weight > 0, weight, 1.0)
    kept = np.arange(width) < used.sum(axis=1)[:, None]
    # A level without tokens (level 0 of a latent that is never silent) has the prior alone.
    heaviness = np.where(weight > 0, gather(evidence.weight_square) / np.where(weight > 0, weight, 1.0), kept)
    return level, weight, gather(evidence.total), heaviness, kept


def _no_worse_than_mean(fitted: Calibration, evidence: Evidence) -> Calibration:
    """Draw a curve towards the latent's mean where the lines between bins would cost it the guarantee.

    The squared error of m + s (q - m) is a parabola in s; it is below the mean's from 0 to twice its lowest point.
    """
    mean, latent = evidence.mean, evidence.latent
    away = fitted.apply(latent, evidence.level).astype(np.float64) - mean[latent]
    gain = evidence.per_latent((evidence.total - evidence.weight * mean[latent]) * away)
    size = evidence.per_latent(evidence.weight * away**2)
    lowest = np.divide(gain, size, out=np.ones_like(gain), where=size > 0)
    # Half of the way would tie with the mean exactly; rounding to float32 is no reason to draw a curve in.
    share = np.where(lowest < 0.5, np.clip(lowest, 0.0, 1.0), 1.0)[:, None]
    y = np.where(share < 1.0, mean[:, None] + share * (fitted.y - mean[:, None]), fitted.y)
    return Calibration(fitted.name, fitted.x, y.astype(np.float32))
