"""Maps error codes of AWS to error classes, advice, and whether to retry."""

from __future__ import annotations

from aiohaul.aws.advice import advice_for, foreign_advice, foreign_problem
from aiohaul.aws.retry import EXPIRED
from aiohaul.errors import (
    NOT_STARTED,
    SERVER_ERROR,
    AccessDeniedError,
    BucketNotFoundError,
    ClusterNotFoundError,
    ConflictError,
    CredentialsError,
    FunctionNotFoundError,
    LogGroupNotFoundError,
    ObjectNotFoundError,
    ParameterNotFoundError,
    PreconditionFailedError,
    QueueNotFoundError,
    SecretNotFoundError,
    ServiceError,
    StorageFullError,
    ThrottledError,
)

#: Error code -> error class and advice.
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
            "The object, bucket or upload does not exist, or was deleted. Check the name.",
            ("NoSuchKey", "404", "NotFound", "NoSuchUpload"),
        ),
        (
            ClusterNotFoundError,
            "Create the cluster or correct its name.",
            ("ClusterNotFoundException",),
        ),
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
                "InvalidToken",
                "InvalidClientTokenId",
                "UnrecognizedClientException",
                "RequestTimeTooSkewed",
                "AuthFailure",
                "InvalidSignatureException",
            ),
        ),
        (
            CredentialsError,
            "Get new keys and a token, or use a role (renewed automatically). Check the clock.",
            EXPIRED,
        ),
        (
            PreconditionFailedError,
            "The object is no longer the expected version. Run again.",
            ("PreconditionFailed", "412"),
        ),
        (
            ConflictError,
            "Another write to this key is in progress. Run again.",
            ("ConditionalRequestConflict", "409"),
        ),
        (
            StorageFullError,
            "Free space in the store, or raise the bucket's quota; then run again.",
            (
                "507",
                "InsufficientStorage",
                "QuotaExceeded",
                "XMinioAdminBucketQuotaExceeded",
                "XMinioStorageFull",
            ),
        ),
        (
            ThrottledError,
            "Send fewer concurrent requests (max_requests of the Session), or run again later.",
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
#: Operation -> error class and advice for its ResourceNotFoundException.
_NOT_FOUND: dict[str, tuple[type[ServiceError], str]] = {
    "Invoke": (FunctionNotFoundError, "Correct the function's name, qualifier or region."),
    "GetSecretValue": _SECRET,
    "DescribeSecret": _SECRET,
    "PutSecretValue": _SECRET,
    "FilterLogEvents": (LogGroupNotFoundError, "Create the log group or correct its name."),
}

#: Operation -> the IAM permissions that the operation needs, for the advice of AccessDenied.
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
    "CreateSecret": "secretsmanager:CreateSecret (and kms:GenerateDataKey)",
}

#: Codes that are retried for any status, because an entry in a list of failures has no status.
_TRANSIENT_CODES = frozenset(
    {
        "InternalError",
        "ServiceUnavailable",
        "RequestTimeout",
        "OperationAborted",
        # The server received a damaged request.
        "BadDigest",
        "XAmzContentSHA256Mismatch",
        "XAmzContentChecksumMismatch",
    }
)
_TOO_MANY_REQUESTS = 429
#: Statuses of 500 and above for which a retry would fail too: not implemented, HTTP version not
#: supported, no space left, a network login page.
_FINAL_STATUSES = frozenset({501, 505, 507, 511})


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
    """Return the error for an error response of a service.

    Args:
        code: the error code, or the status as text if the response has no code.
        message: the message of the service.
        operation: the AWS operation.
        target: the object, bucket or resource, for the message.
        status: the HTTP status; None for an entry of a list of failures.
        request_id: AWS's id of the request.
        attempts: the number of times that the request was sent.
        retry_after: the number of seconds to wait, as the response requests, or None.
    """
    known = _NOT_FOUND if code == "ResourceNotFoundException" else _KNOWN
    key = operation if known is _NOT_FOUND else code
    unknown = "The function did not start. Call it again later." if code in NOT_STARTED else ""
    cls, advice = known.get(key, (ServiceError, unknown))
    permission = _PERMISSIONS.get(operation, f"the operation {operation}")
    advice = advice_for(code, message) or advice.format(permission=permission)
    problem = f"{code}: {message}" if message else code
    return cls(
        f"{problem.rstrip('.')}.",
        operation=operation,
        target=target,
        advice=advice,
        code=code,
        status=status,
        request_id=request_id,
        attempts=attempts,
        retryable=_is_retryable(cls, code, status),
        retry_after=retry_after,
    )


def foreign_error(
    status: int | None, title: str, server: str, *, operation: str, target: str
) -> ServiceError:
    """Return the error for a response that does not come from the service, but from a proxy.

    The status of such a response has no meaning for the object or the credentials, so the class of
    the error is ServiceError or ThrottledError.

    Args:
        status: the HTTP status.
        title: the title of the HTML page.
        server: the ``Server`` header.
        operation: the AWS operation.
        target: the object, bucket or resource, for the message.
    """
    code = str(status)
    cls, _ = _KNOWN.get(code, (ServiceError, ""))
    if cls is not ThrottledError:
        cls = ServiceError
    return cls(
        foreign_problem(status, title, server),
        operation=operation,
        target=target,
        advice=foreign_advice(status),
        code=code,
        status=status,
        retryable=_is_retryable(cls, code, status),
    )


def _is_retryable(cls: type[ServiceError], code: str, status: int | None) -> bool:
    if cls is StorageFullError or status in _FINAL_STATUSES:
        return False
    if cls is ThrottledError or status == _TOO_MANY_REQUESTS:
        return True
    transient = status is not None and status >= SERVER_ERROR
    return transient or code in _TRANSIENT_CODES or code in NOT_STARTED
