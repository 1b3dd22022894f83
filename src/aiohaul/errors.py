"""Everything that aiohaul raises.

HaulError
├── DefinitionError            a definition is wrong: where in the JSON, and what was expected
│   └── UnsupportedError       a definition is right, but not aiohaul's to run
├── SettingsError              credentials, role, region or profile cannot be settled
├── SessionError               a Session is used outside its lifetime, loop or process
├── PlanError                  the copies that were asked for cannot be carried out safely
│   └── CollisionError         two writes would land on one key or file
├── NothingFoundError          no object or file matches
│   └── WatchTimeoutError      none did until the timeout
├── CursorError                a cursor of a watch cannot be used
├── TransferError              a transfer failed in part or whole; carries its report
├── BatchError                 tasks of a batch did not do their work; carries its report
├── BatchTimeoutError          a task of a batch was not done in time; stands in the report
├── BatchStateError            the state of a batch cannot be read or written
│   └── BatchBusyError         another process is carrying out the same batch
├── VerificationError          what was written is not what was read
├── LocalFileError             a local file or directory cannot be read or written
│   └── LocalFileExistsError   there is a file already, and it must not be overwritten
├── StreamError                a stream that an application handed in raised an error
├── JournalError               a journal cannot be read or written
│   └── JournalBusyError       another process is carrying out the same transfer
├── FunctionNameError          no function (or durable execution) can have this name
├── PayloadError               a payload is not JSON
│   └── PayloadTooLargeError   or more of it than Lambda takes
├── FunctionError              a Lambda function ran and failed; carries its invocation
├── DurableExecutionError      a durable execution failed, or was stopped; carries its state
│   └── DurableTimeoutError    it was not done in time
├── TaskError                  a Fargate task did not do its work; carries what is known of it
│   ├── TaskStartError         it never ran
│   ├── TaskFailedError        it ran, and its exit code is not 0
│   └── TaskTimeoutError       it did not run, or was not done, in time, and was stopped
├── SecretValueError           a secret is not text, or not JSON, or lacks what was looked for
├── MissingExtraError          an optional dependency is not installed
└── ServiceError               AWS, or the way to it, refused or failed a request
    ├── EndpointError          no answer: unreachable, reset, cut or timed out
    │   └── UnreachableError   no connection: the request was never sent
    ├── OutcomeUnknownError    a function was called, and whether it ran is not known
    ├── BucketNotFoundError
    ├── ObjectNotFoundError
    ├── FunctionNotFoundError
    ├── ClusterNotFoundError
    ├── LogGroupNotFoundError
    ├── ParameterNotFoundError
    ├── QueueNotFoundError
    ├── SecretNotFoundError
    ├── AccessDeniedError
    ├── CredentialsError       the credentials are unknown, wrong or expired
    ├── PreconditionFailedError  the object is no longer the version that was meant
    │   └── ObjectExistsError  there is an object already, and it must not be overwritten
    ├── ConflictError          another write to the same key is under way
    └── ThrottledError
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohaul.pickling import PicklableError

if TYPE_CHECKING:
    from aiohaul.compute.durable import DurableExecution
    from aiohaul.compute.invocation import Invocation
    from aiohaul.compute.task import TaskResult
    from aiohaul.report import BatchReport, TransferReport


class HaulError(PicklableError):
    """The root of every error that aiohaul raises on purpose.

    Copies and pickles keep fields, notes and cause; a cause that is not one of these errors
    becomes a text.
    """


class DefinitionError(HaulError):
    """A task definition is wrong. Raised before any request is made.

    Attributes:
        path: the place in the JSON, such as ``source.fileWatch.timeout``; "" is the whole of it.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path or 'definition'}: {problem}")
        self.path = path


class UnsupportedError(DefinitionError):
    """A definition asks for something that another tool has to run."""


class SettingsError(HaulError):
    """Credentials, role, region or profile cannot be settled. Raised before the request."""


class SessionError(HaulError):
    """A Session is used before it is entered, after its end, or in another loop or process."""


class PlanError(HaulError):
    """The copies asked for cannot be carried out safely. Raised before the first byte moves."""


class CollisionError(PlanError):
    """Two writes would land on one key or file, or a write on one of the sources."""


class NothingFoundError(HaulError):
    """No object or file matches what was asked for, and the definition calls that an error."""


class WatchTimeoutError(NothingFoundError):
    """Nothing matched until the watch's timeout."""


class CursorError(HaulError):
    """A cursor of a watch is damaged, or is of another version, bucket or directory."""


class TransferError(HaulError):
    """A transfer failed in part or as a whole.

    Attributes:
        report: what was done at each destination, and what failed there.
    """

    def __init__(self, message: str, report: TransferReport) -> None:
        super().__init__(message)
        self.report = report


class BatchError(HaulError):
    """Not every task of a batch did its work.

    Attributes:
        report: what each task was: succeeded, failed, timed out, skipped.
    """

    def __init__(self, message: str, report: BatchReport) -> None:
        super().__init__(message)
        self.report = report


class BatchTimeoutError(HaulError):
    """A task of a batch was not done within its timeout, and was cancelled.

    Not raised by a batch, whose other tasks go on: it is the ``kind`` of that task's failure.
    """


class BatchStateError(HaulError):
    """The state file of a batch cannot be read or written, or is none."""


class BatchBusyError(BatchStateError):
    """Another process, or another task of this one, is carrying out the same batch."""


class VerificationError(HaulError):
    """What a destination holds is not what was read from the source."""


class LocalFileError(HaulError):
    """A local file or directory cannot be read or written."""


class LocalFileExistsError(LocalFileError):
    """There is a file, and the caller asked not to overwrite any."""


class StreamError(HaulError):
    """A stream that an application handed in raised an error while it was read."""


class JournalError(HaulError):
    """A journal cannot be read or written, or is no journal."""


class JournalBusyError(JournalError):
    """Another process, or another task of this one, is carrying out the same transfer."""


class FunctionNameError(HaulError):
    """No function, or no durable execution, can have this name. Raised before the request."""


class PayloadError(HaulError):
    """A payload cannot be written as JSON. Raised before the request."""


class PayloadTooLargeError(PayloadError):
    """A payload is larger than Lambda takes. Raised before the request.

    Attributes:
        size: bytes of the payload as JSON.
        limit: bytes that this type of invocation takes.
    """

    def __init__(self, message: str, *, size: int, limit: int) -> None:
        super().__init__(message)
        self.size = size
        self.limit = limit


class FunctionError(HaulError):
    """A Lambda function ran and ended with an error of its own.

    Attributes:
        invocation: its answer, with the tail of its log.
    """

    def __init__(self, message: str, invocation: Invocation) -> None:
        super().__init__(message)
        self.invocation = invocation


class DurableExecutionError(HaulError):
    """A durable execution failed, timed out by its own limit, or was stopped.

    Attributes:
        execution: its last known state.
    """

    def __init__(self, message: str, execution: DurableExecution | None) -> None:
        super().__init__(message)
        self.execution = execution


class DurableTimeoutError(DurableExecutionError):
    """A durable execution was not done within the caller's timeout."""


class TaskError(HaulError):
    """A Fargate task did not do its work.

    Attributes:
        result: what is known of it; None if there is no task.
    """

    def __init__(self, message: str, result: TaskResult | None = None) -> None:
        super().__init__(message)
        self.result = result


class TaskStartError(TaskError):
    """A Fargate task never ran: there was no room for it, or its image cannot be had."""


class TaskFailedError(TaskError):
    """A Fargate task ran and ended with an exit code other than 0, or with none."""


class TaskTimeoutError(TaskError):
    """A Fargate task was not running, or not done, in time. It has been told to stop."""


class SecretValueError(HaulError):
    """A secret is not text, or not JSON, or has nothing at the path that was asked for."""


class MissingExtraError(HaulError):
    """Something needs a dependency that is optional and not installed."""


class ServiceError(HaulError):
    """AWS, or the way to it, refused or failed a request.

    Attributes:
        problem: what went wrong, without what to do about it.
        operation: the AWS operation, such as ``CopyObject``.
        target: what it was for, such as ``s3://bucket/key``.
        code: the error code of the answer, or the kind of failure if there was no answer.
        status: the HTTP status, or None if there was no answer.
        request_id: AWS's name for the request, for a support case; None if there was no answer.
        attempts: how many times the request was sent.
        retryable: True if the same request may well succeed later.
        retry_after: seconds that the answer asks to wait before that; None if it does not say.
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


class EndpointError(ServiceError):
    """No whole answer came: the endpoint is unreachable, or the connection broke or timed out."""


class UnreachableError(EndpointError):
    """No connection came about: the request was never sent."""


class OutcomeUnknownError(ServiceError):
    """A function was called, no clear answer came, and whether it ran is not known.

    It may have run, it may still be running, or it may never have been reached. It was not
    called again.
    """


class BucketNotFoundError(ServiceError):
    """The bucket does not exist."""


class ObjectNotFoundError(ServiceError):
    """The object does not exist, or was deleted meanwhile."""


class FunctionNotFoundError(ServiceError):
    """The Lambda function, its version or its alias does not exist."""


class ClusterNotFoundError(ServiceError):
    """The ECS cluster does not exist."""


class LogGroupNotFoundError(ServiceError):
    """The log group of CloudWatch does not exist, or the log stream in it."""


class QueueNotFoundError(ServiceError):
    """The queue of SQS does not exist."""


class ParameterNotFoundError(ServiceError):
    """The SSM parameter, or its version or label, does not exist."""


class SecretNotFoundError(ServiceError):
    """The secret of Secrets Manager, or its version, does not exist."""


class AccessDeniedError(ServiceError):
    """The credentials are known, but may not do this."""


class CredentialsError(ServiceError):
    """The credentials are unknown, wrong or expired."""


class PreconditionFailedError(ServiceError):
    """The object is no longer the version that was meant."""


class ObjectExistsError(PreconditionFailedError):
    """There is an object, and the caller asked not to overwrite any."""


class ConflictError(ServiceError):
    """Another conditional write to the same key is under way: who wins is not decided yet."""


class ThrottledError(ServiceError):
    """The service asks for fewer requests, and went on asking through every retry."""
