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
├── TransferError              a transfer failed in part or whole; carries its report
├── VerificationError          what was written is not what was read
├── LocalFileError             a local file or directory cannot be read or written
└── ServiceError               AWS, or the way to it, refused or failed a request
    ├── EndpointError          no answer: unreachable, reset, cut or timed out
    ├── BucketNotFoundError
    ├── ObjectNotFoundError
    ├── AccessDeniedError
    ├── CredentialsError       the credentials are unknown, wrong or expired
    ├── PreconditionFailedError  the object is no longer the version that was meant
    └── ThrottledError
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohaul.report import TransferReport


class HaulError(Exception):
    """The root of every error that aiohaul raises on purpose."""


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


class TransferError(HaulError):
    """A transfer failed in part or as a whole.

    Attributes:
        report: what was done at each destination, and what failed there.
    """

    def __init__(self, message: str, report: TransferReport) -> None:
        super().__init__(message)
        self.report = report


class VerificationError(HaulError):
    """What a destination holds is not what was read from the source."""


class LocalFileError(HaulError):
    """A local file or directory cannot be read or written."""


class ServiceError(HaulError):
    """AWS, or the way to it, refused or failed a request.

    Attributes:
        operation: the AWS operation, such as ``CopyObject``.
        target: what it was for, such as ``s3://bucket/key``.
        code: the error code of the answer, or the kind of failure if there was no answer.
        status: the HTTP status, or None if there was no answer.
        request_id: AWS's name for the request, for a support case; None if there was no answer.
        attempts: how many times the request was sent.
        retryable: True if the same request may well succeed later.
    """

    def __init__(
        self,
        problem: str,
        *,
        operation: str,
        target: str,
        code: str,
        status: int | None = None,
        request_id: str | None = None,
        attempts: int = 1,
        retryable: bool = False,
    ) -> None:
        super().__init__(f"{operation} on {target} failed: {problem}")
        self.operation = operation
        self.target = target
        self.code = code
        self.status = status
        self.request_id = request_id
        self.attempts = attempts
        self.retryable = retryable


class EndpointError(ServiceError):
    """No whole answer came: the endpoint is unreachable, or the connection broke or timed out."""


class BucketNotFoundError(ServiceError):
    """The bucket does not exist."""


class ObjectNotFoundError(ServiceError):
    """The object does not exist, or was deleted meanwhile."""


class AccessDeniedError(ServiceError):
    """The credentials are known, but may not do this."""


class CredentialsError(ServiceError):
    """The credentials are unknown, wrong or expired."""


class PreconditionFailedError(ServiceError):
    """The object is no longer the version that was meant."""


class ThrottledError(ServiceError):
    """The service asks for fewer requests, and went on asking through every retry."""
