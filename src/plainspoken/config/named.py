"""What a setting names: one thing of a registry, or a model or a text wherever it lies."""

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from plainspoken.errors import ConfigError

T = TypeVar("T")


def named(registry: Mapping[str, T], name: str, setting: str) -> T:
    """The thing of this name. Raises ConfigError that names the setting, what there is and what is nearest."""
    if name not in registry:
        raise ConfigError(f"{setting} is {name!r}; there are: {', '.join(registry)}{nearest(name, registry)}")
    return registry[name]


def nearest(name: str, names: Iterable[str]) -> str:
    """`; nearest: NAME`, of these names; nothing where none is near."""
    near = difflib.get_close_matches(name, list(names), 1, 0.4)
    return f"; nearest: {near[0]}" if near else ""


def short_name(name: str) -> str:
    """The name without the folders above it: what a model or a text is called, wherever it lies."""
    return Path(name).name if os.path.isabs(name) else name.removeprefix("./")
