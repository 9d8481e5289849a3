"""The answers that were paid for, on disk: nothing is asked twice. One file, many threads and processes."""

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from plainspoken.errors import StoreError
from plainspoken.llm.database import mend_of, open_database
from plainspoken.llm.ledger import KEY_BYTES
from plainspoken.llm.requests import Answer, Fault, Odds, Reply, Usage, is_count

FORMAT = 1
"""Stands in the file (`PRAGMA user_version`); a file of another format is refused."""
_TABLES = {"answers": "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID"}


class AnswerCache:
    """The answer to each request that got one, by `request_key`, in an SQLite file in write-ahead mode.

    A process killed at any moment loses at most the answer it was writing. Values are JSON text, so that nothing read
    is ever executed; Python writes a float64 in JSON with as many digits as bring it back bit by bit. Faults are not
    kept: what failed today may be answered tomorrow. Which keys it has met since it was opened stands in a table that
    goes with it, beside memory: what it gives out and has not met was paid for earlier. Who shares a bill shares the
    cache: two of one file, in one process or in two, know nothing of what the other has met.

    Raises StoreError, with the file's name, where the file is no cache of ours, damaged, or cannot be written, and for
    whatever is wanted of it once it is closed.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._closed, self._lock = Path(path), False, threading.Lock()
        with self._in_use():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = open_database(self.path, FORMAT, _TABLES)
            self._database.execute("CREATE TEMP TABLE met (key INTEGER PRIMARY KEY)")

    def get(self, key: bytes) -> Reply | Odds | None:
        """The answer kept under the key, with `usage.from_cache` set; None where there is none.

        `usage.earlier` is set the first time, where it was not put in since the cache was opened.
        """
        with self._in_use():
            row = self._database.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
            new = row is not None and self._meet(key)
        try:
            return None if row is None else _decode(row[0], new)
        except (ValueError, KeyError, TypeError) as error:
            raise self._refusal(error) from error

    def put(self, key: bytes, answer: Answer) -> None:
        """Keep the answer; a Fault is not kept."""
        if isinstance(answer, Fault):
            return
        text = _encode(answer)
        with self._in_use():
            self._database.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, text))
            self._meet(key)

    def __len__(self) -> int:
        with self._in_use():
            return self._database.execute("SELECT count(*) FROM answers").fetchone()[0]

    def close(self) -> None:
        """Let go of the file. Closed again, it does nothing."""
        with self._lock:
            self._closed = True
            self._database.close()

    def _meet(self, key: bytes) -> bool:
        """Whether the key, of which eight bytes tell it from others, is met for the first time."""
        short = int.from_bytes(key[:KEY_BYTES], "big", signed=True)
        return self._database.execute("INSERT OR IGNORE INTO temp.met VALUES (?)", (short,)).rowcount > 0

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """One thread at a time, of a cache that is open; what fails is told with the file's name."""
        try:
            with self._lock:
                if self._closed:
                    raise StoreError(f"the response cache {self.path} is closed; open it, or its language model, again")
                yield
        except (OSError, sqlite3.Error) as error:
            raise self._refusal(error) from error

    def _refusal(self, error: Exception) -> StoreError:
        anew = "move it away to ask everything anew, or name another folder with the llm's cache"
        return StoreError(f"the response cache {self.path} cannot be used: {error}; {mend_of(error) or anew}")


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
    counts = [told for name, told in body["usage"].items() if name.endswith(("tokens", "requests"))]
    if not all(is_count(told) for told in counts):
        raise ValueError("an answer's counts of tokens are none")
    usage = Usage(**{**body["usage"], "from_cache": True, "earlier": earlier})
    if "logprob" in body:
        return Odds(np.array(body["logprob"], dtype=np.float64).reshape(-1, body["answers"]), usage)
    return Reply(body["text"], body["finish"], usage)
