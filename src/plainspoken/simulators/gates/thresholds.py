"""Each latent's threshold, from how many of its firings stand below every step.

A latent's own firings are few, and one that shows no miss in ten may well miss one in twenty. So what a threshold loses
is estimated by empirical Bayes: the shares lost at a step are taken to be drawn, over latents, from a beta distribution
whose mean and spread are those seen (method of moments, Kleinman 1973), and a latent's share is its posterior mean. A
latent with many firings goes by its own, one with few by the others'. Whether that keeps enough is tried within the
documents that choose: thresholds of either fold on the firings of the other. Where it does not, they are chosen anew
for half of the loss, a quarter, an eighth, none; and where even that loses too many, everything passes everywhere. The
same steps are gone down where the documents that measure show a gate to lose too much (`gate.fit_gate`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

_TIGHTER = (1.0, 0.5, 0.25, 0.125, 0.0)


@dataclass(frozen=True, eq=False)
class Tally:
    """The true firings of each latent by their step: how many, and with what mass."""

    firings: Float[np.ndarray, "latents steps"]
    mass: Float[np.ndarray, "latents steps"]

    @staticmethod
    def of(
        latent: Int[np.ndarray, " n"],
        step: Int[np.ndarray, " n"],
        mass: Float[np.ndarray, " n"],
        latents: int,
        steps: int,
    ) -> "Tally":
        """Firings listed one by one."""
        cell, cells = latent * steps + step, latents * steps
        counted = (np.bincount(cell, weights=weights, minlength=cells) for weights in (None, mass))
        return Tally(*(sums.astype(np.float64).reshape(latents, steps) for sums in counted))

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.firings + other.firings, self.mass + other.mass)

    def lost(self) -> tuple[Float[np.ndarray, "latents steps"], Float[np.ndarray, "latents steps"]]:
        """The share of each latent's firings, and of their mass, below each threshold 0, 1, ...; 0 of nothing."""
        return _below(self.firings), _below(self.mass)

    def recall(self, threshold: Int[np.ndarray, " latents"]) -> tuple[float, float]:
        """The share of all firings, and of all mass, at or above the thresholds; 1 of nothing."""
        kept = np.arange(self.firings.shape[1]) >= threshold[:, None]
        shares = [
            float((each * kept).sum() / each.sum()) if each.sum() > 0 else 1.0 for each in (self.firings, self.mass)
        ]
        return shares[0], shares[1]


def ladder(
    one: Tally, other: Tally, foreseen: Bool[np.ndarray, " latents"], target: float
) -> Iterator[Int[np.ndarray, " latents"]]:
    """Ever lower thresholds: the highest that are estimated to keep `target` of each latent's firings and their mass,
    then those for ever less loss, and at last 0 everywhere. None but what either fold bears out on the other.

    one, other: the two folds. `foreseen`: the latents whose threshold may be above 0.
    """
    both = one + other
    for tighter in (
        _TIGHTER if one.firings.sum() and other.firings.sum() else ()
    ):  # one document shows nothing of another
        lost = (1 - target) * tighter
        first, second = _thresholds(one, foreseen, lost), _thresholds(other, foreseen, lost)
        crossed = [a + b for a, b in zip(*(_kept(t, f) for t, f in ((other, first), (one, second))), strict=True)]
        whole = both.firings.sum(), both.mass.sum()
        if all(kept >= target * total for kept, total in zip(crossed, whole, strict=True)):
            yield _thresholds(both, foreseen, lost)
    yield np.zeros(len(foreseen), np.int64)


def _kept(tally: Tally, threshold: Int[np.ndarray, " latents"]) -> tuple[float, float]:
    plain, mass = tally.recall(threshold)
    return plain * float(tally.firings.sum()), mass * float(tally.mass.sum())


def _thresholds(tally: Tally, foreseen: Bool[np.ndarray, " latents"], lost: float) -> Int[np.ndarray, " latents"]:
    count = tally.firings.sum(axis=1)
    fits = np.ones(tally.firings.shape, bool)
    for share in tally.lost():
        expected = np.stack([expected_share(column, count, foreseen) for column in share.T], axis=1)
        fits &= expected <= lost + 1e-12
    highest = np.logical_and.accumulate(fits, axis=1).sum(axis=1) - 1
    return np.where(foreseen, np.maximum(highest, 0), 0)


def expected_share(
    share: Float[np.ndarray, " latents"], count: Float[np.ndarray, " latents"], among: Bool[np.ndarray, " latents"]
) -> Float[np.ndarray, " latents"]:
    """(share count + a mean) / (count + a): the posterior mean of each latent's share, a and mean from those `among`.

    The beta distribution's spread is 1 / (a + 1): 0 where all latents have one share, 1 where each has none or all.
    """
    n, p = count[among], share[among]
    total = n.sum()
    if total == 0:
        return np.ones_like(share)  # nothing is known of any
    mean = float((n * p).sum() / total)
    seen = float((n * (p - mean) ** 2).sum())
    many = len(n[n > 0])
    binomial = mean * (1 - mean)
    # E[seen] = binomial ((many - 1) + spread (total - Σn²/total - (many - 1))), spread = 1 / (a + 1)
    slack = total - float((n**2).sum()) / total - (many - 1)
    spread = (seen / binomial - (many - 1)) / slack if binomial > 0 and slack > 0 else 0.0
    spread = min(max(spread, 0.0), 1.0)
    weight = count * spread  # posterior weights, both multiplied by the spread: 0 is a finite a gone to infinity
    own = weight / (weight + 1 - spread) if spread < 1 else (count > 0).astype(np.float64)
    return own * share + (1 - own) * mean


def _below(sums: Float[np.ndarray, "latents steps"]) -> Float[np.ndarray, "latents steps"]:
    total = sums.sum(axis=1, keepdims=True)
    below = np.concatenate([np.zeros_like(total), np.cumsum(sums, axis=1)[:, :-1]], axis=1)
    return np.divide(below, total, out=np.zeros_like(below), where=total > 0)
