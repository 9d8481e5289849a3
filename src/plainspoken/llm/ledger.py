"""What a run has paid and no manifest tells yet, on disk answer by answer: what a killed attempt paid is not lost.

A stage's bill is taken when a unit of it is whole. Killed before, the next attempt finds what was paid here, and counts
it as paid earlier, whether it asks the same again (out of the response cache, which then tells nothing of it a second
time) or not. A run that has come to its end has no such file.
"""

import json
import os
import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from plainspoken.errors import StoreError
from plainspoken.llm.requests import Answer
from plainspoken.llm.spent import Spent, carried
from plainspoken.store.atomic import storage_error, write_text

LEDGER = "ledger.jsonl"
KEY_BYTES = 8
"""So many of a request's key tell it from the others."""


@dataclass(frozen=True)
class _Entry:
    """One answer. `key`: of its request, hexadecimal; "" where it is kept nowhere. `unit`: in whose manifest it stands;
    None: in none yet."""

    label: str
    model: str
    key: str
    cost: dict[str, float]
    unit: str | None = None


class Ledger:
    """The answers of a run since it last came to its end, one a line, and who took them into a manifest.

    Written from any thread. A line that a kill cut off is as good as none: the answer is in the response cache, which
    tells what it had cost. Raises StoreError where the file cannot be read or written.
    """

    def __init__(
        self,
        path: Path,
        is_done: Callable[[str], bool] = lambda unit: False,
        counts: Callable[[str, str], bool] = lambda label, model: True,
        anew: Callable[[str], bool] = lambda unit: False,
    ) -> None:
        """`is_done`: whether a unit has its manifest. `counts`: whether what was paid under a label to a model is still
        of this run. `anew`: whether a unit is made anew whatever stands, so that its old bill is no longer told."""
        self._path, self._is_done = Path(path), is_done
        self._lock = threading.Lock()
        before = self._entries()
        entries = [e for e in before if (counts(e.label, e.model) if e.unit is None else not anew(e.unit))]
        if self._path.exists():  # whole lines alone: what is written next begins one
            self._write(entries)
        self.met = frozenset(bytes.fromhex(entry.key) for entry in entries if entry.key)
        """Keys of the requests whose answers are in a bill already."""
        self._earlier: dict[str, Spent] = {}
        for entry in entries:
            if entry.unit is None:
                paid = Spent(**entry.cost)  # pyright: ignore[reportArgumentType]
                self._earlier[entry.label] = self._earlier.get(entry.label, Spent()) + paid

    def note(self, label: str, model: str, key: bytes, answer: Answer) -> None:
        """An answer that was paid for under this label, now or, by its usage, earlier. `key` may be empty."""
        cost = {name: value for name, value in vars(carried(answer)).items() if value}
        self._append({"label": label, "model": model, "key": key[:KEY_BYTES].hex(), "cost": cost})

    def earlier(self, label: str) -> Spent:
        """What attempts that were killed had paid under the label, as paid earlier; told once."""
        return self._earlier.pop(label, Spent())

    def taken(self, unit: str, labels: Iterable[str]) -> None:
        """What was paid under these labels is in the manifest of the unit, as soon as there is one."""
        if self._path.exists():
            self._append({"taken_by": unit, "labels": sorted(labels)}, sync=True)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if "_file" in vars(self):
                self._file.close()
                del self._file

    def settle(self) -> None:
        """At a run's end: nothing is left but what no manifest tells, in the usual case no file."""
        self.close()
        if self._path.exists():
            self._write([entry for entry in self._entries() if entry.unit is None])

    @cached_property
    def _file(self) -> BinaryIO:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return open(self._path, "ab", buffering=0)

    def _append(self, record: dict[str, Any], sync: bool = False) -> None:
        try:
            with self._lock:
                self._file.write((json.dumps(record) + "\n").encode())
                if sync:
                    os.fsync(self._file.fileno())
        except OSError as error:
            raise storage_error(error, self._path) from error

    def _write(self, entries: Collection[_Entry]) -> None:
        if entries:
            write_text(self._path, "".join(json.dumps(vars(entry)) + "\n" for entry in entries))
            return
        self._path.unlink()
        if not any(self._path.parent.iterdir()):
            self._path.parent.rmdir()

    def _entries(self) -> list[_Entry]:
        """The entries, each with the unit that took it, if that is done."""
        if not self._path.exists():
            return []
        found: list[_Entry] = []
        *lines, _ = self._path.read_bytes().split(b"\n")  # behind the last line's end: nothing, or what a kill cut off
        try:
            for line in lines:
                record = json.loads(line)
                if "taken_by" not in record:
                    found.append(_Entry(**record))
                elif self._is_done(unit := record["taken_by"]):
                    labels = record["labels"]
                    found = [replace(e, unit=unit) if e.unit is None and e.label in labels else e for e in found]
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"{self._path} is altered: it does not read as what was paid ({error}); move it away, then go on: "
                "what killed attempts had paid is then told by the response cache alone"
            ) from error
        return found
