"""What a setting names: one thing of a registry."""

from collections.abc import Mapping
from typing import TypeVar

from plainspoken.errors import ConfigError

T = TypeVar("T")


def named(registry: Mapping[str, T], name: str, setting: str) -> T:
    """The thing of this name. Raises ConfigError that names the setting and lists what there is."""
    if name not in registry:
        raise ConfigError(f"{setting} is {name!r}; there are: {', '.join(registry)}")
    return registry[name]
