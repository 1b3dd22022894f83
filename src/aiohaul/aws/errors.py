"""The boundary where botocore's and aiohttp's exceptions become aiohaul's."""

from __future__ import annotations

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
from aiohaul.aws.plain import DISTRUSTED, is_distrusted
from aiohaul.aws.retry import EXPIRED
from aiohaul.aws.secrecy import quiet, without_tokens
from aiohaul.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    ClusterNotFoundError,
    ConflictError,
    CredentialsError,
    EndpointError,
    FunctionNotFoundError,
    HaulError,
    LogGroupNotFoundError,
    ObjectNotFoundError,
    ParameterNotFoundError,
    PreconditionFailedError,
    QueueNotFoundError,
    SecretNotFoundError,
    ServiceError,
    SettingsError,
    ThrottledError,
    UnreachableError,
)

_NO_CLUSTER = ("ClusterNotFoundException",)
#: Error code of an answer -> the class of its error, and what a user can do about it.
_KNOWN: dict[str, tuple[type[ServiceError], str]] = {
    code: (cls, advice)
    for cls, advice, codes in (
        (BucketNotFoundError, "Create the bucket or correct its name.", ("NoSuchBucket",)),
        (
            ObjectNotFoundError,
            "It does not exist, or was deleted meanwhile.",
            ("NoSuchKey", "404", "NotFound", "NoSuchUpload"),
        ),
        (ClusterNotFoundError, "Create the cluster or correct its name.", _NO_CLUSTER),
        (
            QueueNotFoundError,
            "Create the queue or correct its URL.",
            (
                "AWS.SimpleQueueService.NonExistentQueue",
                "QueueDoesNotExist",
                "QueueDeletedRecently",
                "AWS.SimpleQueueService.QueueDeletedRecently",
            ),
        ),
        (
            ParameterNotFoundError,
            "Create the parameter or correct its name.",
            ("ParameterNotFound", "ParameterVersionNotFound"),
        ),
        (
            AccessDeniedError,
            "Allow {permission} to these credentials.",
            ("AccessDenied", "403", "Forbidden", "AllAccessDisabled", "AccessDeniedException"),
        ),
        (
            CredentialsError,
            "Check the keys, the token and this machine's clock.",
            (
                "InvalidAccessKeyId",
                "SignatureDoesNotMatch",
                "InvalidSignatureException",
                "InvalidToken",
                "InvalidClientTokenId",
                "UnrecognizedClientException",
                "RequestTimeTooSkewed",
                "AuthFailure",
            ),
        ),
        (
            CredentialsError,
            "Get new keys and a token, or name a role, which renews them; else check the clock.",
            EXPIRED,
        ),
        (
            PreconditionFailedError,
            "It is no longer the version that was meant; run again.",
            ("PreconditionFailed", "412"),
        ),
        (
            ConflictError,
            "Another write to it is under way; run again.",
            ("ConditionalRequestConflict", "409"),
        ),
        (
            ThrottledError,
            "Send fewer requests at once, or run again later.",
            (
                "SlowDown",
                "Throttling",
                "ThrottlingException",
                "ThrottledException",
                "RequestThrottled",
                "TooManyRequestsException",
                "RequestLimitExceeded",
                "429",
                "BandwidthLimitExceeded",
                "503",
            ),
        ),
    )
    for code in codes
}

_SECRET = (SecretNotFoundError, "Create the secret or correct its name.")
#: Operation -> what its ResourceNotFoundException is about: the code is the same everywhere.
_NOT_FOUND: dict[str, tuple[type[ServiceError], str]] = {
    "Invoke": (FunctionNotFoundError, "Correct the function's name, qualifier or region."),
    "GetSecretValue": _SECRET,
    "DescribeSecret": _SECRET,
    "PutSecretValue": _SECRET,
    "FilterLogEvents": (LogGroupNotFoundError, "Create the log group or correct its name."),
}

#: Operation -> the IAM permissions that it takes, for the advice beside AccessDenied.
_PERMISSIONS = {
    "ListObjectsV2": "s3:ListBucket",
    "HeadObject": "s3:GetObject (and s3:ListBucket)",
    "GetObject": "s3:GetObject",
    "PutObject": "s3:PutObject and s3:PutObjectAcl",
    "CopyObject": (
        "s3:PutObject, s3:PutObjectAcl and s3:PutObjectTagging on the target,"
        " s3:GetObject and s3:GetObjectTagging on the source"
    ),
    "CreateMultipartUpload": "s3:PutObject and s3:PutObjectAcl",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "DeleteObject": "s3:DeleteObject",
    "DeleteObjects": "s3:DeleteObject",
    "AssumeRole": "sts:AssumeRole",
    "Invoke": "lambda:InvokeFunction",
    "GetDurableExecution": "lambda:GetDurableExecution",
    "StopDurableExecution": "lambda:StopDurableExecution",
    "RunTask": "ecs:RunTask (and iam:PassRole on the roles of the task)",
    "DescribeTasks": "ecs:DescribeTasks",
    "DescribeTaskDefinition": "ecs:DescribeTaskDefinition",
    "ListTasks": "ecs:ListTasks",
    "StopTask": "ecs:StopTask",
    "GetLogEvents": "logs:GetLogEvents",
    "FilterLogEvents": "logs:FilterLogEvents",
    "ReceiveMessage": "sqs:ReceiveMessage",
    "DeleteMessageBatch": "sqs:DeleteMessage",
    "GetParameters": "ssm:GetParameters (and kms:Decrypt for a SecureString)",
    "GetParametersByPath": "ssm:GetParametersByPath (and kms:Decrypt for a SecureString)",
    "PutParameter": "ssm:PutParameter (and kms:Encrypt for a SecureString)",
    "GetSecretValue": "secretsmanager:GetSecretValue (and kms:Decrypt)",
    "DescribeSecret": "secretsmanager:DescribeSecret",
    "PutSecretValue": "secretsmanager:PutSecretValue (and kms:GenerateDataKey)",
}

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
#: Errors that pass by themselves though their status does not say so: in a list of failures
#: there is none.
_TRANSIENT_CODES = frozenset(
    {
        "InternalError",
        "ServiceUnavailable",
        "RequestTimeout",
        "OperationAborted",
        # What was sent arrived damaged.
        "BadDigest",
        "XAmzContentSHA256Mismatch",
        "XAmzContentChecksumMismatch",
    }
)
#: Answers behind a status of 500 and above, or that ask for another try.
_TRANSIENT_STATUS = 500
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

    __slots__ = ("_operation", "_quiet", "_target")

    def __init__(self, operation: str, target: str) -> None:
        self._operation = operation
        self._target = target
        self._quiet = quiet()

    def __enter__(self) -> None:
        self._quiet.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._quiet.__exit__(kind, error, traceback)
        if error is None:
            return
        made = _translation(error, self._operation, self._target)
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
            return isinstance(beneath, OSError) and beneath.errno in _NO_DESCRIPTOR


def service_error(
    code: str,
    message: str,
    *,
    operation: str,
    target: str,
    status: int | None,
    request_id: str | None,
    attempts: int = 1,
    retry_after: float | None = None,
) -> ServiceError:
    """The error for an answer with this error code."""
    known = _NOT_FOUND if code == "ResourceNotFoundException" else _KNOWN
    key = operation if known is _NOT_FOUND else code
    cls, advice = known.get(key, (ServiceError, ""))
    advice = advice.format(permission=_PERMISSIONS.get(operation, f"the operation {operation}"))
    says = f"{code}: {message}" if message else code
    return cls(
        f"{says.rstrip('.')}.",
        operation=operation,
        target=target,
        advice=advice,
        code=code,
        status=status,
        request_id=request_id,
        attempts=attempts,
        retryable=cls is ThrottledError
        or code in _TRANSIENT_CODES
        or (status is not None and status >= _TRANSIENT_STATUS),
        retry_after=retry_after,
    )


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
