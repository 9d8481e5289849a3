"""A simulation as a scorer: each measure's mean over a site's latents, documents weighing as they are drawn anew.

Every measure follows from sums that a document adds to. So each latent's sums are taken document by document, once, and
a draw of documents is a product with them; nothing of size tokens x latents or tokens x draws is ever built.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt
from scipy.sparse import csr_array

from plainspoken.latents.evidence import level_keys
from plainspoken.latents.paired import Paired
from plainspoken.scorers.judged import MEASURES, Values
from plainspoken.scorers.simulation import YES, Apply
from plainspoken.types import Rows

GROUPS = 64
"""Levels of a latent that are told apart for the AUPRC: of more, neighbours with as many firings share a group."""
_AT_ONCE = 32
"""Latents whose sums are multiplied out at a time: bounds the [latents x groups, draws] array."""


@dataclass(frozen=True, eq=False)
class SimulationMeans:
    """Of each measure a value a draw, NaN where it is not defined: the mean over the latents that have it.

    `own`: of the simulation; `control`: of the same latents by another's levels; `above`: the difference on the latents
    that have the measure in both. The last two are None without a control.
    """

    own: Values
    control: Values | None
    above: Values | None


def simulation_means(
    own: Paired,
    control: Paired | None,
    rows: Rows,
    latents: Int[np.ndarray, " some"],
    apply: Apply,
    weights: Float[np.ndarray, "draws documents"],
) -> SimulationMeans:
    """Means over these latents (ascending). `apply`: levels to activations, by the latent's own calibration in both."""
    sides = [_latent_values(paired, rows, latents, apply, weights) for paired in (own, control) if paired is not None]
    means = {name: _Mean(len(weights)) for name in ("own", "control", "above")}
    for values in zip(*sides, strict=True):
        means["own"].add(values[0])
        if len(values) > 1:
            means["control"].add(values[1])
            means["above"].add({name: values[0][name] - values[1][name] for name in MEASURES})
    found = {name: mean.finish() for name, mean in means.items()}
    return SimulationMeans(**found) if control is not None else SimulationMeans(found["own"], None, None)


class _Mean:
    """The mean of values as they come, those that are not defined left out."""

    def __init__(self, draws: int) -> None:
        self._total, self._count = ({name: np.zeros(draws) for name in MEASURES} for _ in range(2))

    def add(self, values: Mapping[str, Float[np.ndarray, "some draws"]]) -> None:
        for name in MEASURES:
            defined = np.isfinite(values[name])
            self._total[name] += np.where(defined, values[name], 0.0).sum(axis=0)
            self._count[name] += defined.sum(axis=0)

    def finish(self) -> Values:
        with np.errstate(invalid="ignore"):  # NaN where no latent has it
            return {name: self._total[name] / self._count[name] for name in MEASURES}


def _latent_values(
    paired: Paired,
    rows: Rows,
    latents: Int[np.ndarray, " some"],
    apply: Apply,
    weights: Float[np.ndarray, "draws documents"],
) -> Iterator[Mapping[str, Float[np.ndarray, "few draws"]]]:
    """Every measure of a few latents after the other."""
    t, documents = rows.tokens.shape[1], len(rows.keys)
    column = np.full(paired.latents, -1)
    column[latents] = np.arange(len(latents))

    def sorted_columns(position: np.ndarray, latent: np.ndarray, *more: np.ndarray) -> tuple[np.ndarray, ...]:
        order = np.argsort(column[latent], kind="stable")
        order = order[column[latent][order] >= 0]
        where = position[order]
        return (
            column[latent[order]],
            rows.document[where // t].astype(np.int64),
            paired.weight[where],
            *(each[order] for each in more),
        )

    heard = sorted_columns(paired.heard_position, paired.heard_latent, paired.heard_level)
    true = sorted_columns(paired.true_position, paired.true_latent, paired.true_level, paired.true_value)
    lost = sorted_columns(paired.missing_position, paired.missing_latent)
    tokens = np.bincount(np.repeat(rows.document, t), paired.weight, minlength=documents)
    for low in range(0, len(latents), _AT_ONCE):
        some = latents[low : low + _AT_ONCE]

        def few(columns: tuple[np.ndarray, ...], low: int = low, count: int = len(some)) -> tuple[np.ndarray, ...]:
            first, last = np.searchsorted(columns[0], (low, low + count))
            return columns[0][first:last] - low, *(each[first:last] for each in columns[1:])

        yield _few_values(few(heard), few(true), few(lost), tokens, some, apply, weights)


def _few_values(
    heard: tuple[np.ndarray, ...],
    true: tuple[np.ndarray, ...],
    lost: tuple[np.ndarray, ...],
    tokens: Float[np.ndarray, " documents"],
    latents: Int[np.ndarray, " few"],
    apply: Apply,
    weights: Float[np.ndarray, "draws documents"],
) -> Mapping[str, Float[np.ndarray, "few draws"]]:
    """`heard`: (column, document, weight, level) of levels above 0; `true`: the same of firings, and their values."""
    few, documents = len(latents), len(tokens)
    column, document, weight, level = heard
    at, of, size, told, value = true
    value = value.astype(np.float64)

    def summed(where: np.ndarray, owner: np.ndarray, quantity: np.ndarray) -> Float[np.ndarray, "few documents"]:
        cells = np.bincount(where * documents + owner, quantity, minlength=few * documents)
        return cells.reshape(few, documents).astype(np.float64, copy=False)  # of nothing bincount gives integers

    def drawn(sums: Float[np.ndarray, "few documents"]) -> Float[np.ndarray, "few draws"]:
        return sums @ weights.T

    whole_here = tokens - summed(*lost)
    heard_here, fired_here = summed(column, document, weight), summed(at, of, size)
    whole, positive = drawn(whole_here), drawn(fired_here)
    hit, yes = drawn(summed(at, of, size * (told >= YES))), drawn(summed(column, document, weight * (level >= YES)))
    negative = whole - positive
    # Sums of weights that are no whole numbers may leave a hair.
    defined = (positive > 1e-9 * whole) & (negative > 1e-9 * whole)

    def share(part: np.ndarray, of: np.ndarray) -> Float[np.ndarray, "few draws"]:
        return np.divide(part, of, out=np.full(part.shape, np.nan), where=defined)

    # Centred on the mean of what was said and of what is true, so that sums of squares keep their digits.
    said, told_said = apply(latents[column], level).astype(np.float64), apply(latents[at], told).astype(np.float64)
    floor = apply(latents, np.zeros(few, np.float32)).astype(np.float64)
    everywhere = np.maximum(whole_here.sum(axis=1), 1e-300)
    silent_here = whole_here - heard_here
    middle = (np.bincount(column, weight * said, minlength=few) + silent_here.sum(axis=1) * floor) / everywhere
    away, told_away, floor_away = said - middle[column], told_said - middle[at], (floor - middle)[:, None]
    one = drawn(summed(column, document, weight * away) + silent_here * floor_away)
    square = drawn(summed(column, document, weight * away**2) + silent_here * floor_away**2)
    total, total_square = drawn(summed(at, of, size * value)), drawn(summed(at, of, size * value**2))
    together = drawn(summed(at, of, size * value * told_away))
    return {
        "auprc": share(_precision_sum(heard, true, few, whole, positive, weights), positive),
        "f1": share(2 * hit, positive + yes),
        "correlation": np.where(defined, _pearson(whole, one, square, total, total_square, together), np.nan),
        "balanced_accuracy": (share(hit, positive) + share(negative - (yes - hit), negative)) / 2,
    }


def _pearson(
    whole: np.ndarray,
    one: np.ndarray,
    square: np.ndarray,
    total: np.ndarray,
    total_square: np.ndarray,
    together: np.ndarray,
) -> Float[np.ndarray, "few draws"]:
    """From sums of what was said, of what is true and of both; NaN where one of them does not vary."""
    whole = np.maximum(whole, 1e-300)
    spread, true = square - one**2 / whole, total_square - total**2 / whole
    # What rounding leaves of something that does not vary is far below what centring would have had to remove.
    varies = (spread > 1e-9 * square) & (true > 1e-9 * total_square)
    root = np.sqrt(np.where(varies, spread * true, 1.0))
    return np.where(varies, np.clip((together - one * total / whole) / root, -1.0, 1.0), np.nan)


def _precision_sum(
    heard: tuple[np.ndarray, ...],
    true: tuple[np.ndarray, ...],
    few: int,
    whole: Float[np.ndarray, "few draws"],
    positive: Float[np.ndarray, "few draws"],
    weights: Float[np.ndarray, "draws documents"],
) -> Float[np.ndarray, "few draws"]:
    """For each latent the sum over its firings of the precision among all tokens with their level or a higher one."""
    column, document, weight, level = heard
    at, of, size, told = true[:4]
    louder = told > 0
    at, of, size, told = at[louder], of[louder], size[louder], told[louder]
    group, group_of = _grouped(level_keys(column, level), level_keys(at, told), size, few)
    groups = int(max(group.max(initial=0), group_of.max(initial=0))) + 1

    def drawn(where: np.ndarray, owner: np.ndarray, quantity: np.ndarray) -> Float[np.ndarray, "few groups draws"]:
        sums = csr_array((quantity, (where, owner)), shape=(few * groups, weights.shape[1]))
        return np.asarray(sums @ weights.T).reshape(few, groups, -1)

    hits = drawn(at * groups + group_of, of, size)
    hit, named = np.cumsum(hits, axis=1), np.cumsum(drawn(column * groups + group, document, weight), axis=1)
    found = (hits * np.divide(hit, named, out=np.zeros_like(hit), where=named > 0)).sum(axis=1)
    # Of firings at level 0 every token of the text stands at their level or above.
    return found + (positive - hit[:, -1]) * np.divide(positive, whole, out=np.zeros_like(whole), where=whole > 0)


def _grouped(
    heard: UInt[np.ndarray, " n"], true: UInt[np.ndarray, " m"], size: Float[np.ndarray, " m"], few: int
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
    """The group of every level that was said, and of the level at every firing: 0 for a latent's highest.

    `heard`, `true`: `level_keys` of column and level. Each level has a group of its own where there are few.
    """
    keys, place = np.unique(heard, return_inverse=True)
    column = (keys >> np.uint64(32)).astype(np.int64)
    stop = np.cumsum(np.bincount(column, minlength=few))
    rank = stop[column] - 1 - np.arange(len(keys))
    place_of = np.searchsorted(keys, true)
    fired = np.bincount(place_of, size, minlength=len(keys))
    ends = np.concatenate([np.zeros(1), np.cumsum(fired)])
    above = ends[stop[column]] - ends[1:]  # the firings at a higher level
    start = np.concatenate([np.zeros(1, np.int64), stop[:-1]])
    all_of = np.maximum(ends[stop] - ends[start], 1e-300)
    shared = np.minimum((above / all_of[column] * GROUPS).astype(np.int64), GROUPS - 1)
    group = np.where((stop - start)[column] > GROUPS, shared, rank)
    return group[place], group[place_of]
