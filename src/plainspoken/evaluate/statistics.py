"""Uncertainty, paired by document: bootstrap intervals, tests of "better" with Holm's correction, tests of "alike".

Tokens of one document are not independent, so documents are what is resampled, and every condition is resampled with
the same documents. "Alike" is shown by an equivalence test with a stated margin, never by a failure to show "better".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

LEVEL = 0.05


def resamples(documents: int, draws: int, seed: int) -> Int[np.ndarray, "draws documents"]:
    """How often each document stands in each of the bootstrap's samples, as many documents as there are."""
    return np.random.default_rng([seed, 0xB007]).multinomial(documents, np.full(documents, 1 / documents), size=draws)


def samples(documents: int, draws: int, seed: int) -> Float[np.ndarray, "values documents"]:
    """How often each document counts: every one once in the first row, then the bootstrap's samples.

    None are drawn from fewer than two documents: each would be the text itself again, and an interval of no width.
    """
    if documents < 2:
        return np.ones((1, documents))
    return np.concatenate([np.ones((1, documents)), resamples(documents, draws, seed)])


def interval(values: Float[np.ndarray, " draws"]) -> tuple[float, float] | None:
    """The central 95 % of bootstrap values. None without values, or where more than 2.5 % are not defined (NaN).

    A share that could lie in either tail must not be left out in silence; a smaller one moves the bounds little.
    """
    defined = values[np.isfinite(values)]
    if not len(values) or len(defined) < (1 - LEVEL / 2) * len(values):
        return None
    low, high = np.quantile(defined, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def with_interval(name: str, values: Float[np.ndarray, " values"]) -> dict[str, float | None]:
    """The estimate (the first value) and its bounds (of the others), as `NAME`, `NAME_low`, `NAME_high`.

    None where it is not defined, and bounds None where they are not: with fewer than two documents they never are.
    """
    if not np.isfinite(values[0]):
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    low, high = interval(values[1:]) or (None, None)
    return {name: float(values[0]), f"{name}_low": low, f"{name}_high": high}


def with_intervals(values: Mapping[str, Float[np.ndarray, " values"]]) -> dict[str, float | None]:
    """The same of several, by their names."""
    return {key: number for name, each in values.items() for key, number in with_interval(name, each).items()}


def recovered(
    baseline: Float[np.ndarray, " values"], coder: Float[np.ndarray, " values"], condition: Float[np.ndarray, " values"]
) -> Float[np.ndarray, " values"]:
    """(baseline - condition) / (baseline - coder); NaN where the coder is no better than the baseline."""
    gap = np.asarray(baseline - coder, np.float64)
    return np.divide(baseline - condition, gap, out=np.full(gap.shape, np.nan), where=gap > 0)


@dataclass(frozen=True)
class PairedDifference:
    """A difference of mean loss per token between two conditions, from documents measured under both.

    `error`: standard error of the ratio of sums with documents as clusters (linearised), `freedom`: documents - 1.
    With documents of equal length this is the paired t-test of their mean losses.
    """

    difference: float
    error: float
    freedom: int

    def p_below(self, bound: float = 0.0) -> float | None:
        """One-sided p value of the claim "the difference is below the bound". None with fewer than two documents."""
        return self._p(bound - self.difference)

    def p_above(self, bound: float = 0.0) -> float | None:
        """The same for "above"."""
        return self._p(self.difference - bound)

    def p_within(self, margin: float) -> float | None:
        """Of the claim "between -margin and margin": the larger of two one-sided tests (Schuirmann 1987)."""
        below, above = self.p_below(margin), self.p_above(-margin)
        return None if below is None or above is None else max(below, above)

    def _p(self, distance: float) -> float | None:
        if self.freedom < 1:
            return None
        if self.error == 0:
            return 0.0 if distance > 0 else 1.0
        return float(stats.t.sf(distance / self.error, self.freedom))


def paired_difference(
    first: Float[np.ndarray, " documents"],
    second: Float[np.ndarray, " documents"],
    tokens: Float[np.ndarray, " documents"],
) -> PairedDifference:
    """First minus second, from each document's summed losses and number of tokens."""
    documents, total = len(tokens), tokens.sum()
    apart = first - second
    difference = float(apart.sum() / total)
    left = apart - difference * tokens
    variance = float((left**2).sum()) * documents / max(documents - 1, 1)
    return PairedDifference(difference, float(np.sqrt(variance) / total), documents - 1)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction (1979) over those that are defined."""
    defined = [(p, i) for i, p in enumerate(p_values) if p is not None]
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(sorted(defined)):
        largest = max(largest, min(1.0, p * (len(defined) - rank)))
        adjusted[i] = largest
    return adjusted
