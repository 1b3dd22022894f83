"""What the error codes of AWS mean: which error it is, what to do about it, if it passes."""

from __future__ import annotations

from aiohaul.aws.retry import EXPIRED
from aiohaul.errors import (
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
