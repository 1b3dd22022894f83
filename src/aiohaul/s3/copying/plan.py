"""Computes the keys and paths of the copies of a transfer, and checks them for collisions."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Literal

from aiohaul.errors import CollisionError, PlanError
from aiohaul.regexes.bounded import bounded
from aiohaul.s3.journal import Location
from aiohaul.s3.keys import checked_directory, checked_key, directory_prefix
from aiohaul.s3.local import LocalFile
from aiohaul.s3.objects import S3Object, uri
from aiohaul.s3.options import WRITE_OPTIONS, WriteOptions
from aiohaul.s3.streaming.stream import Stream
from aiohaul.settings import Settings
from aiohaul.storage.private_files import PERMISSIONS

_NO_NAMES = frozenset({"", ".", ".."})
#: The maximum number of collisions that an error message names.
_NAMED = 5

#: A source that a definition can name. An application can also pass a Stream.
Listed = S3Object | LocalFile
Source = Listed | Stream


@dataclass(frozen=True, slots=True)
class Rename:
    """A rule for new file names, applied as ``re.sub(pattern, sub, name)``.

    Attributes:
        pattern: a regular expression that may match anywhere in the file name.
        sub: the replacement of every match. It may refer to groups, as in ``re.sub``.
    """

    pattern: re.Pattern[str]
    sub: str

    def __init__(self, pattern: str | re.Pattern[str], sub: str) -> None:
        object.__setattr__(self, "pattern", re.compile(pattern))
        object.__setattr__(self, "sub", sub)

    def apply(self, name: str) -> str:
        """Return the new name; the old name if the pattern does not match.

        Raises:
            RegexLimitError: the regex refers back to a group, and the name takes too many steps.
        """
        return bounded(self.pattern).replace_in(name, self.sub)


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A directory of a bucket to which objects are copied.

    Attributes:
        bucket: the bucket.
        directory: the key prefix of the copies, without leading or trailing "/". "" is the root of
            the bucket.
        rename: the rule for new file names; None keeps the names of the sources.
        flag: the key of an empty object that is written after all copies are written and verified;
            None for no flag.
        transfer_type: ``push`` lets S3 copy objects by itself (CopyObject) where S3 can. ``proxy``
            always copies through this process.
        options: the ACL, the storage class and the encryption of the copies, who pays, and who must
            own the bucket.
        overwrite: replace existing objects. If False, a copy fails if its key exists.
        settings: credentials, region and endpoint; None for those of the Session.

    Raises:
        PlanError: the directory begins or ends with "/".
    """

    bucket: str
    directory: str = ""
    rename: Rename | None = None
    flag: str | None = None
    transfer_type: Literal["push", "proxy"] = "push"
    options: WriteOptions = WRITE_OPTIONS
    overwrite: bool = True
    settings: Settings | None = None

    @property
    def uri(self) -> str:
        """The name of the destination in events and reports, such as ``s3://bucket/directory/``."""
        return uri(self.bucket, directory_prefix(self.directory))

    def __post_init__(self) -> None:
        """Raise PlanError if the directory begins or ends with "/"."""
        checked_directory(self.directory)

    def key(self, name: str, folder: str = "") -> str:
        """Return the key of the copy of a source with this file name and ``folder``."""
        name = self.rename.apply(name) if self.rename else name
        return f"{directory_prefix(self.directory)}{folder}{name}"

    def target(self, name: str, folder: str = "") -> str:
        """Return the URI, as in events, of the copy of a source."""
        return uri(self.bucket, self.key(name, folder))

    @property
    def flag_options(self) -> WriteOptions:
        """The options of the flag, which has the default storage class: it is read at once."""
        return replace(self.options, storage_class=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalDestination:
    """A directory of this machine to which objects are copied.

    Attributes:
        directory: the path of the directory.
        create: create the directory and its parents if they do not exist.
        rename: the rule for new file names; None keeps the names of the sources.
        flag: the path of an empty file that is written after all copies are written and verified;
            None for no flag.
        mode: the permission bits of the files, such as ``0o640``; None for those that the umask
            allows.
        overwrite: replace existing files. If False, a copy fails if its path exists.

    Raises:
        PlanError: ``mode`` has set-uid, set-gid or sticky bits.
    """

    directory: Path
    create: bool = False
    rename: Rename | None = None
    flag: Path | None = None
    mode: int | None = None
    overwrite: bool = True

    def __post_init__(self) -> None:
        """Raise PlanError if ``mode`` has other bits than permissions.

        With set-uid, another user could run a downloaded file with the rights of this user.
        """
        if self.mode is not None and self.mode & ~PERMISSIONS:
            raise PlanError(
                f"mode {self.mode:o} has set-uid, set-gid or sticky bits, and only permission bits"
                f" are allowed. Use {self.mode & PERMISSIONS:o}"
            )

    @property
    def uri(self) -> str:
        """The name of the destination in events and reports, such as ``/data/in/``."""
        return f"{self.directory}/"

    def path(self, name: str, folder: str = "") -> Path:
        """Return the path of the copy of a source with this file name and ``folder``."""
        return self.directory / folder / (self.rename.apply(name) if self.rename else name)

    def target(self, name: str, folder: str = "") -> str:
        """Return the path, as in events, of the copy of a source."""
        return str(self.path(name, folder))


AnyDestination = Destination | LocalDestination


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """The post-copy action: moves, renames or deletes a source after all copies are verified.

    Attributes:
        kind: ``move``, ``rename`` or ``delete``. ``move`` and ``rename`` do the same: they give the
            source another key or path. The report repeats the word.
        bucket: the bucket to move to; None for the bucket of the source, or for local files.
        prefix: the key prefix, or the directory, that is put before the file name.
        rename: the rule for new file names; None keeps the old names.
        options: the ACL, the storage class and the encryption of moved objects. The payer and the
            owner are those of the bucket to move to. If this is the bucket of the source, None
            stands for the options of the handler.
    """

    kind: Literal["move", "rename", "delete"]
    bucket: str | None = None
    prefix: str = ""
    rename: Rename | None = None
    options: WriteOptions = WRITE_OPTIONS

    def key(self, name: str, folder: str = "") -> str:
        """Return the key or path to which a source with this file name and ``folder`` moves."""
        return self.prefix + folder + (self.rename.apply(name) if self.rename else name)


def check(
    sources: Sequence[Source],
    source_endpoint: str,
    destinations: Iterable[tuple[AnyDestination, str]],
    action: Action | None = None,
) -> None:
    """Check that no two writes have the same location, and that no write replaces a source.

    Args:
        sources: the objects, files and streams to copy.
        source_endpoint: the S3 endpoint of the sources.
        destinations: the destinations, each with its S3 endpoint, or "" for a local directory.
        action: the post-copy action.

    Raises:
        CollisionError: two sources would be written to one key or file, or a write would replace a
            source.
        PlanError: a name is not valid at its destination.
    """
    where = Locations(source_endpoint)
    destinations = list(destinations)
    _check_below(where, sources, destinations, action)
    held = {where.of_source(source): source.uri for source in sources}
    owners: dict[Location, str] = {}
    problems: list[str] = []
    for location, owner, shown in _writes(where, sources, destinations, action):
        if location in held:
            problems.append(f"{shown} would overwrite the source {held[location]}")
        elif owners.setdefault(location, owner) != owner:
            problems.append(f"{owners[location]} and {owner} would both be written to {shown}")
    problems += _files_as_folders(where, sources, destinations, owners)
    if problems:
        more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        raise CollisionError(
            f"nothing was copied: {'; '.join(problems[:_NAMED])}{more}."
            " Give each of them another name or directory"
        )


class Locations:
    """Computes the locations of sources and writes.

    A location identifies an object or a file: two different paths to one file have the same
    location.

    Args:
        source_endpoint: the S3 endpoint of the sources.
    """

    def __init__(self, source_endpoint: str) -> None:
        self._endpoint = source_endpoint
        #: The real path of each directory, and the maximum length in bytes of a file name there.
        self._directories: dict[Path, tuple[str, float]] = {}

    def of_source(self, source: Source) -> Location:
        """Return the location of a source."""
        if isinstance(source, LocalFile):
            return self.of_file(source.path)
        if isinstance(source, Stream):
            return ("stream", "", source.name)
        return (self._endpoint, source.bucket, source.key)

    def of_copy(self, source: Source, destination: AnyDestination, endpoint: str) -> Location:
        """Return the location of a source's copy at a destination.

        Raises:
            PlanError: the name of the copy is not valid at the destination.
        """
        if isinstance(destination, Destination):
            key = destination.key(source.name, source.folder)
            return (endpoint, destination.bucket, checked_key(key))
        path = destination.path(source.name, source.folder)
        folders = self._folders_of(source, destination)
        inside = folders[-1] if folders else destination.directory
        if path.parent != inside or path.name in _NO_NAMES or "\0" in path.name:
            raise PlanError(
                f"nothing was copied: {path.name!r}, the name of {source.uri}, is not a valid file"
                f" name in {destination.uri}. Rename the file"
            )
        return self.of_file(path)

    def of_folders(self, source: Source, destination: AnyDestination) -> list[Location]:
        """Return the locations of the subdirectories that a local copy needs; none in S3.

        Raises:
            PlanError: the name of a subdirectory is not valid.
        """
        if isinstance(destination, Destination):
            return []
        return [self.of_file(each) for each in self._folders_of(source, destination)]

    def _folders_of(self, source: Source, destination: LocalDestination) -> list[Path]:
        """Return the subdirectories of a local copy, from the top, with valid names."""
        segments = source.folder.split("/")[:-1]
        for segment in segments:
            if segment in _NO_NAMES or "\0" in segment:
                raise PlanError(
                    f"nothing was copied: {segment!r} in {source.uri} is not a valid name of a"
                    f" directory in {destination.uri}. Copy it to a bucket, or rename it"
                )
        return [*accumulate(segments, Path.joinpath, initial=destination.directory)][1:]

    def of_root(self, source: Source) -> Location | None:
        """Return the location of the directory below which a source was found at any depth."""
        if isinstance(source, Stream) or source.root is None:
            return None
        if isinstance(source, LocalFile):
            return self._of_directory(source.root)
        return (self._endpoint, source.bucket, source.root)

    def of_end(self, destination: AnyDestination, endpoint: str) -> Location:
        """Return the location of the directory of a destination."""
        if isinstance(destination, LocalDestination):
            return self._of_directory(destination.directory)
        return (endpoint, destination.bucket, directory_prefix(destination.directory))

    def of_action(self, action: Action, root: Location) -> Location:
        """Return the location of the directory to which sources below ``root`` move."""
        if not root[0]:
            return self._of_directory(Path(action.prefix))
        return (self._endpoint, action.bucket or root[1], action.prefix)

    def _of_directory(self, path: Path) -> Location:
        try:
            real = os.path.realpath(path)
        except (OSError, ValueError) as error:
            raise PlanError(f"nothing was copied: {path} is not a valid path: {error}") from error
        return ("", "", f"{real.rstrip('/')}/")

    def of_flag(self, destination: AnyDestination, endpoint: str) -> Location | None:
        """Return the location of a destination's flag; None if the destination has no flag."""
        if destination.flag is None:
            return None
        if isinstance(destination, LocalDestination):
            return self.of_file(destination.flag)
        return (endpoint, destination.bucket, checked_key(destination.flag))

    def of_moved(self, source: Source, action: Action) -> Location:
        """Return the location of a source after a move or rename.

        Raises:
            PlanError: the source is a stream, or the new name is not valid.
        """
        key = action.key(source.name, source.folder)
        if isinstance(source, LocalFile):
            return self.of_file(self._inside(Path(key), action))
        if isinstance(source, Stream):
            raise PlanError(
                f"nothing was copied: {source.uri} cannot be moved, because it is not an object or"
                " a file. Remove the post-copy action, or the stream"
            )
        return (self._endpoint, action.bucket or source.bucket, checked_key(key))

    def _inside(self, path: Path, action: Action) -> Path:
        """Return ``path``; raise PlanError if the path is outside of the action's directory."""
        root = os.path.realpath(action.prefix)
        try:
            parent = os.path.realpath(path.parent)
        except (OSError, ValueError) as error:
            raise PlanError(
                f"nothing was copied: {str(path)!r} is not a valid path: {error}"
            ) from error
        inside = parent == root or parent.startswith(f"{root.rstrip('/')}/")
        if not inside or path.name in _NO_NAMES or "\0" in path.name:
            raise PlanError(
                f"nothing was copied: the {action.kind} would put {path} outside of"
                f" {action.prefix}. Correct the pattern and the sub of the {action.kind}"
            )
        return path

    def of_file(self, path: Path) -> Location:
        """Return the location of a file.

        Raises:
            PlanError: the path is not valid, or the name is too long for the file system.
        """
        directory = path.parent
        if directory not in self._directories:
            try:
                # Only the directory: if the file is a symbolic link, a write replaces the link.
                real = os.path.realpath(directory)
            except (OSError, ValueError) as error:
                raise PlanError(
                    f"nothing was copied: {path} is not a valid path: {error}"
                ) from error
            self._directories[directory] = real, _name_max(real)
        real, maximum = self._directories[directory]
        if (size := len(path.name.encode(errors="replace"))) > maximum:
            raise PlanError(
                f"nothing was copied: the file name {path.name!r} has {size} bytes, and the file"
                f" system of {directory} allows {maximum} bytes. Rename the file"
            )
        return ("", real, path.name)


def _name_max(directory: str) -> float:
    """Return the maximum length in bytes of a file name in a directory.

    If the directory does not exist yet, the nearest existing parent directory counts.
    """
    while True:
        try:
            maximum = os.pathconf(directory, "PC_NAME_MAX")
        except FileNotFoundError:
            directory = os.path.dirname(directory)  # noqa: PTH120  # a string operation
        except OSError:
            return math.inf  # the write of the file raises the error
        else:
            return maximum if maximum > 0 else math.inf  # 0 on FUSE without statfs


def version(source: Source) -> str:
    """Return a text that identifies a version of a source; "" for a stream."""
    match source:
        case S3Object():
            return f"{source.etag} {source.size} {source.last_modified:%Y-%m-%dT%H:%M:%S}"
        case LocalFile():
            return source.version_text
        case Stream():
            return ""


def identity(destinations: Iterable[tuple[AnyDestination, str]]) -> str:
    """Return a JSON text that identifies a transfer in a journal.

    Two transfers with the same destinations, endpoints, renames, storage classes and KMS keys have
    the same identity.
    """
    parts: list[list[object]] = []
    for each, endpoint in destinations:
        rename = each.rename and (each.rename.pattern.pattern, each.rename.sub)
        part: list[object] = [endpoint, each.uri, rename]
        if isinstance(each, Destination):
            written = each.options.storage_class, each.options.kms_key_id
            part += written if any(written) else ()
        parts.append(part)
    return json.dumps(["copy", *sorted(parts, key=str)])


def _files_as_folders(
    where: Locations,
    sources: Sequence[Source],
    destinations: Iterable[tuple[AnyDestination, str]],
    owners: Mapping[Location, str],
) -> Iterator[str]:
    """Return the problems of local copies whose path is a subdirectory of another copy."""
    for destination, _ in destinations:
        seen: set[str] = set()
        for source in sources:
            if source.folder in seen:
                continue
            seen.add(source.folder)
            for location in where.of_folders(source, destination):
                if location in owners:
                    yield (
                        f"{owners[location]} would be a file in {destination.uri}, and"
                        f" {source.uri} needs a directory of this name"
                    )


def _check_below(
    where: Locations,
    sources: Sequence[Source],
    destinations: Iterable[tuple[AnyDestination, str]],
    action: Action | None,
) -> None:
    """Check that no directory of sources, taken at all depths, has the copies below itself.

    Raises:
        CollisionError: the next transfer would find the copies of this one, and copy them again.
    """
    for root in {each for each in map(where.of_root, sources) if each is not None}:
        ends = [(where.of_end(each, endpoint), each.uri) for each, endpoint in destinations]
        if action is not None and action.kind != "delete":
            ends.append((where.of_action(action, root), f"the directory of the {action.kind}"))
        for end, shown in ends:
            if end != root and end[:2] == root[:2] and end[2].startswith(root[2]):
                raise CollisionError(
                    f"nothing was copied: {shown} is below the directory of the sources, and the"
                    " next run would find the copies there. Use a directory outside of it"
                )


def _writes(
    where: Locations,
    sources: Sequence[Source],
    destinations: Iterable[tuple[AnyDestination, str]],
    action: Action | None,
) -> Iterator[tuple[Location, str, str]]:
    """Return every write of the plan as location, URI of the source, and name in errors."""
    for destination, endpoint in destinations:
        for source in sources:
            location = where.of_copy(source, destination, endpoint)
            yield location, source.uri, destination.target(source.name, source.folder)
        flag = where.of_flag(destination, endpoint)
        if flag is not None:
            yield flag, "a flag", f"the flag {destination.flag}"
    if action is None or action.kind == "delete":
        return
    for source in sources:
        location = where.of_moved(source, action)
        # A rename to the same name does nothing, so that it is not a collision.
        if location != where.of_source(source):
            shown = action.key(source.name, source.folder)
            yield location, source.uri, f"{shown} (by the {action.kind})"
