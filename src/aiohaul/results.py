"""Results of Lambda functions, durable executions and ECS tasks, for return values and errors."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

#: The maximum number of characters of a function's error in an error message.
_QUOTED = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """The response of Lambda to one invocation.

    Attributes:
        function: the name or ARN that was called.
        status: the HTTP status: 200 for a response, 202 for an accepted event, 204 for a dry run.
        payload: the return value of the function, decoded from JSON; a string if it is not JSON;
            None for an event or a dry run. Not in a repr.
        log_tail: the last 4 KB of the function's log; None if not requested. Not in a repr.
        function_error: ``Handled`` or ``Unhandled`` if the function failed, else None.
        version: the version of the function that ran, such as ``$LATEST``.
        request_id: Lambda's id of the invocation, as in the function's log.
        seconds: the seconds from the request to the response.
        durable_arn: the ARN of the durable execution that was started, or None.
        secret: True if the payload of the request had sensitive values. Reports then contain
            neither ``payload`` nor ``log_tail``.
    """

    function: str
    status: int
    payload: Any = field(repr=False)
    log_tail: str | None = field(repr=False)
    function_error: str | None
    version: str | None
    request_id: str | None
    seconds: float
    durable_arn: str | None = None
    secret: bool = False

    @property
    def error_summary(self) -> str:
        """The error of the function, in at most 300 characters.

        If ``secret`` is True, the text says where to find the error instead.
        """
        if self.secret:
            return redacted_message(f"the function's log (request {self.request_id})")
        if self.payload is None:
            return "the function gave no reason"
        error = self.payload if isinstance(self.payload, dict) else {}
        kind, message = error.get("errorType"), error.get("errorMessage")
        summary = ": ".join(str(part) for part in (kind, message) if part)
        return summary[:_QUOTED] or f"the response is {json_text(self.payload)[:_QUOTED]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DurableExecution:
    """The state of a durable execution at the last poll.

    Attributes:
        arn: the ARN of the execution.
        name: the name of the execution.
        status: ``RUNNING``, ``SUCCEEDED``, ``FAILED``, ``TIMED_OUT`` or ``STOPPED``.
        result: the return value, decoded from JSON. Not in a repr.
        error: the type and message of the failure, or None. Not in a repr.
        version: the version of the function.
        started: the time of the start, in UTC.
        ended: the time of the end, in UTC; None while the execution runs.
    """

    arn: str
    name: str
    status: str
    result: Any = field(repr=False)
    error: str | None = field(repr=False)
    version: str | None
    started: datetime
    ended: datetime | None


@dataclass(frozen=True, slots=True)
class LogLine:
    """One event of a CloudWatch log stream, which is usually one line.

    Attributes:
        time: the time at which the event was written, in UTC.
        message: the text of the event.
    """

    time: datetime
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """The result of an ECS task.

    Attributes:
        arn: the ARN of the task.
        cluster: the name or ARN of the cluster in which the task ran.
        status: the last known status of the task, such as ``STOPPED``.
        container: the name of the container whose exit code decides; None if it is not known.
        exit_code: the exit code of this container; None if ECS reports none.
        reason: why the task stopped (ECS's ``stoppedReason``), or None.
        logs: the last 10,000 lines of the container's log. Not in a repr.
        log_problem: why the log could not be read, or None.
        seconds: the seconds from the call to the end of the task.
    """

    arn: str
    cluster: str
    status: str
    container: str | None
    exit_code: int | None
    reason: str | None
    logs: tuple[LogLine, ...] = field(repr=False)
    log_problem: str | None
    seconds: float


def json_text(value: Any) -> str:
    """Return a value that was decoded from JSON as one line of JSON."""
    return json.dumps(value, ensure_ascii=False, default=str)


def redacted_message(where: str) -> str:
    """Return a text in place of an error message that may repeat a sensitive payload."""
    return f"the error is not shown, because the payload was marked as secret. Read {where}"
