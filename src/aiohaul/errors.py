"""All errors that aiohaul raises.

HaulError
├── DefinitionError            a task definition is wrong; names the path in the JSON
│   └── UnsupportedError       a task definition is valid, but aiohaul cannot run it
├── SettingsError              credentials, role, region or profile are missing or wrong
├── SessionError               a Session is used outside of its lifetime, loop or process
├── PlanError                  the requested copies are impossible or would lose data
│   └── CollisionError         two writes would have the same key or file
├── NothingFoundError          no object or file matches
│   └── WatchTimeoutError      nothing matched before the timeout
├── RegexLimitError            a regex takes too long for a name or a line
├── CursorError                the cursor of a watch cannot be used
├── TransferError              all or some copies of a transfer failed; carries the report
├── BatchError                 tasks of a batch failed; carries the report
├── BatchTimeoutError          a task of a batch timed out; never raised, only in the report
├── BatchStateError            the state file of a batch cannot be read or written
│   └── BatchBusyError         another process runs the same batch
├── VerificationError          a copy differs from its source
├── LocalFileError             a local file or directory cannot be read or written
│   └── LocalFileExistsError   the file exists, and must not be overwritten
├── StreamError                a stream of the application raised an error
├── JournalError               a journal cannot be read or written
│   └── JournalBusyError       another process runs the same transfer
├── FunctionNameError          the name of a function or durable execution is not valid
├── PayloadError               a payload is not JSON
│   └── PayloadTooLargeError   a payload is larger than Lambda accepts
├── FunctionError              a Lambda function ran and failed; carries the invocation
├── DurableExecutionError      a durable execution failed or was stopped; carries its last state
│   └── DurableTimeoutError    a durable execution did not finish in time
├── FargateTaskError           a Fargate task failed; carries its last known state
│   ├── FargateTaskStartError    the task never ran
│   ├── FargateTaskFailedError   the task ran, and its exit code is not 0 or not known
│   └── FargateTaskTimeoutError  the task did not run or finish in time, and was stopped
├── SecretValueError           a secret is not text or JSON, or lacks the requested path
├── MissingExtraError          an optional dependency is not installed
└── ServiceError               a request failed, or AWS refused it
    ├── EndpointError          no complete response came: unreachable, reset or timed out
    │   └── UnreachableError   no connection was made: the request was never sent
    ├── OutcomeUnknownError    it is not known whether a Lambda function ran
    ├── BucketNotFoundError
    ├── ObjectNotFoundError
    ├── FunctionNotFoundError
    ├── ClusterNotFoundError
    ├── LogGroupNotFoundError
    ├── ParameterNotFoundError
    ├── QueueNotFoundError
    ├── SecretNotFoundError
    ├── AccessDeniedError
    ├── CredentialsError       AWS does not know the credentials, or they are wrong or expired
    ├── PreconditionFailedError  the object is no longer the expected version
    │   └── ObjectExistsError  the object exists, and must not be overwritten
    ├── ConflictError          another write to the same key is in progress
    ├── StorageFullError       the store has no space left, or the bucket's quota is used up
    └── ThrottledError         AWS throttled every attempt of the request
"""

from __future__ import annotations

from aiohaul.haul_error import HaulError as HaulError  # noqa: PLC0414  # exported from here
from aiohaul.report import BatchReport, TransferReport
from aiohaul.results import DurableExecution, Invocation, TaskResult

#: Error codes of an Invoke that Lambda refused before the function started, although a later Invoke
#: may succeed: the errors with status 408, 409 or 502 in AWS's model.
NOT_STARTED = frozenset(
    {
        "CodeArtifactUserDeletedException",
        "CodeArtifactUserFailedException",
        "CodeArtifactUserPendingException",
        "EC2AccessDeniedException",
        "EC2ThrottledException",
        "EC2UnexpectedException",
        "EFSMountConnectivityException",
        "EFSMountTimeoutException",
        "ENILimitReachedException",
        "ENINotReadyException",
        "InvalidRuntimeException",
        "InvalidSecurityGroupIDException",
        "InvalidSubnetIDException",
        "InvalidZipFileException",
        "KMSAccessDeniedException",
        "KMSDisabledException",
        "KMSInvalidStateException",
        "KMSNotFoundException",
        "ResourceConflictException",
        "ResourceNotReadyException",
        "S3FilesMountConnectivityException",
        "S3FilesMountTimeoutException",
        "SnapStartNotReadyException",
        "SnapStartRegenerationFailureException",
        "SnapStartTimeoutException",
        "SubnetIPAddressLimitReachedException",
    }
)
#: HTTP statuses from here on report a fault of the server, not of the request.
SERVER_ERROR = 500
#: The statuses of 500 and above of a request that had no effect: not implemented, version not
#: supported, no space left.
_NOT_CARRIED_OUT = frozenset({501, 505, 507})


class DefinitionError(HaulError):
    """A task definition is wrong. Raised before any request is sent.

    Attributes:
        path: the path of the wrong value in the JSON, such as ``source.fileWatch.timeout``; "" is
            the whole definition.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path or 'definition'}: {problem}")
        self.path = path


class UnsupportedError(DefinitionError):
    """A task definition is valid, but uses a feature that aiohaul does not have."""


class SettingsError(HaulError):
    """Credentials, role, region or profile are missing or wrong. Raised before any request."""


class SessionError(HaulError):
    """A Session is used before it is entered, after it is closed, or in another loop or process."""


class PlanError(HaulError):
    """The requested copies are impossible or would lose data. Raised before anything is copied."""


class CollisionError(PlanError):
    """Two writes would have the same key or file, or a write would replace a source."""


class NothingFoundError(HaulError):
    """No object or file matches, and the task definition requires one."""


class RegexLimitError(HaulError):
    """A regex takes too long for a name or a line. Nothing is skipped: the whole call fails."""


class WatchTimeoutError(NothingFoundError):
    """No object, file or line matched before the timeout of the watch."""


class CursorError(HaulError):
    """The cursor of a watch is damaged, or belongs to another version, bucket or directory."""


class TransferError(HaulError):
    """At least one copy, flag or post-copy action of a transfer failed.

    Attributes:
        report: the copies and the failures at each destination.
    """

    def __init__(self, message: str, report: TransferReport) -> None:
        super().__init__(message)
        self.report = report


class BatchError(HaulError):
    """At least one task of a batch did not succeed.

    Attributes:
        report: the final state of each task, such as ``failed`` or ``skipped``.
    """

    def __init__(self, message: str, report: BatchReport) -> None:
        super().__init__(message)
        self.report = report


class BatchTimeoutError(HaulError):
    """A task of a batch did not finish within its timeout, so the batch cancelled the task.

    A batch never raises this error, because the other tasks continue. The report of the batch has
    the name of this class as the ``kind`` of the task's failure.
    """


class BatchStateError(HaulError):
    """The state file of a batch cannot be read or written, or is not a state file."""


class BatchBusyError(BatchStateError):
    """Another process, or another task in this process, runs the same batch."""


class VerificationError(HaulError):
    """A copy differs from the data that was read from its source."""


class LocalFileError(HaulError):
    """A local file or directory cannot be read or written."""


class LocalFileExistsError(LocalFileError):
    """The file exists, and the destination has ``overwrite=False``."""


class StreamError(HaulError):
    """A stream of the application raised an error while aiohaul read the stream."""


class JournalError(HaulError):
    """A journal file cannot be read or written, or is not a journal."""


class JournalBusyError(JournalError):
    """Another process, or another task in this process, runs the same transfer."""


class FunctionNameError(HaulError):
    """The name of a function or durable execution is not valid. Raised before the request."""


class PayloadError(HaulError):
    """A payload cannot be encoded as JSON. Raised before the request."""


class PayloadTooLargeError(PayloadError):
    """A payload is larger than Lambda accepts. Raised before the request.

    Attributes:
        size: the size of the payload as JSON, in bytes.
        limit: the maximum size for this type of invocation, in bytes.
    """

    def __init__(self, message: str, *, size: int, limit: int) -> None:
        super().__init__(message)
        self.size = size
        self.limit = limit


class FunctionError(HaulError):
    """A Lambda function ran and raised an error.

    Attributes:
        invocation: the response of the function, with the end of the function's log.
    """

    def __init__(self, message: str, invocation: Invocation) -> None:
        super().__init__(message)
        self.invocation = invocation


class DurableExecutionError(HaulError):
    """A durable execution failed, reached its own time limit, or was stopped.

    Attributes:
        execution: the last known state of the execution; None if no state is known.
    """

    def __init__(self, message: str, execution: DurableExecution | None) -> None:
        super().__init__(message)
        self.execution = execution


class DurableTimeoutError(DurableExecutionError):
    """A durable execution did not finish within the caller's timeout."""


class FargateTaskError(HaulError):
    """A Fargate task did not succeed.

    Attributes:
        result: the last known state of the task; None if ECS created no task.
    """

    def __init__(self, message: str, result: TaskResult | None = None) -> None:
        super().__init__(message)
        self.result = result


class FargateTaskStartError(FargateTaskError):
    """A Fargate task never ran, for example because ECS had no capacity or could not pull an image.

    Attributes:
        retryable: True if the same task may start later, because ECS had no capacity, network
            interface or agent for the task now.
    """

    def __init__(
        self, message: str, result: TaskResult | None = None, *, retryable: bool = False
    ) -> None:
        super().__init__(message, result)
        self.retryable = retryable


class FargateTaskFailedError(FargateTaskError):
    """A Fargate task ran and ended with an exit code other than 0, or without one."""


class FargateTaskTimeoutError(FargateTaskError):
    """A Fargate task did not run or finish in time, and aiohaul stopped it. AWS: StopTask."""


class SecretValueError(HaulError):
    """A secret is not text, is not JSON, or has no value at the requested path."""


class MissingExtraError(HaulError):
    """A feature needs an optional dependency that is not installed."""


class ServiceError(HaulError):
    """A request to AWS failed, or AWS refused it.

    Attributes:
        problem: the cause of the failure, without the advice at the end of the message.
        operation: the AWS operation, such as ``CopyObject``.
        target: the object, bucket or resource, such as ``s3://bucket/key``.
        code: the error code in the response, such as ``NoSuchKey``. Without a response, the name
            of the exception, such as ``ReadTimeoutError``.
        status: the HTTP status; None without a response.
        request_id: AWS's id of the request, for a support case; None without a response.
        attempts: the number of times that the request was sent.
        retryable: True if the same request may succeed later.
        retry_after: the number of seconds to wait before a retry, as the response requests; None
            if the response requests no wait.
    """

    def __init__(
        self,
        problem: str,
        *,
        operation: str,
        target: str,
        code: str,
        advice: str = "",
        status: int | None = None,
        request_id: str | None = None,
        attempts: int = 1,
        retryable: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{operation} on {target} failed: {problem} {advice}".rstrip())
        self.problem = problem
        self.operation = operation
        self.target = target
        self.code = code
        self.status = status
        self.request_id = request_id
        self.attempts = attempts
        self.retryable = retryable
        self.retry_after = retry_after

    @property
    def is_server_error(self) -> bool:
        """True if the HTTP status is 5xx: the server failed, and the request may be correct."""
        return self.status is not None and self.status >= SERVER_ERROR

    @property
    def outcome_unknown(self) -> bool:
        """True if AWS may have carried out the request in spite of the error.

        True if the request was sent, and then no complete response came, or a response with status
        5xx. False if AWS refused or throttled the request, if the request was never sent, or if
        Lambda refused an Invoke before the function started.
        """
        if isinstance(self, UnreachableError | ThrottledError) or self.code in NOT_STARTED:
            return False
        if self.status in _NOT_CARRIED_OUT:
            return False
        return isinstance(self, EndpointError | OutcomeUnknownError) or self.is_server_error


class EndpointError(ServiceError):
    """No complete response came, because a connection could not be made, failed or timed out."""


class UnreachableError(EndpointError):
    """No connection to the endpoint could be made, so the request was never sent."""


class OutcomeUnknownError(ServiceError):
    """Lambda gave no clear response to an Invoke, so it is not known whether the function ran.

    The function may have ended, may still run, or may never have started. aiohaul does not send
    the Invoke again, because the function could then run twice.
    """


class BucketNotFoundError(ServiceError):
    """The bucket does not exist."""


class ObjectNotFoundError(ServiceError):
    """The object or the multipart upload does not exist, or was deleted in the meantime."""


class FunctionNotFoundError(ServiceError):
    """The Lambda function, or the version or alias of the function, does not exist."""


class ClusterNotFoundError(ServiceError):
    """The ECS cluster does not exist."""


class LogGroupNotFoundError(ServiceError):
    """The log group of CloudWatch Logs, or the log stream in the group, does not exist."""


class QueueNotFoundError(ServiceError):
    """The SQS queue does not exist."""


class ParameterNotFoundError(ServiceError):
    """The SSM parameter, or the version or label of the parameter, does not exist."""


class SecretNotFoundError(ServiceError):
    """The secret, or the version of the secret, does not exist in Secrets Manager."""


class AccessDeniedError(ServiceError):
    """The credentials are valid, but do not have the permission for the request."""


class CredentialsError(ServiceError):
    """AWS does not know the credentials, or the credentials are wrong or expired."""


class PreconditionFailedError(ServiceError):
    """The object is no longer the expected version."""


class ObjectExistsError(PreconditionFailedError):
    """The object exists, and the destination has ``overwrite=False``."""


class ConflictError(ServiceError):
    """S3 refused a conditional write, because another write to the same key is in progress."""


class StorageFullError(ServiceError):
    """The store has no space left for a write, or the bucket's quota is used up.

    This error is not retryable, because the next write to the same store would fail too.
    """


class ThrottledError(ServiceError):
    """AWS throttled every attempt of the request."""
