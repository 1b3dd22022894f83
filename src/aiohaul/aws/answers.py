"""The types of parsed responses of AWS operations, with the fields that this library reads.

Every field may be missing, because S3-compatible servers omit fields that they do not support.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TypedDict


class Metadata(TypedDict, total=False):
    """The metadata that botocore adds to every response."""

    RequestId: str
    HTTPStatusCode: int
    HTTPHeaders: dict[str, str]


# S3 ----------------------------------------------------------------------------------------


class Checksums(TypedDict, total=False):
    """The checksums that S3 has stored with an object or a part."""

    ChecksumCRC32: str
    ChecksumCRC32C: str
    ChecksumCRC64NVME: str
    ChecksumSHA1: str
    ChecksumSHA256: str
    ChecksumType: str


class ObjectInfo(Checksums, total=False):
    """Response to HeadObject, and to GetObject without its body."""

    ContentLength: int
    ETag: str
    LastModified: datetime
    StorageClass: str
    VersionId: str
    TagCount: int
    Metadata: dict[str, str]
    CacheControl: str
    ContentDisposition: str
    ContentEncoding: str
    ContentLanguage: str
    ContentType: str
    Expires: datetime
    ExpiresString: str
    WebsiteRedirectLocation: str


class WrittenObject(Checksums, total=False):
    """Response to PutObject, UploadPart and CompleteMultipartUpload."""

    ETag: str
    VersionId: str


class CopyResult(Checksums, total=False):
    """The copied object, or the copied part."""

    ETag: str
    LastModified: datetime


class CopiedObject(TypedDict, total=False):
    """Response to CopyObject."""

    CopyObjectResult: CopyResult
    VersionId: str


class CopiedPart(TypedDict, total=False):
    """Response to UploadPartCopy."""

    CopyPartResult: CopyResult


class CreatedUpload(TypedDict, total=False):
    """Response to CreateMultipartUpload."""

    UploadId: str


class ListedObject(TypedDict, total=False):
    """An entry of ListObjectsV2."""

    Key: str
    Size: int
    ETag: str
    LastModified: datetime
    StorageClass: str


class CommonPrefix(TypedDict, total=False):
    """A directory in an answer to ListObjectsV2."""

    Prefix: str


class ObjectPage(TypedDict, total=False):
    """Response to ListObjectsV2."""

    Contents: Iterable[ListedObject]
    CommonPrefixes: list[CommonPrefix]
    IsTruncated: bool
    KeyCount: int
    NextContinuationToken: str


class ListedPart(TypedDict, total=False):
    """An entry of ListParts."""

    PartNumber: int
    ETag: str
    Size: int


class PartPage(TypedDict, total=False):
    """Response to ListParts."""

    Parts: list[ListedPart]
    IsTruncated: bool
    NextPartNumberMarker: int


class Initiator(TypedDict, total=False):
    """The identity that created a multipart upload."""

    ID: str


class ListedUpload(TypedDict, total=False):
    """An entry of ListMultipartUploads."""

    Key: str
    UploadId: str
    Initiated: datetime
    Initiator: Initiator


class UploadPage(TypedDict, total=False):
    """Response to ListMultipartUploads."""

    Uploads: list[ListedUpload]
    IsTruncated: bool
    NextKeyMarker: str
    NextUploadIdMarker: str
    ResponseMetadata: Metadata


class DeleteFailure(TypedDict, total=False):
    """A key that DeleteObjects did not delete."""

    Key: str
    Code: str
    Message: str


class DeletedObjects(TypedDict, total=False):
    """Response to DeleteObjects."""

    Errors: list[DeleteFailure]
    ResponseMetadata: Metadata


class Tag(TypedDict, total=False):
    """A tag of an object."""

    Key: str
    Value: str


class ObjectTags(TypedDict, total=False):
    """Response to GetObjectTagging."""

    TagSet: list[Tag]


# Lambda ------------------------------------------------------------------------------------


class Invoked(TypedDict, total=False):
    """Response to Invoke, without its payload."""

    StatusCode: int
    FunctionError: str
    LogResult: str
    ExecutedVersion: str
    DurableExecutionArn: str
    ResponseMetadata: Metadata


class ExecutionError(TypedDict, total=False):
    """The error of a durable execution."""

    ErrorType: str
    ErrorMessage: str
    ErrorData: str


class DurableExecutionState(TypedDict, total=False):
    """Response to GetDurableExecution."""

    DurableExecutionName: str
    Status: str
    Result: str
    Error: ExecutionError
    Version: str
    StartTimestamp: datetime
    EndTimestamp: datetime


# CloudWatch Logs ---------------------------------------------------------------------------


class LogEvent(TypedDict, total=False):
    """An event of a log. The timestamp is in milliseconds since 1970."""

    timestamp: int
    message: str


class FilteredLogEvent(LogEvent, total=False):
    """A line of a log in an answer to FilterLogEvents."""

    eventId: str


class LogPage(TypedDict, total=False):
    """Response to GetLogEvents."""

    events: list[LogEvent]
    nextForwardToken: str


class FilteredLogPage(TypedDict, total=False):
    """Response to FilterLogEvents."""

    events: list[FilteredLogEvent]
    nextToken: str


# SQS ---------------------------------------------------------------------------------------


class Message(TypedDict, total=False):
    """A message of a queue."""

    Body: str
    ReceiptHandle: str


class Messages(TypedDict, total=False):
    """Response to ReceiveMessage."""

    Messages: list[Message]


class FailedEntry(TypedDict, total=False):
    """A message that was not deleted."""

    Id: str
    Code: str
    Message: str


class DeletedMessages(TypedDict, total=False):
    """Response to DeleteMessageBatch."""

    Failed: list[FailedEntry]


# Parameters and secrets --------------------------------------------------------------------


class ParameterInfo(TypedDict, total=False):
    """An entry of GetParameters and GetParametersByPath."""

    Name: str
    Value: str
    Type: str
    Version: int
    LastModifiedDate: datetime


class Parameters(TypedDict, total=False):
    """Response to GetParameters."""

    Parameters: list[ParameterInfo]
    InvalidParameters: list[str]
    ResponseMetadata: Metadata


class ParameterPage(TypedDict, total=False):
    """Response to GetParametersByPath."""

    Parameters: list[ParameterInfo]
    NextToken: str


class SecretVersion(TypedDict, total=False):
    """Response to CreateSecret and PutSecretValue."""

    ARN: str
    Name: str
    VersionId: str


class SecretContent(SecretVersion, total=False):
    """Response to GetSecretValue."""

    SecretString: str
    SecretBinary: bytes
    CreatedDate: datetime
    VersionStages: list[str]


class WrittenParameter(TypedDict, total=False):
    """Response to PutParameter."""

    Version: int


# ECS ---------------------------------------------------------------------------------------


class Container(TypedDict, total=False):
    """A container of a task."""

    name: str
    exitCode: int
    reason: str
    lastStatus: str
    runtimeId: str


class Task(TypedDict, total=False):
    """A task, in the answers of DescribeTasks and RunTask."""

    taskArn: str
    taskDefinitionArn: str
    lastStatus: str
    desiredStatus: str
    createdAt: datetime
    pullStartedAt: datetime
    pullStoppedAt: datetime
    startedAt: datetime
    stoppingAt: datetime
    stoppedAt: datetime
    stopCode: str
    stoppedReason: str
    containers: list[Container]


class TaskFailure(TypedDict, total=False):
    """A task that was not found, or not started."""

    arn: str
    reason: str
    detail: str


class Tasks(TypedDict, total=False):
    """Response to DescribeTasks and RunTask."""

    tasks: list[Task]
    failures: list[TaskFailure]


class TaskArns(TypedDict, total=False):
    """Response to ListTasks."""

    taskArns: list[str]


class LogConfiguration(TypedDict, total=False):
    """Where a container's output goes."""

    logDriver: str
    options: dict[str, str]


class ContainerDefinition(TypedDict, total=False):
    """A container in a task definition."""

    name: str
    essential: bool
    firelensConfiguration: dict[str, object]
    logConfiguration: LogConfiguration


class TaskDefinition(TypedDict, total=False):
    """A task definition."""

    containerDefinitions: list[ContainerDefinition]


class DescribedTaskDefinition(TypedDict, total=False):
    """Response to DescribeTaskDefinition."""

    taskDefinition: TaskDefinition
