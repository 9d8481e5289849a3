"""Lines of JSON that are appended one at a time, each on the disk before the next: what people say, kept as said."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plainspoken.errors import StoreError
from plainspoken.store.atomic import storage_error, sync_folder


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """One more line, on the disk when this returns. Killed within, the file ends in half a line, or is as it was.

    Raises StoreError when the disk is full or the file cannot be written; ValueError for a number that is no JSON.
    """
    line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    path = Path(path)
    new = not path.exists()
    try:
        with open(path, "ab", buffering=0) as file:
            whole = file.tell()
            if file.write(line) != len(line):  # a disk that was nearly full
                file.truncate(whole)
                raise StoreError(f"cannot write {path}: the disk is full; free some space and run the same again")
            os.fsync(file.fileno())
        if new:
            sync_folder(path.parent)
    except OSError as error:
        raise storage_error(error, path) from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a journal, none where there is no file; half a line at its end is left out.

    Raises StoreError, naming the line, for one that is no object in JSON.
    """
    path = Path(path)
    found = []
    for number, line in enumerate(_whole(path).decode("utf-8", "replace").split("\n")[:-1], 1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise StoreError(_altered(path, number)) from error
        if not isinstance(record, dict):
            raise StoreError(_altered(path, number))
        found.append(record)
    return found


def cut_half_line(path: Path) -> None:
    """Take away half a line that a kill left at the end, before more is appended."""
    path = Path(path)
    if not path.exists() or len(whole := _whole(path)) == path.stat().st_size:
        return
    try:
        with open(path, "r+b") as file:
            file.truncate(len(whole))
            os.fsync(file.fileno())
    except OSError as error:
        raise storage_error(error, path) from error


def _whole(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}; mend that, or put the file back") from error
    return content[: content.rfind(b"\n") + 1]


def _altered(path: Path, number: int) -> str:
    return f"{path}, line {number}, is altered: it does not read as an object in JSON; put the file back as it was"
