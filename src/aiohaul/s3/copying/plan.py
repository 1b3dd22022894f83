"""Where everything goes: keys, collisions and part sizes, decided before any byte moves."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aiohaul.errors import CollisionError, PlanError
from aiohaul.s3.local import LocalFile
from aiohaul.s3.objects import S3Object, uri
from aiohaul.s3.resuming.journal import Place
from aiohaul.s3.streaming.stream import Stream
from aiohaul.settings import Settings

#: Bytes of a key.
MAX_KEY = 1024
_NO_NAMES = frozenset({"", ".", ".."})
#: How many collisions an error names.
_NAMED = 5
_SURROGATE = re.compile("[\ud800-\udfff]")

#: What a definition can name, and what an application can hand in as well.
Listed = S3Object | LocalFile
Source = Listed | Stream


@dataclass(frozen=True, slots=True)
class Rename:
    """A new name: ``re.sub(pattern, sub, name)``.

    Attributes:
        pattern: a regex, searched for anywhere in the file name.
        sub: what takes the place of every match; may refer to groups.
    """

    pattern: re.Pattern[str]
    sub: str

    def __init__(self, pattern: str | re.Pattern[str], sub: str) -> None:
        object.__setattr__(self, "pattern", re.compile(pattern))
        object.__setattr__(self, "sub", sub)

    def apply(self, name: str) -> str:
        """The new name; the old one if the pattern is not in it."""
        return self.pattern.sub(self.sub, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A directory of a bucket to which objects are copied.

    Attributes:
        bucket: the bucket.
        directory: without leading or trailing "/"; "" is the root of the bucket.
        rename: the new names; None keeps the old ones.
        flag: key of an empty object, written once every object is there and verified.
        transfer_type: ``push`` lets S3 copy by itself where it can; ``proxy`` never does.
        bucket_owner_full_control: gives every written object the ACL of that name.
        overwrite: False fails for an object whose key is taken.
        settings: who and where; None is the Session's.

    Raises:
        PlanError: the directory begins or ends with "/".
    """

    bucket: str
    directory: str = ""
    rename: Rename | None = None
    flag: str | None = None
    transfer_type: Literal["push", "proxy"] = "push"
    bucket_owner_full_control: bool = True
    overwrite: bool = True
    settings: Settings | None = None

    @property
    def uri(self) -> str:
        """Its name in events and reports."""
        return uri(self.bucket, f"{self.directory}/" if self.directory else "")

    def __post_init__(self) -> None:
        """Refuse a directory that would put an empty part into every key."""
        checked_directory(self.directory)

    def key(self, name: str) -> str:
        """The key at which a file of this name lands."""
        name = self.rename.apply(name) if self.rename else name
        return f"{self.directory}/{name}" if self.directory else name

    def target(self, name: str) -> str:
        """That key with its bucket, as events name it."""
        return uri(self.bucket, self.key(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalDestination:
    """A directory of this machine to which objects are copied.

    Attributes:
        directory: its path.
        create: make it, and those above it, if it is not there.
        rename: the new names; None keeps the old ones.
        flag: path of an empty file, written once every object is there and verified.
        mode: permission bits of the files; None leaves them to the umask.
        overwrite: False fails for a file whose name is taken.
    """

    directory: Path
    create: bool = False
    rename: Rename | None = None
    flag: Path | None = None
    mode: int | None = None
    overwrite: bool = True

    @property
    def uri(self) -> str:
        """Its name in events and reports."""
        return f"{self.directory}/"

    def path(self, name: str) -> Path:
        """The path at which a file of this name lands."""
        return self.directory / (self.rename.apply(name) if self.rename else name)

    def target(self, name: str) -> str:
        """That path, as events name it."""
        return str(self.path(name))


AnyDestination = Destination | LocalDestination


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What is done to a source once every destination has it.

    Attributes:
        kind: ``move``, ``rename`` (both to another key or path) or ``delete``.
        bucket: where a move goes; None is the source's own bucket, or this machine.
        prefix: what stands before the file name there: a prefix of keys, or a directory.
        rename: the new names; None keeps the old ones.
    """

    kind: Literal["move", "rename", "delete"]
    bucket: str | None = None
    prefix: str = ""
    rename: Rename | None = None

    def key(self, name: str) -> str:
        """The key, or path, to which a source of this name moves."""
        return self.prefix + (self.rename.apply(name) if self.rename else name)


def check(
    sources: Sequence[Source],
    source_endpoint: str,
    destinations: Iterable[tuple[AnyDestination, str]],
    action: Action | None = None,
) -> None:
    """Make sure that no two writes meet, and that no write falls on a source.

    Args:
        sources: what will be copied.
        source_endpoint: the endpoint of objects among them.
        destinations: each with its endpoint, "" for this machine.
        action: what will be done to the sources afterwards.

    Raises:
        CollisionError: two different sources would land on one key or file; or a source would be
            overwritten before, or deleted after, it was copied onto itself.
        PlanError: a name is not one that the destination can take.
    """
    where = Places(source_endpoint)
    held = {where.of_source(source): source.uri for source in sources}
    owners: dict[Place, str] = {}
    problems: list[str] = []
    for place, owner, shown in _writes(where, sources, destinations, action):
        if place in held:
            problems.append(f"{shown} would overwrite the source {held[place]}")
        elif owners.setdefault(place, owner) != owner:
            problems.append(f"{owners[place]} and {owner} would both land on {shown}")
    if problems:
        more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        raise CollisionError(
            f"nothing was copied: {'; '.join(problems[:_NAMED])}{more}."
            " Give each its own name or directory"
        )


class Places:
    """Where everything is and goes, two names of one place being one."""

    def __init__(self, source_endpoint: str) -> None:
        self._endpoint = source_endpoint
        self._directories: dict[Path, str] = {}

    def of_source(self, source: Source) -> Place:
        """The place of a source."""
        if isinstance(source, LocalFile):
            return self.of_file(source.path)
        if isinstance(source, Stream):
            return ("stream", "", source.name)
        return (self._endpoint, source.bucket, source.key)

    def of_copy(self, source: Source, destination: AnyDestination, endpoint: str) -> Place:
        """The place of a source's copy at a destination.

        Raises:
            PlanError: its name is not one that the destination can take.
        """
        if isinstance(destination, Destination):
            return (endpoint, destination.bucket, checked_key(destination.key(source.name)))
        path = destination.path(source.name)
        if path.parent != destination.directory or path.name in _NO_NAMES or "\0" in path.name:
            raise PlanError(
                f"nothing was copied: {source.uri} has no name that a file in {destination.uri}"
                " can have. Rename it"
            )
        return self.of_file(path)

    def of_flag(self, destination: AnyDestination, endpoint: str) -> Place | None:
        """The place of a destination's flag; None if it has none."""
        if destination.flag is None:
            return None
        if isinstance(destination, LocalDestination):
            return self.of_file(destination.flag)
        return (endpoint, destination.bucket, checked_key(destination.flag))

    def of_moved(self, source: Source, action: Action) -> Place:
        """Where a source goes by a move or rename."""
        key = action.key(source.name)
        if isinstance(source, LocalFile):
            return self.of_file(self._inside(Path(key), action))
        if isinstance(source, Stream):
            raise PlanError(f"nothing was copied: {source.uri} cannot be moved")
        return (self._endpoint, action.bucket or source.bucket, checked_key(key))

    def _inside(self, path: Path, action: Action) -> Path:
        """``path``, if a rename does not lead it out of where the action puts its files."""
        root = os.path.realpath(action.prefix)
        try:
            parent = os.path.realpath(path.parent)
        except (OSError, ValueError) as error:
            raise PlanError(f"nothing was copied: {path!r} is no path: {error}") from error
        inside = parent == root or parent.startswith(f"{root.rstrip('/')}/")
        if not inside or path.name in _NO_NAMES or "\0" in path.name:
            raise PlanError(
                f"nothing was copied: the {action.kind} would put {path} outside of"
                f" {action.prefix}. Correct its pattern and sub"
            )
        return path

    def of_file(self, path: Path) -> Place:
        """The place of a file."""
        directory = path.parent
        if directory not in self._directories:
            try:
                # The file itself may be a link: it is replaced, not followed.
                self._directories[directory] = os.path.realpath(directory)
            except (OSError, ValueError) as error:
                raise PlanError(f"nothing was copied: {path} is no path: {error}") from error
        return ("", self._directories[directory], path.name)


def version(source: Source) -> str:
    """What tells a version of a source from others."""
    match source:
        case S3Object():
            return f"{source.etag} {source.size} {source.last_modified:%Y-%m-%dT%H:%M:%S}"
        case LocalFile():
            return source.written
        case Stream():
            return ""


def identity(destinations: Iterable[tuple[AnyDestination, str]]) -> str:
    """What tells the copies to these destinations, each with its endpoint, from others."""
    parts = []
    for each, endpoint in destinations:
        rename = each.rename and (each.rename.pattern.pattern, each.rename.sub)
        parts.append([endpoint, each.uri, rename])
    return json.dumps(["copy", *sorted(parts, key=str)])


def flag_place(destination: AnyDestination, endpoint: str) -> Place | None:
    """The place of a destination's flag, or None if it has none.

    Raises:
        PlanError: the flag has a name that no key can have.
    """
    return Places("").of_flag(destination, endpoint)


def _writes(
    where: Places,
    sources: Sequence[Source],
    destinations: Iterable[tuple[AnyDestination, str]],
    action: Action | None,
) -> Iterator[tuple[Place, str, str]]:
    """Every write of the plan: its place, whose bytes it writes, and its name for people."""
    for destination, endpoint in destinations:
        for source in sources:
            place = where.of_copy(source, destination, endpoint)
            yield place, source.uri, destination.target(source.name)
        flag = where.of_flag(destination, endpoint)
        if flag is not None:
            yield flag, "a flag", f"the flag {destination.flag}"
    if action is None or action.kind == "delete":
        return
    for source in sources:
        place = where.of_moved(source, action)
        # Renaming something to the name that it has is nothing to do, not a collision.
        if place != where.of_source(source):
            yield place, source.uri, f"{action.key(source.name)} (by the {action.kind})"


def checked_key(key: str) -> str:
    """``key``, if S3 can take it.

    Raises:
        PlanError: it is empty, begins with "/", ends in "/" or is longer than 1,024 bytes.
    """
    size = len(key.encode("utf-8", "surrogatepass"))
    encodable = key.isascii() or not _SURROGATE.search(key)
    if not encodable or not key or key.startswith("/") or key.endswith("/") or size > MAX_KEY:
        shown = key if len(key) < MAX_KEY else f"{key[:60]}… ({size} bytes)"
        raise PlanError(
            f"nothing was copied: {shown!r} cannot be the key of a file: it needs a name, at most"
            f" {MAX_KEY} bytes of UTF-8, and no leading '/'"
        )
    return key


def checked_directory(directory: str) -> str:
    """``directory``, if it has neither a leading nor a trailing "/".

    Raises:
        PlanError: it has.
    """
    if directory.startswith("/") or directory.endswith("/"):
        raise PlanError(
            f"{directory!r} is not a directory of a bucket: leave out the '/' at its start and end"
        )
    return directory
