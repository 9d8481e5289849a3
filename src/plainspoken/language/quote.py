"""Tokens and words between quotation marks: any text at all, escaped so that a person can read and type it.

A quoted phrase separates its units by one blank. Within a unit a blank is ␣, and ␣{12} is twelve of them, so that an
indentation can be read; a line break is \\n, a byte that is no whole character \\xNN, anything else that does not print
\\uNNNN; the marks that mean something here take a backslash. The start of the text is a unit of its own, \\start.
"""

import re

from plainspoken.errors import LanguageError
from plainspoken.language.reading import TEXT_START

OPEN, CLOSE = "“", "”"
_BLANK = "␣"
_COUNT = "{"  # after a blank it begins the number of blanks, and takes a backslash where it is itself
_MARKED = {"\\", OPEN, CLOSE, _BLANK, '"'}
_START = "\\start"
_NAMED = {"\n": "\\n", "\t": "\\t", "\r": "\\r", " ": _BLANK}
_BACK = {"n": "\n", "t": "\t", "r": "\r"}
_FIRST_BYTE, _LAST_BYTE = "\udc80", "\udcff"  # how the reading spells bytes that are no whole character

# Between “ and ”, or, as people type, between two ".
_BODY = {OPEN: r"(?:[^\\“”]|\\.)*", '"': r"(?:[^\\\"]|\\.)*"}
_CLOSED_BY = {OPEN: CLOSE, '"': '"'}
_QUOTED = re.compile("|".join(f"{mark}({_BODY[mark]}){_CLOSED_BY[mark]}" for mark in _BODY), re.DOTALL)
_SHOWN = 20
_ESCAPE_OR_BLANK = re.compile(
    r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))|␣\{(\d{1,4})\}|␣", re.DOTALL
)
_BLANKS = re.compile(r" {4,9999}")


def quote(units: tuple[str, ...]) -> str:
    """The units between quotation marks; `unquote` of it gives them back, whatever they hold."""
    return OPEN + " ".join(_escape(unit) for unit in units) + CLOSE


def scan_quote(text: str, at: int) -> tuple[tuple[str, ...], int] | None:
    """(units, where the quotation ends) of a quotation that begins at `at`; None where none begins there.

    Raises LanguageError at an escape that means nothing, and where a quotation is empty or not closed.
    """
    match = _QUOTED.match(text, at)
    if match is None:
        if text[at : at + 1] in _CLOSED_BY:
            raise _not_closed(text, at)
        return None
    start = match.start(1) if match.group(1) is not None else match.start(2)
    body = match.group(1) if match.group(1) is not None else match.group(2)
    units, offset = [], 0
    for piece in body.split(" "):
        if piece:
            units.append(_unescape(piece, start + offset))
        offset += len(piece) + 1
    if not units:
        expected = "a word between the quotation marks (a blank is ␣)"
        raise LanguageError(f"column {at + 1}: nothing stands here; expected {expected}", at + 1, expected)
    return tuple(units), match.end()


def _not_closed(text: str, at: int) -> LanguageError:
    """Of a quotation that begins at `at`: which mark is missing, and why one that stands there is not it."""
    close = _CLOSED_BY[text[at]]
    body = re.compile(_BODY[text[at]], re.DOTALL).match(text, at + 1)
    assert body is not None, "it matches nothing at all, too"
    shown = text[at : body.end()].rstrip()
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN].rstrip()} …"
    escaped = body.group().rfind("\\" + close)
    expected = f"{close} at its end"
    if body.end() < len(text) and text[body.end()] == OPEN:
        expected += f", before the {OPEN} at column {body.end() + 1}"
    elif escaped >= 0:
        expected += (
            f": the backslash at column {body.start() + escaped + 1} makes the {close} behind it a character of the "
            "quotation"
        )
    elif close == CLOSE and '"' in body.group():
        expected += f": what {OPEN} opens a straight quotation mark does not close"
    return LanguageError(f"column {at + 1}: the quotation {shown} is not closed; expected {expected}", at + 1, expected)


def count_words(text: str) -> int:
    """Words of an explanation: whitespace-separated pieces, every quoted token counting as at least one.

    Works on any English, not only on this language: both “…” and "…" are quotations.
    """
    quoted = sum(max(1, len(m.group(0)[1:-1].split())) for m in _QUOTED.finditer(text))
    rest = _QUOTED.sub(" ", text).split()
    return max(len(text.split()), quoted + sum(any(c.isalnum() for c in piece) for piece in rest))


def _escape(unit: str) -> str:
    if unit == TEXT_START:
        return _START
    pieces, at = [], 0
    for blanks in _BLANKS.finditer(unit):
        pieces += [_escape_each(unit, at, blanks.start()), f"{_BLANK}{_COUNT}{len(blanks.group())}}}"]
        at = blanks.end()
    return "".join([*pieces, _escape_each(unit, at, len(unit))])


def _escape_each(unit: str, start: int, end: int) -> str:
    counts = (i > 0 and unit[i] == _COUNT and unit[i - 1] == " " for i in range(start, end))
    return "".join("\\" + _COUNT if c else _escape_character(unit[i]) for i, c in enumerate(counts, start))


def _escape_character(c: str) -> str:
    if c in _NAMED:
        return _NAMED[c]
    if c in _MARKED:
        return "\\" + c
    if _FIRST_BYTE <= c <= _LAST_BYTE:
        return f"\\x{ord(c) - 0xDC00:02x}"
    if c.isprintable() and not c.isspace():
        return c
    return f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}"


def _unescape(piece: str, at: int) -> str:
    if piece == _START:
        return TEXT_START
    # A lone ␣ is a blank; an escaped one is itself: both are settled in one pass, left to right.
    return _ESCAPE_OR_BLANK.sub(lambda m: " " if m.group() == _BLANK else _unescape_one(m, at), piece)


def _unescape_one(match: re.Match[str], at: int) -> str:
    byte, short, long, mark, many = match.groups()
    if many is not None:
        return " " * int(many)
    if byte is not None and int(byte, 16) >= 0x80:
        return chr(0xDC00 + int(byte, 16))
    code = int(byte or short or long or "0", 16)
    if mark is None and code <= 0x10FFFF:
        return chr(code)
    if mark in _BACK:
        return _BACK[mark]
    if mark is not None and (mark in _MARKED or mark == _COUNT):
        return mark
    expected = r"\n, \t, \r, \xNN, \uNNNN, \UNNNNNNNN, \start, or a backslash before “ ” ␣ \ or a straight quote"
    column = at + match.start() + 1
    raise LanguageError(f"column {column}: {match.group()} is no escape; expected {expected}", column, expected)
