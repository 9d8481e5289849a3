"""Files that are filled through a mapping: their space is taken first, or a full disk would kill the process."""

import os
from pathlib import Path


def reserve(path: Path, size: int) -> None:
    """The file at `path`, at least `size` bytes long, every one of them on the disk. Raises OSError on a full disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        elif file.tell() < size:
            file.truncate(size)
