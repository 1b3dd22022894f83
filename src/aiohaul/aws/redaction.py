"""Removes secrets from botocore's logs and from error messages."""

from __future__ import annotations

import logging
import re
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any

from aiohaul.errors import ServiceError, UnreachableError

#: Loggers that log complete requests, signatures and responses.
_VERBOSE_LOGGERS = tuple(
    logging.getLogger(name)
    for name in (
        "botocore.endpoint",
        "botocore.auth",
        "botocore.parsers",
        "botocore.httpsession",
        "botocore.tokens",
        "aiobotocore.credentials",
        "aiobotocore.tokens",
    )
)

_suppressed: ContextVar[bool] = ContextVar("aiohaul_suppress_debug_logs", default=False)


class _DebugFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if not _suppressed.get():
            return True
        error = record.exc_info[1] if record.exc_info else None
        if hasattr(error, "response"):
            remove_tokens(error)
        if record.levelno == logging.WARNING and error is not None:
            record.msg, record.args = f"{record.getMessage()} ({error})", None
            record.exc_info = record.exc_text = None
        return record.levelno > logging.DEBUG


_filter = _DebugFilter()


class suppress_debug_logs:  # noqa: N801  # a context manager, named as such are
    """Suppress botocore's debug log lines about the requests of this block.

    Warnings of botocore, such as that a role cannot be renewed, are logged without tokens and
    tracebacks. Requests that the application itself sends with botocore are logged as usual.
    """

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        for logger in _VERBOSE_LOGGERS:
            logger.addFilter(_filter)  # adding it twice has no effect
        self._token: Token[bool] = _suppressed.set(True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _suppressed.reset(self._token)


#: Fields of S3's errors that repeat the token, or the signed request with the token.
_SECRET_FIELDS = re.compile(r"Token-\d+|(Canonical|StringTo|Signature)\w*", re.ASCII)
#: A session token in a signed request.
_TOKEN = re.compile(r"(x-amz-security-token[:=])[^\s&'\"<>]+", re.IGNORECASE)


def remove_tokens(error: Any) -> None:
    """Remove session tokens from the response in a ClientError.

    If a signature is wrong or a token has expired, the service repeats the request in the message
    or in other fields of the error.

    Args:
        error: botocore's ``ClientError``.
    """
    details = error.response.get("Error")
    if not isinstance(details, dict):
        return
    for name in [name for name in details if _SECRET_FIELDS.fullmatch(name)]:
        del details[name]
    message = details.get("Message")
    if isinstance(message, str) and _TOKEN.search(message):
        details["Message"] = _TOKEN.sub(r"\1…", message)
        error.args = (_TOKEN.sub(r"\1…", str(error)),)


class redacted_messages:  # noqa: N801  # a context manager, named as such are
    """Remove the message of the service from errors, because it may repeat a secret of the request.

    The code, the status and the request id stay in the error. The chained causes, which hold the
    whole response, are removed.

    Args:
        operation: the operation that sends the secret. Errors of other operations, such as
            AssumeRole, are not changed.
    """

    __slots__ = ("_operation",)

    def __init__(self, operation: str) -> None:
        self._operation = operation

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if (
            isinstance(error, ServiceError)
            and error.operation == self._operation
            and not isinstance(error, UnreachableError)  # nothing was sent
        ):
            problem = f"{error.code} (message not shown, because the request contained a secret)."
            error.args = (str(error).replace(error.problem, problem, 1),)
            error.problem = problem
            error.__cause__ = error.__context__ = None
