"""Which conditions a latent's explanation names, at a given price per word.

The objective is the squared error of the simulated activation over all tokens of the explain rows, times what the
latent does to the output: gain(c) = w_l (SSE without c − SSE with c), where w_l = W_dec[l] G W_dec[l]ᵀ and G = E[g gᵀ]
is the expected outer product of the loss's gradient at the module's output. To second order w_l · SSE is the increase
of the model's loss that the latent's errors cause, so the clauses of all latents are bought with one currency: a
condition is named if gain(c) > price · words(c). One price over all latents spends a site's word budget where the
model's loss feels it most; squared error alone would spend it on latents that the model hardly reads.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from plainspoken.explainers.lattice import Template
from plainspoken.language.rule import HIGHEST_LEVEL

# A condition's mean is taken as if it had been seen without a firing so many times more: rare luck earns less.
_SILENT_SIGHTINGS = 2.0
_FEWEST_FIRINGS = 2
# Times the price, round by round: what pays most is chosen first, so that a plain clause with an exception comes before
# many small refinements that would say the same.
_PRICES = (16.0, 4.0, 1.0)


@dataclass(frozen=True, eq=False)
class Selection:
    """The conditions chosen for a latent, and what the explain rows say under each where no other decides.

    `template`, `condition`: which; `level`: 0-9; `count`, `mean`: tokens that the condition decides, and the mean true
    activation over them, in ninths of the latent's maximum.
    """

    template: Int[np.ndarray, " n"]
    condition: Int[np.ndarray, " n"]
    level: Int[np.ndarray, " n"]
    count: Float[np.ndarray, " n"]
    mean: Float[np.ndarray, " n"]


class Bench:
    """Working memory for one latent after another: for each template, a number for every condition; -1 is none.

    Looking a condition's number up in a table is what makes a scene quick to build; a table made anew for each latent
    would cost more than it saves.
    """

    def __init__(self, templates: Sequence[Template]) -> None:
        self.templates = templates
        # One place more than there are conditions, for the positions that fall under none (numbered -1).
        self.numbers = [np.full(len(t.count) + 1, -1, np.int32) for t in templates]

    @contextmanager
    def numbering(self, candidates: Sequence[np.ndarray]) -> Iterator[None]:
        """Number these conditions of each template from 0, for as long as the context lasts."""
        try:
            for numbers, chosen in zip(self.numbers, candidates, strict=True):
                numbers[chosen] = np.arange(len(chosen))
            yield
        finally:
            for numbers, chosen in zip(self.numbers, candidates, strict=True):
                numbers[chosen] = -1

    def numbered(self, positions: Int[np.ndarray, " p"]) -> Int[np.ndarray, "templates p"]:
        """The number of the condition of each template that each position falls under."""
        pairs = zip(self.numbers, self.templates, strict=True)
        return np.stack([numbers[t.condition[positions]] for numbers, t in pairs])


class _Scene:
    """The positions that matter to one latent: where it fires, and where a chosen condition makes it fire.

    Everywhere else both the activation and its simulation are 0. Conditions are numbered among a template's candidates:
    those under which the latent fires often enough to be named at all. What a template says at a position is one
    number, its rank: 0 for nothing, else 1 + 10 specificity + level, so that the largest rank decides, as in the
    language.
    """

    def __init__(
        self,
        position: Int[np.ndarray, " firings"],
        true: Float[np.ndarray, " firings"],
        candidates: Sequence[np.ndarray],
        bench: Bench,
    ) -> None:
        self.bench, self.templates, self.candidates = bench, bench.templates, candidates
        self.inside = np.zeros(len(self.templates[0].condition), bool)
        self.inside[position] = True
        self.position, self.true = position, true
        self.under = bench.numbered(position)
        self.rank = np.zeros(self.under.shape, np.int16)
        self.spoken = np.zeros(len(self.templates), bool)
        # What each template says under each candidate, and which candidates' positions are in the scene whole.
        self.ranks = [np.zeros(len(c), np.int16) for c in candidates]
        self.covered = [np.zeros(len(c), bool) for c in candidates]

    def _cover(self, positions: Int[np.ndarray, " covered"]) -> None:
        """Take in the positions that are not in the scene yet; a template names each at most once."""
        more = positions[~self.inside[positions]]
        if not len(more):
            return
        self.inside[more] = True
        under = self.bench.numbered(more)
        rank = np.zeros(under.shape, np.int16)
        for k in np.flatnonzero(self.spoken).tolist():
            rank[k] = np.append(self.ranks[k], 0)[under[k]]
        self.position = np.concatenate([self.position, more])
        self.true = np.concatenate([self.true, np.zeros(len(more))])
        self.under = np.concatenate([self.under, under], axis=1)
        self.rank = np.concatenate([self.rank, rank], axis=1)

    def decided(self, without: int = -1) -> Int[np.ndarray, " u"]:
        """The rank that decides at each position."""
        who = self.spoken.copy()
        if without >= 0:
            who[without] = False
        return self.rank[who].max(axis=0, initial=0)

    def say(self, k: int, ranks: Int[np.ndarray, " candidates"]) -> None:
        """Let a template say this under its candidates, and nothing else."""
        self.ranks[k] = ranks
        self.spoken[k] = False
        if ranks.any():
            fresh = (ranks > 0) & ~self.covered[k]
            self.covered[k] |= fresh
            self._cover(self.templates[k].positions(self.candidates[k][fresh]))
            self.rank[k] = np.append(ranks, 0)[self.under[k]]
            self.spoken[k] = True


def select(
    position: Int[np.ndarray, " firings"],
    value: Float[np.ndarray, " firings"],
    weight: float,
    price: float,
    bench: Bench,
) -> Selection:
    """Choose for one latent: template by template, each given what the others say, in rounds of falling price.

    Templates come in the order given: those that should have the first word first. On each round every template is
    chosen anew, so that what another says better is dropped.

    Args:
        position, value: the latent's firings on the explain rows; value above 0.
        weight: w_l, in loss per squared activation.
        price: loss per word, summed over the explain rows' tokens.
        bench: working memory over the templates to choose from.
    """
    unit = float(value.max()) / HIGHEST_LEVEL
    worth = weight * unit**2
    candidates = [_often(t.condition[position]) for t in bench.templates]
    with bench.numbering(candidates):
        scene = _Scene(np.asarray(position), value.astype(np.float64) / unit, candidates, bench)
        for factor in _PRICES:
            for k, choice in enumerate(candidates):
                if len(choice) and (factor == _PRICES[-1] or not bench.templates[k].late):
                    scene.say(k, _choose(scene, k, worth, factor * price))
    return _selection(scene)


def _often(conditions: Int[np.ndarray, " firings"]) -> Int[np.ndarray, " candidates"]:
    """The conditions under which a latent fires often enough, ascending."""
    ascending = np.sort(conditions)  # sorting beats np.unique's hashing many times over here
    start = np.flatnonzero(np.diff(ascending, prepend=-2))
    often = np.diff(start, append=len(ascending)) >= _FEWEST_FIRINGS
    found = ascending[start[often]]
    return found[found >= 0]


def _rank(specificity: int, level: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    return (1 + 10 * specificity + level).astype(np.int16)


def _level(rank: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The level that a rank stands for; 0 where nothing is said."""
    return np.where(rank > 0, (rank - 1) % 10, 0).astype(np.float64)


def _choose(scene: _Scene, k: int, worth: float, price: float) -> Int[np.ndarray, " candidates"]:
    """What a template should say, given what the others say: every candidate whose gain pays for its words."""
    template, candidates = scene.templates[k], scene.candidates[k]
    best = scene.decided(without=k)
    at = scene.under[k]
    # Where another says something more specific, this template has no say. (Ties it may win with a higher level.)
    open_to_it = best <= 1 + 10 * template.specificity + HIGHEST_LEVEL
    n = len(candidates)
    here = np.flatnonzero((at >= 0) & open_to_it)
    closed = np.flatnonzero((at >= 0) & ~open_to_it)
    # Tokens under a condition that are not in the scene count: nobody speaks and the latent is silent there.
    count = template.count[candidates] - np.bincount(at[closed], minlength=n)
    at, true, fallback = at[here], scene.true[here], _level(best[here])
    firings, total, square = (np.bincount(at, w, minlength=n) for w in (true > 0, true, true * true))
    level = np.rint(np.minimum(total / (count + _SILENT_SIGHTINGS), HIGHEST_LEVEL))
    error = square - 2 * level * total + count * level**2
    gain = worth * (np.bincount(at, (true - fallback) ** 2, minlength=n) - error)
    taken = (gain > price * template.words) & (firings >= _FEWEST_FIRINGS)
    return np.where(taken, _rank(template.specificity, level), 0).astype(np.int16)


def _selection(scene: _Scene) -> Selection:
    """What was chosen, with the evidence where each condition decides."""
    best = scene.decided()
    parts = []
    for k in np.flatnonzero(scene.spoken).tolist():
        chosen = np.flatnonzero(scene.ranks[k] > 0)
        decides = (scene.rank[k] > 0) & (scene.rank[k] >= best)
        n = len(scene.candidates[k])
        count = np.bincount(scene.under[k][decides], minlength=n)[chosen].astype(np.float64)
        total = np.bincount(scene.under[k][decides], scene.true[decides], minlength=n)[chosen].astype(np.float64)
        mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
        level = _level(scene.ranks[k][chosen]).astype(np.int64)
        parts.append((np.full(len(chosen), k), scene.candidates[k][chosen].astype(np.int64), level, count, mean))
    if not parts:
        none, zero = np.zeros(0, np.int64), np.zeros(0)
        return Selection(none, none, none, zero, zero)
    return Selection(*(np.concatenate(column) for column in zip(*parts, strict=True)))
