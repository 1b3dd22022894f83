"""The state of a batch: which of its tasks have succeeded, in a file, so that it can be rerun.

A SQLite database that many batches may share. A task that has succeeded is written down before
any that waits for it starts. A batch whose tasks have all succeeded is forgotten: the next run
starts from the top. Two runs of one batch at the same time are refused: a lock of the operating
system goes with the process that holds it.

What is kept is work that is not done, so a state that goes too far costs a whole night. Two are
not gone on with: one in which everything has succeeded, because the process was killed before it
could forget that; and one that is too old, which nobody ran again when it had failed.
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

from aiohaul.cancellation import to_its_end
from aiohaul.concurrency import Lock
from aiohaul.errors import BatchBusyError, BatchStateError, HaulError
from aiohaul.report import Order
from aiohaul.s3.resuming.database import Kind, Shared, Statement, write_all
from aiohaul.tasks.batches import Batch
from aiohaul.threads import run_in_thread

#: Seconds that a write may take once its batch is cancelled.
_LAST_WRITE = 5.0
_NAME = 16

#: Seconds after its begin in which a run is gone on with, unless it is said otherwise: a night and
#: the day after it, and not the next night, which may begin an hour early where clocks are changed.
STATE_AGE = 20 * 3600.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS begun (batch TEXT PRIMARY KEY, at TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS succeeded (
    batch TEXT, task TEXT, at TEXT NOT NULL, PRIMARY KEY (batch, task)
) STRICT, WITHOUT ROWID;
"""

_STATE = Kind(
    schema=_SCHEMA,
    name="the state file",
    part="batch",
    anew="start from the top",
    error=BatchStateError,
    busy=BatchBusyError,
    # A task is not to run twice because the machine went down: there are few writes.
    to_disk=True,
)

_log = logging.getLogger(__name__)


class BatchState:
    """The part of a state file that belongs to one batch. An async context manager.

    Args:
        path: the file; it and its directory are made if they are not there.
        batch: the batch.
        age: seconds after its begin in which an earlier run is gone on with.

    Attributes:
        succeeded: which tasks an earlier run had done, and when.

    Raises:
        BatchBusyError: the batch is under way elsewhere with this file.
        BatchStateError: the file cannot be used.
    """

    def __init__(self, path: Path, batch: Batch, age: float = STATE_AGE) -> None:
        self.path = path
        self.succeeded: Mapping[Order, datetime] = {}
        self._whole = batch
        self._age = age
        self._batch = batch.identity[:_NAME]
        self._begun: datetime | None = None
        self._file = Shared(path, self._batch, _STATE)
        self._turn = Lock()

    async def __aenter__(self) -> Self:
        try:
            await to_its_end(
                partial(run_in_thread, self._file.open, self._read), _LAST_WRITE, _ignore
            )
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
        await self._try(self._forgotten())

    def _forgotten(self) -> list[Statement]:
        mine = (self._batch,)
        return [
            ("DELETE FROM succeeded WHERE batch = ?", mine),
            ("DELETE FROM begun WHERE batch = ?", mine),
        ]

    async def _try(self, statements: list[Statement]) -> None:
        """Write, and be cancelled only afterwards."""

        async def write() -> None:
            async with self._turn:
                await run_in_thread(self._file.write, statements)

        try:
            await to_its_end(write, _LAST_WRITE, _ignore)
        except HaulError as error:
            _log.error("what has succeeded was not written down: %s", error)

    def _read(self, connection: sqlite3.Connection) -> None:
        mine = (self._batch,)
        rows = connection.execute("SELECT task, at FROM succeeded WHERE batch = ?", mine)
        self.succeeded = {_order(task): _moment(at) for task, at in rows}
        begun = connection.execute("SELECT at FROM begun WHERE batch = ?", mine).fetchall()
        # A file of before there was such a table tells only when its tasks had succeeded.
        self._begun = min([_moment(at) for (at,) in begun] or self.succeeded.values(), default=None)
        self._begin(connection)

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Go on with the earlier run, or forget it and note that one begins."""
        now = datetime.now(UTC)
        if self.succeeded and self._begun is not None:
            why = why_from_the_top(self._whole, self.succeeded, self._begun, now, self._age)
            if why is None:
                return
            _log.warning("the state file %s %s: the batch starts from the top", self.path, why)
        self.succeeded = {}
        begins = ("INSERT INTO begun VALUES (?, ?)", (self._batch, now.isoformat()))
        write_all(connection, [*self._forgotten(), begins])


def why_from_the_top(
    batch: Batch, succeeded: Collection[Order], begun: datetime, now: datetime, age: float
) -> str | None:
    """Pure: why an earlier run is not to be gone on with; None if it is.

    Args:
        batch: the batch.
        succeeded: which of its tasks have.
        begun: when the earlier run began.
        now: the time.
        age: seconds after its begin in which a run is gone on with.
    """
    when = f"tells of a run that began at {begun:%Y-%m-%d %H:%M:%S} UTC"
    if all_succeeded(batch, succeeded):
        return f"{when}, succeeded with every task, and was ended before it could forget that"
    # A clock that was set back must not keep a state for ever.
    if abs((now - begun).total_seconds()) > age:
        return (
            f"{when} and was not run again within {age:g} s, in which it would have been gone on"
            " with (state_age, --state-age)"
        )
    return None


def all_succeeded(batch: Batch, succeeded: Collection[Order], above: Order = ()) -> bool:
    """Pure: whether every task has, or is a batch of which every task has."""
    return all(
        (order := (*above, each.order_id)) in succeeded
        or (isinstance(each.task, Batch) and all_succeeded(each.task, succeeded, order))
        for each in batch.tasks
    )


def _name(order: Order) -> str:
    """``(2, 1)`` -> ``[2, 1]``."""
    return json.dumps(order)


def _order(name: str) -> Order:
    made = json.loads(name)
    if not isinstance(made, list) or not all(isinstance(each, int) for each in made):
        raise ValueError("it is damaged")
    return tuple(made)


def _moment(at: str) -> datetime:
    made = datetime.fromisoformat(at)
    if made.tzinfo is None:
        raise ValueError("it is damaged")
    return made


def _ignore(_: None) -> None:
    """Nothing is to be kept."""
