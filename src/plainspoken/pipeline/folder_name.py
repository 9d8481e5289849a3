"""The name of a folder that is made of a prompt."""

import re
from collections.abc import Mapping
from typing import Any

from plainspoken.store.manifest import digest

_FRONT, _END, _ASKED, _HASH = 24, 12, 24, 12
"""Bytes of each part: file systems count a name in bytes, of which some letters take four, and take 255 of them."""


def folder_name(prompt: str, asked: str, told: Mapping[str, Any]) -> str:
    """A name that people can read: how the prompt begins and ends, and what was asked of it.

    `told`: all else that the folder depends on. A hash of all of it keeps others apart, that differ anywhere.
    """
    words = _words(prompt)
    if _size(words) > _FRONT + _END + 1:
        words = [*_fitting(words, _FRONT), *reversed(_fitting(words[::-1], _END, from_end=True))]
    name = [*words, *_fitting(_words(asked), _ASKED), digest([prompt, asked, told])[:_HASH]]
    return "-".join(name)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _size(words: list[str]) -> int:
    """Bytes of the words as they are joined."""
    return len("-".join(words).encode())


def _fitting(words: list[str], room: int, *, from_end: bool = False) -> list[str]:
    """As many of the words as there are bytes of room for; of the first, where it is longer, its nearer end."""
    first = words[0].encode()
    found = [(first[-room:] if from_end else first[:room]).decode(errors="ignore")]  # no part of a letter
    for word in words[1:]:
        if _size([*found, word]) > room:
            break
        found.append(word)
    return found
