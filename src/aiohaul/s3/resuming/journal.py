"""The journal: what a transfer has done so far, in a file, so that it can be taken up again.

A SQLite database that many transfers may share. Before an upload is begun, or a file under a name
of its own, that is written down; what was copied is written down shortly after. Whatever ends the
process, the next run of the same transfer finds what is left to do. Two runs of one transfer at
the same time are refused: a lock of the operating system goes with the process that holds it.
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

from aiohaul.cancellation import to_its_end
from aiohaul.concurrency import Lock
from aiohaul.errors import HaulError, JournalBusyError, JournalError
from aiohaul.s3.resuming.database import Kind, Shared, Statement
from aiohaul.threads import run_in_thread

#: Seconds that the last writes may take.
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

JOURNAL = Kind(
    schema=_SCHEMA,
    name="the journal",
    part="transfer",
    anew="begin anew",
    error=JournalError,
    busy=JournalBusyError,
)

#: Endpoint, bucket and key of an object, or "", directory and name of a file.
Place = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class SentPart:
    """A part of an upload that the server has.

    Attributes:
        etag: the server's name for it.
        size: bytes.
        crc: its checksum, if it was computed.
    """

    etag: str
    size: int
    crc: int | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """What an interrupted run had begun to write.

    Attributes:
        target: where.
        source: whence.
        version: which version of it.
        others: the uploads of that key that were open before.
        handle: the id of its upload, or the path of its partial file; None if it had none yet.
        step: bytes of its parts.
        algorithm: S3's name for the checksum that the server keeps; None if it keeps none.
        parts: those that were sent.
    """

    target: Place
    source: str
    version: str
    others: frozenset[str] = frozenset()
    handle: str | None = None
    step: int = 0
    algorithm: str | None = None
    parts: Mapping[int, SentPart] = field(default_factory=dict)


class Journal:
    """The part of a journal that belongs to one transfer. An async context manager.

    Args:
        path: the file; it and its directory are made if they are not there.
        transfer: what tells this transfer from others: the same for the same definition.

    Raises:
        JournalBusyError: the transfer is under way elsewhere.
        JournalError: the file cannot be used.
    """

    def __init__(self, path: Path, transfer: str) -> None:
        self.path = path
        self.transfer = sha256(transfer.encode()).hexdigest()[:16]
        self._file = Shared(path, self.transfer, JOURNAL)
        self._turn = Lock()
        self._pending: list[Statement] = []
        self._wanted = anyio.Event()
        self._tasks = anyio.create_task_group()
        #: An earlier run was interrupted, or failed.
        self.resumed = False
        #: What was copied before: source and target -> version, and what was written.
        self.copied: dict[tuple[str, Place], tuple[str, str]] = {}
        #: What was begun before, by target.
        self.opened: dict[Place, Opened] = {}
        #: What the sources were when the interrupted run did its post-copy action, or None.
        self.acting: list[dict[str, Any]] | None = None

    async def __aenter__(self) -> Self:
        try:
            await to_its_end(
                partial(run_in_thread, self._file.open, self._read), _LAST_WRITES, _ignore
            )
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
                await to_its_end(self.try_flush, _LAST_WRITES, _ignore)
            finally:
                self._file.close()

    def entry(self, source: str, version: str, target: Place) -> Entry:
        """What the journal keeps of one copy."""
        return Entry(self, source, version, target)

    def copied_to(self, source: str, version: str, target: Place) -> str | None:
        """What was written of this version of a source to a target, or None if it was not."""
        before = self.copied.get((source, target))
        return before[1] if before is not None and before[0] == version else None

    async def begin(self) -> None:
        """Note that the transfer is under way."""
        self.note("INSERT OR IGNORE INTO run VALUES (?, 0, '[]')", (self.transfer,))
        await self.flush()

    async def act(self, sources: Iterable[Mapping[str, Any]]) -> None:
        """Note that everything is copied, and that the post-copy action begins."""
        self.note(
            "INSERT OR REPLACE INTO run VALUES (?, 1, ?)",
            (self.transfer, json.dumps(list(sources))),
        )
        await self.flush()

    async def done(self) -> None:
        """Forget the transfer: nothing of it is left to do."""
        for table in ("run", "copied", "opened", "part"):
            self.note(f"DELETE FROM {table} WHERE transfer = ?", (self.transfer,))  # noqa: S608
        await self.flush()

    def note(self, statement: str, values: tuple[Any, ...]) -> None:
        """Write this soon."""
        self._pending.append((statement, values))
        self._wanted.set()

    async def try_flush(self) -> None:
        """Write what is to be written; where that fails, what was copied is copied all the same."""
        try:
            await self.flush()
        except HaulError as error:
            _log.error("%s", error)

    async def _write_on(self) -> None:
        while True:
            await self._wanted.wait()
            await self.try_flush()

    async def flush(self) -> None:
        """Write what is to be written, all of it in one transaction."""
        async with self._turn:
            if self._wanted.is_set():  # else somebody waits for this very one
                self._wanted = anyio.Event()
            batch, self._pending = self._pending, []
            if not batch:
                return
            written: list[None] = []
            # Whoever is cancelled meanwhile, by asyncio itself as well: the thread goes on, and
            # this waits for it. What it writes to must not be closed, nor used by another thread.
            write = partial(run_in_thread, self._file.write, batch)
            try:
                await to_its_end(write, _LAST_WRITES, written.append)
            finally:
                if not written:
                    self._pending[:0] = batch  # some of it is somebody else's

    def _read(self, connection: sqlite3.Connection) -> None:
        mine = (self.transfer,)
        for source, target, version, written in connection.execute(
            "SELECT source, target, version, written FROM copied WHERE transfer = ?", mine
        ):
            self.copied[_text(source), _place(target)] = (version, written)
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
            place = _place(target)
            self.opened[place] = Opened(
                place,
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
    """What the journal keeps of one copy. Made by :meth:`Journal.entry`."""

    def __init__(self, journal: Journal, source: str, version: str, target: Place) -> None:
        self._journal = journal
        self._source = json.dumps(source)  # names of files need not be Unicode
        self._version = version
        self._place = target
        self._key = (journal.transfer, json.dumps(target))

    @property
    def earlier(self) -> Opened | None:
        """What an interrupted run had begun to write of this version."""
        found = self._journal.opened.get(self._place)
        return found if found is not None and found.version == self._version else None

    async def intended(self, others: Iterable[str]) -> None:
        """Write down that an upload is about to be begun, where these are open already."""
        self._forget_parts()
        self._journal.note(
            "INSERT OR REPLACE INTO opened VALUES (?, ?, ?, ?, ?, NULL, NULL, NULL)",
            (*self._key, self._source, self._version, json.dumps(sorted(others))),
        )
        await self._journal.flush()

    async def opened(self, handle: str, step: int = 0, algorithm: str | None = None) -> None:
        """Write down the id of an upload, or the path of a partial file."""
        self._journal.note(
            "INSERT INTO opened VALUES (?, ?, ?, ?, '[]', ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET handle = excluded.handle, step = excluded.step,"
            " algorithm = excluded.algorithm",
            (*self._key, self._source, self._version, handle, step, algorithm),
        )
        await self._journal.flush()

    def part(self, number: int, part: SentPart) -> None:
        """Note a part that was sent."""
        crc = None if part.crc is None else str(part.crc)  # 64 bits and no sign
        self._journal.note(
            "INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?, ?, ?)",
            (*self._key, number, part.etag, part.size, crc),
        )

    async def settled(self) -> None:
        """Wait until everything that was noted is written."""
        await self._journal.try_flush()

    def copied(self, written: str) -> None:
        """Note that the copy is there, whole and verified."""
        self.closed()
        self._journal.note(
            "INSERT OR REPLACE INTO copied VALUES (?, ?, ?, ?, ?)",
            (self._key[0], self._source, self._key[1], self._version, written),
        )

    def closed(self) -> None:
        """Note that nothing is open any more."""
        self._forget_parts()
        self._journal.note("DELETE FROM opened WHERE transfer = ? AND target = ?", self._key)

    def _forget_parts(self) -> None:
        self._journal.note("DELETE FROM part WHERE transfer = ? AND target = ?", self._key)


def _ignore(_: None) -> None:
    """Nothing is to be kept."""


def _place(text: str) -> Place:
    endpoint, bucket, key = _texts(text)
    return (endpoint, bucket, key)


def _text(text: str) -> str:
    (made,) = _checked([json.loads(text)])
    return made


def _texts(text: str) -> list[str]:
    return _checked(json.loads(text))


def _checked(made: Any) -> list[str]:
    """What was read, if it is a list of texts.

    Raises:
        ValueError: it is another thing.
    """
    if not isinstance(made, list) or not all(isinstance(each, str) for each in made):
        raise ValueError("it is damaged")
    return made
