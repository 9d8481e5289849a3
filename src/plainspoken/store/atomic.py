"""Files that are old or new but never half: a temporary name in the same folder, fsync, rename, fsync the folder."""

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from plainspoken.errors import StoreError

REDO = "put the file back, or make it anew with --force and the name of its stage"
"""The mend for a stage's file that cannot be read."""

PART_SUFFIX = ".part"
"""What a file is called while it is being written; such files are nobody's output and are swept away."""

_MENDS = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again: what is done is kept",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again: what is done is kept",
    errno.EACCES: "no permission to write there; choose another folder with --out",
    errno.EPERM: "no permission to write there; choose another folder with --out",
    errno.EEXIST: "a file stands where a folder is wanted; move it away, or choose another folder with --out",
    errno.ENOTDIR: "a file stands where a folder is wanted; move it away, or choose another folder with --out",
    errno.EROFS: "that file system is read-only; choose another folder with --out",
}


def storage_error(error: OSError, path: Path) -> StoreError:
    """The StoreError that tells what the operating system refused at `path`, and the mend."""
    where = Path(error.filename) if isinstance(error.filename, str | os.PathLike) else path
    other = f"{error.strerror or error}; mend that, or choose another folder with --out"
    mend = _MENDS.get(error.errno or 0, other)
    return StoreError(f"cannot write {where}: {mend}")


@contextmanager
def write_atomic(path: Path) -> Iterator[BinaryIO]:
    """A binary file whose content stands under `path` only once all of it is on the disk.

    Killed at any moment, `path` holds the old content or the new, whole. After an exception it holds the old.
    Raises StoreError when the disk is full or the folder cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(error, path) from error
    finally:
        with suppress(OSError):  # it is not there, or its folder is none: what went wrong is being told
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """The text as UTF-8, atomically."""
    with write_atomic(path) as file:
        file.write(text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """The value as indented JSON, atomically; NaN and infinity are refused: they are no JSON and no result."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """What a JSON file holds; StoreError names a file that is missing, truncated or no JSON."""
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError as error:
        raise StoreError(f"{path} is missing; {REDO}") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StoreError(f"{path} is truncated or altered: it does not read as JSON ({error}); {REDO}") from error


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_file(path: Path) -> None:
    """Wait until a file that somebody else wrote is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    sync_file(folder)
