"""The types of reports as JSON values, which ``as_dict`` returns. Times are strings in ISO 8601."""

from __future__ import annotations

from typing import Literal, TypeAlias, TypedDict

from aiohaul.json_types import JsonValue

#: The final state of a task of a batch. ``already done``: the task succeeded in an earlier run, and
#: was not run again.
TaskState = Literal["succeeded", "already done", "failed", "timed out", "cancelled", "skipped"]


class FailureDict(TypedDict):
    """The JSON of an :class:`aiohaul.Failure`."""

    source: str
    error: str
    kind: str


class DestinationReportDict(TypedDict):
    """The JSON of an :class:`aiohaul.DestinationReport`."""

    destination: str
    objects: int
    size: int
    failures: tuple[FailureDict, ...]
    flag: str | None
    seconds: float
    already_there: int


class ActionReportDict(TypedDict):
    """The JSON of an :class:`aiohaul.ActionReport`."""

    action: str
    objects: int
    failures: tuple[FailureDict, ...]
    delete_guard: Literal["server", "listing"]


class TransferReportDict(TypedDict):
    """The JSON of an :class:`aiohaul.TransferReport`."""

    ok: bool
    found: int
    size: int
    destinations: tuple[DestinationReportDict, ...]
    action: ActionReportDict | None
    seconds: float
    type: Literal["transfer"]
    run_id: str | None


class _ExecutionReportDict(TypedDict):
    ok: bool
    seconds: float
    type: Literal["execution"]
    run_id: str | None


class TouchReportDict(_ExecutionReportDict):
    """The JSON of an :class:`aiohaul.TouchReport`."""

    target: str


class InvocationReportDict(_ExecutionReportDict):
    """The JSON of an :class:`aiohaul.InvocationReport`."""

    function: str
    invocation_type: str
    status: int
    payload: JsonValue
    log_tail: str | None
    version: str | None
    request_id: str | None
    secret: bool
    function_error: str | None


class FargateReportDict(_ExecutionReportDict):
    """The JSON of an :class:`aiohaul.FargateReport`."""

    task: str
    cluster: str
    container: str | None
    exit_code: int | None
    reason: str | None
    logs: tuple[str, ...]
    log_problem: str | None


class BatchTaskReportDict(TypedDict):
    """The JSON of an :class:`aiohaul.BatchTaskReport`."""

    ok: bool
    order_id: int
    task_id: str
    state: TaskState
    dependencies: list[int]
    report: ReportDict | None
    failure: FailureDict | None
    reason: str | None
    started: str | None
    seconds: float
    queued: float
    queued_since: str | None
    warnings: list[str]


class BatchReportDict(TypedDict):
    """The JSON of an :class:`aiohaul.BatchReport`."""

    ok: bool
    tasks: list[BatchTaskReportDict]
    started: str
    seconds: float
    type: Literal["batch"]


ReportDict: TypeAlias = (
    TransferReportDict
    | TouchReportDict
    | InvocationReportDict
    | FargateReportDict
    | BatchReportDict
)
