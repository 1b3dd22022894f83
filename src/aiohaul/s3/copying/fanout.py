"""Many sources to many destinations: who copies what, and how much at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial

import anyio

from aiohaul.aws.clients import Clients
from aiohaul.aws.service import Service
from aiohaul.concurrency import Budget, Paced, give_way, work
from aiohaul.errors import HaulError, JournalError
from aiohaul.progress import Found, OnProgress
from aiohaul.report import DestinationReport
from aiohaul.s3.compact import size_of, some_is
from aiohaul.s3.copying import plan
from aiohaul.s3.copying.course import Course, check_plan
from aiohaul.s3.copying.errands import Errand, Everywhere, is_small, shares, through_here
from aiohaul.s3.copying.gate import Gate
from aiohaul.s3.copying.outcomes import CallbackError, Outcomes
from aiohaul.s3.copying.plan import AnyDestination, LocalDestination, Source
from aiohaul.s3.copying.reread import check_same
from aiohaul.s3.copying.server_side import PartsNotCopiedError, copy_server_side
from aiohaul.s3.local import LocalFile
from aiohaul.s3.objects import S3Object
from aiohaul.s3.resuming.journal import Entry, Journal, Opened, Place
from aiohaul.s3.resuming.resume import Resumed
from aiohaul.s3.streaming import tee
from aiohaul.s3.streaming.parts import LIMITS, Limits
from aiohaul.s3.streaming.readers import FileReader, ObjectReader, Reader, StreamReader
from aiohaul.settings import Settings
from aiohaul.telemetry.runs import Copies
from aiohaul.threads import run_in_thread

#: How often a source is brought to a destination that fails for a passing reason, beside the
#: retries of single requests, and the seconds before that is tried again.
_PASSES = 2
_PAUSE = 2.0

#: Errands that are gone through on the event loop, to share the memory out: some 2 ms.
_SHARED_INLINE = 2000

_Job = Callable[[], Awaitable[None]]


class Fanout:
    """Copies sources to destinations, once.

    Args:
        clients: the way to S3.
        settings: who and where for the sources; None is the Session's.
        on_progress: told of every object.
        limits: what it may take.
        reread: read every copy back, and compare it with its source.
        journal: what an interrupted run has done, and where this one writes what it does.
    """

    def __init__(
        self,
        clients: Clients,
        settings: Settings | None,
        on_progress: OnProgress,
        *,
        limits: Limits = LIMITS,
        reread: bool = False,
        journal: Journal | None = None,
    ) -> None:
        self._clients = clients
        self._settings = settings
        self._limits = limits
        self._reread = reread
        self._journal = journal
        self._courses: list[Course] = []
        self._places = plan.Places("")
        self._source_s3: Service | None = None
        self._large = Budget(limits.memory)
        self._copies = Copies()
        self._outcomes = Outcomes(
            on_progress, self._courses, self._places, self._copies, journal, self._check
        )

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
        try:
            return await self._copy(sources, destinations, action)
        except (BaseExceptionGroup, CallbackError):
            if self._outcomes.callback_failure is None:
                raise
        raise self._outcomes.callback_failure

    async def _copy(
        self,
        sources: Sequence[Source],
        destinations: Sequence[AnyDestination],
        action: plan.Action | None,
    ) -> tuple[DestinationReport, ...]:
        self._outcomes.start = anyio.current_time()
        names = await self.check(sources, destinations, action)
        self._outcomes.tell(
            Found(
                objects=len(sources),
                size=size_of(sources),
                destinations=names,
            )
        )
        for course in self._courses:
            await course.prepare(sources)
        await self._pass(await self._errands(sources))
        if self._outcomes.again:
            await anyio.sleep(_PAUSE)
        for number in range(2, _PASSES + 1):
            await self._pass(self._outcomes.next_pass(last=number == _PASSES))
        return tuple(course.report() for course in self._courses)

    async def check(
        self,
        sources: Sequence[Source],
        destinations: Sequence[AnyDestination],
        action: plan.Action | None,
    ) -> tuple[str, ...]:
        """Settle the ways, and make sure that no two writes meet: the destinations' names."""
        await self._set_course(sources, destinations)
        home = self._source_s3.endpoint if self._source_s3 is not None else ""
        ends = [(course.destination, course.endpoint) for course in self._courses]
        await check_plan(sources, home, ends, action)
        return tuple(course.name for course in self._courses)

    async def clean(self, destinations: Sequence[AnyDestination]) -> list[Opened]:
        """Abort the uploads, and remove the partial files, that an interrupted run left.

        Returns:
            What was left, and is not any more. What is still there is logged.
        """
        if self._journal is None:
            raise JournalError("what interrupted copies left is known from their journal: give it")
        await self._set_course([], destinations)
        home = None
        if any(endpoint for endpoint, _, _ in self._journal.opened):
            home = await self._clients.service("s3", self._settings)
        resumed = Resumed(self._journal, self._courses, self._places, home)
        closed = [each for each in self._journal.opened.values() if await resumed.close(each)]
        await self._journal.flush()
        return closed

    async def _set_course(
        self, sources: Sequence[Source], destinations: Sequence[AnyDestination]
    ) -> None:
        """Settle the ways to the sources and to the destinations."""
        if some_is(sources, S3Object):
            self._source_s3 = await self._clients.service("s3", self._settings)
        self._courses[:] = [await self._course(each, len(sources)) for each in destinations]

    async def _course(self, destination: AnyDestination, count: int) -> Course:
        await give_way()
        gate = Gate(self._clients.max_requests)
        if isinstance(destination, LocalDestination):
            return Course(destination, None, "", server_side=False, left=count, gate=gate)
        s3 = await self._clients.service("s3", destination.settings)
        source_s3 = self._source_s3
        reachable = source_s3 is not None and (
            s3.endpoint == source_s3.endpoint
            and self._clients.resolve(destination.settings).identity
            == self._clients.resolve(self._settings).identity
        )
        return Course(
            destination,
            s3,
            s3.endpoint,
            server_side=reachable and destination.transfer_type != "proxy",
            left=count,
            gate=gate,
        )

    async def _errands(self, sources: Sequence[Source]) -> Sequence[Errand]:
        """What is to be copied; what an interrupted run has copied is entered as it is."""
        if self._journal is None:
            return Everywhere(sources, self._courses)
        resumed = Resumed(self._journal, self._courses, self._places, self._source_s3)
        kept = await resumed.kept(sources)
        await self._journal.begin()
        await resumed.tidy(sources, kept)
        errands: list[Errand] = []
        for source in sources:
            there = [each for each in self._courses if (source.uri, each) in kept]
            for course in there:
                await self._outcomes.enter(course, source, None, kept=True)
            errands.append((source, [each for each in self._courses if each not in there]))
        return errands

    async def _pass(self, errands: Sequence[Errand]) -> None:
        """Do errands: what S3 copies by itself and what goes through here, at the same time."""
        if not errands:
            return
        if len(errands) <= _SHARED_INLINE:
            memory = shares(errands, self._limits.memory)
        else:
            memory = await run_in_thread(shares, errands, self._limits.memory)
        self._large = memory.beside
        async with anyio.create_task_group() as tasks:
            if any(course.server_side for course in self._courses):
                width = min(self._clients.max_requests, len(errands) * len(self._courses))
                tasks.start_soon(work, self._server_side_jobs(errands), width)
            for small, budget in ((True, memory.small), (False, memory.large)):
                if budget is not None:
                    tasks.start_soon(self._tee_all, errands, small, budget)

    def _server_side_jobs(self, errands: Iterable[Errand]) -> Iterator[_Job]:
        for source, courses in errands:
            if isinstance(source, S3Object):
                for course in courses:
                    if course.server_side:
                        job = partial(self._copy_one, source, course)
                        yield partial(self._copies.told, source.uri, [course], job)

    async def _tee_all(self, errands: Iterable[Errand], small: bool, budget: Budget) -> None:
        """Start one source of a kind after the other, as the memory allows."""
        async with anyio.create_task_group() as tasks:
            async for errand in Paced(errands):
                here = through_here(errand)
                if here is None or is_small(errand) != small:
                    continue
                source, courses = here
                await give_way()
                read = self._tee_source(source)
                taken = await budget.take(tee.footprint(read))
                job = partial(self._tee_one, source, read, courses, budget, taken)
                tasks.start_soon(self._copies.told, source.uri, courses, job)

    async def _copy_one(self, source: S3Object, course: Course) -> None:
        """Let S3 copy one source to one destination."""
        entry = self._entry(source, course)
        outcome: tee.Outcome
        try:
            async with course.gate.turn():
                outcome = await copy_server_side(source, course.target(source, entry), self._limits)
            await self._check_reread(source, course)
        except PartsNotCopiedError:
            read = self._tee_source(source)
            taken = await self._large.take(tee.footprint(read))
            await self._tee_one(source, read, [course], self._large, taken)
            return
        except HaulError as error:
            outcome = error
        await self._outcomes.settle(course, source, entry, outcome)

    async def _tee_one(
        self,
        source: Source,
        read: tee.Source,
        courses: Sequence[Course],
        budget: Budget,
        taken: int,
    ) -> None:
        """Read one source, and write it to these destinations."""
        await give_way()
        going = [each for each in courses if each.gate.stopped is None]
        if not going:
            budget.give_back(taken)
            for course in courses:
                await self._outcomes.enter(course, source, course.gate.stopped)
            return
        entries = [self._entry(source, course) for course in going]
        writers = [
            course.writer(source, entry) for course, entry in zip(going, entries, strict=True)
        ]

        async def on_written(index: int, written: str) -> None:
            outcome: tee.Outcome = written
            try:
                await self._check_reread(source, going[index])
            except HaulError as error:
                outcome = error
            await self._outcomes.settle(going[index], source, entries[index], outcome)
            settled.add(index)

        settled: set[int] = set()
        broken: HaulError | None = None
        failures: dict[int, HaulError] = {}
        try:
            failures = await tee.tee(read, writers, budget, taken, on_written)
        except HaulError as error:
            broken = error
        for index, course in enumerate(going):
            if index not in settled:
                outcome = failures[index] if broken is None else broken
                await self._outcomes.settle(course, source, entries[index], outcome)
        for course in courses:
            if course not in going:
                await self._outcomes.enter(course, source, course.gate.stopped)

    def _tee_source(self, source: Source) -> tee.Source:
        # Over TLS bytes cannot be damaged on their way without a word.
        plain = isinstance(source, S3Object) and not self._way_back.is_tls
        return tee.Source(source.uri, self._reader(source), hash_all=plain)

    def _reader(self, source: Source) -> Reader:
        match source:
            case S3Object():
                return ObjectReader(self._way_back, source)
            case LocalFile():
                return FileReader(source)
            case _:
                return StreamReader(source)

    @property
    def _way_back(self) -> Service:
        if self._source_s3 is None:
            raise AssertionError("there is no source in S3")
        return self._source_s3

    def _entry(self, source: Source, course: Course) -> Entry | None:
        if self._journal is None:
            return None
        return self._journal.entry(source.uri, plan.version(source), self._place(source, course))

    def _place(self, source: Source, course: Course) -> Place:
        return self._places.of_copy(source, course.destination, course.endpoint)

    async def _check_reread(self, source: Source, course: Course) -> None:
        if self._reread:
            await self._check(source, course)

    async def _check(self, source: Source, course: Course) -> None:
        await check_same(self._reader(source), course, source)
