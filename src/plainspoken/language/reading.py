"""What a reader sees at each token: the word so far, the words before it, the line, quotes and brackets.

Everything here is found in the text up to the end of the token, through character offsets: it knows nothing of the
tokenizer's cuts but where they fall, and nothing of the text that follows. A text is read as units: words (letters,
digits, underscores), runs of punctuation, and line breaks; blanks between them only separate.
"""

import codecs
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int

from plainspoken.language.enclosure import enclosures

NOTHING = -1  # the column's value where there is no text: BOS, padding

_UNIT = re.compile(r"\w+|[^\w\s]+|\s+")
_FIRST_BYTE, _LAST_BYTE = "\udc80", "\udcff"  # how bytes that are no character are spelled
LINE_BREAK = "\n"
TEXT_START = ""

# The columns that hold a word (an index into `Reading.strings`); the others are flags.
WORD_COLUMNS = ("token", "word", "before1", "before2", "before3", "line", "opener")


@dataclass(frozen=True, eq=False)
class Reading:
    """Rows of text as columns over flat positions (row * t + column); `NOTHING` where a row has no text.

    `word` is the word so far: the unit that the text ends in, cut where the token ends; a blank or a line break with
    its indentation where the text ends in white space. `before1`.. are the whole units before it (`TEXT_START` before
    the first), `line` the first unit of this line once it is complete, `opener` the unit before the innermost open
    bracket, `token` what the token itself adds. `inside` numbers the enclosure (0 none, 1 string, 2 comment).
    `depth` counts open brackets. `unit` holds all complete units of all rows in order; `unit_before[p]` is how many of
    them end before the word so far, `unit_of_row[r]` where row r begins, `unit_of_line[p]` where the line begins.
    """

    strings: tuple[str, ...]
    token: Int[np.ndarray, " n"]
    word: Int[np.ndarray, " n"]
    before1: Int[np.ndarray, " n"]
    before2: Int[np.ndarray, " n"]
    before3: Int[np.ndarray, " n"]
    line: Int[np.ndarray, " n"]
    opener: Int[np.ndarray, " n"]
    inside: Int[np.ndarray, " n"]
    depth: Int[np.ndarray, " n"]
    unit: Int[np.ndarray, " units"]
    unit_before: Int[np.ndarray, " n"]
    unit_of_line: Int[np.ndarray, " n"]
    unit_of_row: Int[np.ndarray, " row"]
    rows: int
    t: int

    @cached_property
    def index(self) -> dict[str, int]:
        """The inverse of `strings`."""
        return {string: i for i, string in enumerate(self.strings)}

    @cached_property
    def places_of_words(self) -> Int[np.ndarray, " words"]:
        """Which of the units are words, and neither punctuation nor a line break: indices into `unit`, ascending."""
        is_word = np.array([string[:1].isalnum() or string[:1] == "_" for string in self.strings], bool)
        return np.flatnonzero(is_word[self.unit])

    @cached_property
    def readable(self) -> Bool[np.ndarray, " n"]:
        """Where there is text."""
        return self.word != NOTHING


class _Interner(dict[str, int]):
    """Strings to consecutive numbers, in order of first sight."""

    def __missing__(self, key: str) -> int:
        self[key] = number = len(self)
        return number


def read_rows(
    tokens: Int[np.ndarray, "row t"],
    mask: Bool[np.ndarray, "row t"],
    table: Sequence[bytes],
    progress: Callable[[int], object] | None = None,
) -> Reading:
    """Read every row of tokens.

    Args:
        tokens: token ids; mask: True on text (not on BOS and padding).
        table: the bytes that each token id adds to the text (`corpus.pieces`).
        progress: called with the number of rows done since the last call.
    """
    rows, t = tokens.shape
    # The first numbers are the same in every reading.
    intern = _Interner({TEXT_START: 0, LINE_BREAK: 1})
    pieces = np.array([intern[piece.decode("utf-8", "surrogateescape")] for piece in table], np.int32)
    columns = {name: np.full((rows, t), NOTHING, np.int32) for name in (*WORD_COLUMNS, "inside", "depth")}
    unit_before, unit_of_line = np.zeros((rows, t), np.int64), np.zeros((rows, t), np.int64)
    units: list[np.ndarray] = []
    unit_of_row = np.zeros(rows, np.int64)
    total = 0
    for r in range(rows):
        where = np.flatnonzero(mask[r])
        ids = tokens[r, where]
        columns["token"][r, where] = pieces[ids]
        text, ends = _text_and_ends([table[i] for i in ids.tolist()])
        found = _read_text(text, ends, intern)
        for name, values in found.columns.items():
            columns[name][r, where] = values
        unit_before[r, where] = total + found.before
        unit_of_line[r, where] = total + found.line_start
        units.append(found.units)
        unit_of_row[r] = total
        total += len(found.units)
        if progress is not None:
            progress(1)
    flat = {name: values.reshape(-1) for name, values in columns.items()}
    return Reading(
        strings=tuple(intern),
        unit=np.concatenate(units) if units else np.zeros(0, np.int32),
        unit_before=unit_before.reshape(-1),
        unit_of_line=unit_of_line.reshape(-1),
        unit_of_row=unit_of_row,
        rows=rows,
        t=t,
        **flat,
    )


def _text_and_ends(pieces: list[bytes]) -> tuple[str, Int[np.ndarray, " n"]]:
    """The pieces' text, and where each ends in characters; a character cut in two ends with its last byte."""
    raw = b"".join(pieces)
    ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
    decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
    text = decode(raw)  # a character whose last bytes are still to come is no text yet
    if text.isascii() and len(text) == len(raw):
        return text, ends
    if not any(_FIRST_BYTE <= c <= _LAST_BYTE for c in text):
        # Bytes up to and including each character: a token ends after the characters that are complete by then.
        return text, np.searchsorted(np.cumsum([len(c.encode("utf-8")) for c in text]), ends, side="right")
    # A byte that begins a character is known to be none only when the next byte comes: count byte by byte.
    decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
    known = np.cumsum([0, *(len(decode(raw[i : i + 1])) for i in range(len(raw)))])
    return text, known[ends]


@dataclass(frozen=True, eq=False)
class _RowReading:
    columns: dict[str, np.ndarray]
    units: np.ndarray
    before: np.ndarray
    line_start: np.ndarray


def _read_text(text: str, ends: Int[np.ndarray, " n"], intern: _Interner) -> _RowReading:
    """The columns at character offsets `ends` of one text; offset 0 reads as the start of the text."""
    starts, whole, unit_of, is_unit = _segments(text, intern)
    # The segment that the text ends in; -1 only where nothing was written yet.
    at = np.searchsorted(starts, ends, side="left") - 1
    unit_of = np.append(unit_of, len(is_unit))  # for at == -1: no unit before
    units = whole[is_unit] if len(whole) else np.zeros(0, np.int32)
    before = np.where(at >= 0, unit_of[at], 0)
    shown = zip(at.tolist(), ends.tolist(), strict=True)
    word = np.array([_word_so_far(text, starts, i, end, intern) for i, end in shown], np.int32)
    padded = np.concatenate([np.full(3, intern[TEXT_START], np.int32), units])
    line_starts = np.flatnonzero(units == intern[LINE_BREAK]) + 1
    breaks = np.searchsorted(line_starts, before, side="right")
    line_start = np.where(breaks > 0, np.append(line_starts, 0)[breaks - 1], 0)
    safe = np.append(units, intern[TEXT_START])
    line = np.where(line_start < before, safe[np.minimum(line_start, len(units))], intern[TEXT_START])
    inside, depth, opener = enclosures(text, ends)
    columns = {
        "word": word,
        "before1": padded[before + 2],
        "before2": padded[before + 1],
        "before3": padded[before],
        "line": line,
        "inside": inside,
        "depth": depth,
        "opener": np.array([intern[o] for o in opener], np.int32),
    }
    return _RowReading(columns, units, before, line_start)


def _segments(text: str, intern: _Interner) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cut into runs: (where each starts, its interned text, units that precede it, indices of those that are units)."""
    starts, whole, unit_of, is_unit = [], [], [], []
    for i, match in enumerate(_UNIT.finditer(text)):
        run = match.group()
        starts.append(match.start())
        unit_of.append(len(is_unit))
        if run.isspace():
            if LINE_BREAK in run:
                is_unit.append(i)
                whole.append(intern[LINE_BREAK])
            else:
                whole.append(intern[run])
        else:
            is_unit.append(i)
            whole.append(intern[run])
    kinds = (np.int64, np.int32, np.int64, np.int64)
    a, b, c, d = (np.array(v, k) for v, k in zip((starts, whole, unit_of, is_unit), kinds, strict=True))
    return a, b, c, d


def _word_so_far(text: str, starts: np.ndarray, segment: int, end: int, intern: _Interner) -> int:
    if segment < 0:
        return intern[TEXT_START]
    run = text[starts[segment] : end]
    if run[0].isspace():
        # A line break stands with the indentation after it; other blanks stand as they are.
        return intern[run[run.rfind(LINE_BREAK) :] if LINE_BREAK in run else run]
    return intern[run]
