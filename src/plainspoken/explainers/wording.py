"""From chosen conditions to a sentence that says them in few words."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Int

from plainspoken.explainers.lattice import Template
from plainspoken.explainers.selection import Selection
from plainspoken.explainers.spelling import Spelled
from plainspoken.language.rule import (
    STARTS,
    After,
    Anything,
    Clause,
    Context,
    Group,
    Head,
    Line,
    Opener,
    Phrase,
    Rule,
    Start,
)

_WORDS_OF_A_LEVEL = 2.0  # “; 7 on”
_WORDS_OF_A_GROUP = 3.0  # “, and on … after …”, with the “or” of a list


def word_rule(selection: Selection, templates: Sequence[Template], worth: float, price: float) -> Rule:
    """The rule that says a selection, levels merged where telling them apart is not worth its words."""
    level = merged_levels(selection, worth, price)
    by_level: dict[int, list[Spelled]] = defaultdict(list)
    # The conditions that decide most come first under their level: a reader meets what matters.
    for i in np.argsort(-selection.count * selection.mean, kind="stable").tolist():
        head, contexts = templates[int(selection.template[i])].spelled(int(selection.condition[i]))
        by_level[int(level[i])].append(with_start(head, contexts))
    return Rule(tuple(Clause(n, grouped(by_level[n])) for n in sorted(by_level, reverse=True)))


def merged_levels(selection: Selection, worth: float, price: float) -> Int[np.ndarray, " n"]:
    """Levels after neighbours are put together, the cheapest first, while a merge costs less than its words."""
    level = selection.level.copy()
    while True:
        distinct = np.unique(level)
        best, move = _WORDS_OF_A_LEVEL * price, None
        for a, b in pairwise(distinct):
            for source, target in ((a, b), (b, a)):
                moved = level == source
                n, mean = selection.count[moved], selection.mean[moved]
                loss = worth * float((n * ((mean - target) ** 2 - (mean - source) ** 2)).sum())
                # An exception (level 0) is what its clause was chosen for, and must not be merged away.
                if loss < best and 0 not in (source, target):
                    best, move = loss, (source, target)
        if move is None:
            return level
        level[level == move[0]] = move[1]


def with_start(head: Head, contexts: tuple[Context, ...]) -> Spelled:
    """The same condition, with the start of the text or of a line said as such where a unit stands for it."""
    match head, contexts:
        case Phrase((unit, *units)), () if unit in _STARTS and units:
            return Phrase(tuple(units)), (_STARTS[unit],)
        case Anything(), (After(((unit, *units),)),) if unit in _STARTS:
            return head, (*([After((tuple(units),))] if units else []), _STARTS[unit])
    return head, contexts


_STARTS = {start.unit: start for start in map(Start, STARTS)}


def grouped(spelled: Sequence[Spelled]) -> tuple[Group, ...]:
    """Conditions of one level as few groups: those that share their contexts together, phrases that share words too."""
    by_context: dict[tuple[Context, ...], list[Head]] = defaultdict(list)
    for head, contexts in spelled:
        by_context[contexts].append(head)
    groups: list[Group] = []
    after: dict[tuple[tuple[Head, ...], tuple[Context, ...]], list[tuple[str, ...]]] = defaultdict(list)
    shared: dict[tuple[tuple[Head, ...], type[Context]], list[str]] = defaultdict(list)
    for contexts, heads in by_context.items():
        if not contexts:
            groups += _phrase_groups(heads)
            continue
        match contexts:
            case (After(phrases), *start):
                after[tuple(heads), tuple(start)] += phrases
            case (Line(words),) | (Opener(words),):
                shared[tuple(heads), type(contexts[0])] += words
            case _:
                groups.append(Group(tuple(heads), contexts))
    groups += [Group(heads, (After(tuple(phrases)), *start)) for (heads, start), phrases in after.items()]
    for (heads, kind), words in shared.items():
        assert kind in (Line, Opener)
        groups.append(Group(heads, (kind(tuple(words)),)))
    return tuple(groups)


def _phrase_groups(heads: Sequence[Head]) -> list[Group]:
    """Heads without contexts; two-word phrases that share many a word become “x”, “y” after “z”."""
    rest = list(heads)
    groups: list[Group] = []
    while True:
        pairs = [h for h in rest if isinstance(h, Phrase) and len(h.units) == 2]
        by_last: dict[str, list[Phrase]] = defaultdict(list)
        by_first: dict[str, list[Phrase]] = defaultdict(list)
        for pair in pairs:
            by_first[pair.units[0]].append(pair)
            by_last[pair.units[1]].append(pair)
        candidates = [(len(v), 1, k, v) for k, v in by_last.items()] + [(len(v), 0, k, v) for k, v in by_first.items()]
        if not candidates:
            break
        many, same_last, word, chosen = max(candidates, key=lambda c: c[0])
        if many <= 1 + _WORDS_OF_A_GROUP:
            break
        if same_last:
            groups.append(Group((Phrase((word,)),), (After(tuple((p.units[0],) for p in chosen)),)))
        else:
            groups.append(Group(tuple(Phrase((p.units[1],)) for p in chosen), (After(((word,),)),)))
        rest = [h for h in rest if h not in set(chosen)]
    return ([Group(tuple(rest))] if rest else []) + groups
