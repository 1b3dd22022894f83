"""The file of a journal: a SQLite database, and the lock of one transfer beside it."""

from __future__ import annotations

import fcntl
import json
import os
import re
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

#: Seconds that another process may hold the database.
_BUSY_TIMEOUT = 5.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS run (
    transfer TEXT PRIMARY KEY, acting INTEGER NOT NULL, sources TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS copied (
    transfer TEXT, source TEXT, target TEXT, version TEXT NOT NULL, written TEXT NOT NULL,
    PRIMARY KEY (transfer, source, target)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS opened (
    transfer TEXT, target TEXT, source TEXT NOT NULL, version TEXT NOT NULL, others TEXT NOT NULL,
    handle TEXT, step INTEGER, algorithm TEXT,
    PRIMARY KEY (transfer, target)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS part (
    transfer TEXT, target TEXT, number INTEGER, etag TEXT NOT NULL, size INTEGER NOT NULL,
    crc TEXT,
    PRIMARY KEY (transfer, target, number)
) STRICT, WITHOUT ROWID;
"""

_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)")

#: SQL, and the values in it.
Statement = tuple[str, tuple[Any, ...]]


def connected(path: Path, schema: str = _SCHEMA) -> sqlite3.Connection:
    """A connection to the database at a path, made if it is not there, with these tables."""
    # SQLite would make it as the umask has it: names of objects are nobody else's business. One
    # that is there is left alone: closing it would drop the locks of this process's others.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    # Used by one thread at a time, though not always by the same.
    connection = sqlite3.connect(
        path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
    )
    try:
        # Survives the end of the process at any moment; that of the machine at the price of the
        # last writes, which are then done again.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(schema)
        _check_tables(connection, _TABLE.findall(schema))
    except BaseException:
        connection.close()
        raise
    return connection


def unusable(path: Path, error: Exception, anew: str) -> str:
    """Why a database cannot be used, and what to do: such as to remove it "to begin anew"."""
    if path.is_dir():
        return "it is a directory. Name a file"
    return f"{error}. Name another file, or remove this one {anew}"


def _check_tables(connection: sqlite3.Connection, names: Sequence[str]) -> None:
    """Make sure that these are the tables: strict ones hold no values of other types."""
    (strict,) = connection.execute(
        "SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND strict"
        " AND name IN (SELECT value FROM json_each(?))",
        (json.dumps(names),),
    ).fetchone()
    if strict != len(names):
        raise sqlite3.DatabaseError("it is another program's database")


def write_all(connection: sqlite3.Connection, batch: Iterable[Statement]) -> None:
    """Write all of it, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement, values in batch:
            connection.execute(statement, values)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def locked(path: Path) -> int | None:
    """A descriptor that holds the lock of this file, or None if another holds it."""
    while True:
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(opened)
            return None
        # Whoever held it before may have removed the file between the two calls.
        try:
            if os.fstat(opened).st_ino == path.stat().st_ino:
                return opened
        except FileNotFoundError:
            pass
        os.close(opened)
