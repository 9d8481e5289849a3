"""The interpretability survey: which latents are shown, in which order, what was answered, and what that comes to.

Random latents of two coders are judged by a person who is not told which coder each is of (Dunefsky et al., arXiv
2406.11944, section 4.2: 50 latents each of a transcoder and an SAE). Shares stand over Wilson's interval (1927), their
difference over Newcombe's hybrid score interval (1998, method 10), both of 95 %.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Int

from plainspoken.errors import UsageError
from plainspoken.language.counted import counted

Verdict = Literal["yes", "maybe", "no"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_Z = 1.959963984540054
"""The normal distribution's 97.5 % quantile."""


@dataclass(frozen=True)
class Surveyed:
    """One of the two coders. `table`: hash of the firing table that its examples are from; `coder`: of its weights.

    `lm`, `rows`: fingerprints of the model and of the text that is shown.
    """

    run: str
    site: str
    coder: str
    table: str
    lm: str
    rows: str

    @property
    def label(self) -> str:
        """How the table at the end calls it."""
        return f"{self.run}: {self.site}"


def differing(first: Surveyed, second: Surveyed) -> list[str]:
    """What besides the coders is not the same for both: `model`, `text`; it may betray of which a latent is."""
    what = {"model": first.lm != second.lm, "text": first.rows != second.rows}
    return [name for name, other in what.items() if other]


@dataclass(frozen=True)
class Item:
    """What is judged: a latent of one of the coders (0 or 1)."""

    coder: int
    latent: int


@dataclass(frozen=True)
class SurveyPlan:
    """All that a survey shows, in its order, settled before anything is shown.

    `bands`, `per_band`: into how many groups of equal size, by their largest activation, a latent's windows are put,
    and how many of each are shown; `window`: their tokens.
    """

    coders: tuple[Surveyed, Surveyed]
    seed: int
    latents: int
    bands: int
    per_band: int
    window: int
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Answer:
    """What was said of an item (its number in the plan), and when (ISO 8601)."""

    item: int
    interpretable: Verdict
    context_free: bool
    note: str
    at: str


@dataclass(frozen=True)
class Share:
    """A share of what was judged, over its interval."""

    count: int
    of: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself."""
        return self.count / self.of


@dataclass(frozen=True)
class SurveyResult:
    """By coder, in the plan's order, the shares of each verdict and of context-free ones; and the first coder's share
    of "yes" less the second's, over its interval."""

    verdicts: tuple[Mapping[str, Share], Mapping[str, Share]]
    context_free: tuple[Share, Share]
    difference: float
    low: float
    high: float


def drawn_items(firings: Sequence[Int[np.ndarray, "..."]], latents: int, seed: int) -> tuple[Item, ...]:
    """So many latents of each coder that fire at all, at random, shuffled together.

    `firings`: of each coder, how often each latent fires. What is drawn of one coder does not depend on the other.
    Raises UsageError where a coder has fewer that fire.
    """
    items = []
    for coder, counts in enumerate(firings):
        fire = np.flatnonzero(counts > 0)
        if len(fire) < latents:
            fires = counted(len(fire), "latent fires", "latents fire")
            raise UsageError(
                f"of the {'first' if coder == 0 else 'second'} coder {fires} on explain documents, but {latents} were "
                f"asked for: ask for fewer with --latents {len(fire)}"
            )
        chosen = np.random.default_rng([seed, coder, 0x5C]).choice(fire, latents, replace=False)
        items += [Item(coder, int(latent)) for latent in chosen]
    order = np.random.default_rng([seed, 2, 0x5C]).permutation(len(items))
    return tuple(items[i] for i in order)


def result(plan: SurveyPlan, answers: Sequence[Answer]) -> SurveyResult:
    """What the answers come to. Raises UsageError where some are still to be given."""
    by_item = {answer.item: answer for answer in answers}
    lacking = len(plan.items) - len(by_item)
    if lacking:
        raise UsageError(f"{lacking} of {len(plan.items)} in the survey are not judged yet: go on with it first")
    of = [[by_item[i] for i, item in enumerate(plan.items) if item.coder == coder] for coder in (0, 1)]
    verdicts = [
        {verdict: share(sum(a.interpretable == verdict for a in mine), len(mine)) for verdict in VERDICTS}
        for mine in of
    ]
    free = [share(sum(a.context_free for a in mine), len(mine)) for mine in of]
    yes = verdicts[0]["yes"], verdicts[1]["yes"]
    low, high = difference_interval(*yes)
    return SurveyResult((verdicts[0], verdicts[1]), (free[0], free[1]), yes[0].value - yes[1].value, low, high)


def share(count: int, of: int) -> Share:
    """A share over Wilson's score interval: all p that lie within 1.96 standard errors, at p itself, of count / of.

    (p̂ + z²/2n ± z √(p̂(1 - p̂)/n + z²/4n²)) / (1 + z²/n), with n = `of` at least 1.
    """
    at, room = count / of, _Z**2 / of
    middle, half = at + room / 2, _Z * math.sqrt(at * (1 - at) / of + room / (4 * of))
    # At 0 and at 1 the bound is reached exactly; rounding is not to pass it.
    low = 0.0 if count == 0 else (middle - half) / (1 + room)
    high = 1.0 if count == of else (middle + half) / (1 + room)
    return Share(count, of, low, high)


def difference_interval(first: Share, second: Share) -> tuple[float, float]:
    """Newcombe's interval for the difference of two shares, from their Wilson intervals (1998, method 10)."""
    apart = first.value - second.value
    below = math.hypot(first.value - first.low, second.high - second.value)
    above = math.hypot(first.high - first.value, second.value - second.low)
    return apart - below, apart + above
