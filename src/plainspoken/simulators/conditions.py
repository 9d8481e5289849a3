"""Rules bound to a reading: every condition as one row of a table, a column for each thing that it may fix.

A group of heads under contexts is the union of its combinations; each combination becomes one row. Heads that name a
form or an ending stand for the words of this reading that have it.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, product

import numpy as np
from jaxtyping import Int

from plainspoken.language.earlier import ANYWHERE, ON_THIS_LINE
from plainspoken.language.enclosure import COMMENT, STRING
from plainspoken.language.reading import Reading
from plainspoken.language.rule import (
    After,
    Anything,
    Beginning,
    Context,
    Earlier,
    Ending,
    Form,
    FormName,
    Head,
    Line,
    Opener,
    Phrase,
    Place,
    PlaceName,
    Rule,
    Start,
    Token,
    is_form,
)

ANY = -2  # a column that the condition leaves open
NOWHERE = -3  # a word that this reading does not hold: the condition cannot hold here

# What a condition may fix, in the order of the table's columns.
# `earlier` is a unit, `window` how far back it may stand.
FIXED = ("word", "before1", "before2", "before3", "token", "line", "opener", "inside", "brackets", "earlier", "window")
COLUMNS = (*FIXED, "specificity", "level", "latent")
_BEFORE: tuple[str, ...] = ("before1", "before2", "before3")

_WORD_COUNTS, _BEFORE_COUNTS, _TOKEN_COUNTS, _REST_COUNTS = 3, 2, 2, 1


@dataclass(frozen=True, eq=False)
class Conditions:
    """`table[c, COLUMNS.index(name)]`: what condition c fixes, how specific it is, its level and its latent."""

    table: Int[np.ndarray, "conditions columns"]

    def column(self, name: str) -> Int[np.ndarray, " conditions"]:
        """One column of the table."""
        return self.table[:, COLUMNS.index(name)]


@dataclass
class _Binder:
    """Turns what rules name into the reading's numbers; forms are looked up once for all rules."""

    reading: Reading
    words: Int[np.ndarray, " words"] = field(init=False)
    forms: dict[FormName, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        present = self.reading.word[self.reading.readable]
        self.words = np.unique(present)

    def number(self, string: str) -> int:
        return self.reading.index.get(string, NOWHERE)

    def with_form(self, name: FormName) -> list[int]:
        if name not in self.forms:
            strings = self.reading.strings
            self.forms[name] = [w for w in self.words.tolist() if is_form(name, strings[w])]
        return self.forms[name]

    def with_ending(self, text: str) -> list[int]:
        return [w for w in self.words.tolist() if self.reading.strings[w].endswith(text)]

    def with_beginning(self, text: str) -> list[int]:
        return [w for w in self.words.tolist() if self.reading.strings[w].startswith(text)]


@dataclass(frozen=True)
class _Statement:
    """One head of a rule, after one phrase (the start of a line or text its first unit), under the other contexts."""

    latent: int
    level: int
    head: Head
    after: tuple[str, ...]
    contexts: tuple[Context, ...]


@dataclass(frozen=True, eq=False)
class Statements:
    """What many latents' rules say, by the exact unit that each statement needs: as the word so far or before it.

    A short text, such as one that is being written, meets few of them, and the others need not be looked at.
    """

    by_word: Mapping[str, Sequence[_Statement]]
    by_before: Mapping[str, Sequence[_Statement]]
    others: Sequence[_Statement]

    @staticmethod
    def of(rules: Mapping[int, Rule]) -> "Statements":
        """All statements of the rules."""
        by_word, by_before, others = defaultdict(list), defaultdict(list), []
        for statement in (s for latent, rule in rules.items() for s in _statements(latent, rule)):
            if isinstance(statement.head, Phrase):
                by_word[statement.head.units[-1]].append(statement)
            elif statement.after:
                by_before[statement.after[-1]].append(statement)
            else:
                others.append(statement)
        return Statements(by_word, by_before, others)

    def bind(self, reading: Reading) -> Conditions:
        """The conditions over one reading; what cannot hold anywhere in it is left out."""
        binder = _Binder(reading)
        before = np.unique(reading.before1[reading.readable]).tolist()
        met = [self.by_word.get(reading.strings[w], ()) for w in binder.words.tolist()]
        met += [self.by_before.get(reading.strings[w], ()) for w in before]
        rows = [row for s in chain(self.others, *met) for row in _rows(binder, s)]
        table = np.array(rows, np.int64).reshape(-1, len(COLUMNS))
        return Conditions(table[~(table[:, : len(FIXED)] == NOWHERE).any(axis=1)])


def bind(rules: Mapping[int, Rule], reading: Reading) -> Conditions:
    """The conditions of many latents' rules over one reading."""
    return Statements.of(rules).bind(reading)


def _statements(latent: int, rule: Rule) -> Iterator[_Statement]:
    for clause in rule.clauses:
        for group in clause.groups:
            others = tuple(c for c in group.contexts if not isinstance(c, After | Start))
            afters = next((c.phrases for c in group.contexts if isinstance(c, After)), ((),))
            start = tuple(c.unit for c in group.contexts if isinstance(c, Start))
            for head, after in product(group.heads, afters):
                yield _Statement(latent, clause.level, head, (*start, *after), others)


def _rows(binder: _Binder, said: _Statement) -> Iterator[tuple[int, ...]]:
    """A statement's rows of the table: the head's choices times the contexts'."""
    choices = [list(_context_choices(binder, c)) for c in said.contexts]
    for fixed, counts in _head_choices(binder, said.head, said.after):
        for combination in product(*choices):
            merged = dict(fixed)
            for more in combination:
                merged |= more
            specificity = counts + _REST_COUNTS * len(combination)
            yield (*(merged.get(name, ANY) for name in FIXED), specificity, said.level, said.latent)


def _head_choices(binder: _Binder, head: Head, after: tuple[str, ...]) -> Iterator[tuple[dict[str, int], int]]:
    """What the head and the phrase it stands after fix, and how much that counts."""
    before = head.units[:-1] if isinstance(head, Phrase) else ()
    preceding = [binder.number(unit) for unit in (*after, *before)]
    fixed = dict(zip(_BEFORE, reversed(preceding), strict=False))
    counts = _BEFORE_COUNTS * len(preceding)
    match head:
        case Phrase(units):
            yield fixed | {"word": binder.number(units[-1])}, counts + _WORD_COUNTS
        case Token(text):
            yield fixed | {"token": binder.number(text)}, counts + _TOKEN_COUNTS
        case Anything():
            yield fixed, counts
        case Form(name):
            yield from ((fixed | {"word": w}, counts + _REST_COUNTS) for w in binder.with_form(name))
        case Ending(text):
            yield from ((fixed | {"word": w}, counts + _REST_COUNTS) for w in binder.with_ending(text))
        case Beginning(text):
            yield from ((fixed | {"word": w}, counts + _REST_COUNTS) for w in binder.with_beginning(text))


def _context_choices(binder: _Binder, context: Context) -> Iterator[dict[str, int]]:
    match context:
        case Earlier(words, within):
            window = ANYWHERE if within is None else ON_THIS_LINE if within == "line" else within
            yield from ({"earlier": binder.number(w), "window": window} for w in words)
        case Line(words):
            yield from ({"line": binder.number(w)} for w in words)
        case Opener(words):
            yield from ({"opener": binder.number(w)} for w in words)
        case Place(name):
            column, value = _FLAGS[name]
            yield {column: value}


_FLAGS: dict[PlaceName, tuple[str, int]] = {
    "inside a string": ("inside", STRING),
    "inside a comment": ("inside", COMMENT),
    "inside brackets": ("brackets", 1),
    "outside brackets": ("brackets", 0),
}
