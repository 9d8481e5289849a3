"""The default corpus: the source of the running interpreter's own standard library, text that every user has."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path

# Tests and generated tables are long and repetitive: they would dominate the corpus without teaching Python.
_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "idlelib", "encodings", "lib2to3"}
_LEFT_OUT |= {"__pycache__", "ensurepip", "pydoc_data"}


def standard_library_root() -> Path:
    """The folder of the running interpreter's standard library."""
    return Path(sysconfig.get_paths()["stdlib"])


def standard_library_files() -> Iterator[tuple[str, Path]]:
    """(key, path) of every module: the key is the path below the library's root, with forward slashes, in order."""
    root = standard_library_root()
    for path in sorted(root.rglob("*.py")):
        below = path.relative_to(root)
        if not _LEFT_OUT.intersection(below.parts):
            yield below.as_posix(), path
