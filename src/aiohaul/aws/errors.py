"""The boundary where botocore's and aiohttp's exceptions become aiohaul's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
from botocore import exceptions as botocore
from botocore.parsers import ResponseParserError

from aiohaul.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    CredentialsError,
    EndpointError,
    HaulError,
    ObjectNotFoundError,
    PreconditionFailedError,
    ServiceError,
    SettingsError,
    ThrottledError,
)

#: Error code of an answer -> the class of its error, and what a user can do about it.
_KNOWN: dict[str, tuple[type[ServiceError], str]] = {
    code: (cls, advice)
    for cls, advice, codes in (
        (
            BucketNotFoundError,
            "Create the bucket or correct its name.",
            ("NoSuchBucket",),
        ),
        (
            ObjectNotFoundError,
            "It does not exist, or was deleted meanwhile.",
            ("NoSuchKey", "404", "NotFound", "NoSuchUpload"),
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
                "ExpiredToken",
                "ExpiredTokenException",
                "InvalidToken",
                "InvalidClientTokenId",
                "UnrecognizedClientException",
                "RequestTimeTooSkewed",
                "AuthFailure",
            ),
        ),
        (
            PreconditionFailedError,
            "It is no longer the version that was meant; run again.",
            ("PreconditionFailed", "412", "ConditionalRequestConflict"),
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
                "BandwidthLimitExceeded",
                "503",
            ),
        ),
    )
    for code in codes
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
    "DeleteObjects": "s3:DeleteObject",
    "AssumeRole": "sts:AssumeRole",
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
#: Answers behind a status of 500 and above, or that ask for another try.
_TRANSIENT_STATUS = 500
_ENDPOINT_IN_QUOTES = re.compile(r'"(\w+://[^"/?]+)[^"]*"')


@contextmanager
def translated(operation: str, target: str) -> Iterator[None]:
    """Translate what ``operation`` on ``target`` raises into aiohaul's errors, chained.

    Raises:
        ServiceError: or one of its kinds, for an answer that is an error, or no answer at all.
        SettingsError: credentials, region or profile are missing.
    """
    try:
        yield
    except botocore.ClientError as error:
        raise _from_answer(error, operation, target) from error
    except _NO_SETTINGS as error:
        raise SettingsError(
            f"{operation} on {target} was not sent: {error}. Give credentials and a region in the"
            " definition, the Session, the AWS_* environment variables or a profile"
        ) from error
    except _NO_ANSWER as error:
        raise EndpointError(
            f"{_without_query(error) or type(error).__name__}."
            " Check endpoint_url, region and the network, then run again.",
            operation=operation,
            target=target,
            code=type(error).__name__,
            retryable=True,
        ) from error
    except botocore.BotoCoreError as error:  # a parameter or a setting that botocore refuses
        raise HaulError(f"{operation} on {target} failed: {error}") from error


def _from_answer(error: botocore.ClientError, operation: str, target: str) -> ServiceError:
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
        attempts=1 + int(metadata.get("RetryAttempts", 0)),
    )


def service_error(
    code: str,
    message: str,
    *,
    operation: str,
    target: str,
    status: int | None,
    request_id: str | None,
    attempts: int = 1,
) -> ServiceError:
    """The error for an answer with this error code."""
    cls, advice = _KNOWN.get(code, (ServiceError, ""))
    advice = advice.format(permission=_PERMISSIONS.get(operation, f"the operation {operation}"))
    says = f"{code}: {message}" if message else code
    return cls(
        f"{says.rstrip('.')}. {advice}".strip(),
        operation=operation,
        target=target,
        code=code,
        status=status,
        request_id=request_id,
        attempts=attempts,
        retryable=cls is ThrottledError or (status is not None and status >= _TRANSIENT_STATUS),
    )


def _without_query(error: BaseException) -> str:
    """The sentence of ``error``, its URL cut to the endpoint: a query may hold a signature."""
    return _ENDPOINT_IN_QUOTES.sub(r"\1", str(error)).rstrip(".")
