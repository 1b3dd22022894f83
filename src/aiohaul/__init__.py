"""AWS batch work as cancellable asyncio tasks: watch S3, and copy to many places at once.

Start with :class:`Session` from an application, or with :func:`run` from a task definition.
"""

from aiohaul.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    CollisionError,
    CredentialsError,
    DefinitionError,
    EndpointError,
    HaulError,
    LocalFileError,
    NothingFoundError,
    ObjectNotFoundError,
    PlanError,
    PreconditionFailedError,
    ServiceError,
    SessionError,
    SettingsError,
    ThrottledError,
    TransferError,
    UnsupportedError,
    VerificationError,
    WatchTimeoutError,
)
from aiohaul.progress import Acted, Copied, Event, Failed, Flagged, Found, Watching
from aiohaul.report import ActionReport, DestinationReport, Failure, TouchReport, TransferReport
from aiohaul.s3.handler import S3Handler
from aiohaul.s3.local import LocalFile
from aiohaul.s3.objects import S3Object
from aiohaul.s3.plan import Action, Destination, LocalDestination, Rename
from aiohaul.s3.selection import Conditions
from aiohaul.session import Session
from aiohaul.settings import Settings
from aiohaul.tasks.run import run, validate

__all__ = [
    "AccessDeniedError",
    "Acted",
    "Action",
    "ActionReport",
    "BucketNotFoundError",
    "CollisionError",
    "Conditions",
    "Copied",
    "CredentialsError",
    "DefinitionError",
    "Destination",
    "DestinationReport",
    "EndpointError",
    "Event",
    "Failed",
    "Failure",
    "Flagged",
    "Found",
    "HaulError",
    "LocalDestination",
    "LocalFile",
    "LocalFileError",
    "NothingFoundError",
    "ObjectNotFoundError",
    "PlanError",
    "PreconditionFailedError",
    "Rename",
    "S3Handler",
    "S3Object",
    "ServiceError",
    "Session",
    "SessionError",
    "Settings",
    "SettingsError",
    "ThrottledError",
    "TouchReport",
    "TransferError",
    "TransferReport",
    "UnsupportedError",
    "VerificationError",
    "WatchTimeoutError",
    "Watching",
    "run",
    "validate",
]
