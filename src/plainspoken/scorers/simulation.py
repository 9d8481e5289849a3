"""How well each latent is simulated: correlation, sensitivity, specificity and AUPRC between levels and truth.

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

    `sensitivity`: share of true firings with a level above 0; `specificity`: share of silent tokens with level 0.
    `auprc`: average precision of the level as a detector of firing (1 is perfect, the firing rate is chance).
    """

    correlation: Measure
    sensitivity: Measure
    specificity: Measure
    auprc: Measure


MEASURES: tuple[str, ...] = tuple(field.name for field in fields(SimulationScores))
"""The names of the measures, in the order in which they are shown."""


def score_simulation(evidence: Evidence, apply: Apply | None = None) -> SimulationScores:
    """Score every latent. `apply` (a calibration's) turns levels into activations for the correlation.

    The other three ask only whether the simulator speaks, and in which order it ranks the tokens.
    """
    fired, silent = evidence.per_latent(evidence.fired), evidence.per_latent(evidence.weight - evidence.fired)
    heard = (evidence.level > 0).astype(np.float64)
    hit = evidence.per_latent(evidence.fired * heard)
    rejected = evidence.per_latent((evidence.weight - evidence.fired) * (1.0 - heard))
    return SimulationScores(
        correlation=_correlation(evidence, apply),
        sensitivity=_ratio(hit, fired),
        specificity=_ratio(rejected, silent),
        auprc=_ratio(_precision_sum(evidence), fired),
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
