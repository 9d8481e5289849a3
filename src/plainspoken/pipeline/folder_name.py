"""The name of a folder that is made of a prompt."""

import re
from collections.abc import Mapping
from typing import Any

from plainspoken.store.manifest import digest

LONGEST = 80
"""Letters of a name: four bytes each at most still fit what file systems take."""
_FRONT, _END, _ASKED, _HASH = 24, 12, 24, 12


def folder_name(prompt: str, asked: str, told: Mapping[str, Any]) -> str:
    """A name that people can read: how the prompt begins and ends, and what was asked of it.

    `told`: all else that the folder depends on. A hash of all of it keeps others apart, that differ anywhere.
    """
    words = _words(prompt)
    if len("-".join(words)) > _FRONT + _END + 1:
        words = [*_fitting(words, _FRONT), *reversed(_fitting(words[::-1], _END, from_end=True))]
    name = [*words, *_fitting(_words(asked), _ASKED), digest([prompt, asked, told])[:_HASH]]
    return "-".join(name)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _fitting(words: list[str], room: int, *, from_end: bool = False) -> list[str]:
    """As many of the words as there is room for; of the first, where it is longer, its nearer end."""
    found = [words[0][-room:] if from_end else words[0][:room]]
    for word in words[1:]:
        if len("-".join([*found, word])) > room:
            break
        found.append(word)
    return found
