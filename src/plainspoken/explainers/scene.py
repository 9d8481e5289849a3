"""What choosing a latent's conditions needs to know of the text: the positions that matter, and what is said there.

Working memory that moves: the only mutable objects of the explainer, made for one latent after another.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int

from plainspoken.explainers.lattice import Lattice

# A condition met by fewer tokens is no candidate: one token is no evidence.
_FEWEST_TOKENS = 2


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


class Scene:
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
