"""Which conditions a latent's explanation names, at a given price per word.

The objective is the squared error of the simulated activation over all tokens of the explain rows, times what the
latent does to the output: w_l SSE, where w_l = W_dec[l] G W_dec[l]ᵀ and G = E[g gᵀ] is the expected outer product of
the loss's gradient at the module's output. To second order that is the increase of the model's loss that the latent's
errors cause, so the clauses of all latents are bought with one currency: a condition is named if
gain(c) > price · words(c). One price over all latents spends a site's word budget where the model's loss feels it most;
squared error alone would spend it on latents that the model hardly reads.

The gain is measured across folds of the text: gain(c) = w_l Σ_f (SSE_f without c − SSE_f with c at the level that the
other folds give it), nothing being gained in a fold that is alone in having seen c. So a coincidence of one document
earns nothing. In each round every template is chosen anew given what the others say, at a falling price; in the last,
conditions under which the latent is silent are candidates too: the exceptions to what has been said.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from plainspoken.explainers.lattice import FOLDS, Lattice
from plainspoken.language.rule import HIGHEST_LEVEL

_FEWEST_TOKENS = 2
_MOST_SPECIFIC = 16  # no condition fixes more than that (`language.rule`)
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
    """Working memory for one latent after another: a number for every condition of the lattice; -1 is none.

    Looking a condition's number up in a table is what makes a scene quick to build; a table made anew for each latent
    would cost more than it saves.
    """

    def __init__(self, lattice: Lattice) -> None:
        self.lattice = lattice
        # The last place is for the positions that fall under no condition of a template.
        self.numbers = np.full(int(lattice.first[-1]) + 1, -1, np.int32)

    @contextmanager
    def numbering(self, candidates: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
        """Number these conditions of each template from 0, for as long as the context lasts; yields the list of them,
        in which `renumber` replaces those of a template."""
        current = list(candidates)
        try:
            for k, chosen in enumerate(candidates):
                self._number(k, chosen, np.arange(len(chosen)))
            yield current
        finally:
            for k, chosen in enumerate(current):
                self._number(k, chosen, -1)

    def renumber(self, current: list[np.ndarray], k: int, chosen: Int[np.ndarray, " candidates"]) -> None:
        """Number other conditions of template k."""
        self._number(k, current[k], -1)
        current[k] = chosen
        self._number(k, chosen, np.arange(len(chosen)))

    def _number(self, k: int, chosen: Int[np.ndarray, " c"], numbers: Int[np.ndarray, " c"] | int) -> None:
        self.numbers[self.lattice.first[k] + chosen] = numbers

    def numbered(self, positions: Int[np.ndarray, " p"]) -> Int[np.ndarray, "templates p"]:
        """The number of the condition of each template that each position falls under."""
        return self.numbers[self.lattice.condition[positions]].T

    def often(self, positions: Int[np.ndarray, " p"], templates: Sequence[int]) -> list[Int[np.ndarray, " candidates"]]:
        """For each of these templates the conditions under which enough of the positions fall, ascending."""
        first, n = self.lattice.first, len(positions)
        # Sorting beats np.unique's hashing many times over here.
        found = np.sort(self.lattice.condition[positions].T[list(templates)], axis=1)
        begins = np.ones((len(templates), n), bool)
        begins[:, 1:] = found[:, 1:] != found[:, :-1]
        start = np.flatnonzero(begins)
        condition = found.ravel()[start]
        enough = (np.diff(start, append=len(templates) * n) >= _FEWEST_TOKENS) & (condition < first[-1])
        condition, template = condition[enough], start[enough] // max(n, 1)
        ends = np.searchsorted(template, np.arange(len(templates) + 1))
        return [
            condition[low:high] - first[k] for k, (low, high) in zip(templates, pairwise(ends.tolist()), strict=True)
        ]


class _Scene:
    """The positions that matter to one latent: where it fires, and where a chosen condition makes it fire.

    Everywhere else both the activation and its simulation are 0. Conditions are numbered among a template's candidates:
    those that are met often enough to be named at all. What a template says at a position is one
    number, its rank: 0 for nothing, else 1 + 10 specificity + level, so that the largest rank decides, as in the
    language.
    """

    def __init__(
        self,
        position: Int[np.ndarray, " firings"],
        true: Float[np.ndarray, " firings"],
        candidates: list[np.ndarray],
        bench: Bench,
    ) -> None:
        self.bench, self.templates, self.candidates = bench, bench.lattice.templates, candidates
        self.inside = np.zeros(len(bench.lattice.condition), bool)
        self.size = 0
        self._position, self._true = np.empty(0, np.int64), np.empty(0)
        self._under = np.empty((len(self.templates), 0), np.int32)
        self._rank = np.empty((len(self.templates), 0), np.int16)
        self._best = np.empty(0, np.int16)
        self._fold = np.empty(0, np.int32)
        self.spoken = np.zeros(len(self.templates), bool)
        # What each template says under each candidate (and under none, at the end), and which candidates' positions
        # are in the scene whole.
        self.ranks = [np.zeros(len(c) + 1, np.int16) for c in candidates]
        self.covered = [np.zeros(len(c), bool) for c in candidates]
        self._take_in(position, true)

    def look_for_exceptions(self, k: int) -> None:
        """Make candidates of a template's conditions also where the latent is silent but something said has it fire."""
        (wider,) = self.bench.often(self.position, [k])
        moved = np.searchsorted(wider, self.candidates[k])
        ranks, covered = np.zeros(len(wider) + 1, np.int16), np.zeros(len(wider), bool)
        ranks[moved], covered[moved] = self.ranks[k][:-1], self.covered[k]
        self.bench.renumber(self.candidates, k, wider)
        self.ranks[k], self.covered[k] = ranks, covered
        self._under[k, : self.size] = self.bench.numbers[self.bench.lattice.condition[self.position, k]]

    @property
    def position(self) -> Int[np.ndarray, " u"]:
        """Where each of these places is in the text."""
        return self._position[: self.size]

    @property
    def true(self) -> Float[np.ndarray, " u"]:
        """The true activation at each position, in ninths of the maximum."""
        return self._true[: self.size]

    @property
    def fold(self) -> Int[np.ndarray, " u"]:
        """The fold of the text that each position is in."""
        return self._fold[: self.size]

    def under(self, k: int) -> Int[np.ndarray, " u"]:
        """The candidate of a template that each position falls under, -1 for none."""
        return self._under[k, : self.size]

    def rank(self, k: int) -> Int[np.ndarray, " u"]:
        """The rank of what a template says at each position."""
        return self._rank[k, : self.size]

    def decided(self, without: int = -1) -> Int[np.ndarray, " u"]:
        """The rank that decides at each position."""
        if without < 0 or not self.spoken[without]:
            return self._best[: self.size]
        others = self.spoken.copy()
        others[without] = False
        return self._rank[others, : self.size].max(axis=0, initial=0)

    def say(self, k: int, ranks: Int[np.ndarray, " candidates"]) -> None:
        """Let a template say this under its candidates, and nothing else."""
        if self.spoken[k]:
            self._best[: self.size] = self.decided(without=k)
        self.ranks[k][:-1] = ranks
        self.spoken[k] = bool(ranks.any())
        if self.spoken[k]:
            fresh = (ranks > 0) & ~self.covered[k]
            self.covered[k] |= fresh
            self._cover(self.templates[k].positions(self.candidates[k][fresh]))
            self._rank[k, : self.size] = self.ranks[k][self.under(k)]
            np.maximum(self._best[: self.size], self.rank(k), out=self._best[: self.size])

    def _cover(self, positions: Int[np.ndarray, " covered"]) -> None:
        """Take in the positions that are not in the scene yet; a template names each at most once."""
        more = positions[~self.inside[positions]]
        if len(more):
            self._take_in(more, np.zeros(len(more)))

    def _take_in(self, position: Int[np.ndarray, " more"], true: Float[np.ndarray, " more"]) -> None:
        low, high = self.size, self.size + len(position)
        if high > len(self._true):
            self._grow(max(high, 2 * len(self._true)))
        self.inside[position] = True
        self.size = high
        self._position[low:high], self._true[low:high] = position, true
        self._fold[low:high] = self.bench.lattice.fold[position]
        under = self.bench.numbered(position)
        self._under[:, low:high] = under
        self._best[low:high] = 0
        for k in np.flatnonzero(self.spoken).tolist():
            self._rank[k, low:high] = self.ranks[k][under[k]]
            np.maximum(self._best[low:high], self._rank[k, low:high], out=self._best[low:high])

    def _grow(self, capacity: int) -> None:
        for name in ("_position", "_true", "_under", "_rank", "_best", "_fold"):
            old = getattr(self, name)
            new = np.empty((*old.shape[:-1], capacity), old.dtype)
            new[..., : self.size] = old[..., : self.size]
            setattr(self, name, new)


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
        bench: working memory over the conditions to choose from.
    """
    unit = float(value.max()) / HIGHEST_LEVEL
    worth = weight * unit**2
    templates = bench.lattice.templates
    with bench.numbering(bench.often(position, range(len(templates)))) as candidates:
        scene = _Scene(np.asarray(position), value.astype(np.float64) / unit, candidates, bench)
        for factor in _PRICES:
            last = factor == _PRICES[-1]
            for k, template in enumerate(templates):
                if last and template.excepts:
                    scene.look_for_exceptions(k)
                if len(candidates[k]) and (last or not template.late):
                    scene.say(k, _choose(scene, k, worth, factor * price))
        # What has exceptions now may mean more where it still decides.
        for k in np.flatnonzero(scene.spoken).tolist():
            if templates[k].excepts:
                scene.say(k, _choose(scene, k, worth, price))
        return _selection(scene)


def _rank(specificity: int, level: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    return (1 + 10 * specificity + level).astype(np.int16)


# By rank: the level that it stands for; 0 where nothing is said.
_LEVELS = np.array([0.0] + [rank % 10 for rank in range(10 * (_MOST_SPECIFIC + 1))])


def _choose(scene: _Scene, k: int, worth: float, price: float) -> Int[np.ndarray, " candidates"]:
    """What a template should say, given what the others say: every candidate whose gain pays for its words."""
    template, candidates = scene.templates[k], scene.candidates[k]
    n = len(candidates)
    here = np.flatnonzero(scene.under(k) >= 0)
    at, best, true = scene.under(k)[here], scene.decided(without=k)[here], scene.true[here]
    # Where another says something more specific, this template has no say. (Ties it may win with a higher level.)
    has_say = best <= 1 + 10 * template.specificity + HIGHEST_LEVEL
    wrong = np.square(true - _LEVELS[best])
    wrong[~has_say] = 0.0
    without = np.bincount(at, wrong, minlength=n)
    # No condition wins more than all the error that there is without it: most are ruled out by that alone.
    promising = worth * without > price * template.words
    look = np.flatnonzero(promising[at])
    at, has_say, true, wrong = at[look] + n * scene.fold[here[look]], has_say[look], true[look], wrong[look]
    # Tokens under a condition that are not in the scene count: nobody speaks and the latent is silent there.
    count = template.count[:, candidates] - _by_fold(at[~has_say], None, n)
    at, true = at[has_say], true[has_say]
    total, square, without = (_by_fold(at, w, n) for w in (true, true**2, wrong[has_say]))
    level = _nearest_level(total.sum(axis=0), count.sum(axis=0))
    seen, error = _crossed_error(total, square, count)
    gain = worth * np.where(seen, without - error, 0.0).sum(axis=0)
    taken = promising & (gain > price * template.words)
    return np.where(taken, _rank(template.specificity, level), 0).astype(np.int16)


def _crossed_error(
    total: Float[np.ndarray, "folds n"], square: Float[np.ndarray, "folds n"], count: Int[np.ndarray, "folds n"]
) -> tuple[Bool[np.ndarray, "folds n"], Float[np.ndarray, "folds n"]]:
    """(whether the other folds have seen the condition, the squared error in a fold at the level that they give it)."""
    others = count.sum(axis=0) - count
    level = _nearest_level(total.sum(axis=0) - total, others)
    return others > 0, square - 2 * level * total + count * level**2


def _by_fold(at: Int[np.ndarray, " p"], weight: Float[np.ndarray, " p"] | None, n: int) -> Num[np.ndarray, "folds n"]:
    """Counts, or sums of the weights, by fold and candidate."""
    found = np.bincount(at, weight, minlength=FOLDS * n).reshape(FOLDS, n)
    return found if weight is None else found.astype(np.float64)


def _nearest_level(total: Float[np.ndarray, " *n"], count: Int[np.ndarray, " *n"]) -> Float[np.ndarray, " *n"]:
    return np.rint(np.minimum(total / np.maximum(count, 1), HIGHEST_LEVEL))


def _selection(scene: _Scene) -> Selection:
    """What was chosen, with the evidence where each condition decides."""
    best = scene.decided()
    parts = []
    for k in np.flatnonzero(scene.spoken).tolist():
        ranks = scene.ranks[k][:-1]
        decides = (scene.rank(k) > 0) & (scene.rank(k) >= best)
        under, n = scene.under(k)[decides], len(ranks)
        # A condition that decides nowhere says nothing, and neither does level 0 where nobody else would speak.
        needed = (_LEVELS[ranks[under]] > 0) | (_LEVELS[scene.decided(without=k)[decides]] > 0)
        chosen = np.flatnonzero(np.bincount(under, needed, minlength=n) > 0)
        count = np.bincount(under, minlength=n)[chosen].astype(np.float64)
        total = np.bincount(under, scene.true[decides], minlength=n)[chosen].astype(np.float64)
        mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
        level = _LEVELS[ranks[chosen]].astype(np.int64)
        parts.append((np.full(len(chosen), k), scene.candidates[k][chosen].astype(np.int64), level, count, mean))
    if not parts:
        none, zero = np.zeros(0, np.int64), np.zeros(0)
        return Selection(none, none, none, zero, zero)
    return Selection(*(np.concatenate(column) for column in zip(*parts, strict=True)))
