"""What a task did: the value that comes back up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from aiohaul.logs import current_run


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that did not get where it should.

    Attributes:
        source: the object or file, such as ``s3://bucket/key``, or the flag.
        error: why, in a sentence.
        kind: the name of the error's class.
    """

    source: str
    error: str
    kind: str

    @classmethod
    def of(cls, source: str, error: Exception) -> Failure:
        """The failure of ``source`` by ``error``."""
        return cls(source, str(error), type(error).__name__)


@dataclass(frozen=True, slots=True)
class DestinationReport:
    """What one destination has.

    Attributes:
        destination: its name, such as ``s3://bucket/dest/``.
        objects: how many objects it has, whole and verified.
        size: bytes of these.
        failures: one for each object (or flag) that it does not have.
        flag: the flag that was written, or None.
        seconds: from the start of the transfer until its last object or failure.
        kept: how many of the objects an interrupted run had copied.
    """

    destination: str
    objects: int
    size: int
    failures: tuple[Failure, ...]
    flag: str | None
    seconds: float
    kept: int = 0

    @property
    def ok(self) -> bool:
        """True if it has everything."""
        return not self.failures


@dataclass(frozen=True, slots=True)
class ActionReport:
    """What the post-copy action did to the sources.

    Attributes:
        action: ``move``, ``rename`` or ``delete``.
        objects: how many sources it was done to.
        failures: one for each source that it was not done to; that source is still there.
        guard: who made sure that only the versions that were copied went: ``server``, which
            compares while it deletes, as AWS does; or ``listing``, a look at every version
            shortly before, where the server is not known to compare.
    """

    action: str
    objects: int
    failures: tuple[Failure, ...]
    guard: Literal["server", "listing"] = "listing"


@dataclass(frozen=True, slots=True)
class TransferReport:
    """What a transfer did.

    Attributes:
        found: how many sources matched.
        size: bytes of these.
        destinations: one report each, in the definition's order.
        action: the post-copy action's report; None if there was none to do.
        seconds: from start to end, the watch included.
        run_id: of the run that this is of, as in its log lines; None outside of runs.
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
        """The failures of all destinations and of the action."""
        copies = tuple(failure for each in self.destinations for failure in each.failures)
        return copies + (self.action.failures if self.action else ())

    @property
    def ok(self) -> bool:
        """True if every destination has everything and the action was done to every source."""
        return not self.failures

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values that JSON takes."""
        return {"ok": self.ok, **asdict(self)}


@dataclass(frozen=True, slots=True)
class TouchReport:
    """What an S3 execution did.

    Attributes:
        target: the object that was written, such as ``s3://bucket/key``.
        seconds: from start to end.
        run_id: of the run that this is of, as in its log lines; None outside of runs.
    """

    target: str
    seconds: float
    type: Literal["execution"] = field(default="execution", kw_only=True)
    run_id: str | None = field(default_factory=current_run, kw_only=True, compare=False)
    ok: Literal[True] = field(default=True, kw_only=True)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values that JSON takes."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class InvocationReport:
    """What a Lambda execution did. A function that failed makes no report but an error.

    Attributes:
        function: as it was called.
        invocation_type: ``RequestResponse`` or ``Event``.
        status: 200 for an answer, 202 for an event that was queued.
        payload: what the function returned, decoded. Not in a repr.
        log_tail: the last 4 KB of its log, or None. Not in a repr.
        version: the version that ran, or None.
        request_id: Lambda's name for the invocation.
        seconds: from start to end.
        secret: its payload was marked as secret: what may repeat it, payload and log_tail, is
            not in the JSON of the report.
        run_id: of the run that this is of, as in its log lines; None outside of runs.
    """

    function: str
    invocation_type: str
    status: int
    payload: Any = field(repr=False)
    log_tail: str | None = field(repr=False)
    version: str | None
    request_id: str | None
    seconds: float
    secret: bool = False
    type: Literal["execution"] = field(default="execution", kw_only=True)
    run_id: str | None = field(default_factory=current_run, kw_only=True, compare=False)
    ok: Literal[True] = field(default=True, kw_only=True)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values that JSON takes, but for what a secret payload may be in."""
        shown = replace(self, payload=None, log_tail=None) if self.secret else self
        return asdict(shown)


@dataclass(frozen=True, slots=True)
class FargateReport:
    """What a Fargate execution did. A task that failed makes no report but an error.

    Attributes:
        task: its ARN.
        cluster: where it ran.
        container: the one whose exit code counted.
        exit_code: that exit code.
        reason: why it stopped, in ECS's words, or None.
        logs: the last 10,000 lines of the container's log. Not in a repr.
        log_problem: why there is no log, or None.
        seconds: from start to end.
        run_id: of the run that this is of, as in its log lines; None outside of runs.
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
    ok: Literal[True] = field(default=True, kw_only=True)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values that JSON takes."""
        return asdict(self)


#: The place of a task: its order_id, after those of the batches that it is in.
Order = tuple[int, ...]

#: What a task of a batch was in the end. ``kept``: an earlier run had done it, and it was not run.
TaskState = Literal["succeeded", "kept", "failed", "timed out", "cancelled", "skipped"]


@dataclass(frozen=True, slots=True)
class BatchTaskReport:
    """What one task of a batch was.

    Attributes:
        order_id: its number in its batch.
        task_id: the name of its definition.
        state: ``succeeded``; ``kept``, if an earlier run had done it and it was not run again;
            ``failed``; ``timed out``, and was cancelled for it; ``cancelled`` with the batch;
            ``skipped``, and never started.
        dependencies: the order_ids that it waited for.
        report: what it did, if that is known: also of a transfer that failed in part, and of a
            batch that was cancelled. Not in a repr.
        failure: why it failed or timed out, or None.
        reason: why it was skipped or kept, or None.
        started: when, in UTC; None if it never was.
        seconds: from its start to its end.
        queued: seconds that it was ready before, and waited its turn.
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

    @property
    def ok(self) -> bool:
        """True if its work is done, in this run or an earlier one."""
        return self.state in {"succeeded", "kept"}

    @property
    def name(self) -> str:
        """How messages speak of it: ``3 (load)``."""
        return f"{self.order_id} ({self.task_id})"

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values that JSON takes."""
        return {
            "ok": self.ok,
            "order_id": self.order_id,
            "task_id": self.task_id,
            "state": self.state,
            "dependencies": list(self.dependencies),
            "report": None if self.report is None else self.report.as_dict(),
            "failure": None if self.failure is None else asdict(self.failure),
            "reason": self.reason,
            "started": None if self.started is None else self.started.isoformat(),
            "seconds": self.seconds,
            "queued": self.queued,
        }


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What a batch did.

    Attributes:
        tasks: a report each, by order_id.
        started: when, in UTC.
        seconds: from start to end.
    """

    tasks: tuple[BatchTaskReport, ...]
    started: datetime
    seconds: float
    type: Literal["batch"] = field(default="batch", kw_only=True)

    @property
    def ok(self) -> bool:
        """True if every task's work is done; one that failed counts though others went on."""
        return all(each.ok for each in self.tasks)

    def all_tasks(self, above: tuple[int, ...] = ()) -> Iterator[tuple[Order, BatchTaskReport]]:
        """Every task with its place, those of a batch in this batch behind that."""
        for each in self.tasks:
            order = (*above, each.order_id)
            yield order, each
            if isinstance(each.report, BatchReport):
                yield from each.report.all_tasks(order)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values that JSON takes."""
        return {
            "ok": self.ok,
            "tasks": [each.as_dict() for each in self.tasks],
            "started": self.started.isoformat(),
            "seconds": self.seconds,
            "type": self.type,
        }


#: What one transfer or execution did.
SingleReport = TransferReport | TouchReport | InvocationReport | FargateReport
Report = SingleReport | BatchReport

#: How many failures a sentence about a batch tells of.
_TOLD = 3


def batch_summary(report: BatchReport) -> str:
    """What was not done, in a sentence for an error message."""
    failed = [each for each in report.tasks if each.failure is not None]
    told = [f"{each.name} {each.state}: {each.failure.error}" for each in failed if each.failure]
    if len(told) > _TOLD:
        told[_TOLD:] = [f"and {len(told) - _TOLD} more"]
    counts = [
        f"{sum(each.state == state for each in report.tasks)} {state}"
        for state in ("failed", "timed out", "cancelled", "skipped")
        if any(each.state == state for each in report.tasks)
    ]
    head = f"of {len(report.tasks)} tasks {', '.join(counts)}"
    return f"{head}: {'; '.join(told)}" if told else head


def summary(report: TransferReport) -> str:
    """What failed, in a sentence for an error message."""
    parts = [
        f"{len(each.failures)} of {report.found} objects did not get to {each.destination}"
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
