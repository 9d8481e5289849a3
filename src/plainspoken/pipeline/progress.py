"""How stages tell whoever started them what goes on: they never print."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

Advance = Callable[[int], object]
"""Called with how many more units of a task are done."""


@contextmanager
def _untracked(label: str, total: int | None) -> Iterator[Advance]:
    yield lambda done: None


@dataclass(frozen=True)
class Progress:
    """Where a run's messages go; by default nowhere.

    `say(message)`: one line of news. `warn(message)`: one that asks for attention. `track(label, total)`: a context
    manager around long work that yields an Advance; total None where it is not known beforehand.
    """

    say: Callable[[str], object] = lambda message: None
    warn: Callable[[str], object] = lambda message: None
    track: Callable[[str, int | None], AbstractContextManager[Advance]] = _untracked


SILENT = Progress()
