"""Which latents to show on cards, and which stretches of text to show them on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from plainspoken.report.latents import Example, Kind, LatentScore, Rank
from plainspoken.types import Rows

# With fewer firings a correlation says little, and the "best" latents would be those that fired once.
LEAST_FIRINGS = 20


@dataclass(frozen=True, eq=False)
class Activity:
    """One latent over some rows, sparse: flat positions (row * t + column) ascending, values, and what holds elsewhere.

    For true activations `elsewhere` is 0; for simulated ones it is the calibrated value of level 0.
    """

    position: Int[np.ndarray, " n"]
    value: Float[np.ndarray, " n"]
    elsewhere: float = 0.0

    def at(self, position: Int[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
        """The values at some positions."""
        found = np.full(position.shape, self.elsewhere, dtype=np.float64)
        if len(self.position):
            place = np.minimum(np.searchsorted(self.position, position), len(self.position) - 1)
            here = self.position[place] == position
            found[here] = self.value[place[here]]
        return found


def choose_latents(scores: Sequence[LatentScore], tokens: int, each: int = 3) -> tuple[tuple[Rank, LatentScore], ...]:
    """The best, the middle and the worst by correlation, no latent twice.

    `tokens`: on how many the scores rest. Latents that fired fewer than `LEAST_FIRINGS` times there are passed over,
    unless too few others are left; those without a correlation always are.
    """
    scored = [score for score in scores if score.correlation is not None]
    often = [score for score in scored if score.rate * tokens >= LEAST_FIRINGS]
    ranked = sorted(often if len(often) >= 3 * each else scored, key=lambda s: (-(s.correlation or 0.0), s.latent))
    each = min(each, -(-len(ranked) // 3))
    best, rest = ranked[:each], ranked[each:]
    worst, rest = rest[max(len(rest) - each, 0) :], rest[: max(len(rest) - each, 0)]
    start = max((len(rest) - each) // 2, 0)
    named: tuple[tuple[Rank, list[LatentScore]], ...] = (
        ("best", best),
        ("median", rest[start : start + each]),
        ("worst", worst),
    )
    return tuple((rank, score) for rank, group in named for score in group)


def choose_examples(
    rows: Rows, pieces: Sequence[bytes], true: Activity, simulated: Activity, before: int = 28, after: int = 8
) -> tuple[Example, ...]:
    """Up to three stretches of text: at the strongest firing, at a typical one, and at the largest error.

    `pieces`: what each token of the vocabulary spells. `before`, `after`: tokens around the chosen one. Stretches keep
    within their document's row and do not overlap; a latent without firings has only its largest error to show.
    """
    chosen: list[tuple[Kind, int]] = []
    if len(true.value):
        ascending = np.argsort(true.value, kind="stable")
        chosen.append(("strongest", int(true.position[ascending[-1]])))
        chosen.extend(_first_apart("typical", true.position[_from_middle(ascending)], chosen, rows, before + after))
    where = np.union1d(true.position, simulated.position)
    if len(where):
        error = np.abs(true.at(where) - simulated.at(where))
        largest = where[np.argsort(-error, kind="stable")]
        chosen.extend(_first_apart("largest error", largest, chosen, rows, before + after))
    return tuple(_stretch(rows, pieces, true, simulated, kind, position, before, after) for kind, position in chosen)


def _from_middle(order: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The same indices, the middle one first, then ever further from it."""
    distance = np.abs(np.arange(len(order)) - len(order) // 2)
    return order[np.argsort(distance, kind="stable")]


def _first_apart(
    kind: Kind, candidates: Int[np.ndarray, " n"], chosen: Sequence[tuple[Kind, int]], rows: Rows, reach: int
) -> list[tuple[Kind, int]]:
    """The first candidate far enough from all that is chosen already (none if there is none)."""
    t = rows.tokens.shape[1]
    apart = np.ones(len(candidates), dtype=bool)
    for _, position in chosen:
        same_row = candidates // t == position // t
        apart &= ~(same_row & (np.abs(candidates - position) <= reach))
    found = np.flatnonzero(apart)
    return [(kind, int(candidates[found[0]]))] if len(found) else []


def _stretch(
    rows: Rows,
    pieces: Sequence[bytes],
    true: Activity,
    simulated: Activity,
    kind: Kind,
    position: int,
    before: int,
    after: int,
) -> Example:
    t = rows.tokens.shape[1]
    row, column = divmod(position, t)
    columns = np.arange(max(column - before, 0), min(column + after + 1, t))
    columns = columns[rows.mask[row, columns]]
    flat = row * t + columns
    return Example(
        document=rows.keys[int(rows.document[row])],
        kind=kind,
        pieces=tuple(pieces[int(token)] for token in rows.tokens[row, columns]),
        true=tuple(float(value) for value in true.at(flat)),
        simulated=tuple(max(float(value), 0.0) for value in simulated.at(flat)),
    )
