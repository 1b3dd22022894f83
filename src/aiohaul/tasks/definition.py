"""Task definitions: JSON, checked, as frozen values."""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohaul.errors import DefinitionError, UnsupportedError
from aiohaul.s3.copying.plan import Action, AnyDestination, Destination, LocalDestination, Rename
from aiohaul.s3.selection import Conditions
from aiohaul.settings import Settings
from aiohaul.tasks import schema
from aiohaul.tasks.executions import (
    FARGATE_EXECUTION,
    LAMBDA_EXECUTION,
    FargateCall,
    LambdaCall,
    fargate_call,
    lambda_call,
)

_HANDLERS = "opentaskpy.addons.aws.remotehandlers"
S3_TRANSFER = f"{_HANDLERS}.s3.S3Transfer"
S3_EXECUTION = f"{_HANDLERS}.s3.S3Execution"
LOCAL = "local"
#: Protocols that Open Task Framework carries out by itself.
_FRAMEWORK = frozenset({"ssh", "sftp", "email", "dummy", "local"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A file watch.

    Attributes:
        directory: where to look.
        pattern: what the names must match.
        timeout: seconds.
        interval: seconds between two looks.
        only: the task ends when the watch does.
    """

    directory: str
    pattern: re.Pattern[str]
    timeout: float
    interval: float
    only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSource:
    """The source of a transfer.

    Attributes:
        bucket: None is this machine.
        directory: below the bucket, or a path of this machine.
        pattern: what the names must match.
        watch: what is waited for first.
        conditions: on size, age and count.
        nothing_is_an_error: whether a transfer that finds nothing fails.
        action: what is done to the sources at the end.
        bucket_owner_full_control: the ACL of what the action writes.
        settings: who and where.
    """

    bucket: str | None
    directory: str
    pattern: re.Pattern[str]
    watch: Watch | None
    conditions: Conditions | None
    nothing_is_an_error: bool
    action: Action | None
    bucket_owner_full_control: bool = True
    settings: Settings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A transfer; without destinations, a watch or a check that files are there."""

    source: TransferSource
    destinations: tuple[AnyDestination, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch:
    """An S3 execution: an empty object."""

    bucket: str
    key: str
    bucket_owner_full_control: bool
    settings: Settings


Execution = Touch | LambdaCall | FargateCall
Task = Transfer | Execution


def parse(definition: Mapping[str, Any]) -> Task:
    """Check a transfer or an execution as a whole, and give its value. Makes no request.

    Raises:
        DefinitionError: something in it is wrong: where, and what was expected.
        UnsupportedError: it is right, but for another tool to run.
    """
    if not isinstance(definition, Mapping):
        raise DefinitionError("", "expected a JSON object with a 'type'")
    schema.check_whole(definition)
    parsers: dict[str, Callable[[Mapping[str, Any]], Task]] = {
        "transfer": _transfer,
        "execution": _execution,
    }
    kind = definition.get("type")
    if not isinstance(kind, str) or kind not in parsers:
        # What is no text is not shown: it may hold a secret.
        unknown = f"unknown type {kind!r}" if isinstance(kind, str) else "'type' is no text"
        problem = "'type' is missing" if kind is None else unknown
        raise DefinitionError("type", f"{problem}; expected 'transfer', 'execution' or 'batch'")
    return parsers[kind](definition)


def _transfer(definition: Mapping[str, Any]) -> Transfer:
    schema.check("transfer/transfer.json", definition)
    source = definition["source"]
    if definition.get("destination") == [] and source.get("postCopyAction"):
        raise DefinitionError(
            "destination",
            "the list is empty, and the sources would be gone: name one, or leave 'destination'"
            " out if they are to go nowhere",
        )
    kind = _side(source, "source", ("source",))
    destinations = []
    for index, each in enumerate(definition.get("destination", ())):
        path = ("destination", index)
        to_s3 = _side(each, "destination", path) == "s3"
        destinations.append(s3_destination(each, path) if to_s3 else _local_destination(each, path))
    return Transfer(
        source=_source(source) if kind == "s3" else _local_source(source),
        destinations=tuple(destinations),
    )


def _side(side: Mapping[str, Any], role: str, path: schema.Path) -> str:
    """Check one side of a transfer: ``s3`` or ``local``."""
    name = side["protocol"]["name"]
    kinds = {S3_TRANSFER: "s3", LOCAL: "local"}
    if name not in kinds:
        raise _foreign(name, (*path, "protocol", "name"), kinds)
    for key, what in (("encryption", "PGP encryption"), ("logWatch", "a log watch")):
        if key in side:
            raise UnsupportedError(
                schema.shown((*path, key)),
                f"{what} is done by Open Task Framework: run this definition with its task-run",
            )
    schema.check(f"transfer/{kinds[name]}_{role}.json", side, path)
    return kinds[name]


def _foreign(name: str, path: schema.Path, known: Mapping[str, Any]) -> DefinitionError:
    """The error for a protocol that is not aiohaul's."""
    if name in _FRAMEWORK or (name.startswith("opentaskpy.") and not name.startswith(_HANDLERS)):
        return UnsupportedError(
            schema.shown(path),
            f"the protocol {name!r} is Open Task Framework's: run this definition with its"
            " task-run",
        )
    return DefinitionError(
        schema.shown(path), f"unknown protocol {name!r}; expected {' or '.join(known)}"
    )


def _source(source: Mapping[str, Any]) -> TransferSource:
    watch = source.get("fileWatch", {})
    # Without a regex of its own, the source is what the watch looks for.
    standing_in = watch if "fileRegex" not in source else {}
    protocol = source["protocol"]
    return TransferSource(
        bucket=source["bucket"],
        directory=standing_in.get("directory", source.get("directory", "")),
        pattern=re.compile(source.get("fileRegex", watch.get("fileRegex"))),
        watch=_watch(source),
        conditions=_conditions(source),
        nothing_is_an_error=source.get("error", True),
        action=s3_action(source),
        bucket_owner_full_control=writes_acl(protocol),
        settings=Settings.from_protocol(protocol),
    )


def _local_source(source: Mapping[str, Any]) -> TransferSource:
    return TransferSource(
        bucket=None,
        directory=source["directory"],
        pattern=re.compile(source["fileRegex"]),
        watch=_watch(source),
        conditions=_conditions(source),
        nothing_is_an_error=source.get("error", True),
        action=_local_action(source),
    )


def _watch(source: Mapping[str, Any]) -> Watch | None:
    watch = source.get("fileWatch")
    if watch is None:
        return None
    return Watch(
        directory=watch.get("directory", source.get("directory", "")),
        pattern=re.compile(watch.get("fileRegex", source.get("fileRegex"))),
        timeout=watch.get("timeout", 60.0),
        interval=watch.get("sleepTime", 10.0),
        only=watch.get("watchOnly", False),
    )


def _conditions(source: Mapping[str, Any]) -> Conditions | None:
    given = source.get("conditionals")
    if given is None:
        return None
    size, age, count = (given.get(name, {}) for name in ("size", "age", "count"))
    for name, range_ in (("size", size), ("age", age)):
        if "gt" in range_ and "lt" in range_ and range_["gt"] >= range_["lt"]:
            raise DefinitionError(
                f"source.conditionals.{name}",
                f"nothing is above {range_['gt']} and below {range_['lt']}",
            )
    if count.get("minCount", 0) > count.get("maxCount", math.inf):
        raise DefinitionError("source.conditionals.count", "minCount is above maxCount")
    return Conditions(
        size_gt=size.get("gt"),
        size_lt=size.get("lt"),
        age_gt=age.get("gt"),
        age_lt=age.get("lt"),
        min_count=count.get("minCount"),
        max_count=count.get("maxCount"),
        during_watch=given.get("checkDuringFilewatch", False),
    )


def s3_action(source: Mapping[str, Any]) -> Action | None:
    """The post-copy action of a source in S3 that fits the schema.

    Raises:
        DefinitionError: the new name does not fit its pattern.
    """
    given = source.get("postCopyAction", {})
    match given.get("action"):
        case "delete":
            return Action(kind="delete")
        case "move" | "rename" as kind:
            bucket, prefix = None, given["destination"]
            if prefix.startswith("s3://"):
                bucket, _, prefix = prefix.removeprefix("s3://").partition("/")
            here = f"{source.get('directory', '')}/".lstrip("/")
            if kind == "move" and (bucket or source["bucket"], prefix) == (source["bucket"], here):
                raise DefinitionError(
                    "source.postCopyAction.destination", "is where the sources are already"
                )
            return Action(
                kind=kind,
                bucket=bucket,
                prefix=prefix.lstrip("/"),  # "/" is the root of the bucket; no key begins with it
                rename=_new_name(given, kind),
            )
    return None


def _local_action(source: Mapping[str, Any]) -> Action | None:
    given = source.get("postCopyAction", {})
    match given.get("action"):
        case "delete":
            return Action(kind="delete")
        case "move" | "rename" as kind:
            # As in OTF: a move names the directory, a rename a path in the directory.
            target = given["destination"]
            directory = target if kind == "move" else posixpath.dirname(target)
            return Action(
                kind=kind, prefix=f"{directory.rstrip('/')}/", rename=_new_name(given, kind)
            )
    return None


def _new_name(given: Mapping[str, Any], kind: str) -> Rename | None:
    return _rename(given, ("source", "postCopyAction")) if kind == "rename" else None


def s3_destination(given: Mapping[str, Any], path: schema.Path = ()) -> Destination:
    """The value of a destination in S3 that fits the schema.

    Raises:
        DefinitionError: what the schema cannot see is wrong.
    """
    flag = given.get("flags", given.get("flag", {})).get("fullPath")
    protocol = given["protocol"]
    return Destination(
        bucket=given["bucket"],
        directory=given.get("directory", ""),
        rename=_rename(given["rename"], (*path, "rename")) if "rename" in given else None,
        flag=flag.lstrip("/") if flag else None,
        transfer_type=given.get("transferType", "push"),
        bucket_owner_full_control=writes_acl(protocol, path),
        settings=Settings.from_protocol(protocol),
    )


def _local_destination(given: Mapping[str, Any], path: schema.Path) -> LocalDestination:
    flag = given.get("flags", given.get("flag", {})).get("fullPath")
    mode = given.get("mode", given.get("permissions", {}).get("mode"))
    return LocalDestination(
        directory=Path(given["directory"]),
        create=given.get("createDirectoryIfNotExists", False),
        rename=_rename(given["rename"], (*path, "rename")) if "rename" in given else None,
        flag=Path(flag) if flag else None,
        mode=int(mode, base=8) if mode else None,
    )


def _rename(given: Mapping[str, Any], path: schema.Path) -> Rename:
    pattern = re.compile(given["pattern"])
    try:
        pattern.sub(given["sub"], "")
    except (re.error, IndexError) as error:
        raise DefinitionError(
            schema.shown((*path, "sub")), f"does not fit the pattern: {error}"
        ) from error
    return Rename(pattern, given["sub"])


def writes_acl(protocol: Mapping[str, Any], path: Sequence[str | int] = ("source",)) -> bool:
    """Whether writes carry the ACL; the two spellings of it must not contradict each other."""
    disabled = protocol.get("disableBucketOwnerControlACL")
    enabled = protocol.get("bucket_owner_full_control")
    if disabled is not None and disabled == enabled:
        raise DefinitionError(
            schema.shown((*path, "protocol", "disableBucketOwnerControlACL")),
            "contradicts bucket_owner_full_control: keep one",
        )
    return not disabled if disabled is not None else enabled is not False


def _execution(definition: Mapping[str, Any]) -> Execution:
    parsers: dict[str, Callable[[Mapping[str, Any]], Execution]] = {
        S3_TRANSFER: _touch,
        S3_EXECUTION: _touch,
        LAMBDA_EXECUTION: lambda_call,
        FARGATE_EXECUTION: fargate_call,
    }
    protocol = definition.get("protocol")
    name = protocol.get("name") if isinstance(protocol, Mapping) else None
    if not isinstance(name, str):
        raise DefinitionError(
            "protocol.name", f"is missing: it says what is run; expected {' or '.join(parsers)}"
        )
    if name not in parsers:
        raise _foreign(name, ("protocol", "name"), parsers)
    return parsers[name](definition)


def _touch(definition: Mapping[str, Any]) -> Touch:
    schema.check("execution/s3.json", definition)
    return Touch(
        bucket=definition["bucket"],
        key=definition["key"],
        bucket_owner_full_control=writes_acl(definition["protocol"], ()),
        settings=Settings.from_protocol(definition["protocol"]),
    )
