"""AWS batch work as cancellable asyncio tasks: watch S3, copy, and call Lambda and Fargate.

Start with :class:`Session` from an application, or with :func:`run` from a task definition.
"""

from aiohaul.compute.durable import DurableExecution
from aiohaul.compute.fargate import FargateHandler
from aiohaul.compute.functions import LambdaHandler
from aiohaul.compute.invocation import Invocation
from aiohaul.compute.log_watch import LogsHandler
from aiohaul.compute.logs import LogLine
from aiohaul.compute.task import TaskResult
from aiohaul.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    ClusterNotFoundError,
    CollisionError,
    CredentialsError,
    CursorError,
    DefinitionError,
    DurableExecutionError,
    DurableTimeoutError,
    EndpointError,
    FunctionError,
    FunctionNameError,
    FunctionNotFoundError,
    HaulError,
    LocalFileError,
    LogGroupNotFoundError,
    MissingExtraError,
    NothingFoundError,
    ObjectNotFoundError,
    OutcomeUnknownError,
    ParameterNotFoundError,
    PayloadError,
    PayloadTooLargeError,
    PlanError,
    PreconditionFailedError,
    QueueNotFoundError,
    SecretNotFoundError,
    SecretValueError,
    ServiceError,
    SessionError,
    SettingsError,
    TaskError,
    TaskFailedError,
    TaskStartError,
    TaskTimeoutError,
    ThrottledError,
    TransferError,
    UnreachableError,
    UnsupportedError,
    VerificationError,
    WatchTimeoutError,
)
from aiohaul.parameters.secrets_manager import Secret, SecretsHandler
from aiohaul.parameters.ssm import Parameter, SSMHandler
from aiohaul.progress import Acted, Copied, Event, Failed, Flagged, Found, Watching
from aiohaul.report import (
    ActionReport,
    DestinationReport,
    Failure,
    FargateReport,
    InvocationReport,
    TouchReport,
    TransferReport,
)
from aiohaul.s3.changes import Change
from aiohaul.s3.handler import S3Handler
from aiohaul.s3.local import LocalFile
from aiohaul.s3.objects import S3Object
from aiohaul.s3.plan import Action, Destination, LocalDestination, Rename
from aiohaul.s3.selection import Conditions
from aiohaul.s3.watch import Watch
from aiohaul.session import Session
from aiohaul.settings import Settings
from aiohaul.tasks.run import run, validate

__all__ = [
    "AccessDeniedError",
    "Acted",
    "Action",
    "ActionReport",
    "BucketNotFoundError",
    "Change",
    "ClusterNotFoundError",
    "CollisionError",
    "Conditions",
    "Copied",
    "CredentialsError",
    "CursorError",
    "DefinitionError",
    "Destination",
    "DestinationReport",
    "DurableExecution",
    "DurableExecutionError",
    "DurableTimeoutError",
    "EndpointError",
    "Event",
    "Failed",
    "Failure",
    "FargateHandler",
    "FargateReport",
    "Flagged",
    "Found",
    "FunctionError",
    "FunctionNameError",
    "FunctionNotFoundError",
    "HaulError",
    "Invocation",
    "InvocationReport",
    "LambdaHandler",
    "LocalDestination",
    "LocalFile",
    "LocalFileError",
    "LogGroupNotFoundError",
    "LogLine",
    "LogsHandler",
    "MissingExtraError",
    "NothingFoundError",
    "ObjectNotFoundError",
    "OutcomeUnknownError",
    "Parameter",
    "ParameterNotFoundError",
    "PayloadError",
    "PayloadTooLargeError",
    "PlanError",
    "PreconditionFailedError",
    "QueueNotFoundError",
    "Rename",
    "S3Handler",
    "S3Object",
    "SSMHandler",
    "Secret",
    "SecretNotFoundError",
    "SecretValueError",
    "SecretsHandler",
    "ServiceError",
    "Session",
    "SessionError",
    "Settings",
    "SettingsError",
    "TaskError",
    "TaskFailedError",
    "TaskResult",
    "TaskStartError",
    "TaskTimeoutError",
    "ThrottledError",
    "TouchReport",
    "TransferError",
    "TransferReport",
    "UnreachableError",
    "UnsupportedError",
    "VerificationError",
    "Watch",
    "WatchTimeoutError",
    "Watching",
    "run",
    "validate",
]
