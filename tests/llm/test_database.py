"""Files of ours in SQLite: whoever opens a new one finds it whole, and what is wrong is told with what mends it."""

import multiprocessing
import os
import sqlite3
from pathlib import Path

import pytest

from plainspoken.errors import StoreError
from plainspoken.llm import Reply
from plainspoken.llm.cache import AnswerCache
from plainspoken.llm.database import mend_of, open_database

TABLES = {name: f"CREATE TABLE IF NOT EXISTS {name} (key INTEGER PRIMARY KEY)" for name in ("one", "two")}


def opens(path: Path, all_there: object, failed: object) -> None:
    all_there.wait()
    try:
        AnswerCache(path).close()
    except StoreError as error:
        failed.put(str(error))


def test_a_new_file_may_be_opened_by_several_processes_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for attempt in range(25):
        all_there, failed = context.Barrier(4), context.SimpleQueue()
        path = tmp_path / f"{attempt}.sqlite"
        workers = [context.Process(target=opens, args=(path, all_there, failed)) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert failed.empty(), failed.get()


def test_a_file_that_was_killed_while_it_was_made_is_made(tmp_path: Path) -> None:
    """As an earlier release left it: a table, and no version yet."""
    path = tmp_path / "half.sqlite"
    half = sqlite3.connect(path)
    half.execute(TABLES["one"])
    half.close()
    whole = open_database(path, 3, TABLES)
    assert whole.execute("PRAGMA user_version").fetchone() == (3,)
    assert {name for (name,) in whole.execute("SELECT name FROM sqlite_master")} == {"one", "two"}
    whole.close()


@pytest.mark.parametrize("statement", ["CREATE TABLE theirs (x)", "PRAGMA user_version = 9"])
def test_a_file_of_somebody_else_is_refused_and_left_as_it_is(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "theirs.sqlite"
    theirs = sqlite3.connect(path)
    theirs.execute(statement)
    theirs.close()
    before = path.read_bytes()
    with pytest.raises(sqlite3.DatabaseError, match="its format is"):
        open_database(path, 3, TABLES)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


def test_one_that_another_process_holds_and_a_full_disk_are_no_reason_to_move_the_file_away(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    cache, holder = AnswerCache(path), sqlite3.connect(path, isolation_level=None)
    cache._database.execute("PRAGMA busy_timeout = 1")  # a minute otherwise
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="another process is writing to it; wait"):
        cache.put(b"a" * 32, Reply("said", "stop"))
    holder.execute("ROLLBACK")
    holder.close()
    cache._database.execute("PRAGMA max_page_count = 1")
    with pytest.raises(StoreError, match=r"free space and run again$"):
        for key in range(50):
            cache.put(key.to_bytes(32, "big"), Reply("said " * 500, "stop"))
    cache.close()
    assert mend_of(sqlite3.DatabaseError("file is not a database")) is None
