"""What a run has paid and in whose manifest it stands, on disk as it is paid: nothing is lost, nothing billed twice.

A stage's bill is taken when a unit of it is whole. Killed before, the next attempt finds what was paid here, and counts
it as paid earlier, whether it asks the same again or not. An answer that comes out of the response cache is in the bill
of the first that asks for it, and in no other's for as long as that one stands.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plainspoken.errors import StoreError
from plainspoken.llm.database import mend_of, open_database
from plainspoken.llm.requests import Answer
from plainspoken.llm.spent import Spent, carried
from plainspoken.store.atomic import storage_error

LEDGER = "ledger.sqlite"
KEY_BYTES = 8
"""So many of a request's key tell it from the others."""
FORMAT = 1
"""Stands in the file (`PRAGMA user_version`); a file of another format is refused."""

_SUMS = (
    "earlier_requests", "earlier_prompt_tokens", "earlier_cached_tokens", "earlier_completion_tokens",
    "earlier_seconds", "untold",
)  # fmt: skip
"""Of a `Spent`, what an answer that was paid for earlier has: a column each."""
_TABLES = {
    "bills": "CREATE TABLE IF NOT EXISTS bills (id INTEGER PRIMARY KEY, label TEXT NOT NULL, "
    + "model TEXT NOT NULL, unit TEXT, "
    + ", ".join(f"{name} NOT NULL DEFAULT 0" for name in _SUMS)
    + ")",
    "billed": "CREATE TABLE IF NOT EXISTS billed (key INTEGER, bill INTEGER, PRIMARY KEY (key, bill)) WITHOUT ROWID",
}
_PAY = f"UPDATE bills SET {', '.join(f'{name} = {name} + ?' for name in _SUMS)} WHERE id = ?"


@dataclass(frozen=True)
class _Bill:
    """What was paid under a label to a model. `unit`: in whose manifest it stands; None: in none yet."""

    id: int
    label: str
    model: str
    unit: str | None
    spent: Spent


class Ledger:
    """The bills of a run, each with its sum and the keys of its answers: memory is flat, and a kill loses no line.

    Written from any thread. There is no file before something is paid. Raises StoreError, with the file's name, where
    it is no ledger, damaged, or cannot be written.
    """

    def __init__(
        self, path: Path, models: Mapping[str, str], is_done: Callable[[str], bool] = lambda unit: False
    ) -> None:
        """`models`: whom the run asks under each label; what was paid to others waits until they are asked again.
        `is_done`: whether a unit has its manifest."""
        self._path, self._models = Path(path), models
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._now: dict[tuple[str, str], int] = {}  # label and model to the bill that is being added to
        self._earlier: dict[str, Spent] = {}
        if self._path.exists():
            with self._storage() as database:
                bills = list(_bills(database))
                for bill in bills:
                    if bill.unit is not None and not is_done(bill.unit):  # killed before, or taken away by somebody
                        database.execute("UPDATE bills SET unit = NULL WHERE id = ?", (bill.id,))
                    elif bill.unit is not None:
                        continue
                    if models.get(bill.label) == bill.model:
                        self._earlier[bill.label] = self._earlier.get(bill.label, Spent()) + bill.spent

    def note(self, label: str, model: str, key: bytes, answer: Answer) -> bool:
        """Whether the answer is in a bill from here on that was in none: one that was paid for now is, one out of the
        response cache where no bill of this run has it. `key`: of its request; empty where it is kept nowhere."""
        short = int.from_bytes(key[:KEY_BYTES], "big", signed=True)
        with self._storage() as database:
            if answer.usage.from_cache and _has(database, short):
                return False
            with database:  # one transaction
                database.execute("BEGIN")
                bill = self._now.get((label, model))
                if bill is None:
                    bill = database.execute("INSERT INTO bills (label, model) VALUES (?, ?)", (label, model)).lastrowid
                if key:
                    database.execute("INSERT OR IGNORE INTO billed VALUES (?, ?)", (short, bill))
                paid = carried(answer)
                database.execute(_PAY, (*(getattr(paid, name) for name in _SUMS), bill))
            assert bill is not None
            self._now[label, model] = bill
        return True

    def earlier(self, label: str) -> Spent:
        """What attempts that were killed had paid under the label, as paid earlier; told once."""
        return self._earlier.pop(label, Spent())

    def taken(self, unit: str, labels: Iterable[str]) -> None:
        """What was paid under these labels is in the manifest of the unit, as soon as there is one."""
        if not self._path.exists():
            return
        with self._storage() as database:
            # A power cut must not leave the manifest, which is synced, without this.
            database.execute("PRAGMA synchronous = FULL")
            with database:
                database.execute("BEGIN")
                for label in labels:
                    whose = (unit, label, self._models.get(label))
                    database.execute("UPDATE bills SET unit = ? WHERE unit IS NULL AND label = ? AND model = ?", whose)
            database.execute("PRAGMA synchronous = NORMAL")
            self._now.clear()

    def void(self, unit: str) -> None:
        """The unit's manifest goes, and with it its bill: what is asked for again is in the next one."""
        if not self._path.exists():
            return
        with self._storage() as database:
            bills = database.execute("SELECT id FROM bills WHERE unit = ?", (unit,)).fetchall()
            with database:
                database.execute("BEGIN")
                for bill in bills:
                    database.execute("DELETE FROM billed WHERE bill = ?", bill)
                    database.execute("DELETE FROM bills WHERE id = ?", bill)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    @contextmanager
    def _storage(self) -> Iterator[sqlite3.Connection]:
        """The database, for one thread at a time."""
        try:
            with self._lock:
                if self._database is None:
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                    self._database = open_database(self._path, FORMAT, _TABLES)
                yield self._database
        except OSError as error:
            raise storage_error(error, self._path) from error
        except (sqlite3.Error, ValueError) as error:
            anew = "move it away and go on: what is kept is then billed as paid earlier when it is asked again"
            raise StoreError(
                f"the ledger {self._path}, what this run has paid, cannot be used: {error}; {mend_of(error) or anew}"
            ) from error


def _has(database: sqlite3.Connection, key: int) -> bool:
    return database.execute("SELECT 1 FROM billed WHERE key = ?", (key,)).fetchone() is not None


def _bills(database: sqlite3.Connection) -> Iterator[_Bill]:
    """Every bill. Raises ValueError for one that is none: someone has altered it."""
    for id_, label, model, unit, *sums in database.execute(
        f"SELECT id, label, model, unit, {', '.join(_SUMS)} FROM bills"
    ):
        named = all(isinstance(name, str) for name in (label, model, unit or ""))
        if not named or not all(isinstance(value, int | float) and value >= 0 for value in sums):
            raise ValueError(f"its bill {id_} is altered: no sums of what was paid stand there")
        figures: dict[str, Any] = dict(zip(_SUMS, sums, strict=True))
        yield _Bill(id_, label, model, unit, Spent(**figures))
