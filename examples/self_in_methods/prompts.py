"""Prompts of the example: the head of a method inside a class, and the same function at the top level of a file."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from plainspoken.circuits.behaviour import Behaviour
from plainspoken.errors import UsageError
from plainspoken.lm import LanguageModel

CLASSES = ("Reader", "Writer", "Parser", "Node", "Queue", "Server", "Client", "Handler", "Token", "Cache", "Buffer",
           "Message", "Table", "Stream", "Timer", "Lock", "Event", "Record", "Field", "Option", "Group", "File",
           "Frame", "Counter", "Scanner", "Loader")  # fmt: skip
FUNCTIONS = ("read", "write", "close", "open", "get", "set", "add", "remove", "update", "reset", "flush", "start",
             "stop", "run", "send", "parse", "find", "load", "save", "pop", "push", "clear", "copy",
             "next")  # fmt: skip
NAMES = ("size", "name", "path", "data", "limit", "mode", "count", "label", "width", "level")
OTHERS = ("path", "name", "data", "file", "value", "key", "line", "text")
"""Arguments that a function may have in the place of self: each a single token after the bracket."""
METHODS = (
    "class {cls}:\n    def {function}(",
    "class {cls}(object):\n    {name} = {number}\n\n    def {function}(",
    "import os\n\n\nclass {cls}:\n    {name} = None\n\n    def {function}(",
)
TOP_LEVEL = (
    "def {function}(",
    "{name} = {number}\n\n\ndef {function}(",
    "import os\n\n\n{name} = None\n\n\ndef {function}(",
)
"""The same without the class."""


@dataclass(frozen=True)
class Prompts:
    """The two behaviours, prompt by prompt the same names; the texts of the first."""

    methods: Behaviour
    top_level: Behaviour
    texts: tuple[str, ...]


def make_prompts(lm: LanguageModel, count: int, seed: int) -> Prompts:
    """Different prompts, drawn with the seed. Raises UsageError where that many cannot be, or the tokenizer splits
    `self` or another argument."""
    draw = random.Random(seed)
    found: dict[str, tuple[str, str]] = {}
    for _ in range(100 * count):
        if len(found) == count:
            break
        kind = draw.randrange(len(METHODS))
        words = {"cls": draw.choice(CLASSES), "function": draw.choice(FUNCTIONS), "name": draw.choice(NAMES),
                 "number": str(draw.randrange(10))}  # fmt: skip
        found.setdefault(METHODS[kind].format(**words), (TOP_LEVEL[kind].format(**words), draw.choice(OTHERS)))
    if len(found) < count:
        raise UsageError(f"the templates give no {count} different prompts: ask for fewer")
    others = [other for _, other in found.values()]
    methods = _behaviour(lm, list(found), others)
    return Prompts(methods, _behaviour(lm, [top for top, _ in found.values()], others), tuple(found))


def _behaviour(lm: LanguageModel, texts: Sequence[str], others: Sequence[str]) -> Behaviour:
    start = [] if lm.bos_id is None else [lm.bos_id]
    prompts = tuple((*start, *_ids(lm, text)) for text in texts)
    wanted = tuple(next_token(lm, text, "self") for text in texts)
    other = tuple(next_token(lm, text, name) for text, name in zip(texts, others, strict=True))
    return Behaviour(prompts, wanted, other, begun=lm.bos_id is not None)


def next_token(lm: LanguageModel, text: str, name: str) -> int:
    """The token that `name` is after the text. Raises UsageError where it is several, or changes the text's own."""
    before, after = _ids(lm, text), _ids(lm, text + name)
    if after[:-1] != before:
        raise UsageError(f"'{name}' is no single token of {lm.name} after {text[-12:]!r}: use another word")
    return after[-1]


def _ids(lm: LanguageModel, text: str) -> list[int]:
    return lm.tokenizer(text, add_special_tokens=False)["input_ids"]
