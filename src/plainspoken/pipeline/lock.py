"""One run at a time in a folder: a second would overwrite the first's files, and a killed one holds nothing."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from plainspoken.errors import RunError
from plainspoken.store.atomic import storage_error

LOCK = ".lock"


_STEP_S = 0.2


@contextmanager
def held(root: Path, waits: Callable[[str], object] | None = None) -> Iterator[None]:
    """The folder, made where it is not there, held.

    `waits`: is told once where another holds it, which is then waited for; None: nobody waits.
    Raises RunError where another holds it and nobody waits, or `root` can be no folder, StoreError where it cannot be
    written.
    """
    descriptor = _lock_file(root, waits)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock_file(root: Path, waits: Callable[[str], object] | None) -> int:
    told = False
    while True:
        descriptor = _open_lock(root)
        if not _lock(descriptor):
            os.close(descriptor)
            if waits is None:
                raise RunError(f"another plainspoken is at work in {root}: wait for it, or choose another --out")
            if not told:
                waits(f"another plainspoken is at work in {root}: waiting for it to end")
                told = True
            time.sleep(_STEP_S)
            continue
        # A run that left nothing behind may have taken the file away between our opening and locking it.
        path = root / LOCK
        if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
        os.close(descriptor)


def _open_lock(root: Path) -> int:
    try:
        root.mkdir(parents=True, exist_ok=True)
        return os.open(root / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except (FileExistsError, NotADirectoryError) as error:
        raise RunError(
            f"{root} can be no run folder: a file stands there or above it; move it away, or choose another --out"
        ) from error
    except OSError as error:
        raise storage_error(error, root) from error


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
