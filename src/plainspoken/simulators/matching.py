"""Where conditions hold in a reading: joins on what they fix, then filters, all vectorised over latents and tokens."""

from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Int

from plainspoken.language.earlier import stands_earlier
from plainspoken.language.reading import Reading
from plainspoken.simulators.conditions import ANY, FIXED, Conditions

# A condition is looked up by the first of these sets of columns that it fixes whole: the narrowest come first.
_JOINS = (
    ("word", "before1", "before2", "before3"),
    ("word", "before1", "before2"),
    ("word", "before1"),
    ("word",),
    ("before1", "before2", "before3"),
    ("before1", "before2"),
    ("token",),
    ("before1",),
    ("opener",),
    ("line",),
    ("inside",),
    ("brackets",),
    (),
)
_PAIRS_AT_ONCE = 4_000_000  # bounds the memory of one join


def matches(conditions: Conditions, reading: Reading) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """All (position, condition) pairs that hold, in no particular order."""
    values = {name: _column(reading, name) for name in FIXED if name not in ("earlier", "window")}
    free = np.ones(len(conditions.table), bool)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for columns in _JOINS:
        fixes = free & np.all([conditions.column(c) != ANY for c in columns], axis=0) if columns else free
        chosen = np.flatnonzero(fixes)
        free = free & ~fixes
        if len(chosen):
            found += _joined(conditions, reading, values, columns, chosen)
    position = np.concatenate([p for p, _ in found]) if found else np.zeros(0, np.int64)
    condition = np.concatenate([c for _, c in found]) if found else np.zeros(0, np.int64)
    return position, condition


def _column(reading: Reading, name: str) -> Int[np.ndarray, " n"]:
    return (reading.depth > 0).astype(np.int32) if name == "brackets" else getattr(reading, name)


def _joined(
    conditions: Conditions,
    reading: Reading,
    values: dict[str, np.ndarray],
    columns: tuple[str, ...],
    chosen: Int[np.ndarray, " c"],
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The pairs of the chosen conditions, which all fix these columns."""
    wanted, present = _keys(conditions, values, columns, chosen, reading)
    order = np.argsort(wanted, kind="stable")
    chosen, wanted = chosen[order], wanted[order]
    position = np.flatnonzero(present >= 0)
    low = np.searchsorted(wanted, present[position], "left")
    many = np.searchsorted(wanted, present[position], "right") - low
    position, low, many = position[many > 0], low[many > 0], many[many > 0]
    found = []
    for part in _parts(many):
        repeat = many[part]
        ends = np.cumsum(repeat)
        which = np.arange(ends[-1]) - np.repeat(ends - repeat, repeat) + np.repeat(low[part], repeat)
        found.append(_filtered(conditions, reading, values, columns, np.repeat(position[part], repeat), chosen[which]))
    return found


def _parts(many: Int[np.ndarray, " p"]) -> list[slice]:
    """Cuts of the positions such that each part makes a bounded number of pairs."""
    if not len(many):
        return []
    cuts = np.flatnonzero(np.diff(np.cumsum(many) // _PAIRS_AT_ONCE)) + 1
    edges = [0, *cuts.tolist(), len(many)]
    return [slice(a, b) for a, b in pairwise(edges)]


def _keys(
    conditions: Conditions,
    values: dict[str, np.ndarray],
    columns: tuple[str, ...],
    chosen: Int[np.ndarray, " c"],
    reading: Reading,
) -> tuple[Int[np.ndarray, " c"], Int[np.ndarray, " n"]]:
    """One number for what a condition fixes and for what each position holds; -1 where no condition can hold.

    Columns are folded in one at a time and renumbered by what occurs among the conditions, so nothing overflows.
    """
    wanted = np.zeros(len(chosen), np.int64)
    present = np.where(reading.readable, 0, -1).astype(np.int64)
    for name in columns:
        mine, theirs = conditions.column(name)[chosen], values[name].astype(np.int64)
        base = int(max(theirs.max(initial=0), mine.max(initial=0))) + 2
        pairs = wanted * base + mine
        distinct, wanted = np.unique(pairs, return_inverse=True)
        present = _numbered(distinct, np.where((present >= 0) & (theirs >= 0), present * base + theirs, -1))
    return wanted, present


def _numbered(distinct: Int[np.ndarray, " d"], keys: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The index of each key among the distinct ones (ascending); -1 where it is not among them."""
    at = np.minimum(np.searchsorted(distinct, keys), len(distinct) - 1)
    return np.where(distinct[at] == keys, at, -1)


def _filtered(
    conditions: Conditions,
    reading: Reading,
    values: dict[str, np.ndarray],
    joined: tuple[str, ...],
    position: Int[np.ndarray, " m"],
    condition: Int[np.ndarray, " m"],
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs for which the columns that were not joined on hold as well."""
    for name, column in values.items():
        wanted = conditions.column(name)
        if name not in joined and (wanted != ANY).any():
            mine = wanted[condition]
            holds = (mine == ANY) | (mine == column[position])
            position, condition = position[holds], condition[holds]
    earlier = conditions.column("earlier")
    if (earlier != ANY).any():
        holds = earlier[condition] == ANY
        asked = np.flatnonzero(~holds)
        window = conditions.column("window")[condition[asked]]
        holds[asked] = _stand_earlier(reading, position[asked], earlier[condition[asked]], window)
        position, condition = position[holds], condition[holds]
    return position, condition


def _stand_earlier(
    reading: Reading, position: Int[np.ndarray, " m"], unit: Int[np.ndarray, " m"], window: Int[np.ndarray, " m"]
) -> Bool[np.ndarray, " m"]:
    """`stands_earlier` for pairs that each ask for a unit and a window of their own."""
    found = np.zeros(len(position), bool)
    asked, which = np.unique(np.stack([unit, window]), axis=1, return_inverse=True)
    for i, (one, back) in enumerate(asked.T.tolist()):
        mine = np.flatnonzero(which == i)
        found[mine] = stands_earlier(reading, one, back, position[mine])
    return found
