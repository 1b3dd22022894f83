"""The types of the JSON in definitions, after a check against the schemas (``tasks/schemas``)."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict


class ProtocolJson(TypedDict):
    """The value of ``protocol`` in a source, a destination or an execution."""

    name: str
    disableBucketOwnerControlACL: NotRequired[bool]
    bucket_owner_full_control: NotRequired[bool]


class BucketJson(TypedDict, total=False):
    """The options of all requests to a bucket."""

    requestPayer: Literal["requester"]
    expectedBucketOwner: str


class WriteJson(BucketJson, total=False):
    """The options of writes to a bucket."""

    storageClass: str
    kmsKeyId: str


class FileWatchJson(TypedDict, total=False):
    """The value of ``fileWatch`` in a source. Times are in seconds."""

    timeout: float
    sleepTime: float
    directory: str
    fileRegex: str
    watchOnly: bool


class RangeJson(TypedDict, total=False):
    """The value of ``size`` (in bytes) or ``age`` (in seconds) in ``conditionals``."""

    gt: float
    lt: float


class CountJson(TypedDict, total=False):
    """The value of ``count`` in ``conditionals``."""

    minCount: int
    maxCount: int


class ConditionalsJson(TypedDict, total=False):
    """The value of ``conditionals`` in a source."""

    size: RangeJson
    age: RangeJson
    count: CountJson
    checkDuringFilewatch: bool


class RenameJson(TypedDict):
    """The value of ``rename`` in a destination."""

    pattern: str
    sub: str


class ActionJson(WriteJson, total=False):
    """The value of ``postCopyAction`` in a source."""

    action: Literal["move", "rename", "delete", "none", ""]
    destination: str
    pattern: str
    sub: str


class SideJson(TypedDict):
    """A source or a destination of a transfer, before the check against the schema of its kind."""

    protocol: ProtocolJson


class SourceJson(SideJson):
    """The keys that sources in S3 and local sources have in common."""

    fileWatch: NotRequired[FileWatchJson]
    conditionals: NotRequired[ConditionalsJson]
    error: NotRequired[bool]
    recursive: NotRequired[bool]
    postCopyAction: NotRequired[ActionJson]


class S3SourceJson(SourceJson, BucketJson):
    """A source in S3."""

    bucket: str
    directory: NotRequired[str]
    fileRegex: NotRequired[str]
    ignoreStorageClasses: NotRequired[list[str]]


class LocalSourceJson(SourceJson):
    """A local source."""

    directory: str
    fileRegex: str
    followLinks: NotRequired[bool]


class FlagJson(TypedDict, total=False):
    """The value of ``flags`` in a destination."""

    fullPath: str


class PermissionsJson(TypedDict, total=False):
    """The value of ``permissions`` in a local destination."""

    mode: str


class DestinationJson(SideJson):
    """The keys that destinations in S3 and local destinations have in common."""

    rename: NotRequired[RenameJson]
    overwrite: NotRequired[bool]
    flag: NotRequired[FlagJson]
    flags: NotRequired[FlagJson]


class S3DestinationJson(DestinationJson, WriteJson):
    """A destination in S3."""

    bucket: str
    directory: NotRequired[str]
    transferType: NotRequired[Literal["push", "proxy"]]


class LocalDestinationJson(DestinationJson):
    """A local destination."""

    directory: str
    mode: NotRequired[str]
    permissions: NotRequired[PermissionsJson]
    createDirectoryIfNotExists: NotRequired[bool]


class TransferJson(TypedDict):
    """A transfer, before the checks of its source and destinations."""

    source: SourceJson
    destination: NotRequired[list[SideJson]]


class TouchJson(WriteJson):
    """An S3 execution, which writes an empty object."""

    bucket: str
    key: str
    protocol: ProtocolJson


class BatchTaskJson(TypedDict):
    """A task of a batch."""

    order_id: int
    task_id: str
    dependencies: NotRequired[list[int]]
    timeout: NotRequired[float]
    continue_on_fail: NotRequired[bool]
    retry_on_rerun: NotRequired[bool]


class BatchJson(TypedDict):
    """A batch."""

    tasks: list[BatchTaskJson]
