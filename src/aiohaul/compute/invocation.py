"""Pure: what may be sent to Lambda, what came back, and what a failure says about the function."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohaul.errors import (
    FunctionNameError,
    OutcomeUnknownError,
    PayloadError,
    PayloadTooLargeError,
    ServiceError,
    UnreachableError,
)
from aiohaul.hidden import Marked

InvocationType = Literal["RequestResponse", "Event", "DryRun"]

#: Bytes that AWS takes as a payload; its "MB" are 1,024 KB.
SYNCHRONOUS_LIMIT = 6 * 1024 * 1024
ASYNCHRONOUS_LIMIT = 1024 * 1024
#: What a user must know when an answer fails to come.
UNKNOWN = (
    "The outcome is unknown: the function may have run, or may still be running at AWS. It was not"
    " called again; look into its log before you do."
)
#: Characters of a function's own words that an error message repeats.
_QUOTED = 300
#: The status by which Lambda says that it did what was asked for.
_STATUS = {"RequestResponse": 200, "Event": 202, "DryRun": 204}
_TOO_MANY_REQUESTS = 429
_SERVER_ERROR = 500

_FUNCTION = r"[a-zA-Z0-9-_.]{1,140}(?::(?:\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
_ARN = re.compile(
    r"arn:aws[a-zA-Z-]*:lambda:(?:eusc-)?[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d:\d{12}:function:"
    + _FUNCTION,
    re.ASCII,  # else \d takes the digits of every script
)
_NAME = re.compile(r"(?:\d{12}:)?(?:function:)?" + _FUNCTION, re.ASCII)
_DURABLE_NAME = re.compile(r"[a-zA-Z0-9-_]{1,64}")
_DURABLE_ARN = re.compile(
    r"arn:[a-zA-Z0-9-]+:lambda:[a-zA-Z0-9-]+:\d{12}:function:[a-zA-Z0-9-_]+"
    r":(?:\$LATEST(?:\.PUBLISHED)?|[0-9]+)"
    r"/durable-execution/[a-zA-Z0-9-_]+/[a-zA-Z0-9-_]+",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """What Lambda answered to one invocation.

    Attributes:
        function: as it was called.
        status: the HTTP status: 200 for an answer, 202 for an accepted event, 204 for a dry run.
        payload: what the function returned, decoded; its text if that is not JSON; None for an
            event or a dry run. Not in a repr.
        log_tail: the last 4 KB of its log; None if it was not asked for. Not in a repr.
        function_error: ``Handled`` or ``Unhandled`` if the function failed, else None.
        version: the version that ran, such as ``$LATEST``.
        request_id: Lambda's name for the invocation, as in the function's log.
        seconds: from the call to the answer.
        durable_arn: of the durable execution that was started, or None.
        secret: the payload that it was called with hides something, and so do reports what it
            says.
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
    def complaint(self) -> str:
        """What the function says of its own failure, shortened, or where that can be found."""
        if self.secret:
            return withheld(f"its log (request {self.request_id})")
        told = self.payload if isinstance(self.payload, dict) else {}
        kind, message = told.get("errorType"), told.get("errorMessage")
        says = ": ".join(str(part) for part in (kind, message) if part)
        return says[:_QUOTED] or "it gives no reason"


def withheld(where: str) -> str:
    """What an error says in place of words that may repeat a payload that hides something."""
    return f"what it says is not shown, as its payload was marked secret; look into {where}"


def check_function(name: str) -> None:
    """Refuse what cannot name a function.

    Raises:
        FunctionNameError: it is neither a name nor an ARN of a function.
    """
    if name.startswith("arn:"):
        if not _ARN.fullmatch(name):
            raise FunctionNameError(
                f"{name!r} is not the ARN of a Lambda function: expected"
                " arn:aws:lambda:REGION:ACCOUNT:function:NAME, with :VERSION or :ALIAS if need be"
            )
    elif not _NAME.fullmatch(name):
        raise FunctionNameError(
            f"{name!r} is not the name of a Lambda function: expected letters, digits, '-' and"
            " '_', with :VERSION or :ALIAS if need be, or an ARN"
        )


def check_durable_name(name: str) -> None:
    """Refuse what cannot name a durable execution.

    Raises:
        FunctionNameError: it is not 1 to 64 letters, digits, "-" and "_".
    """
    if not _DURABLE_NAME.fullmatch(name):
        raise FunctionNameError(
            f"{name!r} is not the name of a durable execution: expected 1 to 64 letters, digits,"
            " '-' and '_'"
        )


def check_durable_arn(arn: str) -> None:
    """Refuse what cannot be the ARN of a durable execution.

    Raises:
        FunctionNameError: it is not.
    """
    if not _DURABLE_ARN.fullmatch(arn):
        raise FunctionNameError(
            f"{arn!r} is not the ARN of a durable execution: expected what start_durable returned"
        )


def encoded(payload: Any, invocation_type: InvocationType) -> tuple[bytes, bool]:
    """The payload as JSON, and whether any of it is marked as secret.

    Raises:
        PayloadError: it is not JSON.
        PayloadTooLargeError: it is more than Lambda takes.
    """
    why = ""
    body = b""
    secret = False

    def reveal(value: Any) -> Any:
        nonlocal secret
        if isinstance(value, Marked):
            secret = True
            return value.value
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")

    try:
        text = json.dumps(
            payload, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=reveal
        )
        body = text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        # The words of a TypeError name a type; those of the others may repeat a value.
        why = str(error) if isinstance(error, TypeError) else type(error).__name__
    if why:  # raised out here: Python would keep the other error, and with it the payload
        raise PayloadError(f"the payload is not JSON: {why}")
    limit = ASYNCHRONOUS_LIMIT if invocation_type == "Event" else SYNCHRONOUS_LIMIT
    if len(body) > limit:
        raise PayloadTooLargeError(
            f"the payload has {len(body):,} bytes, and Lambda takes {limit:,} in"
            f" {invocation_type}: put it into S3 and send its place",
            size=len(body),
            limit=limit,
        )
    return body, secret


def decoded(body: bytes) -> Any:
    """What a function returned: JSON, or its text if it is none; None if it is nothing."""
    if not body:
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body.decode(errors="replace")


def invocation_from(
    function: str, body: bytes, answer: dict[str, Any], seconds: float, *, secret: bool
) -> Invocation:
    """The answer of Lambda as a value."""
    return Invocation(
        function=function,
        status=answer["StatusCode"],
        payload=decoded(body),
        log_tail=_log_tail(answer.get("LogResult")),
        function_error=answer.get("FunctionError"),
        version=answer.get("ExecutedVersion"),
        request_id=answer.get("ResponseMetadata", {}).get("RequestId"),
        seconds=round(seconds, 3),
        durable_arn=answer.get("DurableExecutionArn"),
        secret=secret,
    )


def _log_tail(told: str | None) -> str | None:
    try:
        return base64.b64decode(told).decode(errors="replace") if told else None
    except ValueError:
        return None  # the function ran all the same


def never_ran(error: ServiceError) -> bool:
    """True if the function provably was not called: no connection, or throttled."""
    return isinstance(error, UnreachableError) or error.status == _TOO_MANY_REQUESTS


def in_doubt(error: ServiceError) -> bool:
    """True if the function may have been called: no whole answer, or one of a broken server."""
    if error.operation != "Invoke" or never_ran(error):
        return False
    return error.status is None or error.status >= _SERVER_ERROR


def check_status(invocation: Invocation, invocation_type: InvocationType) -> None:
    """Refuse an answer to another question: an event that was run, a call that was only queued.

    Raises:
        OutcomeUnknownError: its status is not the one of this type of invocation.
    """
    wanted = _STATUS[invocation_type]
    if invocation.status != wanted:
        raise OutcomeUnknownError(
            f"the answer to {invocation_type} has status {invocation.status}, not {wanted}."
            f" {UNKNOWN}",
            operation="Invoke",
            target=invocation.function,
            code="UnexpectedStatus",
            status=invocation.status,
            request_id=invocation.request_id,
        )


def outcome_unknown(error: ServiceError) -> OutcomeUnknownError:
    """The error that says so, for one that leaves it in doubt."""
    return OutcomeUnknownError(
        f"{error.problem} {UNKNOWN}",
        operation=error.operation,
        target=error.target,
        code=error.code,
        status=error.status,
        request_id=error.request_id,
        attempts=error.attempts,
    )
