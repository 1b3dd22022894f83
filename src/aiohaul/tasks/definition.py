"""Parses the definitions of transfers and executions into immutable values."""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from aiohaul.errors import DefinitionError, UnsupportedError
from aiohaul.s3.copying.plan import Action, AnyDestination, Destination, LocalDestination, Rename
from aiohaul.s3.options import SourceOptions, WriteOptions
from aiohaul.s3.selection import Conditions
from aiohaul.sensitive import shown
from aiohaul.settings import Settings
from aiohaul.tasks import schema
from aiohaul.tasks.compute_definition import (
    FARGATE_EXECUTION,
    LAMBDA_EXECUTION,
    FargateCall,
    LambdaCall,
    fargate_call,
    lambda_call,
)
from aiohaul.tasks.definition_json import (
    ActionJson,
    LocalDestinationJson,
    LocalSourceJson,
    ProtocolJson,
    RenameJson,
    S3DestinationJson,
    S3SourceJson,
    SideJson,
    TouchJson,
    TransferJson,
    WriteJson,
)
from aiohaul.tasks.protocol import protocol_settings

_HANDLERS = "opentaskpy.addons.aws.remotehandlers"
S3_TRANSFER = f"{_HANDLERS}.s3.S3Transfer"
S3_EXECUTION = f"{_HANDLERS}.s3.S3Execution"
LOCAL = "local"
#: Protocols of Open Task Framework's own handlers.
_OTF_PROTOCOLS = frozenset({"ssh", "sftp", "email", "dummy", "local"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FileWatch:
    """The file watch of a source, in which a transfer waits until files exist.

    Attributes:
        directory: the directory to poll.
        pattern: a regular expression, matched from the start of a file name.
        timeout: the seconds until the watch fails.
        interval: the seconds between two polls.
        watch_only: True if the transfer ends after the watch, without a copy.
    """

    directory: str
    pattern: re.Pattern[str]
    timeout: float
    interval: float
    watch_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSource:
    """The source of a transfer.

    Attributes:
        bucket: the bucket; None for local files.
        directory: the directory in the bucket, or the local directory.
        pattern: a regular expression, matched from the start of a file name.
        file_watch: the file watch before the copy; None for no watch.
        conditions: the conditions on size, age and count; None for no conditions.
        fail_if_empty: True if a transfer that finds no files or objects fails.
        action: the post-copy action; None for no action.
        settings: credentials, region and endpoint; None for local files.
        options: the options of the requests to the bucket; None for local files.
        follow_links: True if links to local files are sources; False if they are omitted.
        recursive: True if files of subdirectories are sources too, and keep their paths.
    """

    bucket: str | None
    directory: str
    pattern: re.Pattern[str]
    file_watch: FileWatch | None
    conditions: Conditions | None
    fail_if_empty: bool
    action: Action | None
    settings: Settings | None = None
    options: SourceOptions | None = None
    follow_links: bool = True
    recursive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A transfer. Without destinations, it only waits for files or checks that they exist."""

    source: TransferSource
    destinations: tuple[AnyDestination, ...]

    @property
    def waits_first(self) -> bool:
        """True if the transfer first waits for files."""
        return self.source.file_watch is not None

    @property
    def only_looks(self) -> bool:
        """True if the transfer only finds files or objects, and does not copy or change any."""
        watch = self.source.file_watch
        changes = bool(self.destinations) or self.source.action is not None
        return not changes or (watch is not None and watch.watch_only)


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch:
    """An S3 execution, which writes an empty object."""

    bucket: str
    key: str
    options: WriteOptions
    settings: Settings


Execution = Touch | LambdaCall | FargateCall
Task = Transfer | Execution


def parse(definition: Mapping[str, object]) -> Task:
    """Check and parse the definition of a transfer or an execution, without any request.

    Raises:
        DefinitionError: the definition is wrong. The error has the path of the wrong value.
        UnsupportedError: the definition is valid, but only Open Task Framework can run it.
    """
    if not isinstance(definition, Mapping):
        raise DefinitionError("", "expected a JSON object with a 'type'")
    schema.check_whole(definition)
    parsers: dict[str, Callable[[Mapping[str, object]], Task]] = {
        "transfer": _transfer,
        "execution": _execution,
    }
    kind = definition.get("type")
    if not isinstance(kind, str) or kind not in parsers:
        # A value that is not a string is not shown, because it may contain a secret.
        known = [*parsers, "batch"]
        unknown = "'type' is not a string"
        if isinstance(kind, str):
            unknown = f"unknown type: {shown(kind, known)}"
        problem = "'type' is missing" if kind is None else unknown
        raise DefinitionError("type", f"{problem}; expected 'transfer', 'execution' or 'batch'")
    return parsers[kind](definition)


def _transfer(definition: Mapping[str, object]) -> Transfer:
    schema.check("transfer/transfer.json", definition)
    given = cast("TransferJson", definition)
    source = given["source"]
    if given.get("destination") == [] and source.get("postCopyAction"):
        raise DefinitionError(
            "destination",
            "the list is empty, and the post-copy action would remove sources that have no copy:"
            " add a destination, or remove 'destination' to run the action alone",
        )
    kind = _check_side(source, "source", ("source",))
    destinations: list[AnyDestination] = []
    for index, each in enumerate(given.get("destination", ())):
        path = ("destination", index)
        if _check_side(each, "destination", path) == "s3":
            destinations.append(s3_destination(cast("S3DestinationJson", each), path))
        else:
            destinations.append(_local_destination(cast("LocalDestinationJson", each), path))
    return Transfer(
        source=(
            _s3_source(cast("S3SourceJson", source))
            if kind == "s3"
            else _local_source(cast("LocalSourceJson", source))
        ),
        destinations=tuple(destinations),
    )


def _check_side(side: SideJson, role: str, path: schema.Path) -> str:
    """Check the source or a destination against its schema, and return ``s3`` or ``local``."""
    name = side["protocol"]["name"]
    kinds = {S3_TRANSFER: "s3", LOCAL: "local"}
    if name not in kinds:
        raise _unsupported_protocol(name, (*path, "protocol", "name"), kinds)
    for key, feature in (("encryption", "PGP encryption"), ("logWatch", "a log watch")):
        if key in side:
            raise UnsupportedError(
                schema.format_path((*path, key)),
                f"only Open Task Framework supports {feature}: run this definition with task-run",
            )
    schema.check(f"transfer/{kinds[name]}_{role}.json", side, path)
    return kinds[name]


def _unsupported_protocol(
    name: str, path: schema.Path, known: Mapping[str, object]
) -> DefinitionError:
    """Return the error for a protocol that aiohaul does not run."""
    if name in _OTF_PROTOCOLS or (
        name.startswith("opentaskpy.") and not name.startswith(_HANDLERS)
    ):
        return UnsupportedError(
            schema.format_path(path),
            f"only Open Task Framework supports the protocol {shown(name)}: run this definition"
            " with task-run",
        )
    return DefinitionError(
        schema.format_path(path), f"unknown protocol {shown(name)}; expected {' or '.join(known)}"
    )


def _s3_source(source: S3SourceJson) -> TransferSource:
    watch = source.get("fileWatch", {})
    directory, pattern = source.get("directory", ""), source.get("fileRegex")
    if pattern is None:  # then the pattern and the directory of the watch are used
        directory, pattern = watch.get("directory", directory), watch["fileRegex"]
    protocol = source["protocol"]
    return TransferSource(
        bucket=source["bucket"],
        directory=directory,
        pattern=re.compile(pattern),
        file_watch=_watch(source),
        conditions=_conditions(source),
        fail_if_empty=source.get("error", True),
        action=s3_action(source),
        settings=protocol_settings(protocol, ("source", "protocol")),
        options=source_options(source),
        recursive=source.get("recursive", False),
    )


def _local_source(source: LocalSourceJson) -> TransferSource:
    return TransferSource(
        bucket=None,
        directory=source["directory"],
        pattern=re.compile(source["fileRegex"]),
        file_watch=_watch(source),
        conditions=_conditions(source),
        fail_if_empty=source.get("error", True),
        action=_local_action(source),
        follow_links=source.get("followLinks", True),
        recursive=source.get("recursive", False),
    )


def _watch(source: S3SourceJson | LocalSourceJson) -> FileWatch | None:
    watch = source.get("fileWatch")
    if watch is None:
        return None
    return FileWatch(
        directory=watch.get("directory", source.get("directory", "")),
        pattern=re.compile(watch.get("fileRegex", source.get("fileRegex", ""))),
        timeout=watch.get("timeout", 60.0),
        interval=watch.get("sleepTime", 10.0),
        watch_only=watch.get("watchOnly", False),
    )


def _conditions(source: S3SourceJson | LocalSourceJson) -> Conditions | None:
    given = source.get("conditionals")
    if given is None:
        return None
    size, age, count = given.get("size", {}), given.get("age", {}), given.get("count", {})
    for name, range_ in (("size", size), ("age", age)):
        if "gt" in range_ and "lt" in range_ and range_["gt"] >= range_["lt"]:
            raise DefinitionError(
                f"source.conditionals.{name}",
                f"no value is greater than {range_['gt']} and less than {range_['lt']}",
            )
    if count.get("minCount", 0) > count.get("maxCount", math.inf):
        raise DefinitionError("source.conditionals.count", "minCount is greater than maxCount")
    return Conditions(
        size_gt=size.get("gt"),
        size_lt=size.get("lt"),
        age_gt=age.get("gt"),
        age_lt=age.get("lt"),
        min_count=count.get("minCount"),
        max_count=count.get("maxCount"),
        during_watch=given.get("checkDuringFilewatch", False),
    )


def s3_action(source: S3SourceJson) -> Action | None:
    """Parse the post-copy action of an S3 source that was checked against the schema.

    Raises:
        DefinitionError: ``sub`` does not match the groups of ``pattern``, the destination of a move
            is the directory of the sources, or the two ACL options contradict each other.
    """
    given = source.get("postCopyAction", {})
    options = write_options(given, source["protocol"], ("source",))
    match given.get("action"):
        case "delete":
            return Action(kind="delete")
        case "move" | "rename" as kind:
            bucket, prefix = None, given["destination"]
            if prefix.startswith("s3://"):
                bucket, _, prefix = prefix.removeprefix("s3://").partition("/")
            own = f"{source.get('directory', '')}/".lstrip("/")
            if kind == "move" and (bucket or source["bucket"], prefix) == (source["bucket"], own):
                raise DefinitionError(
                    "source.postCopyAction.destination",
                    "is the directory of the sources. Use another directory",
                )
            return Action(
                kind=kind,
                bucket=bucket,
                prefix=prefix.lstrip("/"),  # "/" means the root of the bucket
                rename=_action_rename(given, kind),
                options=options,
            )
    return None


def _local_action(source: LocalSourceJson) -> Action | None:
    given = source.get("postCopyAction", {})
    match given.get("action"):
        case "delete":
            return Action(kind="delete")
        case "move" | "rename" as kind:
            # In OTF, the destination of a move is a directory, and that of a rename is a file path.
            target = given["destination"]
            directory = target if kind == "move" else posixpath.dirname(target)
            return Action(
                kind=kind, prefix=f"{directory.rstrip('/')}/", rename=_action_rename(given, kind)
            )
    return None


def _action_rename(given: ActionJson, kind: str) -> Rename | None:
    if kind != "rename":
        return None
    return _rename(cast("RenameJson", given), ("source", "postCopyAction"))


def s3_destination(given: S3DestinationJson, path: schema.Path = ()) -> Destination:
    """Parse an S3 destination that was checked against the schema.

    Raises:
        DefinitionError: ``sub`` does not match the groups of ``pattern``, the two ACL options
            contradict each other, or a value of the protocol cannot be used.
    """
    flag = given.get("flags", given.get("flag", {})).get("fullPath")
    protocol = given["protocol"]
    return Destination(
        bucket=given["bucket"],
        directory=given.get("directory", ""),
        rename=_rename(given["rename"], (*path, "rename")) if "rename" in given else None,
        flag=flag.lstrip("/") if flag else None,
        transfer_type=given.get("transferType", "push"),
        options=write_options(given, protocol, path),
        overwrite=given.get("overwrite", True),
        settings=protocol_settings(protocol, (*path, "protocol")),
    )


def _local_destination(given: LocalDestinationJson, path: schema.Path) -> LocalDestination:
    flag = given.get("flags", given.get("flag", {})).get("fullPath")
    mode = given.get("mode", given.get("permissions", {}).get("mode"))
    return LocalDestination(
        directory=Path(given["directory"]),
        create=given.get("createDirectoryIfNotExists", False),
        rename=_rename(given["rename"], (*path, "rename")) if "rename" in given else None,
        flag=Path(flag) if flag else None,
        mode=int(mode, base=8) if mode else None,
        overwrite=given.get("overwrite", True),
    )


def _rename(given: RenameJson, path: schema.Path) -> Rename:
    pattern = re.compile(given["pattern"])
    try:
        pattern.sub(given["sub"], "")
    except (re.error, IndexError) as error:
        raise DefinitionError(
            schema.format_path((*path, "sub")), f"does not match 'pattern': {error}"
        ) from error
    return Rename(pattern, given["sub"])


def source_options(source: S3SourceJson) -> SourceOptions:
    """Parse the options of the requests to the bucket of a source."""
    return SourceOptions(
        request_payer=source.get("requestPayer"),
        expected_bucket_owner=source.get("expectedBucketOwner"),
        ignore_storage_classes=source.get("ignoreStorageClasses", ()),
    )


def write_options(
    given: WriteJson, protocol: ProtocolJson, path: Sequence[str | int]
) -> WriteOptions:
    """Parse the options of writes.

    Args:
        given: the part of the definition with the options.
        protocol: the protocol with the options for the ACL.
        path: the path of the protocol in the definition, without ``protocol``.

    Raises:
        DefinitionError: the two options for the ACL contradict each other.
    """
    return WriteOptions(
        bucket_owner_full_control=writes_acl(protocol, path),
        storage_class=given.get("storageClass"),
        kms_key_id=given.get("kmsKeyId"),
        request_payer=given.get("requestPayer"),
        expected_bucket_owner=given.get("expectedBucketOwner"),
    )


def writes_acl(protocol: ProtocolJson, path: Sequence[str | int] = ("source",)) -> bool:
    """Return True if objects are written with the ACL ``bucket-owner-full-control``.

    Raises:
        DefinitionError: the two options for this ACL contradict each other.
    """
    disabled = protocol.get("disableBucketOwnerControlACL")
    enabled = protocol.get("bucket_owner_full_control")
    if disabled is not None and disabled == enabled:
        raise DefinitionError(
            schema.format_path((*path, "protocol", "disableBucketOwnerControlACL")),
            "contradicts bucket_owner_full_control: remove one of them",
        )
    return not disabled if disabled is not None else enabled is not False


def _execution(definition: Mapping[str, object]) -> Execution:
    parsers: dict[str, Callable[[Mapping[str, object]], Execution]] = {
        S3_TRANSFER: _touch,
        S3_EXECUTION: _touch,
        LAMBDA_EXECUTION: lambda_call,
        FARGATE_EXECUTION: fargate_call,
    }
    protocol = definition.get("protocol")
    name = protocol.get("name") if isinstance(protocol, Mapping) else None
    if not isinstance(name, str):
        raise DefinitionError("protocol.name", f"is missing; expected {' or '.join(parsers)}")
    if name not in parsers:
        raise _unsupported_protocol(name, ("protocol", "name"), parsers)
    return parsers[name](definition)


def _touch(definition: Mapping[str, object]) -> Touch:
    schema.check("execution/s3.json", definition)
    given = cast("TouchJson", definition)
    return Touch(
        bucket=given["bucket"],
        key=given["key"],
        options=write_options(given, given["protocol"], ()),
        settings=protocol_settings(given["protocol"], ("protocol",)),
    )
