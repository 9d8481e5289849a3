"""The conditions that an explanation may choose from, each known by where it holds in the explain rows.

A template fixes some columns of the reading (the word so far; it and the word before; ...); every combination of values
that occurs is one condition, and a place in the text falls under exactly one condition of each template.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

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
    is_form,
)

_NO_CONDITION = -1

# A condition in the terms of the language, from a position that falls under it.
Spell = Callable[[int], tuple[Head, tuple[Context, ...]]]
_Entry = tuple[str, int, float, list[np.ndarray], Spell]


@dataclass(frozen=True, eq=False)
class Template:
    """A kind of condition.

    `condition[p]`: which of its conditions position p falls under, -1 for none. The positions under condition c are
    `position[pointer[c]:pointer[c + 1]]`. `words`: what one condition costs in a sentence, its share of the wording
    around it included; `specificity` as in `language.rule`.
    """

    name: str
    specificity: int
    words: float
    condition: Int[np.ndarray, " n"]
    pointer: Int[np.ndarray, " conditions_1"]
    position: Int[np.ndarray, " m"]
    spell: Spell
    """The condition in the terms of the language, from any position that falls under it."""
    late: bool = False
    """Whether it is worth a look only once all others have been chosen."""

    @property
    def count(self) -> Int[np.ndarray, " conditions"]:
        """Tokens under each condition."""
        return np.diff(self.pointer)

    def positions(self, conditions: Int[np.ndarray, " c"]) -> Int[np.ndarray, " m"]:
        """All positions under any of these conditions."""
        parts = [self.position[self.pointer[c] : self.pointer[c + 1]] for c in conditions.tolist()]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def spelled(self, condition: int) -> tuple[Head, tuple[Context, ...]]:
        """A condition as a head and its contexts."""
        return self.spell(int(self.position[self.pointer[condition]]))


def templates(reading: Reading) -> tuple[Template, ...]:
    """Every template over a reading, in the order in which they are chosen: exact words first, then looser conditions
    for what those leave over."""
    s = reading.strings

    def word(p: int) -> str:
        return s[reading.word[p]]

    def phrase(length: int) -> Spell:
        before = (reading.before3, reading.before2, reading.before1)[3 - (length - 1) :]
        return lambda p: (Phrase((*(s[c[p]] for c in before), word(p))), ())

    forms = _mapped(reading, _form_number)
    places = _enclosures(reading)
    brackets = np.where(reading.depth > 0, 0, _NO_CONDITION)
    everything = np.zeros_like(reading.word)
    b1, b2, b3, line, opener = reading.before1, reading.before2, reading.before3, reading.line, reading.opener
    has_line, has_opener = np.where(line > 0, line, _NO_CONDITION), np.where(reading.depth > 0, opener, _NO_CONDITION)

    def at_word(context: Callable[[int], Context]) -> Spell:
        return lambda p: (Phrase((word(p),)), (context(p),))

    def anywhere(context: Callable[[int], Context]) -> Spell:
        return lambda p: (Anything(), (context(p),))

    def enclosed(p: int) -> Context:
        return Place(_PLACE_NAMES[places[p]])

    listed: list[_Entry] = [
        ("word", 3, 1.0, [reading.word], phrase(1)),
        ("two words", 5, 2.0, [reading.word, b1], phrase(2)),
        ("three words", 7, 3.0, [reading.word, b1, b2], phrase(3)),
        ("four words", 9, 4.0, [reading.word, b1, b2, b3], phrase(4)),
        ("after", 2, 1.5, [b1], anywhere(lambda p: After(((s[b1[p]],),)))),
        ("after two", 4, 2.5, [b1, b2], anywhere(lambda p: After(((s[b2[p]], s[b1[p]]),)))),
        ("word on line", 4, 4.0, [reading.word, has_line], at_word(lambda p: Line((s[line[p]],)))),
        ("word in brackets", 4, 4.0, [reading.word, has_opener], at_word(lambda p: Opener((s[opener[p]],)))),
        ("word in place", 4, 4.0, [reading.word, places], at_word(enclosed)),
        ("line", 1, 3.0, [has_line], anywhere(lambda p: Line((s[line[p]],)))),
        ("opener", 1, 3.0, [has_opener], anywhere(lambda p: Opener((s[opener[p]],)))),
        ("ending 3", 1, 5.0, [_mapped(reading, _ending(3))], lambda p: (Ending(word(p)[-3:]), ())),
        ("ending 2", 1, 5.0, [_mapped(reading, _ending(2))], lambda p: (Ending(word(p)[-2:]), ())),
        ("form", 1, 4.0, [forms], lambda p: (Form(FORMS[forms[p]]), ())),
        ("place", 1, 4.0, [places], anywhere(enclosed)),
        ("brackets", 1, 4.0, [brackets], anywhere(lambda p: Place("inside brackets"))),
        ("anything", 0, 2.0, [everything], lambda p: (Anything(), ())),
    ]
    late: list[_Entry] = []
    for unit, within in product(_topics(reading), (None, "line", _RECENT)):
        column = np.where(_stands_earlier(reading, unit, within), reading.word, _NO_CONDITION)
        context = Earlier((s[unit],), within)
        late.append((f"word with {s[unit]} {within}", 4, 4.0, [column], at_word(lambda p, c=context: c)))
    early = [_template(reading, *entry) for entry in listed]
    return (*early, *(_template(reading, *entry, late=True) for entry in late))


_TOPICS = 4
_RECENT = 10  # “in the last 10 words”
_FEWEST_ROWS, _MOST_ROWS = 0.05, 0.6  # of the rows: a word that stands in nearly none or nearly all tells little


def _topics(reading: Reading) -> list[int]:
    """The words most worth looking back for: the most frequent among those that some rows have and others lack."""
    row = np.searchsorted(reading.unit_of_row, np.arange(len(reading.unit)), side="right") - 1
    seen = np.unique(reading.unit.astype(np.int64) * reading.rows + row)
    share = np.bincount(seen // reading.rows, minlength=len(reading.strings)) / max(reading.rows, 1)
    named = np.array([len(w) > 2 and w.isalpha() for w in reading.strings])
    telling = np.flatnonzero(named & (share >= _FEWEST_ROWS) & (share <= _MOST_ROWS))
    return telling[np.argsort(-share[telling], kind="stable")][:_TOPICS].tolist()


def _stands_earlier(reading: Reading, unit: int, within: int | Literal["line"] | None) -> Bool[np.ndarray, " n"]:
    """Whether a unit stands whole before the word so far: in the row, on the line, or among the last so many units."""
    # For every place among the units, where the unit last stood before it; -1 where it has not.
    at = np.where(reading.unit == unit, np.arange(len(reading.unit)), -1)
    last = np.concatenate([np.full(1, -1), np.maximum.accumulate(at)])[reading.unit_before]
    start = np.repeat(reading.unit_of_row, reading.t)
    if within == "line":
        start = reading.unit_of_line
    elif within is not None:
        start = np.maximum(start, reading.unit_before - within)
    return reading.readable & (last >= start)


def _template(
    reading: Reading,
    name: str,
    specificity: int,
    words: float,
    columns: Sequence[np.ndarray],
    spell: Spell,
    late: bool = False,
) -> Template:
    """Number the combinations of values of the columns; a negative value is none."""
    known = reading.readable.copy()
    for column in columns:
        known &= column >= 0
    position = np.flatnonzero(known)
    key = np.zeros(len(position), np.int64)
    for column in columns:
        values = column[position].astype(np.int64)
        key = np.unique(key * (int(values.max(initial=0)) + 1) + values, return_inverse=True)[1]
    condition = np.full(len(reading.word), _NO_CONDITION, np.int32)
    condition[position] = key
    pointer = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(key))])
    return Template(
        name,
        specificity,
        words,
        condition,
        pointer,
        position[np.argsort(key, kind="stable")].astype(np.int32),
        spell,
        late,
    )


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
