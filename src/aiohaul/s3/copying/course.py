"""One destination while it is being filled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

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
from aiohaul.s3.copying.gate import Gate
from aiohaul.s3.copying.plan import AnyDestination, Destination, LocalDestination, Source
from aiohaul.s3.copying.target import Target
from aiohaul.s3.local import check_directory, explained
from aiohaul.s3.local_writing import touch_file
from aiohaul.s3.objects import touch_object, uri
from aiohaul.s3.private import folds_case
from aiohaul.s3.resuming.journal import Entry
from aiohaul.s3.streaming.writers import FileWriter, ObjectWriter, Writer
from aiohaul.threads import run_in_thread

#: Writes of a plan that are checked on the event loop: some 5 ms.
_CHECK_INLINE = 2000


@dataclass(slots=True, eq=False)
class Course:
    """One destination while it is being filled.

    Attributes:
        destination: where to.
        s3: the way there; None for this machine.
        endpoint: what tells the place from the same bucket elsewhere.
        server_side: S3 copies by itself.
        left: how many objects are neither there nor failed.
        gate: what all writes to it pass.
        objects: how many are there.
        kept: how many of these an interrupted run had copied.
        size: their bytes.
        failures: what is not there.
        flag: the flag that was written.
        seconds: until the last object, or failure.
    """

    destination: AnyDestination
    s3: Service | None
    endpoint: str
    server_side: bool
    left: int
    gate: Gate
    objects: int = 0
    kept: int = 0
    size: int = 0
    failures: list[Failure] = field(default_factory=list)
    flag: str | None = None
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """Its name in events and reports."""
        return self.destination.uri

    @property
    def complete(self) -> bool:
        """True once everything is there."""
        return not self.left and not self.failures

    @property
    def way(self) -> Service:
        """The way there, for one in S3."""
        if self.s3 is None:
            raise AssertionError(f"{self.name} is not in S3")
        return self.s3

    async def prepare(self, sources: Sequence[Source]) -> None:
        """See that a local directory can take these, before any is read for it."""
        if isinstance(self.destination, LocalDestination):
            try:
                await check_directory(self.destination.directory, create=self.destination.create)
                await run_in_thread(check_names, self.destination, sources)
            except HaulError as error:
                self.gate.stopped = error

    def target(self, source: Source, entry: Entry | None) -> Target:
        """Where a source lands in a bucket."""
        destination = self.destination
        if not isinstance(destination, Destination):
            raise TypeError(f"{self.name} is not in S3")
        return Target(
            s3=self.way,
            bucket=destination.bucket,
            key=destination.key(source.name),
            bucket_owner_full_control=destination.bucket_owner_full_control,
            overwrite=destination.overwrite,
            gate=self.gate,
            entry=entry,
        )

    def writer(self, source: Source, entry: Entry | None) -> Writer:
        """What writes a source there."""
        destination = self.destination
        if isinstance(destination, LocalDestination):
            return FileWriter(
                destination.path(source.name),
                destination.mode,
                overwrite=destination.overwrite,
                entry=entry,
            )
        return ObjectWriter(self.target(source, entry))

    async def write_flag(self) -> str:
        """Write the flag, and give its name.

        Raises:
            HaulError: it cannot be written.
        """
        destination = self.destination
        if destination.flag is None:
            raise AssertionError(f"{self.name} has no flag")
        if isinstance(destination, Destination):
            await touch_object(
                self.way,
                destination.bucket,
                destination.flag,
                bucket_owner_full_control=destination.bucket_owner_full_control,
            )
            return uri(destination.bucket, destination.flag)
        await touch_file(destination.flag)
        return str(destination.flag)

    def report(self) -> DestinationReport:
        """What it has, once each object is there or failed."""
        if self.left:
            raise HaulError(
                f"what became of {self.left} objects for {self.name} is not known: tasks that were"
                " copying them have ended without a word. Look what is there, and run again"
            )
        return DestinationReport(
            destination=self.name,
            objects=self.objects,
            kept=self.kept,
            size=self.size,
            failures=tuple(self.failures),
            flag=self.flag,
            seconds=round(self.seconds, 3),
        )


def check_names(destination: LocalDestination, sources: Sequence[Source]) -> None:
    """Refuse names that the file system takes for one: the later would replace the earlier.

    Raises:
        CollisionError: there are two of them.
        LocalFileError: the directory is not writable.
    """
    seen: dict[str, str] = {}
    for source in sources:
        name = destination.path(source.name).name
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            break
    else:
        return
    with explained("writing", destination.directory):
        if folds_case(destination.directory):
            raise CollisionError(
                f"{other} and {name} would be one file: {destination.directory} tells no upper"
                " from lower case. Rename one of them"
            )


async def check_plan(
    sources: Sequence[Source],
    endpoint: str,
    ends: Sequence[tuple[AnyDestination, str]],
    action: plan.Action | None,
) -> None:
    """Check a whole plan; a large one beside the event loop, which it would hold up for seconds.

    Args:
        sources: what will be copied.
        endpoint: the endpoint of objects among them.
        ends: the destinations, each with its endpoint.
        action: what will be done to the sources afterwards.

    Raises:
        CollisionError: two writes would meet.
        PlanError: a name is not one that the destination can take.
    """
    check = partial(plan.check, sources, endpoint, ends, action)
    if len(sources) * (len(ends) + 1) <= _CHECK_INLINE:
        check()
    else:
        await run_in_thread(check, abandon_on_cancel=True)


def may_pass(error: HaulError) -> bool:
    """True if another attempt from the source may well succeed."""
    if isinstance(error, ServiceError):
        return error.retryable or isinstance(error, ConflictError)
    return isinstance(error, VerificationError)
