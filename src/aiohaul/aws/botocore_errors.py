"""Translates exceptions of botocore, aiobotocore and aiohttp into aiohaul's errors, and back.

Only :mod:`aiohaul.aws.errors` imports this module, and only if botocore is loaded.
"""

from __future__ import annotations

import os
import re
import socket

import aiohttp
from botocore import exceptions as botocore
from botocore.parsers import ResponseParserError

from aiohaul.aws.advice import credentials_advice
from aiohaul.aws.direct.error_response import ErrorResponseError
from aiohaul.aws.http.errors import HTTPClientError, ProxyConnectionError
from aiohaul.errors import (
    EndpointError,
    HaulError,
    ServiceError,
    SettingsError,
    UnreachableError,
)

_SETTINGS_ERRORS = (
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
    botocore.MetadataRetrievalError,
)
#: Sentences for errors whose own message repeats a value that may be a secret in the wrong place.
_OWN_SENTENCES: dict[type[BaseException], str] = {
    botocore.ProfileNotFound: "AWS's configuration files do not have the profile in AWS_PROFILE",
    botocore.InvalidRegionError: "the region is not the name of a region, such as eu-west-1",
    botocore.UnknownRegionError: "the region is not the name of a region, such as eu-west-1",
}
# Every failure to connect or to read derives from ConnectionError or HTTPClientError.
_NO_ANSWER_ERRORS = (
    botocore.ConnectionError,
    botocore.HTTPClientError,
    botocore.ResponseStreamingError,
    botocore.IncompleteReadError,
    botocore.FlexibleChecksumError,
    ResponseParserError,
    aiohttp.ClientError,
)
_NEVER_SENT_ERRORS = (
    botocore.ConnectTimeoutError,
    botocore.ProxyConnectionError,
    botocore.SSLError,
)
#: A wrong value in botocore's message. Greedy, because the value may contain the text after it.
REFUSED_VALUE = re.compile(r", value: .*(?=, (?:type|valid)\b)", re.DOTALL)
#: The body that an agent responded with, in botocore's message.
_AGENT_BODY = re.compile(r"(non 200 response \d+ from [\w ]+): .*", re.DOTALL)
_ENDPOINT_IN_QUOTES = re.compile(r'"(\w+://[^"/?]+)[^"]*"')


def wrapped_error(error: BaseException) -> BaseException:
    """Return aiohaul's HTTPClientError that botocore's exception wraps, else the exception."""
    wrapped = getattr(error, "kwargs", {}).get("error")
    return wrapped if isinstance(wrapped, HTTPClientError) else error


def remove_secrets(error: BaseException) -> bool:
    """Remove the secrets of the request from an exception.

    Returns:
        True if the exception must not be the cause of another error, because its traceback shows
        the parameters.
    """
    if isinstance(error, botocore.HTTPClientError):
        error.request = None  # its headers hold the session token, and the cause stays visible
    if isinstance(error, botocore.ParamValidationError):
        # The message repeats the wrong value, which may be secret. So the value is removed from
        # the error, which stays the context, and the error is not chained.
        error.args, error.kwargs = (REFUSED_VALUE.sub("", str(error)),), {}
        return True
    if type(error) in _OWN_SENTENCES:
        error.args = (_OWN_SENTENCES[type(error)],)
        vars(error).pop("kwargs", None)
        return True
    return False


def remove_agent_bodies(error: BaseException | None) -> None:
    """Remove the bodies of a credentials agent's responses from an exception and its causes.

    An agent may put the credentials themselves into the body of an error.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, botocore.MetadataRetrievalError | botocore.CredentialRetrievalError):
            error.args, error.kwargs = (_AGENT_BODY.sub(r"\1", str(error)),), {}
        error = error.__cause__ or error.__context__


def is_response(error: BaseException) -> bool:
    """Return True for a ClientError, which holds an error response."""
    return isinstance(error, botocore.ClientError)


def translation(error: BaseException, operation: str, target: str) -> HaulError | None:
    """Return aiohaul's error for an exception without a response; None for other exceptions."""
    match error:
        case _ if isinstance(error, _SETTINGS_ERRORS):
            problem = _OWN_SENTENCES.get(type(error)) or str(error).rstrip(".")
            return SettingsError(
                f"{operation} on {target} was not sent: {problem}. {credentials_advice(problem)}"
            )
        case botocore.ParamValidationError():
            return HaulError(
                f"{operation} on {target} was not sent: {REFUSED_VALUE.sub('', str(error))}"
            )
        case _ if isinstance(error, _NO_ANSWER_ERRORS):
            return _from_no_answer(error, operation, target)
        case botocore.BotoCoreError():  # a parameter or a setting that botocore refuses
            return HaulError(f"{operation} on {target} failed: {error}")
        case _:
            return None


def _from_no_answer(error: BaseException, operation: str, target: str) -> ServiceError:
    """Return the error for a request that aiobotocore sent itself, or that it cannot parse."""
    cls = UnreachableError if never_sent(error) else EndpointError
    return cls(
        f"{without_query(error) or type(error).__name__}.",
        operation=operation,
        target=target,
        advice="Check endpoint_url, region and network; run again.",
        code=type(error).__name__,
        retryable=True,
    )


def never_sent(error: BaseException) -> bool:
    """Return True if no connection was made; False if it is not known.

    aiobotocore raises "could not connect" also for connections that were reset after the request.
    Only the wrapped error of aiohttp differs.
    """
    cause = getattr(error, "kwargs", {}).get("error")
    if isinstance(error, botocore.EndpointConnectionError):
        return isinstance(cause, (aiohttp.ClientConnectorError, socket.gaierror))
    return isinstance(error, _NEVER_SENT_ERRORS)


def without_query(error: BaseException) -> str:
    """Return the message of an error with only the endpoint of its URL.

    The query of the URL may contain a signature.
    """
    message = _ENDPOINT_IN_QUOTES.sub(r"\1", str(error)).rstrip(".")
    cause = getattr(error, "kwargs", {}).get("error")
    if isinstance(cause, aiohttp.ClientConnectorError) and cause.errno is not None:
        # getaddrinfo's numbers are below 0, and strerror does not know them.
        reason = os.strerror(cause.errno) if cause.errno > 0 else cause.strerror
        return f"{message} ({reason})"
    return message


def as_botocore(error: ServiceError) -> Exception:
    """Return the exception that botocore would raise, for callers that catch botocore's exceptions.

    This exception is the cause of ``error``. If the error has no such cause (an error in a response
    with status 200), a ClientError with the same code is returned.
    """
    cause = error.__cause__
    if isinstance(cause, (botocore.ClientError, botocore.BotoCoreError)):
        exception: Exception = cause
        return exception
    if isinstance(cause, HTTPClientError):
        return http_error_as_botocore(cause)
    if isinstance(cause, ErrorResponseError):
        theirs: Exception = botocore.ClientError(cause.response, cause.operation_name)
        return theirs
    response = {"Error": {"Code": error.code, "Message": str(error)}}
    client_error: Exception = botocore.ClientError(response, error.operation)
    return client_error


def http_error_as_botocore(error: HTTPClientError) -> Exception:
    """Return botocore's exception of the same name, with ``error`` in it."""
    names = (base.__name__ for base in type(error).__mro__)
    error_class = next(getattr(botocore, name) for name in names if hasattr(botocore, name))
    proxy_url = error.proxy_url if isinstance(error, ProxyConnectionError) else ""
    made: Exception = error_class(endpoint_url=error.url, proxy_url=proxy_url, error=error)
    return made
