"""Many sources to many destinations: who copies what, how much at once, and how it went."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import anyio

from aiohaul.aws.clients import Clients
from aiohaul.aws.service import Service
from aiohaul.concurrency import Budget, work
from aiohaul.errors import BucketNotFoundError, CredentialsError, EndpointError, HaulError
from aiohaul.progress import Copied, Failed, Flagged, Found, OnProgress
from aiohaul.report import DestinationReport, Failure
from aiohaul.s3 import plan
from aiohaul.s3.copying import (
    FileReader,
    FileWriter,
    ObjectReader,
    ObjectWriter,
    Reader,
    Writer,
    copy_server_side,
    tee,
)
from aiohaul.s3.local import check_directory, touch_file
from aiohaul.s3.objects import S3Object, touch_object, uri
from aiohaul.s3.plan import AnyDestination, Destination, LocalDestination, Source
from aiohaul.settings import Settings

#: Bytes of all parts that are between a source and its destinations at once.
MEMORY_BUDGET = 64 * plan.MIB

_Job = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class _Course:
    """One destination while it is being filled.

    Attributes:
        destination: where to.
        s3: the way there; None for this machine.
        endpoint: what tells the place from the same bucket elsewhere.
        server_side: S3 copies by itself.
        left: how many objects are neither there nor failed.
        stopped: what makes further attempts useless.
    """

    destination: AnyDestination
    s3: Service | None
    endpoint: str
    server_side: bool
    left: int
    objects: int = 0
    size: int = 0
    failures: list[Failure] = field(default_factory=list)
    flag: str | None = None
    stopped: HaulError | None = None
    seconds: float = 0.0

    @property
    def name(self) -> str:
        return self.destination.uri

    @property
    def complete(self) -> bool:
        return not self.left and not self.failures

    def report(self) -> DestinationReport:
        return DestinationReport(
            destination=self.name,
            objects=self.objects,
            size=self.size,
            failures=tuple(self.failures),
            flag=self.flag,
            seconds=round(self.seconds, 3),
        )


class Fanout:
    """Copies sources to destinations, once.

    Args:
        clients: the way to S3.
        settings: who and where for the sources; None is the Session's.
        on_progress: told of every object.
    """

    def __init__(
        self, clients: Clients, settings: Settings | None, on_progress: OnProgress
    ) -> None:
        self._clients = clients
        self._settings = settings
        self._tell = on_progress
        self._budget = Budget(MEMORY_BUDGET)
        self._courses: list[_Course] = []
        self._source_s3: Service | None = None
        self._start = 0.0

    async def copy(
        self,
        sources: Sequence[Source],
        destinations: Sequence[AnyDestination],
        action: plan.Action | None = None,
    ) -> tuple[DestinationReport, ...]:
        """Copy every source to every destination, and write the flags of those that have all.

        Args:
            sources: what to copy.
            destinations: where to.
            action: what will be done to the sources afterwards, so that its writes are checked
                together with the copies'.

        Returns:
            A report for each destination. Failures are in there, not raised.

        Raises:
            PlanError: two writes would collide, or a name cannot be taken; nothing was copied.
            SettingsError: there is no way to one of the destinations; nothing was copied.
        """
        self._start = anyio.current_time()
        source_endpoint = ""
        if any(isinstance(source, S3Object) for source in sources):
            self._source_s3 = await self._clients.service("s3", self._settings)
            source_endpoint = self._source_s3.endpoint
        self._courses = [
            await self._course(each, source_endpoint, len(sources)) for each in destinations
        ]
        plan.check(
            sources,
            source_endpoint,
            [(course.destination, course.endpoint) for course in self._courses],
            action,
        )
        self._tell(
            Found(
                objects=len(sources),
                size=sum(source.size for source in sources),
                destinations=tuple(course.name for course in self._courses),
            )
        )
        await self._prepare()
        width = min(self._clients.max_requests, len(sources) * len(self._courses))
        async with anyio.create_task_group() as tasks:
            for jobs in (self._server_side_jobs(sources), self._tee_jobs(sources)):
                tasks.start_soon(work, jobs, width)
        return tuple(course.report() for course in self._courses)

    async def _course(
        self, destination: AnyDestination, source_endpoint: str, count: int
    ) -> _Course:
        if isinstance(destination, LocalDestination):
            return _Course(destination, None, "", server_side=False, left=count)
        s3 = await self._clients.service("s3", destination.settings)
        reachable = self._source_s3 is not None and (
            s3.endpoint == source_endpoint
            and self._clients.resolve(destination.settings).identity
            == self._clients.resolve(self._settings).identity
        )
        return _Course(
            destination,
            s3,
            s3.endpoint,
            server_side=reachable and destination.transfer_type != "proxy",
            left=count,
        )

    async def _prepare(self) -> None:
        """See that local directories are there, before any source is read for them."""
        for course in self._courses:
            if isinstance(course.destination, LocalDestination):
                try:
                    await check_directory(
                        course.destination.directory, create=course.destination.create
                    )
                except HaulError as error:
                    course.stopped = error

    def _server_side_jobs(self, sources: Sequence[Source]) -> Iterator[_Job]:
        for source in sources:
            if isinstance(source, S3Object) and source.size <= plan.MAX_COPY:
                for course in self._courses:
                    if course.server_side:
                        yield partial(self._copy_one, source, course)

    def _tee_jobs(self, sources: Sequence[Source]) -> Iterator[_Job]:
        for source in sources:
            by_itself = source.size <= plan.MAX_COPY
            courses = [each for each in self._courses if not (each.server_side and by_itself)]
            if courses:
                yield partial(self._tee_one, source, courses)

    async def _copy_one(self, source: S3Object, course: _Course) -> None:
        """Let S3 copy one source to one destination."""
        if course.stopped is not None or not isinstance(course.destination, Destination):
            await self._ended(course, source, course.stopped)
            return
        try:
            await copy_server_side(
                _way(course),
                source,
                course.destination.bucket,
                course.destination.key(source.name),
                bucket_owner_full_control=course.destination.bucket_owner_full_control,
            )
        except HaulError as error:
            await self._ended(course, source, error)
        else:
            await self._ended(course, source, None)

    async def _tee_one(self, source: Source, courses: Sequence[_Course]) -> None:
        """Read one source, and write it to these destinations."""
        going = [course for course in courses if course.stopped is None]
        failures: dict[int, HaulError | None] = {id(each): each.stopped for each in courses}
        if going:
            async with self._budget.hold(min(source.size, plan.part_size(source.size))):
                try:
                    ended = await tee(
                        source,
                        self._reader(source),
                        [_writer(course, source) for course in going],
                    )
                except HaulError as error:
                    ended = [error] * len(going)
            failures.update((id(course), error) for course, error in zip(going, ended, strict=True))
        for course in courses:
            await self._ended(course, source, failures[id(course)])

    def _reader(self, source: Source) -> Reader:
        if isinstance(source, S3Object):
            if self._source_s3 is None:
                raise AssertionError
            return ObjectReader(self._source_s3, source)
        return FileReader(source)

    async def _ended(self, course: _Course, source: Source, error: HaulError | None) -> None:
        """Enter how one source fared at one destination; the last one brings the flag."""
        course.left -= 1
        if error is None:
            course.objects += 1
            course.size += source.size
            target = course.destination.target(source.name)
            self._tell(Copied(source.uri, target, course.name, source.size))
        else:
            course.failures.append(Failure.of(source.uri, error))
            self._tell(Failed(source.uri, course.name, error))
            if _is_final(error):
                course.stopped = error
        if course.complete:
            await self._flag(course)
        course.seconds = anyio.current_time() - self._start

    async def _flag(self, course: _Course) -> None:
        """Write a complete destination's flag, unless another one shares it and is not."""
        destination = course.destination
        place = plan.flag_place(destination, course.endpoint)
        sharing = [
            each
            for each in self._courses
            if plan.flag_place(each.destination, each.endpoint) == place
        ]
        if destination.flag is None or not all(each.complete for each in sharing):
            return
        try:
            if isinstance(destination, LocalDestination):
                await touch_file(destination.flag)
                target = str(destination.flag)
            else:
                target = uri(destination.bucket, destination.flag)
                await touch_object(
                    _way(course),
                    destination.bucket,
                    destination.flag,
                    bucket_owner_full_control=destination.bucket_owner_full_control,
                )
        except HaulError as error:
            course.failures.append(Failure.of(str(destination.flag), error))
            self._tell(Failed(str(destination.flag), course.name, error))
            return
        for each in sharing:
            each.flag = target
        self._tell(Flagged(target, course.name))


def _way(course: _Course) -> Service:
    if course.s3 is None:
        raise AssertionError(f"{course.name} is not in S3")
    return course.s3


def _writer(course: _Course, source: Source) -> Writer:
    destination = course.destination
    if isinstance(destination, LocalDestination):
        return FileWriter(destination.path(source.name), destination.mode)
    return ObjectWriter(
        _way(course),
        destination.bucket,
        destination.key(source.name),
        bucket_owner_full_control=destination.bucket_owner_full_control,
    )


def _is_final(error: HaulError) -> bool:
    """True if the next object would fail in the same way, after as many retries."""
    if isinstance(error, EndpointError):
        return error.code == "EndpointConnectionError"
    return isinstance(error, BucketNotFoundError | CredentialsError)
