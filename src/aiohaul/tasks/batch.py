"""Runs batches: starts each task when it is ready, and cancels each task at its timeout."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Literal

import anyio
from anyio.abc import TaskGroup

from aiohaul.errors import BatchError, BatchTimeoutError, HaulError
from aiohaul.logs import listen_to_warnings
from aiohaul.progress import (
    BatchEnded,
    BatchStarted,
    Event,
    OnProgress,
    TaskEnded,
    TaskProgress,
    TaskQueued,
    TaskResumed,
    TaskStarted,
)
from aiohaul.report import (
    BatchReport,
    BatchTaskReport,
    Failure,
    Order,
    Report,
    batch_summary,
)
from aiohaul.report_json import TaskState
from aiohaul.session import Session
from aiohaul.tasks.batch_definition import Batch, BatchTask
from aiohaul.tasks.batch_state import BatchState
from aiohaul.tasks.definition import Transfer
from aiohaul.tasks.execution import report_of
from aiohaul.tasks.graph import Consequences, Schedule
from aiohaul.tasks.limiter import DEFAULT_MAX_CONCURRENCY, Permit, TaskLimiter
from aiohaul.tasks.single import run_single

#: The maximum number of warnings of one task in its report.
_MAX_WARNINGS = 100

_log = logging.getLogger(__name__)


async def run_batch(
    batch: Batch,
    session: Session,
    on_progress: OnProgress,
    *,
    journal: Path | None = None,
    state: BatchState | None = None,
    max_concurrency: int = DEFAULT_MAX_CONCURRENCY,
) -> BatchReport:
    """Run a batch.

    A task of a batch is a transfer, an execution, or another batch, called an inner batch. If a
    task fails or times out, the tasks that depend on this task are skipped, unless the failed task
    has ``continue_on_fail``. All other tasks continue. In both cases, the batch fails at its end.

    At most ``max_concurrency`` transfers and executions run concurrently, including those of inner
    batches. The others are queued in the order in which they became ready. A transfer that waits
    for files is not counted, and is queued when the files exist.

    ``on_progress`` gets the report in a BatchEnded event, even if the batch is cancelled.

    Args:
        batch: the batch.
        session: the Session to use.
        on_progress: called with every event.
        journal: the path of the journal for transfers; None for no journal.
        state: records the tasks that succeed; None for no state file.
        max_concurrency: the maximum number of transfers and executions that run concurrently.

    Returns:
        The report of a batch in which all tasks succeeded.

    Raises:
        BatchError: a task failed, timed out or was skipped. The error has the report.
        BaseException: ``on_progress`` raised this error, and all tasks were cancelled.
    """
    context = BatchContext(session, on_progress, journal, state, TaskLimiter(max_concurrency))
    run = BatchRun(batch, context)
    on_progress(BatchStarted(tuple(batch.planned())))
    try:
        await run.run()
    except BaseException:
        if not context.callback_errors:
            _notify_safely(BatchEnded(run.report()), on_progress)
        raise
    report = run.report()
    if report.ok and state is not None:
        await state.clear()
    on_progress(BatchEnded(report))
    if not report.ok:
        raise BatchError(batch_summary(report), report)
    return report


@dataclass(frozen=True, slots=True)
class BatchContext:
    """The objects that all tasks of a batch and of its inner batches share.

    Attributes:
        session: the Session to use.
        on_progress: called with every event.
        journal: the path of the journal for transfers; None for no journal.
        state: records the tasks that succeed; None for no state file.
        limiter: limits the concurrent tasks to ``max_concurrency``.
        callback_errors: the exceptions that ``on_progress`` raised. The first one cancels all tasks
            and is raised at the end.
        start: the monotonic time in seconds, and the date, at the start of the batch.
    """

    session: Session
    on_progress: OnProgress
    journal: Path | None
    state: BatchState | None
    limiter: TaskLimiter
    callback_errors: list[BaseException] = field(default_factory=list)
    start: tuple[float, datetime] = field(
        default_factory=lambda: (anyio.current_time(), datetime.now(UTC))
    )

    def notify(self, event: Event) -> None:
        """Call ``on_progress``; record and raise an exception of ``on_progress``."""
        try:
            self.on_progress(event)
        except BaseException as error:
            self.callback_errors.append(error)
            raise

    def date(self, time: float) -> datetime:
        """Convert a monotonic time to a date, without effects of changes of the system clock."""
        start, date = self.start
        return date + timedelta(seconds=time - start)


class _BatchTaskRun:
    """The state of one task in a running batch.

    A task needs a permit of the TaskLimiter to run.

    Args:
        task: the task.
        order: the order_ids of the inner batches that contain the task, and of the task itself.
        priority: the position in the queue for a permit.

    Attributes:
        waits_first: True if the task first waits for files, without a permit.
        permit: the permit to run; None before the task requests a permit.
        timeout: the cancel scope that ends the task at its timeout.
        queued: the seconds that the task has waited for a permit.
        queued_since: the monotonic time at which the task began to wait for a permit; None if the
            task did not wait.
        inner: the run of an inner batch; None for other tasks.
        cancelled: the report of an execution that was cancelled; None if there is none.
    """

    def __init__(self, task: BatchTask, order: Order, priority: tuple[int, ...]) -> None:
        self.task = task
        self.order = order
        self.priority = priority
        self.waits_first = isinstance(task.task, Transfer) and task.task.waits_first
        self.permit: Permit | None = None
        self.timeout = anyio.CancelScope()
        self.queued = 0.0
        self.queued_since: float | None = None
        self.inner: BatchRun | None = None
        self.cancelled: Report | None = None

    def end_queueing(self) -> float:
        """Add the time since ``queued_since`` to ``queued``, and return this time in seconds."""
        if self.queued_since is None:
            return 0.0
        seconds = anyio.current_time() - self.queued_since
        self.queued += seconds
        return seconds


class BatchRun:
    """Runs a batch, or an inner batch.

    Args:
        batch: the batch.
        context: the objects that all batches of the run share.
        order: the order_ids that lead to an inner batch; () for the outermost batch.
        permit: the permit of an inner batch, which is transferred to the first task of the batch;
            None for the outermost batch.
    """

    def __init__(
        self, batch: Batch, context: BatchContext, order: Order = (), permit: Permit | None = None
    ) -> None:
        self._context = context
        self._order = order
        self._permit = permit
        self._sequence = count()
        self._runs: dict[int, _BatchTaskRun] = {}
        self._ending = False
        self._all_reported = anyio.Event()
        self._tasks = {each.order_id: each for each in batch.tasks}
        self._already_done = self._find_already_done()
        self._schedule = Schedule(batch.tasks, self._already_done)
        self._started = anyio.current_time()
        self._ended: float | None = None
        self._reports: dict[int, BatchTaskReport] = {}
        self._group: TaskGroup

    def report(self) -> BatchReport:
        """Return the report of the tasks that have ended so far."""
        ended = anyio.current_time() if self._ended is None else self._ended
        return BatchReport(
            tasks=tuple(self._reports[order_id] for order_id in sorted(self._reports)),
            started=self._context.date(self._started),
            seconds=round(ended - self._started, 3),
        )

    async def run(self) -> None:
        """Run all tasks. A failed task raises no error; :meth:`report` returns the result.

        Raises:
            BaseException: ``on_progress`` raised this error.
        """
        try:
            async with anyio.create_task_group() as self._group:
                try:
                    self._start_first()
                    await self._all_reported.wait()  # a queued task is not in the group yet
                except BaseException as error:  # noqa: BLE001  # raised below, without a group
                    self._cancel_for(error)
                finally:
                    self._ending = True
                    for permit in self._permits():
                        permit.cancel()
        finally:
            for permit in self._permits():
                permit.release()  # for tasks that were cancelled before their first step
            self._report_unstarted()
            self._ended = anyio.current_time()
        if self._context.callback_errors:
            raise self._context.callback_errors[0]

    def _permits(self) -> list[Permit]:
        return [run.permit for run in self._runs.values() if run.permit is not None]

    def _start_first(self) -> None:
        for order_id, at in self._already_done.items():
            reason = f"it succeeded in an earlier run, at {at:%Y-%m-%d %H:%M:%S} UTC"
            self._add_report(self._unstarted_report(order_id, reason, "already done"))
        self._start(self._schedule.first)
        if self._permit is not None:  # not transferred if no task can start now
            self._permit.release()
        self._check_all_reported()

    def _cancel_for(self, error: BaseException) -> None:
        """Cancel all tasks if ``on_progress`` raised this error; raise other errors again."""
        raised = self._context.callback_errors
        if not (any(error is each for each in raised) or (raised and isinstance(error, Exception))):
            raise error  # a cancellation, or a fault in this library
        self._group.cancel_scope.cancel()

    def _find_already_done(self) -> dict[int, datetime]:
        """Return the tasks that succeeded in an earlier run, with the time of each success."""
        state = self._context.state
        succeeded = {} if state is None else state.succeeded
        return {
            each.order_id: succeeded[order]
            for each in self._tasks.values()
            if (order := self._order_of(each.order_id)) in succeeded and not each.retry_on_rerun
        }

    def _order_of(self, order_id: int) -> Order:
        return (*self._order, order_id)

    def _start(self, ready: Iterable[int]) -> None:
        """Start the tasks that are ready; those that need a permit start when they get one."""
        above = () if self._permit is None else self._permit.priority
        for order_id in ready:
            if self._ending:
                return
            task, order = self._tasks[order_id], self._order_of(order_id)
            run = self._runs[order_id] = _BatchTaskRun(task, order, (*above, next(self._sequence)))
            start = partial(self._group.start_soon, self._run_task, run)
            if run.waits_first:
                start()
                continue
            run.permit = self._context.limiter.request(run.priority, start, self._permit)
            if not run.permit.held:
                run.queued_since = anyio.current_time()
                self._context.notify(TaskQueued(order, task.task_id))

    async def _run_task(self, run: _BatchTaskRun) -> None:
        """Run one task, and then start or skip the tasks that depend on this task."""
        state, task = self._context.state, run.task
        try:
            if state is not None:
                await state.record_start(run.order)
            report = await self._run_to_report(run)
            try:
                self._add_report(report)
            finally:  # the task has succeeded, even if on_progress raises an error
                if report.ok and state is not None:
                    await state.record_success(run.order)
            allows_dependents = report.ok or task.continue_on_fail
            self._apply(self._schedule.ended(task.order_id, allows_dependents=allows_dependents))
        except BaseException as error:  # noqa: BLE001  # raised by run, outside of a group
            self._cancel_for(error)
        finally:
            if run.permit is not None:
                run.permit.release()

    async def _run_to_report(self, run: _BatchTaskRun) -> BatchTaskReport:
        """Run one task, and return its report, even if the task fails or times out."""
        task = run.task
        run.end_queueing()
        started = anyio.current_time()
        warnings: list[str] = []

        def on_warning(record: logging.LogRecord) -> None:
            if len(warnings) < _MAX_WARNINGS and not isinstance(task.task, Batch):
                warnings.append(record.getMessage())

        def report(
            state: TaskState, error: Exception | None = None, result: Report | None = None
        ) -> BatchTaskReport:
            since = run.queued_since
            return BatchTaskReport(
                task.order_id,
                task.task_id,
                state,
                task.dependencies,
                report=result
                or run.cancelled
                or (None if run.inner is None else run.inner.report()),
                failure=None if error is None else Failure.of(task.task_id, error),
                started=self._context.date(started),
                seconds=round(anyio.current_time() - started, 3),
                queued=round(run.queued, 3),
                queued_since=None if since is None else self._context.date(since),
                warnings=tuple(warnings),
            )

        self._context.notify(TaskStarted(run.order, task.task_id))
        try:
            with anyio.move_on_after(task.timeout) as run.timeout, listen_to_warnings(on_warning):
                return report("succeeded", result=await self._execute(run))
        except Exception as error:
            if self._context.callback_errors:
                raise
            if not isinstance(error, HaulError):
                _log.exception("unexpected error in task %d (%s)", task.order_id, task.task_id)
            return report("failed", error, report_of(error))
        except anyio.get_cancelled_exc_class():
            self._add_report(report("cancelled"), ending=True)
            raise
        late = BatchTimeoutError(f"the task was cancelled after its timeout of {task.timeout:g} s")
        return report("timed out", late)

    async def _execute(self, run: _BatchTaskRun) -> Report:
        """Run the transfer, execution or inner batch of a task, and return its report."""
        context, task = self._context, run.task

        def notify(event: Event) -> None:
            context.notify(TaskProgress(run.order, task.task_id, event))

        if isinstance(task.task, Batch):
            run.inner = BatchRun(task.task, context, run.order, run.permit)
            await run.inner.run()
            report = run.inner.report()
            if not report.ok:
                raise BatchError(batch_summary(report), report)
            return report
        if task.task is None:
            raise AssertionError("this batch cannot run, because only its graph was parsed")

        def on_cancelled(report: Report) -> None:
            run.cancelled = report

        return await run_single(
            task.task,
            task.definition,
            context.session,
            notify,
            journal=context.journal,
            slot=partial(self._slot, run) if run.waits_first else None,
            on_cancelled=on_cancelled,
        )

    @asynccontextmanager
    async def _slot(self, run: _BatchTaskRun) -> AsyncIterator[None]:
        """Wait for a permit, and hold the permit. The wait does not count for the timeout."""
        granted = anyio.Event()
        run.permit = self._context.limiter.request(run.priority, granted.set)
        try:
            if not run.permit.held:
                await self._wait_in_queue(run, granted)
            yield
        finally:
            run.permit.release()

    async def _wait_in_queue(self, run: _BatchTaskRun, granted: anyio.Event) -> None:
        run.queued_since = anyio.current_time()
        deadline, run.timeout.deadline = run.timeout.deadline, math.inf
        self._context.notify(TaskQueued(run.order, run.task.task_id))
        try:
            await granted.wait()
        finally:
            run.timeout.deadline = deadline + run.end_queueing()
        self._context.notify(TaskResumed(run.order, run.task.task_id))

    def _add_report(self, report: BatchTaskReport, *, ending: bool = False) -> None:
        """Add a report, and send TaskEnded.

        If ``ending`` is True, the batch is being cancelled, and an error of ``on_progress`` is
        logged and not raised.
        """
        self._reports[report.order_id] = report
        self._check_all_reported()
        event = TaskEnded(
            self._order_of(report.order_id),
            report.task_id,
            report.state,
            report.seconds,
            report.reason if report.failure is None else report.failure.error,
        )
        if not ending:
            self._context.notify(event)
        elif not self._context.callback_errors:
            _notify_safely(event, self._context.on_progress)

    def _check_all_reported(self) -> None:
        if len(self._reports) == len(self._tasks):
            self._all_reported.set()

    def _apply(self, consequences: Consequences) -> None:
        """Report the skipped tasks, and start the tasks that are ready."""
        for order_id, cause in consequences.skipped:
            blamed = self._reports[cause]
            reason = f"it depends on {blamed.name}, which {blamed.state}"
            self._add_report(self._unstarted_report(order_id, reason))
        self._start(consequences.ready)

    def _report_unstarted(self) -> None:
        """Add the reports of tasks that were not started because the batch was cancelled."""
        for order_id in sorted(self._tasks.keys() - self._reports.keys()):
            report = self._unstarted_report(order_id, "the batch was cancelled")
            self._add_report(report, ending=True)

    def _unstarted_report(
        self, order_id: int, reason: str, state: Literal["skipped", "already done"] = "skipped"
    ) -> BatchTaskReport:
        """Return the report of a task that did not run."""
        task = self._tasks[order_id]
        return BatchTaskReport(order_id, task.task_id, state, task.dependencies, reason=reason)


def _notify_safely(event: Event, on_progress: OnProgress) -> None:
    """Call ``on_progress`` during a cancellation, and log its errors instead of raising them."""
    try:
        on_progress(event)
    except Exception:  # noqa: BLE001  # the application may raise anything
        _log.exception("on_progress raised an error at the end of a batch")
