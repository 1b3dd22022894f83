"""The state of a batch: which of its tasks have succeeded, in a file, so that it can be rerun.

A SQLite database that many batches may share. A task that has succeeded is written down before
any that waits for it starts. A batch whose tasks have all succeeded is forgotten: the next run
starts from the top. Two runs of one batch at the same time are refused: a lock of the operating
system goes with the process that holds it.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
from anyio import to_thread

from aiohaul.concurrency import to_its_end
from aiohaul.errors import BatchBusyError, BatchStateError
from aiohaul.report import Order
from aiohaul.s3.resuming.database import Statement, connected, locked, unusable, write_all

#: Seconds that a write may take once its batch is cancelled.
_LAST_WRITE = 5.0
_NAME = 16

_SCHEMA = """
CREATE TABLE IF NOT EXISTS succeeded (
    batch TEXT, task TEXT, at TEXT NOT NULL, PRIMARY KEY (batch, task)
) STRICT, WITHOUT ROWID;
"""

_log = logging.getLogger(__name__)


class BatchState:
    """The part of a state file that belongs to one batch. An async context manager.

    Args:
        path: the file; it and its directory are made if they are not there.
        batch: what tells this batch from others.

    Attributes:
        succeeded: which tasks an earlier run had done, and when.

    Raises:
        BatchBusyError: the batch is under way elsewhere with this file.
        BatchStateError: the file cannot be used.
    """

    def __init__(self, path: Path, batch: str) -> None:
        self.path = path
        self.succeeded: Mapping[Order, datetime] = {}
        self._batch = batch[:_NAME]
        self._connection: sqlite3.Connection | None = None
        self._lock: int | None = None
        self._turn = anyio.Lock()

    async def __aenter__(self) -> Self:
        try:
            await to_its_end(partial(to_thread.run_sync, self._open), _LAST_WRITE, _ignore)
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    async def begin(self, order: Order) -> None:
        """Forget that a task had succeeded, because it is run again."""
        if order in self.succeeded:
            await self._try(
                [
                    (
                        "DELETE FROM succeeded WHERE batch = ? AND task = ?",
                        (self._batch, _name(order)),
                    )
                ]
            )

    async def note(self, order: Order) -> None:
        """Write down that a task has succeeded. If that fails it is logged, and a rerun repeats it.

        What stood there of the tasks of a batch is forgotten: it is done as a whole.
        """
        name = _name(order)
        inside = f"{name[:-1]}, %"
        await self._try(
            [
                ("DELETE FROM succeeded WHERE batch = ? AND task LIKE ?", (self._batch, inside)),
                (
                    "INSERT OR REPLACE INTO succeeded VALUES (?, ?, ?)",
                    (self._batch, name, datetime.now(UTC).isoformat(timespec="seconds")),
                ),
            ]
        )

    async def done(self) -> None:
        """Forget the batch: the next run starts from the top."""
        await self._try([("DELETE FROM succeeded WHERE batch = ?", (self._batch,))])

    async def _try(self, statements: list[Statement]) -> None:
        """Write, and be cancelled only afterwards."""

        async def write() -> None:
            async with self._turn:
                await to_thread.run_sync(
                    self._explained, lambda connection: write_all(connection, statements)
                )

        try:
            await to_its_end(write, _LAST_WRITE, _ignore)
        except BatchStateError as error:
            _log.error("what has succeeded was not written down: %s", error)

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = locked(self._lock_path)
        except OSError as error:
            raise BatchStateError(f"the state file {self.path} cannot be used: {error}") from error
        if self._lock is None:
            raise BatchBusyError(
                f"this batch is under way elsewhere with the state file {self.path}: wait for it,"
                " or end it"
            )
        try:
            self._explained(self._read)
        except BaseException:
            self._close()
            raise

    @property
    def _lock_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.{self._batch}.lock")

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock is not None:
            self._lock_path.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def _explained(self, use: Callable[[sqlite3.Connection], None]) -> None:
        try:
            if self._connection is None:
                self._connection = connected(self.path, _SCHEMA)
                # A task is not to run twice because the machine went down: there are few writes.
                self._connection.execute("PRAGMA synchronous = FULL")
            use(self._connection)
        except (sqlite3.Error, OSError) as error:
            raise BatchStateError(
                f"the state file {self.path} cannot be used:"
                f" {unusable(self.path, error, 'to start from the top')}"
            ) from error

    def _read(self, connection: sqlite3.Connection) -> None:
        rows = connection.execute("SELECT task, at FROM succeeded WHERE batch = ?", (self._batch,))
        self.succeeded = {tuple(json.loads(task)): datetime.fromisoformat(at) for task, at in rows}


def _name(order: Order) -> str:
    """``(2, 1)`` -> ``[2, 1]``."""
    return json.dumps(order)


def _ignore(_: None) -> None:
    """Nothing is to be kept."""
