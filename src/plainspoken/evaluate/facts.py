"""How much of a site is in words: what stands beside every figure of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MOSTLY = 0.9
"""Where a smaller share of a site's latents, or of their firings, has a sentence, that is said before any figure."""


@dataclass(frozen=True)
class SiteFacts:
    """What each record says of its site's explanations. Words are over the latents that have one; None: none has.

    `not_chosen`: of the `failures`, those that a sample left out (`explain.latents`). `firings`: of all the latents, a
    token of the calibrate part; `firings_explained`: of those with an explanation; None where they are not known.
    """

    words_mean: float | None
    words_max: int | None
    latents: int
    explained: int
    failures: int
    not_chosen: int = 0
    firings: float | None = None
    firings_explained: float | None = None

    @property
    def mostly_explained(self) -> bool:
        """Whether the rewrite is about these latents as a whole, and not about the few of them that have a sentence."""
        heard = self.firings and self.firings_explained is not None and self.firings_explained < MOSTLY * self.firings
        return self.explained >= MOSTLY * self.latents and not heard

    @staticmethod
    def of(words: Sequence[int], latents: int) -> "SiteFacts":
        """Of one site: the words of each explanation that could be read, and how many latents the coder has."""
        mean = sum(words) / len(words) if words else None
        return SiteFacts(mean, max(words, default=None), latents, len(words), latents - len(words))

    def record(self) -> dict[str, Any]:
        """What every record of the site says."""
        return {**self.__dict__, "mostly_explained": self.mostly_explained}

    @staticmethod
    def together(parts: Sequence["SiteFacts"]) -> "SiteFacts":
        """Of several sites: the mean over all their explained latents, the longest, the sums."""
        explained = sum(part.explained for part in parts)
        total = sum(part.words_mean * part.explained for part in parts if part.words_mean is not None)
        return SiteFacts(
            words_mean=total / explained if explained else None,
            words_max=max((part.words_max for part in parts if part.words_max is not None), default=None),
            latents=sum(part.latents for part in parts),
            explained=explained,
            failures=sum(part.failures for part in parts),
            not_chosen=sum(part.not_chosen for part in parts),
            firings=_sum_if_known([part.firings for part in parts]),
            firings_explained=_sum_if_known([part.firings_explained for part in parts]),
        )


def _sum_if_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
