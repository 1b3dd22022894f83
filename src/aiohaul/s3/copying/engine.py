"""Copies many sources to many destinations, within the limits of requests and memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import anyio

from aiohaul.aws.clients import Clients
from aiohaul.aws.service import Service
from aiohaul.concurrency import FifoLimiter, MemoryLimiter, Paced, run_limited, yield_if_busy
from aiohaul.errors import HaulError, JournalError, VerificationError
from aiohaul.progress import Found, OnProgress
from aiohaul.report import DestinationReport
from aiohaul.s3.bucket_service import bound
from aiohaul.s3.compact import any_of_type, total_size
from aiohaul.s3.copying import plan
from aiohaul.s3.copying.destination_state import DestinationState, check_plan
from aiohaul.s3.copying.jobs import (
    JobSequence,
    TransferJob,
    is_small,
    memory_shares,
    through_worker,
)
from aiohaul.s3.copying.plan import AnyDestination, LocalDestination, Source
from aiohaul.s3.copying.recorder import CallbackError, ResultRecorder
from aiohaul.s3.copying.resume import ResumeReconciler
from aiohaul.s3.copying.server_side import NotCopiedError, copy_server_side
from aiohaul.s3.copying.verify import check_same
from aiohaul.s3.journal import Entry, IncompleteWrite, Journal, Location
from aiohaul.s3.local import LocalFile
from aiohaul.s3.objects import S3Object
from aiohaul.s3.options import SourceOptions
from aiohaul.s3.streaming import tee
from aiohaul.s3.streaming.limiter import DestinationLimiter, is_final
from aiohaul.s3.streaming.parts import LIMITS, Limits
from aiohaul.s3.streaming.readers import FileReader, ObjectReader, Reader, StreamReader
from aiohaul.s3.streaming.stream import Stream
from aiohaul.s3.streaming.verification import Written
from aiohaul.settings import Settings
from aiohaul.telemetry.runs import CopyTracer
from aiohaul.threads import MAX_THREADS, run_in_thread

#: The maximum number of attempts to copy one source to one destination, if attempts fail with
#: transient errors. Each request of an attempt is retried in addition.
_PASSES = 2
#: The seconds between the first and the second attempt.
_PAUSE = 2.0

#: If there are more jobs, their memory is divided in a thread. This many jobs take about 2 ms.
_INLINE_JOBS = 2000

#: The concurrent copies through this process for each request or thread that serves them. A slow
#: destination may be that far behind the others.
_PER_SLOT = 4

_Copy = Callable[[], Awaitable[None]]


class TransferEngine:
    """Runs one transfer: copies sources to destinations. Each instance is used once.

    Args:
        clients: creates the S3 clients.
        settings: credentials, region and endpoint of the sources; None for those of the Session.
        options: the options of the requests to the sources' buckets; None for no options.
        on_progress: called with an event for every object.
        limits: the maximum number of bytes in memory, and the sizes of parts.
        reread: read every copy back, and compare the bytes with the source.
        journal: records the copies of this run, and lists the copies of an interrupted run.
    """

    def __init__(
        self,
        clients: Clients,
        settings: Settings | None,
        on_progress: OnProgress,
        *,
        options: SourceOptions | None = None,
        limits: Limits = LIMITS,
        reread: bool = False,
        journal: Journal | None = None,
    ) -> None:
        self._clients = clients
        self._settings = settings
        self._options = options
        self._limits = limits
        self._reread = reread
        self._journal = journal
        self._states: list[DestinationState] = []
        self._locations = plan.Locations("")
        self._source_s3: Service | None = None
        self._large_memory = MemoryLimiter(limits.memory)
        self._deletes_sources = False
        self._copies = CopyTracer()
        self._recorder = ResultRecorder(
            on_progress, self._states, self._locations, self._copies, journal, self._check
        )

    async def copy(
        self,
        sources: Sequence[Source],
        destinations: Sequence[AnyDestination],
        action: plan.Action | None = None,
    ) -> tuple[DestinationReport, ...]:
        """Copy every source to every destination, and write the flags of complete destinations.

        A flag is an empty object or file that tells readers that a destination is complete.

        Args:
            sources: the objects, files and streams to copy.
            destinations: the buckets and local directories to copy to.
            action: the post-copy action. This method does not run the action, but checks that the
                writes of the action do not collide with the copies.

        Returns:
            One report for each destination. The reports list failed copies; a failed copy does not
            raise an error.

        Raises:
            PlanError: two writes collide, or a name is not valid. Nothing was copied.
            SettingsError: the settings of a destination are incomplete. Nothing was copied.
        """
        try:
            return await self._copy(sources, destinations, action)
        except (BaseExceptionGroup, CallbackError):
            if self._recorder.callback_failure is None:
                raise
        raise self._recorder.callback_failure

    async def _copy(
        self,
        sources: Sequence[Source],
        destinations: Sequence[AnyDestination],
        action: plan.Action | None,
    ) -> tuple[DestinationReport, ...]:
        self._recorder.start = anyio.current_time()
        self._deletes_sources = action is not None
        names = await self.check(sources, destinations, action)
        self._recorder.emit(
            Found(
                objects=len(sources),
                size=total_size(sources),
                destinations=names,
            )
        )
        for state in self._states:
            await state.prepare(sources)
        await self._pass(await self._create_jobs(sources, action))
        if self._recorder.retry_later:
            await anyio.sleep(_PAUSE)
        for number in range(2, _PASSES + 1):
            await self._pass(self._recorder.next_pass(last=number == _PASSES))
        return tuple(state.report() for state in self._states)

    async def check(
        self,
        sources: Sequence[Source],
        destinations: Sequence[AnyDestination],
        action: plan.Action | None,
    ) -> tuple[str, ...]:
        """Check the plan of a transfer without copying.

        Returns:
            The name of each destination in events and reports.

        Raises:
            PlanError: two writes collide, or a name is not valid.
            SettingsError: the settings of a destination are incomplete.
        """
        await self._resolve_all(sources, destinations)
        source_s3 = self._source_s3.endpoint if self._source_s3 is not None else ""
        ends = [(state.destination, state.endpoint) for state in self._states]
        await check_plan(sources, source_s3, ends, action)
        return tuple(state.name for state in self._states)

    async def clean(
        self, destinations: Sequence[AnyDestination], action: plan.Action | None = None
    ) -> list[IncompleteWrite]:
        """Abort the multipart uploads of an interrupted run, and remove the partial files.

        AWS: AbortMultipartUpload, ListMultipartUploads, ListParts.

        Args:
            destinations: the destinations of the interrupted run.
            action: the post-copy action of the interrupted run, which may have uploads too.

        Returns:
            The uploads and files that were removed. A failure to remove one is logged.

        Raises:
            JournalError: there is no journal.
        """
        if self._journal is None:
            raise JournalError(
                "cleaning up after an interrupted run failed: there is no journal. Pass journal="
                " with the journal of the interrupted run"
            )
        await self._resolve_all([], destinations)
        source_s3 = None
        if any(endpoint for endpoint, _, _ in self._journal.opened):
            source_s3 = await self._open_sources()
        resumed = ResumeReconciler(self._journal, self._states, self._locations, source_s3, action)
        closed = [each for each in self._journal.opened.values() if await resumed.close(each)]
        await self._journal.flush()
        return closed

    async def _resolve_all(
        self, sources: Sequence[Source], destinations: Sequence[AnyDestination]
    ) -> None:
        """Create the clients of the sources, and the states of the destinations."""
        if any_of_type(sources, S3Object):
            self._source_s3 = await self._open_sources()
        self._states[:] = [await self._resolve(each, len(sources)) for each in destinations]

    async def _open_sources(self) -> Service:
        return bound(await self._clients.service("s3", self._settings), self._options)

    async def _resolve(self, destination: AnyDestination, count: int) -> DestinationState:
        await yield_if_busy()
        limiter = DestinationLimiter(self._clients.max_requests)
        if isinstance(destination, LocalDestination):
            return DestinationState(
                destination, None, "", server_side=False, remaining=count, limiter=limiter
            )
        s3 = bound(await self._clients.service("s3", destination.settings), destination.options)
        source_s3 = self._source_s3
        reachable = source_s3 is not None and (
            s3.endpoint == source_s3.endpoint
            and self._clients.resolve(destination.settings).identity
            == self._clients.resolve(self._settings).identity
        )
        return DestinationState(
            destination,
            s3,
            s3.endpoint,
            server_side=reachable and destination.transfer_type != "proxy",
            remaining=count,
            limiter=limiter,
        )

    async def _create_jobs(
        self, sources: Sequence[Source], action: plan.Action | None
    ) -> Sequence[TransferJob]:
        """Return the jobs of the first pass; record the copies that an interrupted run has made."""
        if self._journal is None:
            return JobSequence(sources, self._states)
        resumed = ResumeReconciler(
            self._journal, self._states, self._locations, self._source_s3, action
        )
        already_there = await resumed.already_there(sources)
        await self._journal.begin()
        await resumed.abort_stale(sources, already_there)
        jobs: list[TransferJob] = []
        for source in sources:
            there = [each for each in self._states if (source.uri, each) in already_there]
            for state in there:
                await self._recorder.record(state, source, None, already_there=True)
            jobs.append((source, [each for each in self._states if each not in there]))
        return jobs

    async def _pass(self, jobs: Sequence[TransferJob]) -> None:
        """Run jobs: server-side copies and copies through this process run concurrently."""
        if not jobs:
            return
        if len(jobs) <= _INLINE_JOBS:
            shares = memory_shares(jobs, self._limits.memory)
        else:
            shares = await run_in_thread(memory_shares, jobs, self._limits.memory)
        self._large_memory = shares.beside
        async with anyio.create_task_group() as tasks:
            if any(state.server_side for state in self._states):
                width = min(self._clients.max_requests, len(jobs) * len(self._states))
                tasks.start_soon(run_limited, self._server_side_copies(jobs), width)
            for small, memory in ((True, shares.small), (False, shares.large)):
                if memory is not None:
                    tasks.start_soon(self._tee_all, jobs, small, memory)

    def _server_side_copies(self, jobs: Iterable[TransferJob]) -> Iterator[_Copy]:
        for source, states in jobs:
            if isinstance(source, S3Object):
                for state in states:
                    if state.server_side:
                        run = partial(self._copy_one, source, state)
                        yield partial(self._copies.trace_read, source.uri, [state], run)

    async def _tee_all(
        self, jobs: Iterable[TransferJob], small: bool, memory: MemoryLimiter
    ) -> None:
        """Start the small or the large copies through this process, each when memory is free."""
        slots = FifoLimiter(self._tee_width)
        async with anyio.create_task_group() as tasks:
            async for job in Paced(jobs):
                here = through_worker(job)
                if here is None or is_small(job) != small:
                    continue
                source, states = here
                await yield_if_busy()
                read = self._tee_source(source)
                await slots.acquire()
                reserved = await memory.acquire(tee.initial_memory(read))
                run = partial(self._tee_one, source, read, states, memory, reserved)
                tasks.start_soon(self._tee_in_slot, slots, source, states, run)

    @property
    def _tee_width(self) -> int:
        """The number of concurrent copies through this process.

        More than requests or threads can serve would only be more objects for Python's garbage
        collector, which holds the event loop meanwhile.
        """
        remote = self._source_s3 is not None or any(each.s3 is not None for each in self._states)
        return _PER_SLOT * (self._clients.max_requests if remote else MAX_THREADS)

    async def _tee_in_slot(
        self,
        slots: FifoLimiter,
        source: Source,
        states: Sequence[DestinationState],
        run: Callable[[], Awaitable[None]],
    ) -> None:
        try:
            await self._copies.trace_read(source.uri, states, run)
        finally:
            slots.release()

    async def _copy_one(self, source: S3Object, state: DestinationState) -> None:
        """Copy one source to one destination on the server, or else through this process."""
        entry = self._entry(source, state)
        outcome: tee.Outcome
        try:
            async with state.limiter.slot():
                target = state.target(source, entry)
                written = await copy_server_side(self._source_client, source, target, self._limits)
            await self._check_reread(source, state, written)
            outcome = written
        except NotCopiedError:
            read = self._tee_source(source)
            reserved = await self._large_memory.acquire(tee.initial_memory(read))
            await self._tee_one(source, read, [state], self._large_memory, reserved)
            return
        except HaulError as error:
            outcome = error
        await self._recorder.record_or_retry(state, source, entry, outcome)

    async def _tee_one(
        self,
        source: Source,
        read: tee.Source,
        states: Sequence[DestinationState],
        memory: MemoryLimiter,
        reserved: int,
    ) -> None:
        """Read one source once, and write each part to all these destinations."""
        await yield_if_busy()
        active = [each for each in states if each.limiter.fatal_error is None]
        if not active:
            memory.release(reserved)
            for state in states:
                await self._recorder.record(state, source, state.limiter.fatal_error)
            return
        entries = [self._entry(source, state) for state in active]
        writers = [
            state.writer(source, entry) for state, entry in zip(active, entries, strict=True)
        ]

        async def on_written(index: int, written: Written) -> None:
            outcome: tee.Outcome = written
            try:
                await self._check_reread(source, active[index], written)
            except HaulError as error:
                outcome = error
            await self._recorder.record_or_retry(active[index], source, entries[index], outcome)
            settled.add(index)

        settled: set[int] = set()
        read_error: HaulError | None = None
        failures: dict[int, HaulError] = {}
        try:
            failures = await tee.tee(read, writers, memory, reserved, on_written)
        except HaulError as error:
            read_error = error
        _give_up_destinations(active, failures)
        for index, state in enumerate(active):
            if index not in settled:
                outcome = failures[index] if read_error is None else read_error
                await self._recorder.record_or_retry(state, source, entries[index], outcome)
        for state in states:
            if state not in active:
                await self._recorder.record(state, source, state.limiter.fatal_error)

    def _tee_source(self, source: Source) -> tee.Source:
        # TLS detects bytes that are damaged in transit, but HTTP without TLS does not.
        plain = isinstance(source, S3Object) and not self._source_client.is_tls
        return tee.Source(source.uri, self._reader(source), hash_all=plain)

    def _reader(self, source: Source) -> Reader:
        match source:
            case S3Object():
                with_tags = any(state.s3 is not None for state in self._states)
                return ObjectReader(self._source_client, source, with_tags=with_tags)
            case LocalFile():
                return FileReader(source)
            case _:
                return StreamReader(source)

    @property
    def _source_client(self) -> Service:
        if self._source_s3 is None:
            raise AssertionError("no source is in S3, so there is no S3 client for the sources")
        return self._source_s3

    def _entry(self, source: Source, state: DestinationState) -> Entry | None:
        if self._journal is None:
            return None
        return self._journal.entry(source.uri, plan.version(source), self._location(source, state))

    def _location(self, source: Source, state: DestinationState) -> Location:
        return self._locations.of_copy(source, state.destination, state.endpoint)

    async def _check_reread(
        self, source: Source, state: DestinationState, written: Written
    ) -> None:
        """Read a copy and its source again and compare the bytes, if that is necessary.

        It is necessary if ``reread`` is set, if the ETag of the copy looks wrong, or if only the
        size was verified and a post-copy action will move, rename or delete the source.
        """
        if written.proof == "none" and isinstance(source, Stream):
            target = state.destination.target(source.name, source.folder)
            raise VerificationError(
                f"verifying {target} failed: the ETag {written.version} is not the MD5 of the bytes"
                " sent, and a stream cannot be read again to compare. Run again"
            )
        by_size = written.proof == "size" and self._deletes_sources
        if self._reread or by_size or written.proof == "none":
            await self._check(source, state)

    async def _check(self, source: Source, state: DestinationState) -> None:
        await check_same(self._reader(source), state, source)


def _give_up_destinations(
    states: Sequence[DestinationState], failures: Mapping[int, HaulError]
) -> None:
    """Refuse further writes to each destination whose error would also fail every other write."""
    for index, error in failures.items():
        if is_final(error):
            states[index].limiter.give_up(error)
