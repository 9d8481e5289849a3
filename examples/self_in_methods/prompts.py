"""Prompts of the example: the head of a method inside a class, and the same function at the top level of a file."""

from __future__ import annotations

import json
import random

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


def prompt_lines(count: int, seed: int) -> str:
    """The file of prompts: different ones, drawn with the seed. Raises ValueError where there are not that many."""
    draw = random.Random(seed)
    found: dict[str, dict[str, str]] = {}
    for _ in range(100 * count):
        if len(found) == count:
            break
        kind = draw.randrange(len(METHODS))
        words = {"cls": draw.choice(CLASSES), "function": draw.choice(FUNCTIONS), "name": draw.choice(NAMES),
                 "number": str(draw.randrange(10))}  # fmt: skip
        method, function, other = METHODS[kind].format(**words), TOP_LEVEL[kind].format(**words), draw.choice(OTHERS)
        found.setdefault(method, {"prompt": method, "wanted": "self", "other": other, "contrast": function})
    if len(found) < count:
        raise ValueError(f"the templates give no {count} different prompts: ask for fewer")
    return "".join(json.dumps(line) + "\n" for line in found.values())
