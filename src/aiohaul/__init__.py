"""AWS batch work as cancellable asyncio tasks: watch S3, copy, and call Lambda and Fargate.

Start with :class:`Session` from an application, or with :func:`run` from a task definition.

Nothing is imported before it is asked for: ``from aiohaul import S3Handler`` does not load Lambda.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiohaul import blocking as blocking
    from aiohaul import logs as logs
    from aiohaul.compute.durable import DurableExecution
    from aiohaul.compute.fargate import FargateHandler
    from aiohaul.compute.functions import LambdaHandler
    from aiohaul.compute.invocation import Invocation
    from aiohaul.compute.log_watch import LogsHandler
    from aiohaul.compute.logs import LogLine
    from aiohaul.compute.task import TaskResult
    from aiohaul.errors import (
        AccessDeniedError,
        BatchBusyError,
        BatchError,
        BatchStateError,
        BatchTimeoutError,
        BucketNotFoundError,
        ClusterNotFoundError,
        CollisionError,
        ConflictError,
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
        JournalBusyError,
        JournalError,
        LocalFileError,
        LocalFileExistsError,
        LogGroupNotFoundError,
        MissingExtraError,
        NothingFoundError,
        ObjectExistsError,
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
        StreamError,
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
    from aiohaul.hidden import Hidden
    from aiohaul.parameters.secrets_manager import Secret, SecretsHandler
    from aiohaul.parameters.ssm import Parameter, SSMHandler
    from aiohaul.progress import (
        Acted,
        BatchEnded,
        BatchStarted,
        Copied,
        Event,
        Failed,
        Flagged,
        Found,
        PlannedTask,
        TaskEnded,
        TaskQueued,
        TaskStarted,
        TaskTold,
        Watching,
    )
    from aiohaul.report import (
        ActionReport,
        BatchReport,
        BatchTaskReport,
        DestinationReport,
        Failure,
        FargateReport,
        InvocationReport,
        TouchReport,
        TransferReport,
    )
    from aiohaul.s3.copying.plan import Action, Destination, LocalDestination, Rename
    from aiohaul.s3.handler import S3Handler
    from aiohaul.s3.local import LocalFile
    from aiohaul.s3.objects import S3Object
    from aiohaul.s3.selection import Conditions
    from aiohaul.s3.streaming.stream import Stream
    from aiohaul.s3.watching.changes import Change
    from aiohaul.s3.watching.watch import Watch
    from aiohaul.session import Session
    from aiohaul.settings import Settings
    from aiohaul.tasks.run import clean, run, validate

__all__ = [
    "AccessDeniedError",
    "Acted",
    "Action",
    "ActionReport",
    "BatchBusyError",
    "BatchEnded",
    "BatchError",
    "BatchReport",
    "BatchStarted",
    "BatchStateError",
    "BatchTaskReport",
    "BatchTimeoutError",
    "BucketNotFoundError",
    "Change",
    "ClusterNotFoundError",
    "CollisionError",
    "Conditions",
    "ConflictError",
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
    "Hidden",
    "Invocation",
    "InvocationReport",
    "JournalBusyError",
    "JournalError",
    "LambdaHandler",
    "LocalDestination",
    "LocalFile",
    "LocalFileError",
    "LocalFileExistsError",
    "LogGroupNotFoundError",
    "LogLine",
    "LogsHandler",
    "MissingExtraError",
    "NothingFoundError",
    "ObjectExistsError",
    "ObjectNotFoundError",
    "OutcomeUnknownError",
    "Parameter",
    "ParameterNotFoundError",
    "PayloadError",
    "PayloadTooLargeError",
    "PlanError",
    "PlannedTask",
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
    "Stream",
    "StreamError",
    "TaskEnded",
    "TaskError",
    "TaskFailedError",
    "TaskQueued",
    "TaskResult",
    "TaskStartError",
    "TaskStarted",
    "TaskTimeoutError",
    "TaskTold",
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
    "clean",
    "run",
    "validate",
]

#: Where each public name is at home.
_HOMES = {
    name: f"aiohaul.{room}"
    for room, names in {
        "compute.durable": "DurableExecution",
        "compute.fargate": "FargateHandler",
        "compute.functions": "LambdaHandler",
        "compute.invocation": "Invocation",
        "compute.log_watch": "LogsHandler",
        "compute.logs": "LogLine",
        "compute.task": "TaskResult",
        "errors": """
            AccessDeniedError BatchBusyError BatchError BatchStateError BatchTimeoutError
            BucketNotFoundError ClusterNotFoundError CollisionError ConflictError CredentialsError
            CursorError DefinitionError DurableExecutionError DurableTimeoutError EndpointError
            FunctionError FunctionNameError FunctionNotFoundError HaulError JournalBusyError
            JournalError LocalFileError LocalFileExistsError LogGroupNotFoundError
            MissingExtraError NothingFoundError ObjectExistsError ObjectNotFoundError
            OutcomeUnknownError ParameterNotFoundError PayloadError PayloadTooLargeError PlanError
            PreconditionFailedError QueueNotFoundError SecretNotFoundError SecretValueError
            ServiceError SessionError SettingsError StreamError TaskError TaskFailedError
            TaskStartError TaskTimeoutError ThrottledError TransferError UnreachableError
            UnsupportedError VerificationError WatchTimeoutError
        """,
        "hidden": "Hidden",
        "parameters.secrets_manager": "Secret SecretsHandler",
        "parameters.ssm": "Parameter SSMHandler",
        "progress": """
            Acted BatchEnded BatchStarted Copied Event Failed Flagged Found PlannedTask TaskEnded
            TaskQueued TaskStarted TaskTold Watching
        """,
        "report": """
            ActionReport BatchReport BatchTaskReport DestinationReport Failure FargateReport
            InvocationReport TouchReport TransferReport
        """,
        "s3.copying.plan": "Action Destination LocalDestination Rename",
        "s3.handler": "S3Handler",
        "s3.local": "LocalFile",
        "s3.objects": "S3Object",
        "s3.selection": "Conditions",
        "s3.streaming.stream": "Stream",
        "s3.watching.changes": "Change",
        "s3.watching.watch": "Watch",
        "session": "Session",
        "settings": "Settings",
        "tasks.run": "clean run validate",
    }.items()
    for name in names.split()
}


if not TYPE_CHECKING:  # who would believe that there is every name

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first asked for."""
        if name in {"blocking", "logs"}:  # whose names are public there
            return import_module(f"aiohaul.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
