"""Checks requests to Lambda, and converts responses and failures to values. Pure."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from aiohaul.aws import answers
from aiohaul.errors import (
    FunctionNameError,
    OutcomeUnknownError,
    PayloadError,
    PayloadTooLargeError,
    ServiceError,
)
from aiohaul.results import Invocation
from aiohaul.sensitive import SensitiveValue, shown

InvocationType = Literal["RequestResponse", "Event", "DryRun"]

#: The maximum size of a payload in bytes. In the limits of Lambda, 1 MB is 1,024 KB.
SYNCHRONOUS_LIMIT = 6 * 1024 * 1024
ASYNCHRONOUS_LIMIT = 1024 * 1024
#: The maximum size of a client context in bytes, encoded as base64.
CONTEXT_LIMIT = 3583
#: The end of the message of an error after which it is not known whether the function ran.
UNKNOWN = (
    "The outcome is unknown: the function may have run, or may still be running at AWS. It was not"
    " invoked again. Read the log of the function before you invoke it again."
)
#: The HTTP status of success for each type of invocation.
_STATUS = {"RequestResponse": 200, "Event": 202, "DryRun": 204}

_FUNCTION = r"[a-zA-Z0-9-_.]{1,140}(?::(?:\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
_ARN = re.compile(
    r"arn:aws[a-zA-Z-]*:lambda:(?:eusc-)?[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d:\d{12}:function:"
    + _FUNCTION,
    re.ASCII,  # without re.ASCII, \d matches the digits of all scripts
)
_NAME = re.compile(r"(?:\d{12}:)?(?:function:)?" + _FUNCTION, re.ASCII)
_DURABLE_NAME = re.compile(r"[a-zA-Z0-9-_]{1,64}")
_DURABLE_ARN = re.compile(
    r"arn:[a-zA-Z0-9-]+:lambda:[a-zA-Z0-9-]+:\d{12}:function:[a-zA-Z0-9-_]+"
    r":(?:\$LATEST(?:\.PUBLISHED)?|[0-9]+)"
    r"/durable-execution/[a-zA-Z0-9-_]+/[a-zA-Z0-9-_]+",
    re.ASCII,
)


def check_function(name: str) -> None:
    """Check that a text is a valid name or ARN of a Lambda function.

    Raises:
        FunctionNameError: the text is not valid.
    """
    if name.startswith("arn:"):
        if not _ARN.fullmatch(name):
            raise FunctionNameError(
                f"{shown(name)} is not the ARN of a Lambda function: expected"
                " arn:aws:lambda:REGION:ACCOUNT:function:NAME, optionally with :VERSION or :ALIAS"
            )
    elif not _NAME.fullmatch(name):
        raise FunctionNameError(
            f"{shown(name)} is not the name of a Lambda function: expected letters, digits, '-' and"
            " '_', optionally with :VERSION or :ALIAS, or an ARN"
        )


def check_durable_name(name: str) -> None:
    """Check that a text is a valid name of a durable execution.

    Raises:
        FunctionNameError: the text is not 1 to 64 letters, digits, "-" and "_".
    """
    if not _DURABLE_NAME.fullmatch(name):
        raise FunctionNameError(
            f"{shown(name)} is not the name of a durable execution: expected 1 to 64 letters,"
            " digits, '-' and '_'"
        )


def check_durable_arn(arn: str) -> None:
    """Check that a text is a valid ARN of a durable execution.

    Raises:
        FunctionNameError: the text is not valid.
    """
    if not _DURABLE_ARN.fullmatch(arn):
        raise FunctionNameError(
            f"{shown(arn)} is not the ARN of a durable execution. Pass the ARN that start_durable"
            " returned"
        )


def encoded(payload: Any, invocation_type: InvocationType) -> tuple[bytes, bool]:
    """Return the payload as JSON, and True if the payload has sensitive values.

    Raises:
        PayloadError: the payload cannot be converted to JSON.
        PayloadTooLargeError: the payload is larger than Lambda accepts.
    """
    body, secret = _json(payload, "the payload")
    limit = ASYNCHRONOUS_LIMIT if invocation_type == "Event" else SYNCHRONOUS_LIMIT
    if len(body) > limit:
        raise PayloadTooLargeError(
            f"the payload has {len(body):,} bytes, and Lambda accepts {limit:,} for"
            f" {invocation_type}. Write the data to S3, and send the bucket and key",
            size=len(body),
            limit=limit,
        )
    return body, secret


def encoded_context(
    context: Mapping[str, Any], invocation_type: InvocationType
) -> tuple[str, bool]:
    """Return the ClientContext as base64, and True if the context has sensitive values.

    Raises:
        PayloadError: the context cannot be converted to JSON, or Lambda does not send a context to
            the function for this invocation type.
        PayloadTooLargeError: the context is larger than Lambda accepts.
    """
    if invocation_type != "RequestResponse":
        raise PayloadError(
            f"Lambda does not send the client context to the function for {invocation_type}. Use"
            " RequestResponse, or put the data into the payload"
        )
    body, secret = _json(context, "the client context")
    text = base64.b64encode(body).decode()
    if len(text) > CONTEXT_LIMIT:
        raise PayloadTooLargeError(
            f"the client context has {len(text):,} bytes as base64, and Lambda accepts"
            f" {CONTEXT_LIMIT:,} bytes. Put the data into the payload",
            size=len(text),
            limit=CONTEXT_LIMIT,
        )
    return text, secret


def _json(value: Any, name: str) -> tuple[bytes, bool]:
    """Return a value as JSON, and True if the value contains sensitive values."""
    problem = ""
    body = b""
    secret = False

    def reveal(value: Any) -> Any:
        nonlocal secret
        if isinstance(value, SensitiveValue):
            secret = True
            return value.value
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")

    try:
        text = json.dumps(
            value, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=reveal
        )
        body = text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        # The text of a TypeError names only a type. The other texts may contain a value.
        problem = str(error) if isinstance(error, TypeError) else type(error).__name__
    if problem:  # raised here: the context of an error raised above would contain the payload
        raise PayloadError(f"{name} is not JSON: {problem}")
    return body, secret


def decoded(body: bytes) -> Any:
    """Decode the JSON payload of a response; return other payloads as text, and None if empty."""
    if not body:
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body.decode(errors="replace")


def invocation_from(
    function: str, body: bytes, answer: answers.Invoked, seconds: float, *, secret: bool
) -> Invocation:
    """Convert a response of Invoke to an Invocation."""
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


def _log_tail(header: str | None) -> str | None:
    try:
        return base64.b64decode(header).decode(errors="replace") if header else None
    except ValueError:
        return None  # a damaged log does not fail a call whose function ran


def may_send_again(error: ServiceError) -> bool:
    """Return True if the function certainly did not start, and a retry may start the function."""
    return error.retryable and not error.outcome_unknown


def check_status(invocation: Invocation, invocation_type: InvocationType) -> None:
    """Check that the status of a response is that of the invocation type.

    A wrong status means, for example, that a RequestResponse invocation was only queued.

    Raises:
        OutcomeUnknownError: the status is that of another invocation type.
    """
    expected = _STATUS[invocation_type]
    if invocation.status != expected:
        raise OutcomeUnknownError(
            f"the response to {invocation_type} has status {invocation.status}, not {expected}."
            f" {UNKNOWN}",
            operation="Invoke",
            target=invocation.function,
            code="UnexpectedStatus",
            status=invocation.status,
            request_id=invocation.request_id,
        )


def outcome_unknown_error(error: ServiceError) -> OutcomeUnknownError:
    """Return the error for an Invoke after which it is not known whether the function ran."""
    return OutcomeUnknownError(
        f"{error.problem} {UNKNOWN}",
        operation=error.operation,
        target=error.target,
        code=error.code,
        status=error.status,
        request_id=error.request_id,
        attempts=error.attempts,
    )
