"""Files that runs go on with: a SQLite database, and beside it a lock of each that uses it.

A lock of the operating system goes with the process that holds it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import sqlite3
import stat
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohaul.errors import HaulError
from aiohaul.s3.private import file_type
from aiohaul.shortage import explained_shortage, shortage

#: Seconds that another process may hold the database.
_BUSY_TIMEOUT = 5.0

_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)")

#: What reading a damaged file, or naming an impossible path, raises.
_UNREADABLE = (sqlite3.Error, OSError, OverflowError, RecursionError, TypeError, ValueError)

#: SQL, and the values in it.
Statement = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is for.

    Attributes:
        schema: its tables, all of them strict.
        name: such as ``the journal``.
        part: what one of its users is, such as ``transfer``.
        anew: what removing the file leads to, such as ``begin anew``.
        error: raised where it cannot be used.
        busy: raised where that part of it is in use.
        to_disk: whether a write is on the disk once it has returned.
    """

    schema: str
    name: str
    part: str
    anew: str
    error: type[HaulError]
    busy: type[HaulError]
    to_disk: bool = False


class Shared:
    """One part of a file that others may use beside it. All of it blocks.

    Args:
        path: the file; it and its directory are made if they are not there.
        part: what tells this part from others.
        kind: what the file is for.
    """

    def __init__(self, path: Path, part: str, kind: Kind) -> None:
        self.path = path
        self._kind = kind
        self._lock_path = path.with_name(f"{path.name}.{part}.lock")
        self._connection: sqlite3.Connection | None = None
        self._lock: int | None = None

    def open(self, read: Callable[[sqlite3.Connection], None]) -> None:
        """Take its lock, and read it.

        Raises:
            HaulError: it is in use, or cannot be used; of its kind.
        """
        kind = self._kind
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = locked(self._lock_path)
        except (OSError, ValueError) as error:  # a NUL, or half of a character
            reason = explained_shortage(error) if isinstance(error, OSError) else error
            raise kind.error(f"{kind.name} {str(self.path)!r} cannot be used: {reason}") from error
        if self._lock is None:
            raise kind.busy(
                f"this {kind.part} is under way elsewhere with {kind.name} {self.path}: wait for"
                " it, or end it"
            )
        try:
            self.use(read)
        except BaseException:
            self.close()
            raise

    def use(self, use: Callable[[sqlite3.Connection], None]) -> None:
        """Use its connection, which is made where there is none.

        Raises:
            HaulError: it cannot be used; of its kind.
        """
        kind = self._kind
        try:
            if self._connection is None:
                self._connection = connected(self.path, kind.schema)
                if kind.to_disk:
                    self._connection.execute("PRAGMA synchronous = FULL")
            use(self._connection)
        except _UNREADABLE as error:
            raise kind.error(
                f"{kind.name} {self.path} cannot be used:"
                f" {unusable(self.path, error, f'to {kind.anew}')}"
            ) from error

    def write(self, batch: Iterable[Statement]) -> None:
        """Write all of it, or nothing.

        Raises:
            HaulError: it cannot be used; of its kind.
        """
        self.use(lambda connection: write_all(connection, batch))

    def close(self) -> None:
        """Close it, and give its lock back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock is not None:
            self._lock_path.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None


def connected(path: Path, schema: str) -> sqlite3.Connection:
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
    with suppress(OSError, ValueError):  # the error itself says it
        if file_type(path) == stat.S_IFDIR:
            return "it is a directory. Name a file"
    if advice := shortage(error):
        return f"{error}. {advice}"
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
        except OSError:
            os.close(opened)
            raise
        # Whoever held it before may have removed the file between the two calls.
        try:
            if os.fstat(opened).st_ino == path.stat().st_ino:
                return opened
        except FileNotFoundError:
            pass
        os.close(opened)
