"""SQLite databases that hold the state of runs.

A database holds the rows of several transfers or batches. The rows of one of them are a part of the
database. A process that uses a part holds a lock on the lock file of this part. The lock is one of
the operating system (``flock``), which releases it when the process ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import sqlite3
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aiohaul.errors import HaulError
from aiohaul.resource_limits import os_error_reason, resource_advice
from aiohaul.storage.private_files import CREATE_FLAGS, check_owned, file_type

#: The number of seconds to wait while another process writes to the database.
_BUSY_TIMEOUT = 5.0

#: Flags that create or open a lock file, and neither follow a link nor wait for a FIFO.
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)")

#: The errors of a damaged file, or of an impossible path.
_UNREADABLE = (sqlite3.Error, OSError, OverflowError, RecursionError, TypeError, ValueError)

#: An SQL statement, and the values of its placeholders.
Statement = tuple[str, tuple[str | int | float | bytes | None, ...]]


@dataclass(frozen=True, slots=True)
class DatabaseKind:
    """The schema, texts and errors of one kind of database, such as the journal.

    Attributes:
        schema: the SQL that creates the tables, all of them strict.
        version: the version of the schema. A file of another version is refused.
        name: the name of the database in messages, such as ``the journal``.
        part: the name of a part in messages, such as ``transfer``.
        restart: the effect of removing the file, such as ``begin anew``.
        error: the class of the error if the database cannot be used.
        busy: the class of the error if another process uses the part.
        durable: True if each write must be on the disk when the write returns.
    """

    schema: str
    version: int
    name: str
    part: str
    restart: str
    error: type[HaulError]
    busy: type[HaulError]
    durable: bool = False


class SharedDatabase:
    """One part of a database, while other processes may use other parts. All methods block.

    Args:
        path: the path of the file. The file and its directory are created if they do not exist.
        part: the name of the part in the name of the lock file.
        kind: the kind of the database.
    """

    def __init__(self, path: Path, part: str, kind: DatabaseKind) -> None:
        self.path = path
        self._kind = kind
        self._lock_path = path.with_name(f"{path.name}.{part}.lock")
        self._connection: sqlite3.Connection | None = None
        self._lock: int | None = None

    def open(self, read: Callable[[sqlite3.Connection], None]) -> None:
        """Acquire the lock of the part, and read the database.

        Args:
            read: called with the connection.

        Raises:
            HaulError: another process uses the part (``kind.busy``), or the database cannot be used
                (``kind.error``).
        """
        kind = self._kind
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = acquire_lock(self._lock_path)
        except (OSError, ValueError) as error:  # the path contains a NUL or a lone surrogate
            reason = os_error_reason(error) if isinstance(error, OSError) else error
            raise kind.error(f"{kind.name} {str(self.path)!r} cannot be used: {reason}") from error
        if self._lock is None:
            raise kind.busy(
                f"another process runs this {kind.part} with {kind.name} {self.path}. Wait until"
                " that process has ended, or end it"
            )
        try:
            self.use(read)
        except BaseException:
            self.close()
            raise

    def use(self, use: Callable[[sqlite3.Connection], None]) -> None:
        """Call a function with the connection, after connecting if necessary.

        Raises:
            HaulError: the database cannot be used (``kind.error``).
        """
        kind = self._kind
        try:
            if self._connection is None:
                self._connection = connect(self.path, kind.schema, kind.version)
                if kind.durable:
                    self._connection.execute("PRAGMA synchronous = FULL")
            use(self._connection)
        except _UNREADABLE as error:
            raise kind.error(
                f"{kind.name} {self.path} cannot be used:"
                f" {unusable_reason(self.path, error, f'to {kind.restart}')}"
            ) from error

    def write(self, batch: Iterable[Statement]) -> None:
        """Execute statements in one transaction.

        Raises:
            HaulError: the database cannot be used (``kind.error``).
        """
        self.use(lambda connection: write_all(connection, batch))

    def close(self) -> None:
        """Close the connection, and release the lock."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock is not None:
            self._lock_path.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None


def connect(path: Path, schema: str, version: int) -> sqlite3.Connection:
    """Connect to the database at a path, and create the file and the tables if they are missing."""
    # SQLite would create the file with the umask's mode, but the file holds names of objects. An
    # existing file is not opened here, because closing it would release the POSIX locks of other
    # connections in this process.
    with suppress(FileExistsError):
        os.close(os.open(path, CREATE_FLAGS, 0o600))
    _check_files(path)
    # Only one thread at a time uses the connection, but not always the same thread.
    connection = sqlite3.connect(
        path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
    )
    try:
        is_new = not connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
        if not is_new:  # checked before the first write, because it may be another program's file
            _check_version(connection, schema, version)
        # The file stays consistent if the process crashes at any moment. A crash of the machine may
        # lose the last writes; the next run then repeats their work.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if is_new:
            statements = [*schema.split(";"), f"PRAGMA user_version = {version}"]
            write_all(connection, [(statement, ()) for statement in statements])
            _check_version(connection, schema, version)
    except BaseException:
        connection.close()
        raise
    return connection


def unusable_reason(path: Path, error: Exception, restart: str) -> str:
    """Return why a database cannot be used, and what to do next.

    Args:
        path: the path of the database.
        error: the error of the attempt.
        restart: the purpose of removing the file, such as ``to begin anew``.
    """
    with suppress(OSError, ValueError):  # the text of ``error`` then gives the reason
        if file_type(path) == stat.S_IFDIR:
            return "it is a directory. Give the path of a file"
    if advice := resource_advice(error):
        return f"{error}. {advice}"
    return f"{error}. Give another path, or remove this file {restart}"


def _check_files(path: Path) -> None:
    """Check the owner and mode of a database's files, whose rows decide which sources are deleted.

    Raises:
        OSError: a file cannot be read, is a link, or another user can write to it.
    """
    for suffix, name in {"": "it", "-wal": f"{path.name}-wal", "-shm": f"{path.name}-shm"}.items():
        with suppress(FileNotFoundError):
            check_owned(path.with_name(path.name + suffix).lstat(), name)


def _check_version(connection: sqlite3.Connection, schema: str, version: int) -> None:
    """Check that the database has the tables and the version of the schema.

    Raises:
        sqlite3.DatabaseError: another program, or another version of aiohaul, wrote the database.
    """
    names = _TABLE.findall(schema)
    # Only strict tables count, because their columns contain no values of other types.
    (strict,) = connection.execute(
        "SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND strict"
        " AND name IN (SELECT value FROM json_each(?))",
        (json.dumps(names),),
    ).fetchone()
    if not strict:
        raise sqlite3.DatabaseError(
            "it is another program's database, or another kind of aiohaul's databases"
        )
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found != version or strict != len(names):
        raise sqlite3.DatabaseError(
            "another version of aiohaul wrote it. Finish its runs with that version"
        )


def write_all(connection: sqlite3.Connection, batch: Iterable[Statement]) -> None:
    """Execute statements in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement, values in batch:
            connection.execute(statement, values)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def acquire_lock(path: Path) -> int | None:
    """Lock a file.

    Returns:
        The descriptor that holds the lock; None if another descriptor holds the lock.

    Raises:
        OSError: the file cannot be created or opened, is a link, or another user can write to it.
    """
    while True:
        try:
            opened = os.open(path, _LOCK_FLAGS, 0o600)
        except OSError:
            check_owned(path.lstat(), path.name)  # a better message if the path is a link
            raise
        try:
            check_owned(os.fstat(opened), path.name)
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another process may have removed the file between open and flock.
            if os.fstat(opened).st_ino == path.lstat().st_ino:
                return opened
        except BlockingIOError:
            os.close(opened)
            return None
        except FileNotFoundError:
            pass
        except OSError:
            os.close(opened)
            raise
        os.close(opened)
