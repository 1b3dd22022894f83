"""The boundary where botocore's and aiohttp's exceptions become aiohaul's."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
from collections.abc import Mapping
from types import TracebackType

import aiohttp
from botocore import exceptions as botocore
from botocore.parsers import ResponseParserError

from aiohaul.aws.bounded import TooLongError
from aiohaul.aws.error_codes import service_error
from aiohaul.aws.plain import DISTRUSTED, is_distrusted
from aiohaul.aws.secrecy import without_tokens
from aiohaul.cancellation import is_cancelled
from aiohaul.errors import (
    EndpointError,
    HaulError,
    ServiceError,
    SettingsError,
    UnreachableError,
)
from aiohaul.shortage import shortage

_NO_SETTINGS = (
    botocore.NoCredentialsError,
    botocore.PartialCredentialsError,
    botocore.CredentialRetrievalError,
    botocore.NoRegionError,
    botocore.ProfileNotFound,
    botocore.ConfigParseError,
    botocore.InvalidRegionError,
    botocore.UnknownRegionError,
    botocore.UnauthorizedSSOTokenError,
    botocore.SSOTokenLoadError,
    botocore.TokenRetrievalError,
)
# ConnectionError and HTTPClientError between them root every failure of the way to AWS.
_NO_ANSWER = (
    botocore.ConnectionError,
    botocore.HTTPClientError,
    botocore.ResponseStreamingError,
    botocore.IncompleteReadError,
    botocore.FlexibleChecksumError,
    ResponseParserError,
    aiohttp.ClientError,
    TimeoutError,
)
_BOTOCORE: tuple[type[Exception], ...] = (botocore.ClientError, botocore.BotoCoreError)
#: What botocore, or the code that picks an answer apart, makes of one that lacks something: a
#: field, a date, the end of a chain of redirects, a time to live for the credentials.
_NOT_UNDERSTOOD = (
    AttributeError,
    KeyError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
)
#: An answer may ask for a longer pause than this; it gets this.
_LONGEST_RETRY_AFTER = 60.0
#: Only opening a connection fails like this, never using it.
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
#: As far as it can reach: a value may itself look like the end of the sentence.
_REFUSED_VALUE = re.compile(r", value: .*(?=, (?:type|valid)\b)", re.DOTALL)
_ENDPOINT_IN_QUOTES = re.compile(r'"(\w+://[^"/?]+)[^"]*"')


class translated:  # noqa: N801  # a context manager, named as such are
    """Translate what ``operation`` on ``target`` raises into aiohaul's errors, chained.

    A class, not a generator: it is entered for every request.

    Raises:
        ServiceError: or one of its kinds, for an answer that is an error, or no answer at all.
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
        made = _translation(error, self._operation, self._target)
        if isinstance(error, botocore.HTTPClientError):
            error.request = None  # its headers have the session token, and the cause is kept
        if isinstance(error, UnicodeEncodeError):
            # Not chained, and the context without its text: the original holds all of it.
            error.object = ""
            raise made or error from None
        if isinstance(error, botocore.ParamValidationError):
            # The original repeats the value that is wrong, and that may be a secret: not chained,
            # and as Python keeps it as the context all the same, without its text.
            error.args, error.kwargs = (_REFUSED_VALUE.sub("", str(error)),), {}
            raise made or error from None
        if made is not None:
            raise made from error


def _translation(  # noqa: PLR0911  # one for each kind
    error: BaseException, operation: str, target: str
) -> HaulError | None:
    """What an error is here; None if it is none of theirs."""
    if advice := shortage(error):
        return _from_shortage(error, operation, target, advice)
    match error:
        case botocore.ClientError():
            return _from_answer(error, operation, target)
        case _ if isinstance(error, _NO_SETTINGS):
            return SettingsError(
                f"{operation} on {target} was not sent: {error}. Give credentials and a region in"
                " the definition, the Session, the AWS_* environment variables or a profile"
            )
        case botocore.ParamValidationError():
            return HaulError(
                f"{operation} on {target} was not sent: {_REFUSED_VALUE.sub('', str(error))}"
            )
        case UnicodeEncodeError():
            return HaulError(
                f"{operation} on {target} was not sent: it holds half of a Unicode character"
                f" ({error.reason})"
            )
        case asyncio.CancelledError() if not is_cancelled():
            return EndpointError(
                "something that it waited for was cancelled, and not its caller.",
                operation=operation,
                target=target,
                advice="Look for what ends tasks, or the loop's executor, beside this.",
                code="Cancelled",
                retryable=True,
            )
        case _ if isinstance(error, _NO_ANSWER):
            return _from_no_answer(error, operation, target)
        case botocore.BotoCoreError():  # a parameter or a setting that botocore refuses
            return HaulError(f"{operation} on {target} failed: {error}")
        case _ if isinstance(error, _NOT_UNDERSTOOD):
            return EndpointError(
                f"the answer cannot be understood ({type(error).__name__}: {error}).",
                operation=operation,
                target=target,
                advice="Check that endpoint_url leads to the service, and this machine's clock.",
                code="BadAnswer",
            )
        case _:
            return None


def _from_no_answer(error: BaseException, operation: str, target: str) -> ServiceError:
    cls = UnreachableError if _never_sent(error) else EndpointError
    refused = is_distrusted(error)
    return cls(
        f"{_without_query(error) or type(error).__name__}.",
        operation=operation,
        target=target,
        advice=DISTRUSTED if refused else "Check endpoint_url, region and network; run again.",
        code=type(error).__name__,
        retryable=not refused,
    )


def _from_shortage(error: BaseException, operation: str, target: str, advice: str) -> ServiceError:
    beneath = getattr(error, "kwargs", {}).get("error", error)
    number = getattr(beneath, "errno", None) or 0
    # Memory may be short after a request was sent, too.
    never = number in _NO_DESCRIPTOR or isinstance(beneath, RuntimeError) or _never_sent(error)
    cls = UnreachableError if never else EndpointError
    return cls(
        f"{_without_query(error) or type(error).__name__}.",
        operation=operation,
        target=target,
        advice=advice,
        code=errno.errorcode.get(number, type(beneath).__name__),
        retryable=True,
    )


def _from_answer(error: botocore.ClientError, operation: str, target: str) -> ServiceError:
    without_tokens(error)
    answer = error.response
    told = answer.get("Error", {})
    metadata = answer.get("ResponseMetadata", {})
    code = str(told.get("Code") or metadata.get("HTTPStatusCode") or "Unknown")
    # A role is assumed inside of other operations; the failure is AssumeRole's own.
    operation = error.operation_name or operation
    return service_error(
        code,
        str(told.get("Message", "")),
        operation=operation,
        target=target,
        status=metadata.get("HTTPStatusCode"),
        request_id=metadata.get("RequestId") or None,
        retry_after=_retry_after(metadata.get("HTTPHeaders", {})),
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of a Retry-After header; the form that is a date is not used by AWS."""
    told = headers.get("retry-after", "")
    return min(float(told), _LONGEST_RETRY_AFTER) if told.isdecimal() else None


def _never_sent(error: BaseException) -> bool:
    """True if no connection came about: on doubt, False.

    aiobotocore calls a connection that was reset after the request "could not connect" too;
    which it was, only aiohttp's own error underneath can tell.
    """
    beneath = getattr(error, "kwargs", {}).get("error")
    match error:
        case botocore.ConnectTimeoutError() | botocore.ProxyConnectionError() | botocore.SSLError():
            return True
        case botocore.EndpointConnectionError():
            return isinstance(beneath, (aiohttp.ClientConnectorError, socket.gaierror))
        case _:
            return False


def _without_query(error: BaseException) -> str:
    """The sentence of ``error``, its URL cut to the endpoint: a query may hold a signature."""
    says = _ENDPOINT_IN_QUOTES.sub(r"\1", str(error)).rstrip(".")
    beneath = getattr(error, "kwargs", {}).get("error")
    if isinstance(beneath, aiohttp.ClientConnectorError) and beneath.errno is not None:
        # Numbers below 0 are getaddrinfo's: its own words are the better ones.
        reason = os.strerror(beneath.errno) if beneath.errno > 0 else beneath.strerror
        return f"{says} ({reason})"
    return f"{says} ({beneath})" if isinstance(beneath, TooLongError) else says


def as_botocore(error: ServiceError) -> Exception:
    """What botocore would have raised, for callers who catch that.

    It is the cause of the error if there is one; else, for a failure that an answer of 200
    carried, a ClientError of the same code.
    """
    cause = error.__cause__
    if isinstance(cause, Exception) and isinstance(cause, _BOTOCORE):
        return cause
    told = {"Error": {"Code": error.code, "Message": str(error)}}
    made: Exception = botocore.ClientError(told, error.operation)
    return made
