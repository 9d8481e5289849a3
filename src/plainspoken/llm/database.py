"""An SQLite file of ours: opened by many processes at once, told from others' files, and what mends it."""

import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path

_WAIT_S, _STEP_S = 60.0, 0.02


def open_database(path: Path, version: int, tables: Mapping[str, str]) -> sqlite3.Connection:
    """The file in write-ahead mode, with these tables (name to the statement that makes it) where it has none yet.

    `version` stands in it (`PRAGMA user_version`). To be used by any thread, one at a time; a statement outside a
    transaction is one. Raises sqlite3.Error for a file that is none of this version, or cannot be opened.
    """
    database = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
    try:
        _is_made(database, version, tables)  # somebody else's file is left as it is
        _write_ahead(database)
        # In write-ahead mode NORMAL survives a killed process whole; a power cut may lose what came last.
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("BEGIN IMMEDIATE")  # the first of several to open a new file makes it, whole or not at all
        if not _is_made(database, version, tables):
            for statement in tables.values():
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {version}")
        database.execute("COMMIT")
    except sqlite3.Error:
        database.close()
        raise
    return database


def mend_of(error: Exception) -> str | None:
    """What helps where nothing is wrong with the file itself: it is in use, or the disk is full. None: it is wrong."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return None
    if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "another process is writing to it; wait until that is done, and run again"
    if code & 0xFF == sqlite3.SQLITE_FULL:
        return "free space and run again"
    return None


def _is_made(database: sqlite3.Connection, version: int, tables: Mapping[str, str]) -> bool:
    """Whether the file is whole; sqlite3.DatabaseError where it has other tables, or is of another version.

    The tables are read first: the version, which is written with them, is then no older.
    """
    there = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    found = database.execute("PRAGMA user_version").fetchone()[0]
    if found != version and (found or not there <= tables.keys()):
        raise sqlite3.DatabaseError(f"its format is {found}, not {version}")
    return found == version


def _write_ahead(database: sqlite3.Connection) -> None:
    """To switch a new file over, SQLite does not wait for who has it open just then; later it need not be switched."""
    until = time.monotonic() + _WAIT_S
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            if time.monotonic() > until:
                raise
            time.sleep(_STEP_S)
        else:
            return
