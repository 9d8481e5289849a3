"""What a checkpoint format is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from plainspoken.coders.base import Coder
from plainspoken.types import Site


@dataclass(frozen=True)
class CheckpointFormat:
    """How one project lays a coder down in a folder. Nothing in a checkpoint is ever executed."""

    name: str
    recognises: Callable[[Path], bool]
    """Whether the folder holds a checkpoint of this format."""
    load: Callable[[Path], tuple[Coder, Site]]
    save: Callable[[Path, Coder, Site], None]
