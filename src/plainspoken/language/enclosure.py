"""Where a text stands inside a string, a comment or brackets, judged from left to right by a few marks alone.

Not a parser of any one language: it must hold for code and for prose, and for a text that starts in the middle. A
quotation mark opens a string unless it is an apostrophe within a word; strings end at their own mark, or with the line
unless they opened with three marks; `#` opens a comment to the end of the line.
"""

import re

import numpy as np
from jaxtyping import Int

NONE, STRING, COMMENT = 0, 1, 2

_MARK = re.compile(r"\\[^\n]|[\"'#\n()\[\]{}“”]")
_WORD_BEFORE = re.compile(r"(\w+)\s*\Z")
_STRING_PREFIX = re.compile(r"(?<!\w)[rRbBuUfF]{1,2}\Z")
_CLOSES = {"“": "”"}
NO_OPENER = ""


def enclosures(
    text: str, ends: Int[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], list[str]]:
    """At each character offset: (0 none, 1 string, 2 comment), how many brackets are open, the word before the last."""
    at, inside, depth, opener = _changes(text)
    # A mark counts once it is complete: at the offset where it ends.
    index = np.searchsorted(at, ends, side="right") - 1
    return inside[index], depth[index], [opener[i] for i in index]


def _changes(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """The state after each mark: offsets where it begins to hold, ascending, first at 0.

    Marks are read one character at a time, so that what holds at an offset never depends on what follows it: three
    quotation marks are an empty string, and then one that opens again.
    """
    state, closing, opened, emptied, stack = NONE, "", 0, -1, []
    at, inside, depth, opener = [0], [NONE], [0], [NO_OPENER]
    for match in _MARK.finditer(text):
        mark, start, end = match.group(), match.start(), match.end()
        if state == STRING:
            # The marks that close must themselves stand after the marks that opened.
            closes = text.endswith(closing, 0, end) and end - len(closing) >= opened
            if closes or (mark == "\n" and len(closing) == 1):
                state = NONE
                emptied = end if closes and end - len(closing) == opened and len(closing) == 1 else -1
        elif state == COMMENT:
            state = NONE if mark == "\n" else COMMENT
        elif mark in "\"'“":
            before = text[max(0, start - 3) : start]
            apostrophe = mark == "'" and before[-1:].isalnum() and not _STRING_PREFIX.search(before)
            if not apostrophe:
                state, opened = STRING, end
                closing = mark * 3 if emptied == start and before[-1:] == mark else _CLOSES.get(mark, mark)
        elif mark == "#":
            state = COMMENT
        elif mark in "([{":
            word = _WORD_BEFORE.search(text[max(0, start - 40) : start])
            stack.append(word.group(1) if word else mark)
        elif mark in ")]}" and stack:
            stack.pop()
        at.append(end)
        inside.append(state)
        depth.append(len(stack))
        opener.append(stack[-1] if stack else NO_OPENER)
    return np.array(at), np.array(inside, np.int32), np.array(depth, np.int32), opener
