"""The conditions that an explanation may choose from, each known by where it holds in the explain rows.

A template fixes some columns of the reading (the word so far; it and the word before; ...); every combination of values
that occurs is one condition, and a place in the text falls under exactly one condition of each template.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from plainspoken.language.earlier import ANYWHERE, ON_THIS_LINE, stands_earlier
from plainspoken.language.enclosure import COMMENT, STRING
from plainspoken.language.reading import Reading
from plainspoken.language.rule import (
    FORMS,
    After,
    Anything,
    Context,
    Earlier,
    Ending,
    Form,
    Head,
    Line,
    Opener,
    Phrase,
    Place,
    PlaceName,
    Token,
    is_form,
)

_NO_CONDITION = -1

# A condition in the terms of the language, from a position that falls under it.
Spell = Callable[[int], tuple[Head, tuple[Context, ...]]]


class _Entry(NamedTuple):
    """A template before its conditions are numbered: one for every combination of the columns' values."""

    name: str
    specificity: int
    words: float
    columns: Sequence[Int[np.ndarray, " n"]]
    spell: Spell
    late: bool = False
    excepts: bool = False


@dataclass(frozen=True, eq=False)
class Template:
    """A kind of condition.

    The positions under its condition c are `position[pointer[c]:pointer[c + 1]]`, and `count[h, c]` of them lie in half
    h of the documents. `words`: what one condition costs in a sentence, its share of the wording around it included;
    `specificity` as in `language.rule`.
    """

    name: str
    specificity: int
    words: float
    pointer: Int[np.ndarray, " conditions_1"]
    position: Int[np.ndarray, " m"]
    count: Int[np.ndarray, "2 conditions"]
    spell: Spell
    """The condition in the terms of the language, from any position that falls under it."""
    late: bool = False
    """Whether it is worth a look only once all others have been chosen."""
    excepts: bool = False
    """Whether exceptions are looked for among its conditions: such under which the latent is silent."""

    def positions(self, conditions: Int[np.ndarray, " c"]) -> Int[np.ndarray, " m"]:
        """All positions under any of these conditions."""
        parts = [self.position[self.pointer[c] : self.pointer[c + 1]] for c in conditions.tolist()]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def spelled(self, condition: int) -> tuple[Head, tuple[Context, ...]]:
        """A condition as a head and its contexts."""
        return self.spell(int(self.position[self.pointer[condition]]))


@dataclass(frozen=True, eq=False)
class Lattice:
    """All templates over a reading, in the order in which they are chosen.

    `condition[p, k]`: the condition of template k that position p falls under, numbered through all templates: those
    of template k are `first[k]` to `first[k + 1] - 1`, and `first[-1]` stands for none. A position's conditions lie
    side by side, so that looking at a position costs one access to memory and not one a template. `half[p]`: which half
    of the documents it is in.
    """

    templates: tuple[Template, ...]
    condition: Int[np.ndarray, "n templates"]
    first: Int[np.ndarray, " templates_1"]
    half: Int[np.ndarray, " n"]


def build_lattice(reading: Reading, document: Int[np.ndarray, " row"]) -> Lattice:
    """Every template over a reading: exact words first, then looser conditions for what those leave over.

    `document`: the document of each row.
    """
    half = np.repeat((document % 2).astype(np.int32), reading.t)
    found: list[Template] = []
    entries = list(_entries(reading))
    condition = np.empty((len(reading.word), len(entries)), np.int32)
    first = np.zeros(len(entries) + 1, np.int64)
    for k, entry in enumerate(entries):
        template, condition[:, k] = _template(reading, entry, half)
        first[k + 1] = first[k] + template.count.shape[1]
        found.append(template)
    for k in range(len(entries)):
        column = condition[:, k]
        column[:] = np.where(column < 0, first[-1], column + first[k])
    return Lattice(tuple(found), condition, first, half)


def _entries(reading: Reading) -> Iterator[_Entry]:
    s = reading.strings

    def word(p: int) -> str:
        return s[reading.word[p]]

    def phrase(length: int) -> Spell:
        before = (reading.before3, reading.before2, reading.before1)[3 - (length - 1) :]
        return lambda p: (Phrase((*(s[c[p]] for c in before), word(p))), ())

    forms = _mapped(reading, _form_number)
    places = _enclosures(reading)
    brackets = np.where(reading.depth > 0, 0, 1)
    everything = np.zeros_like(reading.word)
    b1, b2, b3, line, opener = reading.before1, reading.before2, reading.before3, reading.line, reading.opener
    has_line, has_opener = np.where(line > 0, line, _NO_CONDITION), np.where(reading.depth > 0, opener, _NO_CONDITION)

    def at_word(context: Callable[[int], Context]) -> Spell:
        return lambda p: (Phrase((word(p),)), (context(p),))

    def anywhere(context: Callable[[int], Context]) -> Spell:
        return lambda p: (Anything(), (context(p),))

    def enclosed(p: int) -> Context:
        return Place(_PLACE_NAMES[places[p]])

    def bracketed(p: int) -> Context:
        return Place("inside brackets" if brackets[p] == 0 else "outside brackets")

    yield _Entry("word", 3, 1.0, [reading.word], phrase(1), excepts=True)
    yield _Entry("two words", 5, 2.0, [reading.word, b1], phrase(2), excepts=True)
    yield _Entry("three words", 7, 3.0, [reading.word, b1, b2], phrase(3), excepts=True)
    yield _Entry("four words", 9, 4.0, [reading.word, b1, b2, b3], phrase(4))
    yield _Entry("after", 2, 1.5, [b1], anywhere(lambda p: After(((s[b1[p]],),))))
    yield _Entry("after two", 4, 2.5, [b1, b2], anywhere(lambda p: After(((s[b2[p]], s[b1[p]]),))))
    yield _Entry("word on line", 4, 4.0, [reading.word, has_line], at_word(lambda p: Line((s[line[p]],))))
    yield _Entry("word in brackets", 4, 4.0, [reading.word, has_opener], at_word(lambda p: Opener((s[opener[p]],))))
    yield _Entry("word in place", 4, 4.0, [reading.word, places], at_word(enclosed))
    yield _Entry("line", 1, 3.0, [has_line], anywhere(lambda p: Line((s[line[p]],))))
    yield _Entry("opener", 1, 3.0, [has_opener], anywhere(lambda p: Opener((s[opener[p]],))))
    yield _Entry("ending 3", 1, 5.0, [_mapped(reading, _ending(3))], lambda p: (Ending(word(p)[-3:]), ()))
    yield _Entry("ending 2", 1, 5.0, [_mapped(reading, _ending(2))], lambda p: (Ending(word(p)[-2:]), ()))
    yield _Entry("form", 1, 4.0, [forms], lambda p: (Form(FORMS[forms[p]]), ()))
    yield _Entry("place", 1, 4.0, [places], anywhere(enclosed))
    yield _Entry("brackets", 1, 4.0, [brackets], anywhere(bracketed))
    yield _Entry("token", 2, 3.0, [reading.token], lambda p: (Token(s[reading.token[p]]), ()))
    yield _Entry("anything", 0, 2.0, [everything], lambda p: (Anything(), ()))
    everywhere = np.arange(len(reading.word))
    for unit, (within, window) in product(_topics(reading), _WITHIN):
        column = np.where(stands_earlier(reading, unit, window, everywhere), reading.word, _NO_CONDITION)
        context = Earlier((s[unit],), within)
        name = f"word with {s[unit]} {within}"
        yield _Entry(name, 4, 4.0, [column], at_word(lambda p, c=context: c), late=True)


_TOPICS = 1
# How an earlier word is looked for: in the language's terms, and as a window of `language.earlier`.
_WITHIN: tuple[tuple[int | Literal["line"] | None, int], ...] = ((None, ANYWHERE), ("line", ON_THIS_LINE), (10, 10))
_FEWEST_ROWS, _MOST_ROWS = 0.05, 0.6  # of the rows: a word that stands in nearly none or nearly all tells little


def _topics(reading: Reading) -> list[int]:
    """The words most worth looking back for: the most frequent among those that some rows have and others lack."""
    row = np.searchsorted(reading.unit_of_row, np.arange(len(reading.unit)), side="right") - 1
    seen = np.unique(reading.unit.astype(np.int64) * reading.rows + row)
    share = np.bincount(seen // reading.rows, minlength=len(reading.strings)) / max(reading.rows, 1)
    named = np.array([len(w) > 2 and w.isalpha() for w in reading.strings])
    telling = np.flatnonzero(named & (share >= _FEWEST_ROWS) & (share <= _MOST_ROWS))
    return telling[np.argsort(-share[telling], kind="stable")][:_TOPICS].tolist()


def _template(reading: Reading, entry: _Entry, half: Int[np.ndarray, " n"]) -> tuple[Template, Int[np.ndarray, " n"]]:
    """A template, and which of its conditions each position falls under, `_NO_CONDITION` for none.

    Combinations of values of the columns are numbered; a negative value is none.
    """
    known = reading.readable.copy()
    for column in entry.columns:
        known &= column >= 0
    position = np.flatnonzero(known)
    key = np.zeros(len(position), np.int64)
    for column in entry.columns:
        values = column[position].astype(np.int64)
        key = np.unique(key * (int(values.max(initial=0)) + 1) + values, return_inverse=True)[1]
    condition = np.full(len(reading.word), _NO_CONDITION, np.int32)
    condition[position] = key
    conditions = int(key.max(initial=-1)) + 1
    count = np.bincount(key + conditions * half[position], minlength=2 * conditions).reshape(2, conditions)
    pointer = np.concatenate([np.zeros(1, np.int64), np.cumsum(count.sum(axis=0))])
    ordered = position[np.argsort(key, kind="stable")].astype(np.int32)
    template = Template(
        entry.name, entry.specificity, entry.words, pointer, ordered, count, entry.spell, entry.late, entry.excepts
    )
    return template, condition


def _mapped(reading: Reading, number: Callable[[str], int]) -> Int[np.ndarray, " n"]:
    """A number of the word so far at every position, computed once a distinct word."""
    present = np.unique(reading.word[reading.readable])
    by_word = np.full(len(reading.strings) + 1, _NO_CONDITION, np.int32)
    for w in present.tolist():
        by_word[w] = number(reading.strings[w])
    return by_word[reading.word]


def _form_number(word: str) -> int:
    return next((i for i, name in enumerate(FORMS) if is_form(name, word)), _NO_CONDITION)


def _ending(length: int) -> Callable[[str], int]:
    """Numbers the endings of words that have so many characters."""
    seen: dict[str, int] = {}

    def number(word: str) -> int:
        return _NO_CONDITION if len(word) < length else seen.setdefault(word[-length:], len(seen))

    return number


_PLACE_NAMES: tuple[PlaceName, ...] = ("inside a string", "inside a comment")


def _enclosures(reading: Reading) -> Int[np.ndarray, " n"]:
    """Which enclosure a position is in, as an index into the places' names."""
    enclosed = np.full(len(reading.inside), _NO_CONDITION, np.int32)
    for place, inside in enumerate((STRING, COMMENT)):
        enclosed[reading.inside == inside] = place
    return enclosed
