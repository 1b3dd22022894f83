"""Reports: the results of transfers, executions and batches, as frozen values."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Literal, cast

from aiohaul.haul_error import HaulError
from aiohaul.json_types import JsonValue
from aiohaul.logs import current_run
from aiohaul.pickling import without_tracebacks
from aiohaul.report_json import (
    BatchReportDict,
    BatchTaskReportDict,
    FailureDict,
    FargateReportDict,
    InvocationReportDict,
    TaskState,
    TouchReportDict,
    TransferReportDict,
)


@dataclass(frozen=True, slots=True)
class Failure:
    """The failure of one copy, flag, post-copy action or task of a batch.

    Attributes:
        source: the URI or path of the source or of the flag, such as ``s3://bucket/key``; for a
            task of a batch, the task_id.
        error: the message of the error.
        kind: the class name of the error, such as ``AccessDeniedError``.
        exception: the error, with all fields and without tracebacks; None if the error is not a
            HaulError. Not in the JSON of a report, and ignored by ``==``.
    """

    source: str
    error: str
    kind: str
    exception: HaulError | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, source: str, error: BaseException) -> Failure:
        """Return a failure of ``source`` with a copy of ``error``.

        The copy has no tracebacks, which would keep the buffers of the transfer in memory.
        """
        exception = without_tracebacks(error) if isinstance(error, HaulError) else None
        return cls(source, str(error), type(error).__name__, exception)

    def as_dict(self) -> FailureDict:
        """Return the failure as a dictionary of JSON values."""
        return {"source": self.source, "error": self.error, "kind": self.kind}


@dataclass(frozen=True, slots=True)
class DestinationReport:
    """The result of a transfer at one destination.

    Attributes:
        destination: the name of the destination, such as ``s3://bucket/dest/``.
        objects: the number of objects at the destination that are complete and verified.
        size: the total size of these objects, in bytes.
        failures: one failure for each object or flag that could not be written.
        flag: the URI or path of the flag that was written, or None.
        seconds: the seconds from the start of the transfer until the last object or failure.
        already_there: the number of these objects that an earlier, interrupted run copied.
    """

    destination: str
    objects: int
    size: int
    failures: tuple[Failure, ...]
    flag: str | None
    seconds: float
    already_there: int = 0

    @property
    def ok(self) -> bool:
        """True if no copy and no flag failed."""
        return not self.failures


@dataclass(frozen=True, slots=True)
class ActionReport:
    """The result of the post-copy action on the sources.

    Attributes:
        action: ``move``, ``rename`` or ``delete``.
        objects: the number of sources on which the action succeeded.
        failures: one failure for each source on which the action failed. This source still exists.
        delete_guard: how the delete spares a source that was overwritten after it was copied.
            ``server``: the server compares the ETag (If-Match), as AWS does. ``listing``: aiohaul
            compares the ETag in a listing shortly before, because the server may ignore If-Match.
    """

    action: str
    objects: int
    failures: tuple[Failure, ...]
    delete_guard: Literal["server", "listing"] = "listing"


@dataclass(frozen=True, slots=True)
class TransferReport:
    """The result of a transfer.

    Attributes:
        found: the number of sources.
        size: the total size of the sources, in bytes.
        destinations: one report for each destination, in the order of the task definition.
        action: the report of the post-copy action; None if no action was run.
        seconds: the seconds from start to end, including the watch.
        run_id: the id of the run, as in the log lines; None if no run is active.
    """

    found: int
    size: int
    destinations: tuple[DestinationReport, ...] = ()
    action: ActionReport | None = None
    seconds: float = 0.0
    type: Literal["transfer"] = field(default="transfer", kw_only=True)
    run_id: str | None = field(default_factory=current_run, kw_only=True, compare=False)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The failures of all destinations, then the failures of the post-copy action."""
        copies = tuple(failure for each in self.destinations for failure in each.failures)
        return copies + (self.action.failures if self.action else ())

    @property
    def ok(self) -> bool:
        """True if no copy, no flag and no post-copy action failed."""
        return not self.failures

    def as_dict(self) -> TransferReportDict:
        """Return the report as a dictionary of JSON values."""
        return cast("TransferReportDict", {"ok": self.ok, **_as_dict(self)})


@dataclass(frozen=True, slots=True)
class TouchReport:
    """The result of an S3 execution, which writes one empty object.

    Attributes:
        target: the URI of the object that was written, such as ``s3://bucket/key``.
        seconds: the seconds from start to end.
        run_id: the id of the run, as in the log lines; None if no run is active.
    """

    target: str
    seconds: float
    type: Literal["execution"] = field(default="execution", kw_only=True)
    run_id: str | None = field(default_factory=current_run, kw_only=True, compare=False)
    ok: Literal[True] = field(default=True, kw_only=True)

    def as_dict(self) -> TouchReportDict:
        """Return the report as a dictionary of JSON values."""
        return cast("TouchReportDict", _as_dict(self))


@dataclass(frozen=True, slots=True)
class InvocationReport:
    """The result of a Lambda execution; ``ok`` is False if the function failed.

    Attributes:
        function: the name or ARN of the function, as in the task definition.
        invocation_type: ``RequestResponse`` or ``Event``.
        status: the HTTP status: 200 for a response, 202 for an event that Lambda queued.
        payload: the response of the function, decoded from JSON. Not in a repr.
        log_tail: the last 4 KB of the function's log, or None. Not in a repr.
        version: the version of the function that ran, or None.
        request_id: Lambda's id of the invocation.
        seconds: the seconds from start to end.
        secret: True if the payload of the request was marked as secret. ``payload`` and
            ``log_tail`` may repeat the secret, so the JSON of the report does not contain them.
        function_error: ``Handled`` or ``Unhandled`` if the function failed, else None.
        run_id: the id of the run, as in the log lines; None if no run is active.
    """

    function: str
    invocation_type: str
    status: int
    payload: JsonValue = field(repr=False)
    log_tail: str | None = field(repr=False)
    version: str | None
    request_id: str | None
    seconds: float
    secret: bool = False
    function_error: str | None = None
    type: Literal["execution"] = field(default="execution", kw_only=True)
    run_id: str | None = field(default_factory=current_run, kw_only=True, compare=False)
    ok: bool = field(default=True, kw_only=True)

    def as_dict(self) -> InvocationReportDict:
        """Return the report as a dictionary of JSON values.

        If ``secret`` is True, ``payload`` and ``log_tail`` are None.
        """
        report = replace(self, payload=None, log_tail=None) if self.secret else self
        return cast("InvocationReportDict", _as_dict(report))


@dataclass(frozen=True, slots=True)
class FargateReport:
    """The result of a Fargate execution; ``ok`` is False if the task failed.

    Attributes:
        task: the ARN of the task.
        cluster: the name or ARN of the cluster.
        container: the name of the container whose exit code decides; None if it is not known.
        exit_code: the exit code of this container; None if ECS reports none.
        reason: why the task stopped (ECS's ``stoppedReason``), or None.
        logs: the last 10,000 lines of the container's log. Not in a repr.
        log_problem: why the log could not be read, or None.
        seconds: the seconds from start to end.
        run_id: the id of the run, as in the log lines; None if no run is active.
    """

    task: str
    cluster: str
    container: str | None
    exit_code: int | None
    reason: str | None
    logs: tuple[str, ...] = field(repr=False)
    log_problem: str | None
    seconds: float
    type: Literal["execution"] = field(default="execution", kw_only=True)
    run_id: str | None = field(default_factory=current_run, kw_only=True, compare=False)
    ok: bool = field(default=True, kw_only=True)

    def as_dict(self) -> FargateReportDict:
        """Return the report as a dictionary of JSON values."""
        return cast("FargateReportDict", _as_dict(self))


#: Identifies a task of a batch: the order_ids of the batches that contain the task, the outermost
#: first, then the task's own order_id.
Order = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BatchTaskReport:
    """The result of one task of a batch.

    Attributes:
        order_id: the number of the task in the batch.
        task_id: the name of the task definition.
        state: ``succeeded``; ``already done`` (succeeded in an earlier run, and not run again);
            ``failed``; ``timed out`` (and cancelled); ``cancelled`` (with the batch); or
            ``skipped`` (never started).
        dependencies: the order_ids of the tasks for which this task waited.
        report: the report of the task, or None. A transfer that failed in part has a report, and
            so has a nested batch that was cancelled. Not in a repr.
        failure: why the task failed or timed out, or None.
        reason: why the task was not run, or None.
        started: the time at which the task started, in UTC; None if it was not started.
        seconds: the seconds from the start to the end of the task.
        queued: the seconds of waiting because ``max_concurrency`` other tasks were running.
        queued_since: the time at which this wait began, in UTC; None if the task did not wait. The
            wait begins before ``started``, or after it for a task that first waits for files.
        warnings: the first 100 warnings that the task logged. Empty for a nested batch, because
            each task of the nested batch has its own warnings.
    """

    order_id: int
    task_id: str
    state: TaskState
    dependencies: tuple[int, ...]
    report: Report | None = field(default=None, repr=False)
    failure: Failure | None = None
    reason: str | None = None
    started: datetime | None = None
    seconds: float = 0.0
    queued: float = 0.0
    queued_since: datetime | None = None
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True if the task succeeded, in this run or in an earlier one."""
        return self.state in {"succeeded", "already done"}

    @property
    def name(self) -> str:
        """The name of the task in messages, such as ``3 (load)``."""
        return f"{self.order_id} ({self.task_id})"

    def as_dict(self) -> BatchTaskReportDict:
        """Return the report as a dictionary of JSON values. Times are strings in ISO 8601."""
        return {
            "ok": self.ok,
            "order_id": self.order_id,
            "task_id": self.task_id,
            "state": self.state,
            "dependencies": list(self.dependencies),
            "report": None if self.report is None else self.report.as_dict(),
            "failure": None if self.failure is None else self.failure.as_dict(),
            "reason": self.reason,
            "started": None if self.started is None else self.started.isoformat(),
            "seconds": self.seconds,
            "queued": self.queued,
            "queued_since": None if self.queued_since is None else self.queued_since.isoformat(),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True)
class BatchReport:
    """The result of a batch.

    Attributes:
        tasks: one report for each task, sorted by order_id.
        started: the time at which the batch started, in UTC.
        seconds: the seconds from start to end.
    """

    tasks: tuple[BatchTaskReport, ...]
    started: datetime
    seconds: float
    type: Literal["batch"] = field(default="batch", kw_only=True)

    @property
    def ok(self) -> bool:
        """True if every task succeeded. False if a task with ``continue_on_fail`` failed."""
        return all(each.ok for each in self.tasks)

    def all_tasks(self, above: Order = ()) -> Iterator[tuple[Order, BatchTaskReport]]:
        """Iterate over all tasks and their orders. The tasks of a nested batch follow that batch.

        Args:
            above: the order of this batch if it is nested; () for the outermost batch.
        """
        for each in self.tasks:
            order = (*above, each.order_id)
            yield order, each
            if isinstance(each.report, BatchReport):
                yield from each.report.all_tasks(order)

    def as_dict(self) -> BatchReportDict:
        """Return the report as a dictionary of JSON values. Times are strings in ISO 8601."""
        return {
            "ok": self.ok,
            "tasks": [each.as_dict() for each in self.tasks],
            "started": self.started.isoformat(),
            "seconds": self.seconds,
            "type": self.type,
        }


#: The result of a transfer or an execution.
SingleReport = TransferReport | TouchReport | InvocationReport | FargateReport
Report = SingleReport | BatchReport


def _as_dict(report: object) -> dict[str, object]:
    """Return the fields of a report as JSON values, without exceptions, unlike ``asdict``."""
    names = (each.name for each in fields(report))  # type: ignore[arg-type]  # a dataclass
    return {name: _to_json(getattr(report, name)) for name in names}


def _to_json(value: object) -> object:
    match value:
        case Failure():
            return value.as_dict()
        case DestinationReport() | ActionReport():
            return _as_dict(value)
        case tuple():
            return tuple(_to_json(each) for each in value)
        case _:
            return deepcopy(value)


#: The maximum number of failures in the message of a BatchError.
_MAX_LISTED = 3


def batch_summary(report: BatchReport) -> str:
    """Return the message of a BatchError: the number of tasks by state, and the first failures."""
    problems = [
        f"{each.name} {each.state}: {each.failure.error}"
        for each in report.tasks
        if each.failure is not None
    ]
    if len(problems) > _MAX_LISTED:
        problems[_MAX_LISTED:] = [f"and {len(problems) - _MAX_LISTED} more"]
    counts = [
        f"{sum(each.state == state for each in report.tasks)} {state}"
        for state in ("failed", "timed out", "cancelled", "skipped")
        if any(each.state == state for each in report.tasks)
    ]
    head = f"{len(report.tasks)} tasks: {', '.join(counts)}"
    return f"{head}. {'; '.join(problems)}" if problems else head


def transfer_summary(report: TransferReport) -> str:
    """Return the message of a TransferError, with the first error of each destination."""
    parts = [
        f"{len(each.failures)} of {report.found} objects were not copied to {each.destination}"
        f" ({each.failures[0].error})"
        for each in report.destinations
        if each.failures
    ]
    if report.action is not None and report.action.failures:
        first = report.action.failures[0]
        parts.append(
            f"the {report.action.action} failed for {len(report.action.failures)} of"
            f" {report.found} sources ({first.error})"
        )
    return "; ".join(parts)
