"""Records which tasks of a batch have succeeded in a state file, so that a rerun skips them.

A state file is a SQLite database that many batches may share. The success of a task is recorded
before any task that depends on this task starts. When all tasks have succeeded, the records are
deleted, and the next run starts from the beginning. A file lock refuses a second run of the same
batch. If the process ends, the operating system releases the lock.

A run that is resumed by mistake skips the work of a whole night. Therefore two kinds of runs are
not resumed: a run in which all tasks have succeeded (the process was killed before it could delete
the records), and a run that is too old (a failed batch that nobody ran again).
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohaul.cancellation import run_shielded
from aiohaul.concurrency import Lock
from aiohaul.errors import BatchBusyError, BatchStateError, HaulError
from aiohaul.report import Order
from aiohaul.storage.database import DatabaseKind, SharedDatabase, Statement, write_all
from aiohaul.tasks.batch_definition import Batch
from aiohaul.threads import run_in_thread

#: The maximum seconds for a write to finish after the batch was cancelled.
_LAST_WRITE = 5.0
_ID_LENGTH = 16

#: The default of ``state_age``, the seconds after its start in which a run can be resumed. This is
#: a night and the next day. The next night, which may start an hour early when clocks change,
#: starts from the beginning.
STATE_AGE = 20 * 3600.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS batch_run (batch TEXT PRIMARY KEY, started TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS succeeded (
    batch TEXT, task TEXT, at TEXT NOT NULL, PRIMARY KEY (batch, task)
) STRICT, WITHOUT ROWID;
"""

_STATE = DatabaseKind(
    schema=_SCHEMA,
    version=2,
    name="the state file",
    part="batch",
    restart="start from the beginning",
    error=BatchStateError,
    busy=BatchBusyError,
    # After a power failure, no task must run twice. Durable writes are slow, but there are few.
    durable=True,
)

_log = logging.getLogger(__name__)


class BatchState:
    """The records of one batch in a state file. An async context manager.

    Args:
        path: the state file. The file and its directory are created if they do not exist.
        batch: the batch.
        max_age: the maximum seconds since the start of an earlier run to resume that run.

    Attributes:
        succeeded: the tasks that succeeded in an earlier run, with the time in UTC of each.

    Raises:
        BatchBusyError: another run of the batch is using this file.
        BatchStateError: the file cannot be used.
    """

    def __init__(self, path: Path, batch: Batch, max_age: float = STATE_AGE) -> None:
        self.path = path
        self.succeeded: Mapping[Order, datetime] = {}
        self._batch = batch
        self._max_age = max_age
        self._batch_id = batch.identity[:_ID_LENGTH]
        self._started: datetime | None = None
        self._file = SharedDatabase(path, self._batch_id, _STATE)
        self._write_lock = Lock()

    async def __aenter__(self) -> Self:
        try:
            await run_shielded(partial(run_in_thread, self._file.open, self._read), _LAST_WRITE)
        except BaseException:
            self._file.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    async def record_start(self, order: Order) -> None:
        """Delete the record of a task's earlier success, because the task runs again."""
        if order in self.succeeded:
            await self._write(
                [
                    (
                        "DELETE FROM succeeded WHERE batch = ? AND task = ?",
                        (self._batch_id, _order_to_text(order)),
                    )
                ]
            )

    async def record_success(self, order: Order) -> None:
        """Record that a task has succeeded.

        The record of an inner batch replaces the records of the tasks in that batch. A failed write
        is logged, and a rerun then runs the task again.
        """
        name = _order_to_text(order)
        inside = f"{name[:-1]}, %"
        await self._write(
            [
                ("DELETE FROM succeeded WHERE batch = ? AND task LIKE ?", (self._batch_id, inside)),
                (
                    "INSERT OR REPLACE INTO succeeded VALUES (?, ?, ?)",
                    (self._batch_id, name, datetime.now(UTC).isoformat(timespec="seconds")),
                ),
            ]
        )

    async def clear(self) -> None:
        """Delete the records of the batch, so that the next run starts from the beginning."""
        await self._write(self._delete_statements())

    def _delete_statements(self) -> list[Statement]:
        batch = (self._batch_id,)
        return [
            ("DELETE FROM succeeded WHERE batch = ?", batch),
            ("DELETE FROM batch_run WHERE batch = ?", batch),
        ]

    async def _write(self, statements: list[Statement]) -> None:
        """Run SQL statements, shielded from cancellation. A failure is logged."""

        async def write() -> None:
            async with self._write_lock:
                await run_in_thread(self._file.write, statements)

        try:
            await run_shielded(write, _LAST_WRITE)
        except HaulError as error:
            _log.error(
                "writing the state file failed, and a rerun may run tasks again that succeeded: %s",
                error,
            )

    def _read(self, connection: sqlite3.Connection) -> None:
        """Read the records of an earlier run, and decide whether to resume that run."""
        batch = (self._batch_id,)
        rows = connection.execute("SELECT task, at FROM succeeded WHERE batch = ?", batch)
        self.succeeded = {_order_from_text(task): _timestamp(at) for task, at in rows}
        starts = connection.execute("SELECT started FROM batch_run WHERE batch = ?", batch)
        self._started = next((_timestamp(started) for (started,) in starts), None)
        self._resume_or_restart(connection)

    def _resume_or_restart(self, connection: sqlite3.Connection) -> None:
        """Resume the earlier run, or delete its records and record the start of a new run."""
        now = datetime.now(UTC)
        if self.succeeded and self._started is not None:
            reason = restart_reason(self._batch, self.succeeded, self._started, now, self._max_age)
            if reason is None:
                return
            _log.warning(
                "the batch starts from the beginning, because the state file %s %s",
                self.path,
                reason,
            )
        self.succeeded = {}
        start = ("INSERT INTO batch_run VALUES (?, ?)", (self._batch_id, now.isoformat()))
        write_all(connection, [*self._delete_statements(), start])


def restart_reason(
    batch: Batch, succeeded: Collection[Order], started: datetime, now: datetime, max_age: float
) -> str | None:
    """Return the reason why an earlier run cannot be resumed; None if the run can be resumed.

    Args:
        batch: the batch.
        succeeded: the tasks that succeeded in the earlier run.
        started: the start of the earlier run.
        now: the current time.
        max_age: the maximum seconds since the start of the earlier run.
    """
    run = f"records a run that started at {started:%Y-%m-%d %H:%M:%S} UTC"
    if all_succeeded(batch, succeeded):
        return f"{run}, in which every task succeeded before the process was killed"
    # With abs, a system clock that was set back does not make a run resumable for ever.
    if abs((now - started).total_seconds()) > max_age:
        return f"{run}, more than the {max_age:g} s of state_age (--state-age) ago"
    return None


def all_succeeded(batch: Batch, succeeded: Collection[Order], above: Order = ()) -> bool:
    """Return True if every task has succeeded; an inner batch, if all its tasks have."""
    return all(
        (order := (*above, each.order_id)) in succeeded
        or (isinstance(each.task, Batch) and all_succeeded(each.task, succeeded, order))
        for each in batch.tasks
    )


def _order_to_text(order: Order) -> str:
    """Return an order as JSON text, such as ``[2, 1]`` for ``(2, 1)``."""
    return json.dumps(order)


def _order_from_text(name: str) -> Order:
    order = json.loads(name)
    if not isinstance(order, list) or not all(isinstance(each, int) for each in order):
        raise ValueError("it is damaged")
    return tuple(order)


def _timestamp(at: str) -> datetime:
    time = datetime.fromisoformat(at)
    if time.tzinfo is None:
        raise ValueError("it is damaged")
    return time
