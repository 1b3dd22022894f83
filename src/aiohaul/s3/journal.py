"""Records the progress of a transfer in a journal file, so that a later run can resume it.

A journal is a SQLite database that several transfers may share. The library records a multipart
upload or partial file before it creates one, and a copy shortly after the copy is verified. Even if
the process is killed, the next run of the same transfer therefore knows which copies remain. Two
concurrent runs of the same transfer are impossible, because a run holds a lock, which the operating
system releases when the process ends.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio

from aiohaul.cancellation import run_shielded
from aiohaul.concurrency import Lock
from aiohaul.errors import HaulError, JournalBusyError, JournalError
from aiohaul.storage.database import DatabaseKind, SharedDatabase, Statement
from aiohaul.threads import run_in_thread

#: The maximum number of seconds for the last writes when the journal is closed.
_LAST_WRITES = 5.0

_log = logging.getLogger(__name__)

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

JOURNAL = DatabaseKind(
    schema=_SCHEMA,
    version=2,
    name="the journal",
    part="transfer",
    restart="begin anew",
    error=JournalError,
    busy=JournalBusyError,
)

#: The endpoint, bucket and key of an object; or "", the directory and the name of a file.
Location = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class SentPart:
    """A part of a multipart upload that the server has received.

    Attributes:
        etag: the ETag of the part.
        size: the size of the part in bytes.
        crc: the checksum of the part; None if it was not computed.
    """

    etag: str
    size: int
    crc: int | None = None


@dataclass(frozen=True, slots=True)
class IncompleteWrite:
    """A copy that an interrupted run began and did not finish.

    Attributes:
        target: the location of the copy.
        source: the URI of the source.
        version: the version of the source.
        others: the ids of the uploads of this key that existed before the copy began.
        upload_id_or_path: the id of the multipart upload, or the path of the partial file; None if
            the run was interrupted before it recorded one.
        step: the size of a part in bytes.
        algorithm: the checksum algorithm of the upload, such as ``CRC32``; None if it has none.
        parts: the parts that the server has received, by part number.
    """

    target: Location
    source: str
    version: str
    others: frozenset[str] = frozenset()
    upload_id_or_path: str | None = None
    step: int = 0
    algorithm: str | None = None
    parts: Mapping[int, SentPart] = field(default_factory=dict)


class Journal:
    """The records of one transfer in a journal file. An async context manager.

    Args:
        path: the path of the file. The file and its directory are created if they do not exist.
        transfer: a text that identifies the transfer, and is the same in each run.

    Raises:
        JournalBusyError: another run of the transfer is active.
        JournalError: the file cannot be used.
    """

    def __init__(self, path: Path, transfer: str) -> None:
        self.path = path
        self.transfer = sha256(transfer.encode()).hexdigest()[:16]
        self._file = SharedDatabase(path, self.transfer, JOURNAL)
        self._flush_lock = Lock()
        self._pending: list[Statement] = []
        self._wanted = anyio.Event()
        self._tasks = anyio.create_task_group()
        #: True if an earlier run of the transfer was interrupted or failed.
        self.resumed = False
        #: Finished copies: (source, target) -> (version of the source, version of the copy).
        self.copied: dict[tuple[str, Location], tuple[str, str]] = {}
        #: Unfinished copies, by target.
        self.opened: dict[Location, IncompleteWrite] = {}
        #: The sources, if the interrupted run had begun its post-copy action; else None.
        self.acting: list[dict[str, Any]] | None = None

    async def __aenter__(self) -> Self:
        try:
            await run_shielded(partial(run_in_thread, self._file.open, self._read), _LAST_WRITES)
        except BaseException:
            self._file.close()
            raise
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._write_on)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._tasks.cancel_scope.cancel()
        try:
            await self._tasks.__aexit__(None, None, None)
        finally:
            try:
                await run_shielded(self.try_flush, _LAST_WRITES)
            finally:
                self._file.close()

    def entry(self, source: str, version: str, target: Location) -> Entry:
        """Return the record of one copy."""
        return Entry(self, source, version, target)

    def copied_to(self, source: str, version: str, target: Location) -> str | None:
        """Return the version of the recorded copy of a source's version at a target, or None."""
        before = self.copied.get((source, target))
        return before[1] if before is not None and before[0] == version else None

    async def begin(self) -> None:
        """Record that the transfer has begun."""
        self.note("INSERT OR IGNORE INTO run VALUES (?, 0, '[]')", (self.transfer,))
        await self.flush()

    async def act(self, sources: Iterable[Mapping[str, Any]]) -> None:
        """Record that all copies are finished, and that the post-copy action begins."""
        self.note(
            "INSERT OR REPLACE INTO run VALUES (?, 1, ?)",
            (self.transfer, json.dumps(list(sources))),
        )
        await self.flush()

    async def done(self) -> None:
        """Remove all records of the transfer, which is complete."""
        for table in ("run", "copied", "opened", "part"):
            self.note(f"DELETE FROM {table} WHERE transfer = ?", (self.transfer,))  # noqa: S608
        await self.flush()

    def note(self, statement: str, values: tuple[Any, ...]) -> None:
        """Queue a statement, which a background task writes soon."""
        self._pending.append((statement, values))
        self._wanted.set()

    async def try_flush(self) -> None:
        """Write the queued statements. An error is logged, because the copies still succeeded."""
        try:
            await self.flush()
        except HaulError as error:
            _log.error("the journal is not complete: %s", error)

    async def _write_on(self) -> None:
        while True:
            await self._wanted.wait()
            await self.try_flush()

    async def flush(self) -> None:
        """Write all queued statements in one transaction."""
        async with self._flush_lock:
            if self._wanted.is_set():  # else another call has written the statements
                self._wanted = anyio.Event()
            batch, self._pending = self._pending, []
            if not batch:
                return
            written: list[None] = []
            # The thread continues if this task is cancelled. So wait for the thread: before its end
            # the database must not be closed, or used by another thread.
            write = partial(run_in_thread, self._file.write, batch)
            try:
                await run_shielded(write, _LAST_WRITES, written.append)
            finally:
                if not written:
                    self._pending[:0] = batch  # some statements are those of other tasks

    def _read(self, connection: sqlite3.Connection) -> None:
        mine = (self.transfer,)
        for source, target, version, written in connection.execute(
            "SELECT source, target, version, written FROM copied WHERE transfer = ?", mine
        ):
            self.copied[_text(source), _location(target)] = (version, written)
        parts: dict[str, dict[int, SentPart]] = {}
        for target, number, etag, size, crc in connection.execute(
            "SELECT target, number, etag, size, crc FROM part WHERE transfer = ?", mine
        ):
            sent = SentPart(etag, size, None if crc is None else int(crc))
            parts.setdefault(target, {})[number] = sent
        for target, source, version, others, handle, step, algorithm in connection.execute(
            "SELECT target, source, version, others, handle, step, algorithm FROM opened"
            " WHERE transfer = ?",
            mine,
        ):
            location = _location(target)
            self.opened[location] = IncompleteWrite(
                location,
                _text(source),
                version,
                frozenset(_texts(others)),
                handle,
                step or 0,
                algorithm,
                parts.get(target, {}),
            )
        for acting, sources in connection.execute(
            "SELECT acting, sources FROM run WHERE transfer = ?", mine
        ):
            self.resumed = True
            self.acting = json.loads(sources) if acting else None


class Entry:
    """The record of one copy in a journal. :meth:`Journal.entry` makes an entry."""

    def __init__(self, journal: Journal, source: str, version: str, target: Location) -> None:
        self._journal = journal
        self._source = json.dumps(source)  # file names may be invalid Unicode
        self._version = version
        self._location = target
        self._key = (journal.transfer, json.dumps(target))

    @property
    def earlier(self) -> IncompleteWrite | None:
        """The unfinished copy of this version by an interrupted run, or None."""
        found = self._journal.opened.get(self._location)
        return found if found is not None and found.version == self._version else None

    async def intended(self, others: Iterable[str]) -> None:
        """Record that a multipart upload will be created, and the ids of the existing uploads."""
        self._forget_parts()
        self._journal.note(
            "INSERT OR REPLACE INTO opened VALUES (?, ?, ?, ?, ?, NULL, NULL, NULL)",
            (*self._key, self._source, self._version, json.dumps(sorted(others))),
        )
        await self._journal.flush()

    async def opened(
        self, upload_id_or_path: str, step: int = 0, algorithm: str | None = None
    ) -> None:
        """Record the id of a multipart upload, or the path of a partial file."""
        self._journal.note(
            "INSERT INTO opened VALUES (?, ?, ?, ?, '[]', ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET handle = excluded.handle, step = excluded.step,"
            " algorithm = excluded.algorithm",
            (*self._key, self._source, self._version, upload_id_or_path, step, algorithm),
        )
        await self._journal.flush()

    def part(self, number: int, part: SentPart) -> None:
        """Record a part that the server has received."""
        crc = None if part.crc is None else str(part.crc)  # SQLite has no unsigned 64-bit integers
        self._journal.note(
            "INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?, ?, ?)",
            (*self._key, number, part.etag, part.size, crc),
        )

    async def settled(self) -> None:
        """Wait until all records are written."""
        await self._journal.try_flush()

    def copied(self, written: str) -> None:
        """Record that the copy is complete and verified."""
        self.closed()
        self._journal.note(
            "INSERT OR REPLACE INTO copied VALUES (?, ?, ?, ?, ?)",
            (self._key[0], self._source, self._key[1], self._version, written),
        )

    def closed(self) -> None:
        """Record that the copy has no multipart upload and no partial file."""
        self._forget_parts()
        self._journal.note("DELETE FROM opened WHERE transfer = ? AND target = ?", self._key)

    def _forget_parts(self) -> None:
        self._journal.note("DELETE FROM part WHERE transfer = ? AND target = ?", self._key)


def _location(text: str) -> Location:
    endpoint, bucket, key = _texts(text)
    return (endpoint, bucket, key)


def _text(text: str) -> str:
    (made,) = _checked([json.loads(text)])
    return made


def _texts(text: str) -> list[str]:
    return _checked(json.loads(text))


def _checked(made: Any) -> list[str]:
    """Return a value from the file if the value is a list of strings.

    Raises:
        ValueError: the value is something else.
    """
    if not isinstance(made, list) or not all(isinstance(each, str) for each in made):
        raise ValueError("the file is damaged")
    return made
