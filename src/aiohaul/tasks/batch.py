"""One batch: every task starts the moment it is ready, and is cancelled when its time is up."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Literal

import anyio
from anyio.abc import TaskGroup

from aiohaul.errors import BatchError, BatchTimeoutError, HaulError, TransferError
from aiohaul.progress import (
    BatchEnded,
    BatchStarted,
    Event,
    OnProgress,
    TaskEnded,
    TaskQueued,
    TaskStarted,
    TaskTold,
)
from aiohaul.report import (
    BatchReport,
    BatchTaskReport,
    Failure,
    Order,
    Report,
    TaskState,
    batch_summary,
)
from aiohaul.session import Session
from aiohaul.tasks.batch_state import BatchState
from aiohaul.tasks.batches import Batch, BatchTask
from aiohaul.tasks.graph import Consequences, Schedule
from aiohaul.tasks.single import run_single
from aiohaul.tasks.turns import AT_ONCE, Turn, Turns

_log = logging.getLogger(__name__)


async def run_batch(
    batch: Batch,
    session: Session,
    on_progress: OnProgress,
    *,
    journal: Path | None = None,
    state: BatchState | None = None,
    at_once: int = AT_ONCE,
) -> BatchReport:
    """Carry out a batch.

    A task that fails or times out keeps those that wait for it from starting, unless it says
    ``continue_on_fail``; all others go on. The batch as a whole fails in either case.

    At most ``at_once`` transfers and executions run at once, those of batches in it too; more wait
    their turn, in the order in which they became ready.

    However it ends, cancelled as well, ``on_progress`` is told of that with the whole report.

    Raises:
        BatchError: not every task did its work; carries the report.
        BaseException: what ``on_progress`` raised; then everything is cancelled.
    """
    around = _Around(session, on_progress, journal, state, Turns(at_once))
    run = _Run(batch, around)
    on_progress(BatchStarted(tuple(batch.planned())))
    try:
        await run.run()
    except BaseException:
        if not around.raised:
            _tell_anyhow(BatchEnded(run.report()), on_progress)
        raise
    report = run.report()
    if report.ok and state is not None:
        await state.done()
    on_progress(BatchEnded(report))
    if not report.ok:
        raise BatchError(batch_summary(report), report)
    return report


@dataclass(frozen=True, slots=True)
class _Around:
    """What all tasks of a batch share, with those of the batches in it.

    Attributes:
        session: the connections.
        on_progress: told of everything.
        journal: for transfers.
        state: which tasks have succeeded; written as they do.
        turns: of all of them.
        raised: what ``on_progress`` raised: that ends everything.
        since: the time of the clock that only goes on, and the date, at the start.
    """

    session: Session
    on_progress: OnProgress
    journal: Path | None
    state: BatchState | None
    turns: Turns
    raised: list[BaseException] = field(default_factory=list)
    since: tuple[float, datetime] = field(
        default_factory=lambda: (anyio.current_time(), datetime.now(UTC))
    )

    def tell(self, event: Event) -> None:
        """Tell of an event, and remember if that is answered with an error."""
        try:
            self.on_progress(event)
        except BaseException as error:
            self.raised.append(error)
            raise

    def date(self, time: float) -> datetime:
        """The date of a time; the clock on the wall may be set meanwhile, and does not matter."""
        start, date = self.since
        return date + timedelta(seconds=time - start)


class _Run:
    """One run of a batch, or of a batch in a batch.

    Args:
        batch: with its tasks.
        around: what it shares.
        order: its own place; () of the outermost.
        turn: its own, which the first of its tasks takes over; None of the outermost.
    """

    def __init__(
        self, batch: Batch, around: _Around, order: Order = (), turn: Turn | None = None
    ) -> None:
        self._around = around
        self._order = order
        self._turn = turn
        self._asked = count()
        self._turns: dict[int, Turn] = {}
        self._ready: dict[int, float] = {}
        self._ending = False
        self._settled = anyio.Event()
        self._tasks = {each.order_id: each for each in batch.tasks}
        self._kept = self._kept_tasks()
        self._schedule = Schedule(batch.tasks, self._kept)
        self._began = anyio.current_time()
        self._ended: float | None = None
        self._reports: dict[int, BatchTaskReport] = {}
        self._inner: dict[int, _Run] = {}
        self._group: TaskGroup

    def report(self) -> BatchReport:
        """What each task was, as far as it is known."""
        ended = anyio.current_time() if self._ended is None else self._ended
        return BatchReport(
            tasks=tuple(self._reports[order_id] for order_id in sorted(self._reports)),
            started=self._around.date(self._began),
            seconds=round(ended - self._began, 3),
        )

    async def run(self) -> None:
        """Carry it out; :meth:`report` tells how it ended.

        Raises:
            BaseException: what ``on_progress`` raised.
        """
        try:
            async with anyio.create_task_group() as self._group:
                try:
                    self._begin()
                    await self._settled.wait()  # those whose turn has not come are no tasks yet
                except BaseException as error:  # noqa: BLE001  # raised below, without a group
                    self._stop(error)
                finally:
                    self._ending = True
                    for turn in self._turns.values():
                        turn.withdraw()
        finally:
            for turn in self._turns.values():
                turn.end()  # also that of a task which was cancelled before its first step
            self._settle_the_rest()
            self._ended = anyio.current_time()
        if self._around.raised:
            raise self._around.raised[0]

    def _begin(self) -> None:
        for order_id, at in self._kept.items():
            why = f"it succeeded in an earlier run, at {at:%Y-%m-%d %H:%M:%S} UTC"
            self._settle(self._unstarted(order_id, why, "kept"))
        self._start(self._schedule.first)
        if self._turn is not None:  # which nobody has taken over, if there is nothing to run
            self._turn.end()
        self._see_whether_all_have_ended()

    def _stop(self, error: BaseException) -> None:
        """Cancel everything because of what ``on_progress`` raised; what else there is goes on.

        That is a cancellation, or a bug.
        """
        raised = self._around.raised
        if not (any(error is each for each in raised) or (raised and isinstance(error, Exception))):
            raise error
        self._group.cancel_scope.cancel()

    def _kept_tasks(self) -> dict[int, datetime]:
        state = self._around.state
        known = {} if state is None else state.succeeded
        return {
            each.order_id: known[order]
            for each in self._tasks.values()
            if (order := self._place(each.order_id)) in known and not each.retry_on_rerun
        }

    def _place(self, order_id: int) -> Order:
        return (*self._order, order_id)

    def _start(self, ready: Iterable[int]) -> None:
        """Start what is ready, each when its turn has come."""
        for order_id in ready:
            if self._ending:
                return
            task = self._tasks[order_id]
            self._ready[order_id] = anyio.current_time()
            above = () if self._turn is None else self._turn.place
            start = partial(self._group.start_soon, self._run_task, task)
            turn = self._turns[order_id] = self._around.turns.ask(
                (*above, next(self._asked)), start, self._turn
            )
            if not turn.held:
                self._around.tell(TaskQueued(self._place(order_id), task.task_id))

    async def _run_task(self, task: BatchTask) -> None:
        """Carry out one task, and start what was waiting for it."""
        state, order = self._around.state, self._place(task.order_id)
        try:
            if state is not None:
                await state.begin(order)
            report = await self._judged(task)
            try:
                self._settle(report)
            finally:  # what is told of it may fail, and it has succeeded all the same
                if report.ok and state is not None:
                    await state.note(order)
            lets_on = report.ok or task.continue_on_fail
            self._follow(self._schedule.ended(task.order_id, lets_on=lets_on))
        except BaseException as error:  # noqa: BLE001  # raised by run, outside of a group
            self._stop(error)
        finally:
            self._turns[task.order_id].end()

    async def _judged(self, task: BatchTask) -> BatchTaskReport:
        """Carry out one task, and say what it was."""
        order = self._place(task.order_id)
        began = anyio.current_time()
        running = BatchTaskReport(
            task.order_id,
            task.task_id,
            "cancelled",
            task.dependencies,
            started=self._around.date(began),
            queued=round(began - self._ready[task.order_id], 3),
        )

        def ended(state: TaskState, error: Exception | None, report: Report | None) -> None:
            nonlocal running
            running = replace(
                running,
                state=state,
                report=report or self._inner_report(task),
                failure=None if error is None else Failure.of(task.task_id, error),
                seconds=round(anyio.current_time() - began, 3),
            )

        self._around.tell(TaskStarted(order, task.task_id))
        try:
            with anyio.move_on_after(task.timeout) as scope:
                ended("succeeded", None, await self._carried_out(task))
        except Exception as error:
            if self._around.raised:
                raise
            if not isinstance(error, HaulError):
                _log.exception("task %s failed by an error that was not foreseen", running.name)
            ended("failed", error, _report_of(error))
        except anyio.get_cancelled_exc_class():
            ended("cancelled", None, None)
            self._settle(running, ending=True)
            raise
        if scope.cancelled_caught:
            late = f"not done within {task.timeout:g} s, and cancelled"
            ended("timed out", BatchTimeoutError(late), None)
        return running

    async def _carried_out(self, task: BatchTask) -> Report:
        order = self._place(task.order_id)
        around = self._around

        def tell(event: Event) -> None:
            around.tell(TaskTold(order, task.task_id, event))

        if isinstance(task.task, Batch):
            turn = self._turns[task.order_id]
            inner = self._inner[task.order_id] = _Run(task.task, around, order, turn)
            await inner.run()
            report = inner.report()
            if not report.ok:
                raise BatchError(batch_summary(report), report)
            return report
        if task.task is None:
            raise AssertionError("only the graph of this batch was read")
        return await run_single(task.task, task.definition, around.session, tell, around.journal)

    def _inner_report(self, task: BatchTask) -> BatchReport | None:
        """What the tasks of a batch in this batch were, however it ended."""
        inner = self._inner.get(task.order_id)
        return None if inner is None else inner.report()

    def _settle(self, report: BatchTaskReport, *, ending: bool = False) -> None:
        """Keep what a task was, and tell of it; while the batch is ending, come what may."""
        self._reports[report.order_id] = report
        self._see_whether_all_have_ended()
        event = TaskEnded(
            self._place(report.order_id),
            report.task_id,
            report.state,
            report.seconds,
            report.reason if report.failure is None else report.failure.error,
        )
        if not ending:
            self._around.tell(event)
        elif not self._around.raised:
            _tell_anyhow(event, self._around.on_progress)

    def _see_whether_all_have_ended(self) -> None:
        if len(self._reports) == len(self._tasks):
            self._settled.set()

    def _follow(self, consequences: Consequences) -> None:
        for order_id, cause in consequences.skipped:
            blamed = self._reports[cause]
            what = "failed" if blamed.state == "failed" else "was not done in time"
            self._settle(self._unstarted(order_id, f"it waits for {blamed.name}, which {what}"))
        self._start(consequences.ready)

    def _settle_the_rest(self) -> None:
        """What has no report yet never started, because everything was cancelled."""
        for order_id in sorted(self._tasks.keys() - self._reports.keys()):
            self._settle(self._unstarted(order_id, "the batch was cancelled"), ending=True)

    def _unstarted(
        self, order_id: int, why: str, state: Literal["skipped", "kept"] = "skipped"
    ) -> BatchTaskReport:
        task = self._tasks[order_id]
        return BatchTaskReport(order_id, task.task_id, state, task.dependencies, reason=why)


def _report_of(error: Exception) -> Report | None:
    """What was done all the same, where the error tells."""
    return error.report if isinstance(error, TransferError | BatchError) else None


def _tell_anyhow(event: Event, on_progress: OnProgress) -> None:
    """Tell of an event while a cancellation is on its way, which must get through."""
    try:
        on_progress(event)
    except Exception:  # noqa: BLE001  # an application's own
        _log.exception("on_progress raised an error when it was told of the end of a batch")
