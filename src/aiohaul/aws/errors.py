"""Translates the exceptions of requests into aiohaul's errors."""

from __future__ import annotations

import asyncio
import errno
import sys
from collections.abc import Mapping
from types import ModuleType, TracebackType
from typing import Any

from aiohaul.aws.advice import PAGE_HEADER, foreign_advice
from aiohaul.aws.direct.error_response import ErrorResponseError
from aiohaul.aws.error_codes import foreign_error, service_error
from aiohaul.aws.http.errors import HTTPClientError, ProxyConnectionError, SSLError
from aiohaul.aws.redaction import remove_tokens
from aiohaul.aws.tls_policy import UNTRUSTED_ADVICE
from aiohaul.cancellation import is_cancelled
from aiohaul.errors import EndpointError, HaulError, ServiceError, UnreachableError
from aiohaul.resource_limits import resource_advice

#: Raised by botocore, or by code that reads a response, if the response lacks a field, has a wrong
#: date or redirects forever. botocore also raises them for credentials without an expiry.
_MALFORMED_ANSWER_ERRORS = (
    AttributeError,
    KeyError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
)
#: The maximum delay that a Retry-After header may request, in seconds.
_MAX_RETRY_AFTER = 60.0
#: The status of a proxy that asks for a password.
_PROXY_AUTHENTICATION = 407
#: Only opening a connection fails with these numbers, never using one.
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)


class translated:  # noqa: N801  # a context manager, named as such are
    """Translate the exceptions of the block into aiohaul's errors, with the exception as the cause.

    This is a class, because a generator would be slower and every request enters the block.

    Args:
        operation: the AWS operation in the message.
        target: the object, bucket or resource in the message.

    Raises:
        ServiceError: the response is an error, or no response came.
        SettingsError: credentials, region or profile are missing.
    """

    __slots__ = ("_operation", "_target")

    def __init__(self, operation: str, target: str) -> None:
        self._operation = operation
        self._target = target

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            return
        theirs = _botocore_errors()
        if theirs is not None:
            error = theirs.wrapped_error(error)
            theirs.remove_agent_bodies(error)
        translation = _translation(error, self._operation, self._target)
        if isinstance(error, UnicodeEncodeError):
            # The text may be secret, so it is removed, and the error is not chained.
            error.object = ""
            raise translation or error from None
        if theirs is not None and theirs.remove_secrets(error):
            raise translation or error from None
        if translation is not None:
            raise translation from error


def _botocore_errors() -> ModuleType | None:
    """Return the module that knows botocore's exceptions; None if botocore is not loaded."""
    if "botocore" not in sys.modules:
        return None
    from aiohaul.aws import botocore_errors  # noqa: PLC0415  # not in a run without botocore

    return botocore_errors


def _translation(  # noqa: C901, PLR0911  # one case per kind
    error: BaseException, operation: str, target: str
) -> HaulError | None:
    """Return aiohaul's error for an exception; None if the exception is not about the request."""
    if isinstance(error, HTTPClientError):
        return _from_no_answer(error, operation, target)
    if isinstance(error, ErrorResponseError):
        return _from_answer(error, operation, target)
    theirs = _botocore_errors()
    if advice := resource_advice(error):
        never_sent = theirs is not None and theirs.never_sent(error)
        return _from_shortage(error, operation, target, advice, never_sent=never_sent)
    if theirs is not None:
        if theirs.is_response(error):
            return _from_answer(error, operation, target)
        translation: HaulError | None = theirs.translation(error, operation, target)
        if translation is not None:
            return translation
    match error:
        case UnicodeEncodeError():
            return HaulError(
                f"{operation} on {target} was not sent: a parameter is not valid Unicode"
                f" ({error.reason}). Correct the parameter"
            )
        case asyncio.CancelledError() if not is_cancelled():
            return EndpointError(
                "a task for which the request waited was cancelled, but the caller was not.",
                operation=operation,
                target=target,
                advice="Check whether other code cancels tasks or shuts down the loop's executor.",
                code="Cancelled",
                retryable=True,
            )
        case TimeoutError():
            return EndpointError(
                "TimeoutError.",
                operation=operation,
                target=target,
                advice="Check endpoint_url, region and network; run again.",
                code="TimeoutError",
                retryable=True,
            )
        case _ if isinstance(error, _MALFORMED_ANSWER_ERRORS):
            return EndpointError(
                f"the response is malformed ({type(error).__name__}: {error}).",
                operation=operation,
                target=target,
                advice="Check endpoint_url and this machine's clock.",
                code="BadAnswer",
            )
        case _:
            return None


def _from_no_answer(error: HTTPClientError, operation: str, target: str) -> ServiceError:
    cls = UnreachableError if error.never_sent else EndpointError
    advice = "Check endpoint_url, region and network; run again."
    code = type(error).__name__
    final = True
    match error:
        case SSLError(untrusted=True):
            advice = UNTRUSTED_ADVICE
        case ProxyConnectionError(status=status) if status == _PROXY_AUTHENTICATION:
            advice = foreign_advice(status)
        case _:
            final = False
            if shortage := resource_advice(OSError(error.errno, "")):
                advice, code = shortage, errno.errorcode[error.errno]
    return cls(
        f"{error}.",
        operation=operation,
        target=target,
        advice=advice,
        code=code,
        retryable=not final,
    )


def _from_shortage(
    error: BaseException, operation: str, target: str, advice: str, *, never_sent: bool
) -> ServiceError:
    cause = getattr(error, "kwargs", {}).get("error", error)
    number = getattr(cause, "errno", None) or 0
    # Memory may also run out after the request was sent.
    never_sent = never_sent or number in _NO_DESCRIPTOR or isinstance(cause, RuntimeError)
    cls = UnreachableError if never_sent else EndpointError
    return cls(
        f"{str(cause).rstrip('.') or type(cause).__name__}.",
        operation=operation,
        target=target,
        advice=advice,
        code=errno.errorcode.get(number, type(cause).__name__),
        retryable=True,
    )


def _from_answer(error: Any, operation: str, target: str) -> ServiceError:
    remove_tokens(error)
    answer = error.response
    details = answer.get("Error", {})
    metadata = answer.get("ResponseMetadata", {})
    code = str(details.get("Code") or metadata.get("HTTPStatusCode") or "Unknown")
    # AssumeRole runs inside of other operations, so name the operation that failed.
    operation = error.operation_name or operation
    headers = metadata.get("HTTPHeaders", {})
    status = metadata.get("HTTPStatusCode")
    if PAGE_HEADER in headers or status == _PROXY_AUTHENTICATION:
        title, server = headers.get(PAGE_HEADER, ""), headers.get("server", "")
        return foreign_error(status, title, server, operation=operation, target=target)
    return service_error(
        code,
        str(details.get("Message", "")),
        operation=operation,
        target=target,
        status=status,
        request_id=metadata.get("RequestId") or None,
        retry_after=_retry_after(headers),
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a Retry-After header, or None. AWS never sends a date in it."""
    value = headers.get("retry-after", "")
    return min(float(value), _MAX_RETRY_AFTER) if value.isdecimal() else None


def as_botocore(error: ServiceError) -> Exception:
    """Return the exception that botocore would raise, for callers that catch botocore's exceptions.

    This exception is the cause of ``error``. If the error has no such cause (an error in a response
    with status 200), a ClientError with the same code is returned.
    """
    from aiohaul.aws import botocore_errors  # noqa: PLC0415  # few callers need it

    return botocore_errors.as_botocore(error)
