"""The training log: one JSON object a line. No times in it, so that equal runs write equal bytes."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from plainspoken.errors import StoreError


class TrainingLog:
    """Appends to a file that is first cut back to `size`: what a killed run wrote after its checkpoint is redone."""

    def __init__(self, path: Path, size: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = path.stat().st_size if path.exists() else 0
        if held < size:
            raise StoreError(f"{path} is truncated: its checkpoint knows {size} bytes of it; force this stage to redo")
        with open(path, "ab") as file:
            file.truncate(size)
        self._path, self.size = path, size

    def write(self, record: Mapping[str, float | int]) -> None:
        """One line, on the disk when this returns, so that no checkpoint is ever ahead of its log."""
        with open(self._path, "ab") as file:
            self.size += file.write(json.dumps(record).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
