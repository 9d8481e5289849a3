"""The English of rules read back: a hand-written descent that can say where a sentence goes wrong.

What `render` writes is read as it was meant. People who edit may also write straight quotation marks, leave out the
last full stop, “or” or a comma in a list, or put the levels in any order.
"""

import re
from collections.abc import Callable
from typing import TypeVar

from plainspoken.errors import LanguageError
from plainspoken.language.quote import scan_quote
from plainspoken.language.render import SILENT
from plainspoken.language.rule import (
    FORMS,
    HIGHEST_LEVEL,
    MAX_WINDOW,
    PLACES,
    STARTS,
    After,
    Anything,
    Beginning,
    Clause,
    Context,
    Earlier,
    Ending,
    Form,
    Group,
    Head,
    Line,
    Opener,
    Phrase,
    Place,
    Rule,
    Start,
    Token,
)

T = TypeVar("T")

_A_QUOTATION = "a word between quotation marks"
_A_HEAD = (
    f"{_A_QUOTATION}, “anything”, “the token …”, “a word ending in …”, “a word beginning with …”, {', '.join(FORMS)}"
)
_A_CONTEXT = "after …; with … earlier; on a line that begins with …; inside the brackets of …; " + "; ".join(
    (*PLACES, *(f"at the start of {of}" for of in STARTS))
)


def parse(text: str) -> Rule:
    """The rule that a sentence states.

    Raises LanguageError with the column (from 1) where reading stopped and what was expected there.
    """
    reader = _Reader(text)
    if reader.take(re.escape(SILENT).rstrip(".").rstrip("\\") + r"\.?\s*\Z"):
        return Rule()
    reader.expect(r"Fires\s+(?:at\s+)?", "a sentence that begins with “Fires at”")
    clauses = [_clause(reader)]
    while reader.take(r"\s*;\s*"):
        clauses.append(_clause(reader))
    reader.expect(r"\s*\.?\s*\Z", f"“;” and another level, “, and on”, a full stop, or {_A_CONTEXT}")
    return Rule(tuple(clauses))


class _Reader:
    """A text and how far it has been read."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def take(self, pattern: str) -> re.Match[str] | None:
        match = re.compile(pattern).match(self.text, self.at)
        if match:
            self.at = match.end()
        return match

    def expect(self, pattern: str, expected: str) -> re.Match[str]:
        match = self.take(pattern)
        if match is None:
            raise self.error(expected)
        return match

    def quotation(self) -> tuple[str, ...] | None:
        found = scan_quote(self.text, self.at)
        if found is None:
            return None
        units, self.at = found
        return units

    def error(self, expected: str, at: int | None = None) -> LanguageError:
        at = self.at if at is None else at
        there = self.text[at : at + 20]
        found = f"{there!r} was found" if there else "the sentence ends"
        return LanguageError(f"column {at + 1}: {found}; expected {expected}", at + 1, expected)


def _clause(reader: _Reader) -> Clause:
    found = reader.expect(r"(?:at\s+)?(\d+)\s+on\s+", f"a level from 0 to {HIGHEST_LEVEL} and “on”")
    level = int(found.group(1))
    if level > HIGHEST_LEVEL:
        raise reader.error(f"a level from 0 to {HIGHEST_LEVEL}", found.start(1))
    groups = [_group(reader)]
    while reader.take(r"\s*,?\s+and\s+on\s+"):
        groups.append(_group(reader))
    return Clause(level, tuple(groups))


def _group(reader: _Reader) -> Group:
    began = reader.at
    heads = _list(reader, _head, _A_HEAD)
    contexts: list[Context] = []
    while True:
        before = reader.at
        if not reader.take(r"\s+"):
            break
        context = _context(reader)
        if context is None:
            reader.at = before
            break
        contexts.append(context)
    try:
        return Group(heads, tuple(contexts))
    except ValueError as error:
        raise reader.error(str(error), began) from error


def _list(reader: _Reader, item: Callable[[_Reader], T | None], expected: str) -> tuple[T, ...]:
    """One or more items between commas and “or”."""
    first = item(reader)
    if first is None:
        raise reader.error(expected)
    items = [first]
    while True:
        before = reader.at
        if not reader.take(r"\s*,?\s+or\s+|\s*,\s*(?!and\s+on\s)"):
            break
        found = item(reader)
        if found is None:
            if re.search(r"or\s+\Z", reader.text[before : reader.at]):
                raise reader.error(expected)
            reader.at = before
            break
        items.append(found)
    return tuple(items)


def _head(reader: _Reader) -> Head | None:
    began = reader.at
    units = reader.quotation()
    if units is not None:
        try:
            return Phrase(units)
        except ValueError as error:
            raise reader.error(str(error), began) from error
    for pattern, kind in (
        (r"the token\s+", Token),
        (r"a word ending in\s+", Ending),
        (r"a word beginning with\s+", Beginning),
    ):
        if reader.take(pattern):
            return kind(_word(reader))
    if reader.take(r"anything\b"):
        return Anything()
    for name in FORMS:
        if reader.take(re.escape(name) + r"\b"):
            return Form(name)
    return None


def _context(reader: _Reader) -> Context | None:
    for name in PLACES:
        if reader.take(re.escape(name) + r"\b"):
            return Place(name)
    for of in STARTS:
        if reader.take(rf"at the start of {of}\b"):
            return Start(of)
    if reader.take(r"after\s+"):
        return After(_list(reader, _Reader.quotation, _A_QUOTATION))
    if reader.take(r"on a line that begins with\s+"):
        return Line(_words(reader))
    if reader.take(r"inside the brackets of\s+"):
        return Opener(_words(reader))
    if reader.take(r"with\s+"):
        words = _words(reader)
        if reader.take(r"\s+earlier on this line\b"):
            return Earlier(words, "line")
        if reader.take(r"\s+earlier\b"):
            return Earlier(words)
        window = reader.expect(
            r"\s+in the last\s+(\d+)\s+words\b", "“earlier”, “earlier on this line” or “in the last 9 words”"
        )
        # Digits beyond those of the greatest window say no more than that it is too great.
        within = int(window.group(1)[:9])
        if not 1 <= within <= MAX_WINDOW:
            raise reader.error(f"a number of words from 1 to {MAX_WINDOW}", window.start(1))
        return Earlier(words, within)
    return None


def _words(reader: _Reader) -> tuple[str, ...]:
    return _list(reader, _optional_word, _A_QUOTATION)


def _word(reader: _Reader) -> str:
    word = _optional_word(reader)
    if word is None:
        raise reader.error(_A_QUOTATION)
    return word


def _optional_word(reader: _Reader) -> str | None:
    began = reader.at
    units = reader.quotation()
    if units is None:
        return None
    word, *others = units
    if others:
        raise reader.error("one word between these quotation marks (a blank is ␣)", began)
    return word
