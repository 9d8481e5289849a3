"""How well each latent is simulated: correlation, AUPRC, F1 and what the yes and the no are worth, against the truth.

From the sums in `Evidence` alone, so that every token counts and none is written down. A latent for which a measure is
not defined (no true firing, or a level that never changes) has none: it is left out of means, and counted.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float, Int

from plainspoken.latents.evidence import Evidence

Apply = Callable[[Int[np.ndarray, " n"], Float[np.ndarray, " n"]], Float[np.ndarray, " n"]]
"""A calibration's `apply`: activations for (latent, level)."""


@dataclass(frozen=True, eq=False)
class Measure:
    """One measure for each latent, and where it is defined."""

    values: Float[np.ndarray, " latents"]
    defined: Bool[np.ndarray, " latents"]

    def of(self, latent: int) -> float | None:
        """The latent's value; None where there is none."""
        return float(self.values[latent]) if self.defined[latent] else None

    @property
    def mean(self) -> float | None:
        """Over the latents that have it; None where none has."""
        return float(self.values[self.defined].mean()) if self.defined.any() else None

    @property
    def undefined(self) -> int:
        """How many latents have none."""
        return int((~self.defined).sum())

    def ranking(self) -> Float[np.ndarray, " latents"]:
        """Values to sort by: latents without one come after all others."""
        return np.where(self.defined, self.values, -np.inf)


@dataclass(frozen=True, eq=False)
class SimulationScores:
    """`correlation`: Pearson's, of the level (or the calibrated activation) with the true activation, over all tokens.

    A yes is a level of `YES` or more. `sensitivity`: share of true firings with a yes; `specificity`: share of silent
    tokens without one; `balanced_accuracy`: the mean of the two (chance 0.5). `f1`: of precision and recall of the yes.
    `auprc`: average precision of the level as a detector of firing (1 is perfect, the firing rate is chance).
    """

    correlation: Measure
    sensitivity: Measure
    specificity: Measure
    auprc: Measure
    f1: Measure
    balanced_accuracy: Measure


YES = 0.5
"""The lowest level that says that a latent fires: it rounds to 1. An expected level is hardly ever exactly 0."""
MEASURES: tuple[str, ...] = tuple(field.name for field in fields(SimulationScores))
"""The names of the measures."""
SHOWN = MEASURES[:4]
"""Those that are shown latent by latent; the others follow from them, and from the rate."""


def score_simulation(evidence: Evidence, apply: Apply | None = None) -> SimulationScores:
    """Score every latent. `apply` (a calibration's) turns levels into activations for the correlation.

    The others ask only whether the simulator says yes, and in which order it ranks the tokens.
    """
    fired, silent = evidence.per_latent(evidence.fired), evidence.per_latent(evidence.weight - evidence.fired)
    yes = (evidence.level >= YES).astype(np.float64)
    hit, said = evidence.per_latent(evidence.fired * yes), evidence.per_latent(evidence.weight * yes)
    sensitivity = _ratio(hit, fired)
    specificity = _ratio(evidence.per_latent((evidence.weight - evidence.fired) * (1.0 - yes)), silent)
    both = sensitivity.defined & specificity.defined
    balanced = (sensitivity.values + specificity.values) / 2
    return SimulationScores(
        correlation=_correlation(evidence, apply),
        sensitivity=sensitivity,
        specificity=specificity,
        auprc=_ratio(_precision_sum(evidence), fired),
        f1=_ratio(np.where(fired > 0, 2 * hit, 0.0), np.where(fired > 0, fired + said, 0.0)),
        balanced_accuracy=Measure(np.where(both, balanced, 0.0), both),
    )


def _ratio(part: np.ndarray, whole: np.ndarray) -> Measure:
    defined = whole > 0
    return Measure(np.divide(part, whole, out=np.zeros_like(whole), where=defined), defined)


def _correlation(evidence: Evidence, apply: Apply | None) -> Measure:
    latent, weight = evidence.latent, evidence.weight
    said = (evidence.level if apply is None else apply(latent, evidence.level)).astype(np.float64)
    tokens = np.maximum(evidence.tokens, 1e-300)
    away = said - (evidence.per_latent(weight * said) / tokens)[latent]
    # Centred on the level, so that rare firings do not drown in the difference of two large sums.
    spread = evidence.per_latent(weight * away**2)
    truth = evidence.per_latent(evidence.square) - evidence.per_latent(evidence.total) ** 2 / tokens
    together = evidence.per_latent(evidence.total * away)
    varies = np.maximum.reduceat(said, evidence.pointer[:-1]) > np.minimum.reduceat(said, evidence.pointer[:-1])
    defined = varies & (evidence.per_latent(evidence.fired) > 0) & (truth > 0) & (spread > 0)
    size = np.sqrt(np.where(defined, spread * truth, 1.0))
    return Measure(np.where(defined, np.clip(together / size, -1.0, 1.0), 0.0), defined)


def _precision_sum(evidence: Evidence) -> Float[np.ndarray, " latents"]:
    """For each latent the sum over its firings of the precision at their level, tied levels taken together."""
    last = evidence.pointer[1:] - 1

    def from_top(quantity: np.ndarray) -> np.ndarray:
        ends = np.cumsum(quantity)
        return np.repeat(ends[last], np.diff(evidence.pointer)) - ends + quantity

    named, hit = from_top(evidence.weight), from_top(evidence.fired)
    precision = np.divide(hit, named, out=np.zeros_like(hit), where=named > 0)
    return evidence.per_latent(evidence.fired * precision)
