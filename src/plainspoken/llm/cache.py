"""The answers that were paid for, on disk: nothing is asked twice. One file, many threads and processes."""

import json
import sqlite3
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from plainspoken.errors import StoreError
from plainspoken.llm.ledger import KEY_BYTES
from plainspoken.llm.requests import Answer, Fault, Odds, Reply, Usage

FORMAT = 1
"""Stands in the file (`PRAGMA user_version`); a file of another format is refused."""


@dataclass(eq=False)
class _OpenFile:
    """A connection, its lock, and how many caches use it."""

    database: sqlite3.Connection
    lock: threading.Lock
    users: int = 0


_OPEN: dict[Path, _OpenFile] = {}
"""Files that this process has open: what one cache of a file has met, another has, or it would be billed twice."""
_GUARD = threading.Lock()


class AnswerCache:
    """The answer to each request that got one, by `request_key`, in an SQLite file in write-ahead mode.

    A process killed at any moment loses at most the answer it was writing. Values are JSON text, so that nothing read
    is ever executed; Python writes a float64 in JSON with as many digits as bring it back bit by bit. Faults are not
    kept: what failed today may be answered tomorrow. Which keys it has met since it was opened stands in a table that
    goes with it, beside memory: what it gives out and has not met was paid for earlier. Caches of one file that are
    open at once in a process (of models reached in two ways) are one.

    Raises StoreError, with the file's name, where the file is no cache of ours, damaged, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._closed = Path(path), False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._place = self.path.resolve()
            with _GUARD:
                file = _OPEN.get(self._place) or self._opened()
                _OPEN[self._place] = file
                file.users += 1
        except (OSError, sqlite3.Error) as error:
            raise self._refusal(error) from error
        self._database, self._lock = file.database, file.lock

    def get(self, key: bytes) -> Reply | Odds | None:
        """The answer kept under the key, with `usage.from_cache` set; None where there is none.

        `usage.earlier` is set the first time, where it was not put in since the cache was opened.
        """
        try:
            with self._lock:
                row = self._database.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
                new = row is not None and self._meet(key)
            return None if row is None else _decode(row[0], new)
        except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
            raise self._refusal(error) from error

    def put(self, key: bytes, answer: Answer) -> None:
        """Keep the answer; a Fault is not kept."""
        if isinstance(answer, Fault):
            return
        try:
            with self._lock:
                self._database.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, _encode(answer)))
                self._meet(key)
        except sqlite3.Error as error:
            raise self._refusal(error) from error

    def __len__(self) -> int:
        with self._lock:
            return self._database.execute("SELECT count(*) FROM answers").fetchone()[0]

    def close(self) -> None:
        """Let go of the file; the last of those that have it open closes it."""
        with _GUARD, self._lock:
            if self._closed:
                return
            self._closed = True
            file = _OPEN[self._place]
            file.users -= 1
            if not file.users:
                del _OPEN[self._place]
                file.database.close()

    def _meet(self, key: bytes) -> bool:
        """Whether the key, of which eight bytes tell it from others, is met for the first time."""
        short = int.from_bytes(key[:KEY_BYTES], "big", signed=True)
        return self._database.execute("INSERT OR IGNORE INTO temp.met VALUES (?)", (short,)).rowcount > 0

    def _opened(self) -> _OpenFile:
        database = sqlite3.connect(self.path, timeout=60, isolation_level=None, check_same_thread=False)
        try:
            _prepare(database)
        except sqlite3.Error:
            database.close()
            raise
        return _OpenFile(database, threading.Lock())

    def _refusal(self, error: Exception) -> StoreError:
        return StoreError(
            f"the response cache {self.path} cannot be used: {error}; move it away to ask everything anew, "
            "or name another folder with the llm's cache"
        )


def _prepare(database: sqlite3.Connection) -> None:
    version = database.execute("PRAGMA user_version").fetchone()[0]
    tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if version != FORMAT and (version or tables):
        raise sqlite3.DatabaseError(f"its format is {version}, not {FORMAT}")
    database.execute("PRAGMA journal_mode = WAL")
    # In write-ahead mode NORMAL survives a killed process whole; a power cut may lose the last answers.
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute("CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID")
    database.execute(f"PRAGMA user_version = {FORMAT}")
    database.execute("CREATE TEMP TABLE met (key INTEGER PRIMARY KEY)")


def _encode(answer: Reply | Odds) -> str:
    body: dict[str, Any] = {"usage": vars(replace(answer.usage, from_cache=False, earlier=False))}
    if isinstance(answer, Odds):
        body["logprob"] = np.asarray(answer.logprob, dtype=np.float64).tolist()
        body["answers"] = answer.logprob.shape[1]
    else:
        body["text"], body["finish"] = answer.text, answer.finish
    return json.dumps(body)


def _decode(text: str, earlier: bool) -> Reply | Odds:
    body = json.loads(text)
    usage = Usage(**{**body["usage"], "from_cache": True, "earlier": earlier})
    if "logprob" in body:
        return Odds(np.array(body["logprob"], dtype=np.float64).reshape(-1, body["answers"]), usage)
    return Reply(body["text"], body["finish"], usage)
