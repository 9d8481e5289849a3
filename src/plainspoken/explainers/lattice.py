"""The conditions that an explanation may choose from, each known by where it holds in the explain rows.

A template fixes some columns of the reading (the word so far; it and the word before; ...); every combination of values
that occurs is one condition, and a place in the text falls under exactly one condition of each template.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from plainspoken.explainers import spelling
from plainspoken.explainers.spelling import Spell, Spelled
from plainspoken.language.earlier import ANYWHERE, ON_THIS_LINE, stands_earlier
from plainspoken.language.enclosure import COMMENT, STRING
from plainspoken.language.reading import Reading
from plainspoken.language.rule import (
    FORMS,
    Earlier,
    PlaceName,
    is_form,
)

_NO_CONDITION = -1

FOLDS = 4
"""Parts of the explain text: what one part has to say of a condition is measured against what the others say."""


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

    The positions under its condition c are `position[pointer[c]:pointer[c + 1]]`, and `count[f, c]` of them lie in fold
    f of the text. `words`: what one condition costs in a sentence, its share of the wording around it included;
    `specificity` as in `language.rule`.
    """

    name: str
    specificity: int
    words: float
    pointer: Int[np.ndarray, " conditions_1"]
    position: Int[np.ndarray, " m"]
    count: Int[np.ndarray, "folds conditions"]
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

    def spelled(self, condition: int) -> Spelled:
        """A condition in the terms of the language."""
        return self.spell(int(self.position[self.pointer[condition]]))


@dataclass(frozen=True, eq=False)
class Lattice:
    """All templates over a reading, in the order in which they are chosen.

    `condition[p, k]`: the condition of template k that position p falls under, numbered through all templates: those
    of template k are `first[k]` to `first[k + 1] - 1`, and `first[-1]` stands for none. A position's conditions lie
    side by side, so that looking at a position costs one access to memory and not one a template. `fold[p]`: which of
    the folds of the text it is in, across which what is said must hold.
    """

    templates: tuple[Template, ...]
    condition: Int[np.ndarray, "n templates"]
    first: Int[np.ndarray, " templates_1"]
    fold: Int[np.ndarray, " n"]


def build_lattice(reading: Reading, document: Int[np.ndarray, " row"]) -> Lattice:
    """Every template over a reading: exact words first, then looser conditions for what those leave over.

    `document`: the document of each row.
    """
    fold = np.repeat(_folds(document), reading.t)
    found: list[Template] = []
    entries = list(_entries(reading))
    condition = np.empty((len(reading.word), len(entries)), np.int32)
    first = np.zeros(len(entries) + 1, np.int64)
    for k, entry in enumerate(entries):
        template, condition[:, k] = _template(reading, entry, fold)
        first[k + 1] = first[k] + template.count.shape[1]
        found.append(template)
    for k in range(len(entries)):
        column = condition[:, k]
        column[:] = np.where(column < 0, first[-1], column + first[k])
    return Lattice(tuple(found), condition, first, fold)


def _folds(document: Int[np.ndarray, " row"]) -> Int[np.ndarray, " row"]:
    """The fold of each row, folds of about the same number of rows: whole documents, dealt out the longest first; where
    that leaves a fold with less than half its share, blocks of rows, as when there is one document alone."""
    rows, count = np.zeros(FOLDS, np.int64), np.bincount(document)
    of_document = np.zeros(len(count), np.int32)
    for one in np.argsort(-count, kind="stable").tolist():
        of_document[one] = rows.argmin()
        rows[of_document[one]] += count[one]
    if 2 * FOLDS * rows.min() >= len(document):
        return of_document[document]
    return (np.arange(len(document)) * FOLDS // max(len(document), 1)).astype(np.int32)


def _entries(reading: Reading) -> Iterator[_Entry]:
    s, word, token = reading.strings, reading.word, reading.token
    b1, b2, b3 = reading.before1, reading.before2, reading.before3
    line = np.where(reading.line > 0, reading.line, _NO_CONDITION)
    opener = np.where(reading.depth > 0, reading.opener, _NO_CONDITION)
    places, brackets = _enclosures(reading), np.where(reading.depth > 0, 0, 1)
    forms, everything = _mapped(reading, _form_number), np.zeros_like(word)
    ending3, ending2 = (_mapped(reading, _ending(length)) for length in (3, 2))

    def spell(say: Callable[..., Spelled], *columns: np.ndarray, last: Sequence[str] = s) -> Spell:
        return Spell(say, columns, (*[s] * (len(columns) - 1), last)[: len(columns)])

    yield _Entry("word", 3, 1.0, [word], spell(spelling.phrase, word), excepts=True)
    yield _Entry("two words", 5, 2.0, [word, b1], spell(spelling.phrase, word, b1), excepts=True)
    yield _Entry("three words", 7, 3.0, [word, b1, b2], spell(spelling.phrase, word, b1, b2), excepts=True)
    yield _Entry("four words", 9, 4.0, [word, b1, b2, b3], spell(spelling.phrase, word, b1, b2, b3))
    yield _Entry("after", 2, 1.5, [b1], spell(spelling.after, b1))
    yield _Entry("after two", 4, 2.5, [b1, b2], spell(spelling.after, b1, b2))
    yield _Entry("word on line", 4, 4.0, [word, line], spell(spelling.word_on_line, word, line))
    yield _Entry("word in brackets", 4, 4.0, [word, opener], spell(spelling.word_in_brackets, word, opener))
    yield _Entry("word in place", 4, 4.0, [word, places], spell(spelling.word_in_place, word, places, last=_ENCLOSED))
    yield _Entry("line", 1, 3.0, [line], spell(spelling.on_line, line))
    yield _Entry("opener", 1, 3.0, [opener], spell(spelling.in_brackets, opener))
    yield _Entry("ending 3", 1, 5.0, [ending3], spell(partial(spelling.with_ending, 3), word))
    yield _Entry("ending 2", 1, 5.0, [ending2], spell(partial(spelling.with_ending, 2), word))
    yield _Entry("form", 1, 4.0, [forms], spell(spelling.of_form, forms, last=FORMS))
    yield _Entry("place", 1, 4.0, [places], spell(spelling.in_place, places, last=_ENCLOSED))
    yield _Entry("brackets", 1, 4.0, [brackets], spell(spelling.in_place, brackets, last=_BRACKETED))
    yield _Entry("token", 2, 3.0, [token], spell(spelling.token, token))
    yield _Entry("anything", 0, 2.0, [everything], spell(spelling.anything))
    everywhere = np.arange(len(word))
    for unit, (within, window) in product(_topics(reading), _WITHIN):
        column = np.where(stands_earlier(reading, unit, window, everywhere), word, _NO_CONDITION)
        said = spell(partial(spelling.word_with, Earlier((s[unit],), within)), word)
        yield _Entry(f"word with {s[unit]} {within}", 4, 4.0, [column], said, late=True)


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


def _template(reading: Reading, entry: _Entry, fold: Int[np.ndarray, " n"]) -> tuple[Template, Int[np.ndarray, " n"]]:
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
    count = np.bincount(key + conditions * fold[position], minlength=FOLDS * conditions).reshape(FOLDS, conditions)
    pointer = np.concatenate([np.zeros(1, np.int64), np.cumsum(count.sum(axis=0))])
    ordered = position[np.argsort(key, kind="stable")].astype(np.int32)
    template = Template(
        entry.name,
        entry.specificity,
        entry.words,
        pointer,
        ordered,
        count.astype(np.int32),
        entry.spell,
        entry.late,
        entry.excepts,
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


_ENCLOSED: tuple[PlaceName, ...] = ("inside a string", "inside a comment")
_BRACKETED: tuple[PlaceName, ...] = ("inside brackets", "outside brackets")


def _enclosures(reading: Reading) -> Int[np.ndarray, " n"]:
    """Which enclosure a position is in, as an index into `_ENCLOSED`."""
    enclosed = np.full(len(reading.inside), _NO_CONDITION, np.int32)
    for place, inside in enumerate((STRING, COMMENT)):
        enclosed[reading.inside == inside] = place
    return enclosed
