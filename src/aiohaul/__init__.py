"""Runs AWS batch work as cancellable asyncio tasks: S3 copies and watches, Lambda, Fargate.

An application starts with :class:`Session`. A task definition is run by :func:`run`.

Python imports each public name on its first use, so ``from aiohaul import S3Handler`` does not load
the module for Lambda.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohaul import blocking as blocking
    from aiohaul import logs as logs
    from aiohaul.compute.fargate import FargateHandler
    from aiohaul.compute.lambda_handler import LambdaHandler
    from aiohaul.compute.log_watch import LogsHandler
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
        FargateTaskError,
        FargateTaskFailedError,
        FargateTaskStartError,
        FargateTaskTimeoutError,
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
        RegexLimitError,
        SecretNotFoundError,
        SecretValueError,
        ServiceError,
        SessionError,
        SettingsError,
        StorageFullError,
        StreamError,
        ThrottledError,
        TransferError,
        UnreachableError,
        UnsupportedError,
        VerificationError,
        WatchTimeoutError,
    )
    from aiohaul.parameters.secrets_manager import Secret, SecretsHandler
    from aiohaul.parameters.ssm import Parameter, SSMHandler
    from aiohaul.progress import (
        BatchEnded,
        BatchStarted,
        Copied,
        Event,
        Failed,
        FlagWritten,
        Found,
        PlannedTask,
        SourceActionDone,
        TaskEnded,
        TaskProgress,
        TaskQueued,
        TaskResumed,
        TaskStarted,
        WatchPolled,
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
    from aiohaul.results import DurableExecution, Invocation, LogLine, TaskResult
    from aiohaul.s3.copying.plan import Action, Destination, LocalDestination, Rename
    from aiohaul.s3.handler import S3Handler
    from aiohaul.s3.local import LocalFile
    from aiohaul.s3.object_io.details import ObjectData, ObjectDetails
    from aiohaul.s3.object_io.directories import DirectoryListing
    from aiohaul.s3.object_io.files import ObjectFile
    from aiohaul.s3.object_io.versions import ObjectVersion
    from aiohaul.s3.object_io.writing import WriteResult
    from aiohaul.s3.objects import S3Object
    from aiohaul.s3.options import SourceOptions, WriteOptions
    from aiohaul.s3.selection import Conditions
    from aiohaul.s3.streaming.stream import Stream
    from aiohaul.s3.watching.changes import Change
    from aiohaul.s3.watching.watch import Watch
    from aiohaul.sensitive import Sensitive
    from aiohaul.session import Session
    from aiohaul.settings import Settings
    from aiohaul.tasks.run import clean, run, validate

__all__ = [
    "AccessDeniedError",
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
    "DirectoryListing",
    "DurableExecution",
    "DurableExecutionError",
    "DurableTimeoutError",
    "EndpointError",
    "Event",
    "Failed",
    "Failure",
    "FargateHandler",
    "FargateReport",
    "FargateTaskError",
    "FargateTaskFailedError",
    "FargateTaskStartError",
    "FargateTaskTimeoutError",
    "FlagWritten",
    "Found",
    "FunctionError",
    "FunctionNameError",
    "FunctionNotFoundError",
    "HaulError",
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
    "ObjectData",
    "ObjectDetails",
    "ObjectExistsError",
    "ObjectFile",
    "ObjectNotFoundError",
    "ObjectVersion",
    "OutcomeUnknownError",
    "Parameter",
    "ParameterNotFoundError",
    "PayloadError",
    "PayloadTooLargeError",
    "PlanError",
    "PlannedTask",
    "PreconditionFailedError",
    "QueueNotFoundError",
    "RegexLimitError",
    "Rename",
    "S3Handler",
    "S3Object",
    "SSMHandler",
    "Secret",
    "SecretNotFoundError",
    "SecretValueError",
    "SecretsHandler",
    "Sensitive",
    "ServiceError",
    "Session",
    "SessionError",
    "Settings",
    "SettingsError",
    "SourceActionDone",
    "SourceOptions",
    "StorageFullError",
    "Stream",
    "StreamError",
    "TaskEnded",
    "TaskProgress",
    "TaskQueued",
    "TaskResult",
    "TaskResumed",
    "TaskStarted",
    "ThrottledError",
    "TouchReport",
    "TransferError",
    "TransferReport",
    "UnreachableError",
    "UnsupportedError",
    "VerificationError",
    "Watch",
    "WatchPolled",
    "WatchTimeoutError",
    "WriteOptions",
    "WriteResult",
    "clean",
    "run",
    "validate",
]

#: The module of each public name.
_HOMES = {
    name: f"aiohaul.{room}"
    for room, names in {
        "results": "DurableExecution Invocation LogLine TaskResult",
        "compute.fargate": "FargateHandler",
        "compute.lambda_handler": "LambdaHandler",
        "compute.log_watch": "LogsHandler",
        "errors": """
            AccessDeniedError BatchBusyError BatchError BatchStateError BatchTimeoutError
            BucketNotFoundError ClusterNotFoundError CollisionError ConflictError CredentialsError
            CursorError DefinitionError DurableExecutionError DurableTimeoutError EndpointError
            FargateTaskError FargateTaskFailedError FargateTaskStartError FargateTaskTimeoutError
            FunctionError FunctionNameError FunctionNotFoundError HaulError JournalBusyError
            JournalError LocalFileError LocalFileExistsError LogGroupNotFoundError
            MissingExtraError NothingFoundError ObjectExistsError ObjectNotFoundError
            OutcomeUnknownError ParameterNotFoundError PayloadError PayloadTooLargeError PlanError
            PreconditionFailedError QueueNotFoundError RegexLimitError SecretNotFoundError
            SecretValueError ServiceError SessionError SettingsError StorageFullError StreamError
            ThrottledError TransferError UnreachableError UnsupportedError VerificationError
            WatchTimeoutError
        """,
        "sensitive": "Sensitive",
        "parameters.secrets_manager": "Secret SecretsHandler",
        "parameters.ssm": "Parameter SSMHandler",
        "progress": """
            BatchEnded BatchStarted Copied Event Failed FlagWritten Found PlannedTask
            SourceActionDone TaskEnded TaskProgress TaskQueued TaskResumed TaskStarted WatchPolled
        """,
        "report": """
            ActionReport BatchReport BatchTaskReport DestinationReport Failure FargateReport
            InvocationReport TouchReport TransferReport
        """,
        "s3.copying.plan": "Action Destination LocalDestination Rename",
        "s3.handler": "S3Handler",
        "s3.local": "LocalFile",
        "s3.object_io.details": "ObjectData ObjectDetails",
        "s3.object_io.files": "ObjectFile",
        "s3.object_io.directories": "DirectoryListing",
        "s3.object_io.versions": "ObjectVersion",
        "s3.object_io.writing": "WriteResult",
        "s3.objects": "S3Object",
        "s3.options": "SourceOptions WriteOptions",
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


if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> object:
        """Import a public name when it is used for the first time."""
        if name in {"blocking", "logs"}:  # modules with public names of their own
            return import_module(f"aiohaul.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
