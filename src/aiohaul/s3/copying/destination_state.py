"""The state of one destination during a transfer."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from aiohaul.aws.service import Service
from aiohaul.errors import (
    CollisionError,
    ConflictError,
    HaulError,
    ServiceError,
    VerificationError,
)
from aiohaul.report import DestinationReport, Failure
from aiohaul.s3.copying import plan
from aiohaul.s3.copying.plan import AnyDestination, Destination, LocalDestination, Source
from aiohaul.s3.journal import Entry
from aiohaul.s3.local import LocalFile, check_directory, os_errors
from aiohaul.s3.local_writing import touch_file
from aiohaul.s3.objects import touch_object, uri
from aiohaul.s3.streaming.limiter import DestinationLimiter
from aiohaul.s3.streaming.target import Target
from aiohaul.s3.streaming.writers import FileWriter, ObjectWriter, Writer
from aiohaul.storage.directories import DirectoryId, make_directories
from aiohaul.storage.private_files import find_same_file
from aiohaul.threads import run_in_thread

#: Plans with more writes are checked in a thread. Checking this many writes takes about 5 ms.
_CHECK_INLINE = 2000


@dataclass(slots=True, eq=False)
class DestinationState:
    """The state of one destination during a transfer.

    Attributes:
        destination: the bucket or the local directory.
        s3: the S3 client, which adds the options of the destination's bucket to every request; None
            for a local directory.
        endpoint: the URL of the S3 endpoint; "" for a local directory.
        server_side: True if S3 copies objects to this destination by itself (CopyObject).
        remaining: the number of sources without a result.
        limiter: limits the concurrent writes to this destination.
        objects: the number of sources whose copies are written and verified.
        already_there: the number of these copies that an interrupted run wrote.
        size: the total size of these copies, in bytes.
        failures: the sources that could not be copied, with the reasons.
        flag: the URI or path of the flag; None until the flag is written.
        seconds: the seconds from the start of the transfer to the last result.
        directory: the identity of the local directory that was checked; None for S3.
        folders: the identities of the subdirectories of the local directory that get copies.
    """

    destination: AnyDestination
    s3: Service | None
    endpoint: str
    server_side: bool
    remaining: int
    limiter: DestinationLimiter
    objects: int = 0
    already_there: int = 0
    size: int = 0
    failures: list[Failure] = field(default_factory=list)
    flag: str | None = None
    seconds: float = 0.0
    directory: DirectoryId | None = None
    folders: dict[str, DirectoryId] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The destination's name in events and reports."""
        return self.destination.uri

    @property
    def complete(self) -> bool:
        """True if every source was copied without a failure."""
        return not self.remaining and not self.failures

    @property
    def client(self) -> Service:
        """The client of a destination in S3; an AssertionError for a local directory."""
        if self.s3 is None:
            raise AssertionError(f"the destination {self.name} is local, and has no client")
        return self.s3

    async def prepare(self, sources: Sequence[Source]) -> None:
        """Check, before any source is read, that a local directory can hold the copies.

        If the check fails, the limiter refuses all writes to this destination.
        """
        if isinstance(self.destination, LocalDestination):
            try:
                self.directory = await check_directory(
                    self.destination.directory, create=self.destination.create
                )
                self.folders = await run_in_thread(
                    _prepare, self.destination, self.directory, sources
                )
            except HaulError as error:
                self.limiter.give_up(error)

    def target(self, source: Source, entry: Entry | None) -> Target:
        """Return the object to which a source is copied.

        Raises:
            TypeError: the destination is a local directory.
        """
        destination = self.destination
        if not isinstance(destination, Destination):
            raise TypeError(f"the destination {self.name} is local, and has no keys")
        return Target(
            s3=self.client,
            bucket=destination.bucket,
            key=destination.key(source.name, source.folder),
            options=destination.options,
            overwrite=destination.overwrite,
            limiter=self.limiter,
            entry=entry,
        )

    def writer(self, source: Source, entry: Entry | None) -> Writer:
        """Return a new writer for the copy of one source."""
        destination = self.destination
        if isinstance(destination, LocalDestination):
            return FileWriter(
                destination.path(source.name, source.folder),
                destination.mode,
                overwrite=destination.overwrite,
                directory=self.folders.get(source.folder, self.directory),
                entry=entry,
            )
        return ObjectWriter(self.target(source, entry))

    async def write_flag(self) -> str:
        """Write the flag, an empty object or file, and return the URI or path of the flag.

        AWS: PutObject.

        Raises:
            HaulError: the flag cannot be written.
        """
        destination = self.destination
        if destination.flag is None:
            raise AssertionError(f"the destination {self.name} has no flag to write")
        if isinstance(destination, Destination):
            await touch_object(
                self.client, destination.bucket, destination.flag, destination.flag_options
            )
            return uri(destination.bucket, destination.flag)
        same = destination.flag.parent == destination.directory
        await touch_file(destination.flag, self.directory if same else None)
        return str(destination.flag)

    def report(self) -> DestinationReport:
        """Return the report of this destination.

        Raises:
            HaulError: a source has no result.
        """
        if self.remaining:
            raise HaulError(
                f"copying to {self.name} failed: {self.remaining} objects have no result, because"
                " the tasks that copied these objects ended without an error. Check which objects"
                " the destination has, and run again"
            )
        return DestinationReport(
            destination=self.name,
            objects=self.objects,
            already_there=self.already_there,
            size=self.size,
            failures=tuple(self.failures),
            flag=self.flag,
            seconds=round(self.seconds, 3),
        )


def check_names(directory: Path, names: Iterable[str]) -> None:
    """Check that no two names are the same file in a directory.

    Two names are the same file if the file system ignores the case of names or normalises Unicode.
    Then one file would replace the other. aiohaul finds out by writing temporary files.

    Raises:
        CollisionError: two of the names are the same file.
        LocalFileError: two names may be the same file, and the directory is not writable.
    """
    groups: dict[str, set[str]] = {}
    for name in names:
        groups.setdefault(_folded(name), set()).add(name)
    suspects = [sorted(each) for each in groups.values() if len(each) > 1]
    if not suspects:
        return
    with os_errors("writing", directory):
        same = find_same_file(directory, suspects)
    if same is not None:
        raise CollisionError(
            f"writing to {directory} failed: {same[0]!a} and {same[1]!a} would be one file, because"
            " the file system ignores case or normalises Unicode. Rename one of the two files"
        )


def _prepare(
    destination: LocalDestination, identity: DirectoryId, sources: Sequence[Source]
) -> dict[str, DirectoryId]:
    """Check the names of the copies, and create their subdirectories."""
    with os_errors("reading", destination.directory):
        names = [*_names_in(destination, sources)]
    folders: dict[str, set[str]] = {}
    for source in sources:
        if source.folder:
            copy = destination.path(source.name, source.folder)
            folders.setdefault(source.folder, set()).add(copy.name)
    for folder in list(folders):
        *above, last = folder.rstrip("/").split("/")
        while above:
            folders.setdefault(f"{'/'.join(above)}/", set()).add(last)
            *above, last = above
        names.append(last)
    check_names(destination.directory, names)
    with os_errors("creating subdirectories of", destination.directory):
        made = make_directories(destination.directory, identity, sorted(folders))
    for folder, inside in folders.items():
        check_names(destination.directory / folder, inside)
    return made


def _folded(name: str) -> str:
    """Return a form of a name that is equal for all names that a file system may treat as one."""
    if name.isascii():
        return name.casefold()
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())
    return "".join(each for each in folded if unicodedata.category(each) != "Cf")


def _names_in(destination: LocalDestination, sources: Sequence[Source]) -> Iterator[str]:
    """Return the names in a destination's directory: of the copies, the flag and local sources."""
    directory = destination.directory.resolve()
    parents: dict[Path, bool] = {}
    for source in sources:
        if not source.folder:
            yield destination.path(source.name).name
        if isinstance(source, LocalFile):
            parent = source.path.parent
            if parent not in parents:
                parents[parent] = parent.resolve() == directory
            if parents[parent]:
                yield source.name
    if destination.flag is not None and destination.flag.parent.resolve() == directory:
        yield destination.flag.name


async def check_plan(
    sources: Sequence[Source],
    endpoint: str,
    ends: Sequence[tuple[AnyDestination, str]],
    action: plan.Action | None,
) -> None:
    """Check that no two writes of a transfer have the same key or path.

    A large plan is checked in a thread, so that the event loop is not blocked.

    Args:
        sources: the objects, files and streams to copy.
        endpoint: the S3 endpoint of the sources.
        ends: the destinations, each with its S3 endpoint, or "" for a local directory.
        action: the post-copy action.

    Raises:
        CollisionError: two writes have the same location, or a write would replace a source.
        PlanError: a name is not valid at its destination.
    """
    check = partial(plan.check, sources, endpoint, ends, action)
    if len(sources) * (len(ends) + 1) <= _CHECK_INLINE:
        check()
    else:
        await run_in_thread(check, abandon_on_cancel=True)


def is_transient(error: HaulError) -> bool:
    """Return True if a second attempt to copy the source may succeed."""
    if isinstance(error, ServiceError):
        return error.retryable or isinstance(error, ConflictError)
    return isinstance(error, VerificationError)
