"""Records the result of every copy, sends events, collects copies to retry, and writes flags."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import anyio

from aiohaul.errors import HaulError, LocalFileExistsError, ObjectExistsError
from aiohaul.progress import Copied, Event, Failed, FlagWritten, OnProgress
from aiohaul.report import Failure
from aiohaul.s3.copying import plan
from aiohaul.s3.copying.destination_state import DestinationState, is_transient
from aiohaul.s3.copying.jobs import TransferJob
from aiohaul.s3.copying.plan import Source
from aiohaul.s3.journal import Entry, Journal
from aiohaul.s3.local import LocalFile
from aiohaul.s3.objects import S3Object
from aiohaul.s3.streaming import tee
from aiohaul.s3.streaming.stream import Stream
from aiohaul.telemetry.runs import CopyTracer

#: The errors of a write if the key or the file exists and ``overwrite`` is False.
_EXISTS = (ObjectExistsError, LocalFileExistsError)


class CallbackError(Exception):
    """``on_progress`` raised an error.

    A separate class, because a HaulError that ``on_progress`` raises is not a failed copy.
    """


class ResultRecorder:
    """Records the results of the copies of one transfer.

    A pass is one attempt to copy all sources that have no result yet. After the first pass, copies
    that failed for a transient reason are retried in a second pass, which is the last.

    Args:
        on_progress: called with an event for every object.
        states: the destinations. TransferEngine fills this list later.
        locations: returns the locations of flags.
        copies: traces the copy of every object.
        journal: the journal of this transfer; None without a journal.
        check: compares a source with its copy, and raises HaulError if the bytes differ.

    Attributes:
        callback_failure: the error that ``on_progress`` raised; None without an error.
        retry_later: the jobs for the next pass.
        start: the start of the transfer, in seconds of the event loop's clock.
    """

    def __init__(  # noqa: PLR0917  # shared by all copies
        self,
        on_progress: OnProgress,
        states: Sequence[DestinationState],
        locations: plan.Locations,
        copies: CopyTracer,
        journal: Journal | None,
        check: Callable[[Source, DestinationState], Awaitable[None]],
    ) -> None:
        self.callback_failure: Exception | None = None
        self.retry_later: list[TransferJob] = []
        self.start = 0.0
        self._on_progress = on_progress
        self._states = states
        self._locations = locations
        self._copies = copies
        self._journal = journal
        self._check = check
        self._last_pass = False

    def emit(self, event: Event) -> None:
        """Call ``on_progress`` with an event; save an error of ``on_progress``.

        Raises:
            CallbackError: ``on_progress`` raised an error.
        """
        try:
            self._on_progress(event)
        except Exception as error:
            self.callback_failure = error  # TransferEngine raises this error, without a group
            raise CallbackError from error

    def next_pass(self, *, last: bool) -> list[TransferJob]:
        """Return the jobs to retry, and allow writes to destinations with a transient error."""
        jobs, self.retry_later = self.retry_later, []
        self._last_pass = last
        for state in self._states:
            fatal_error = state.limiter.fatal_error
            if fatal_error is not None and is_transient(fatal_error):
                state.limiter.reopen()
        return jobs

    async def record_or_retry(
        self, state: DestinationState, source: Source, entry: Entry | None, outcome: tee.Outcome
    ) -> None:
        """Record the result of one copy, or add the copy to the next pass.

        If the object or file exists, and an interrupted run wrote the same bytes, the copy is
        recorded as successful.
        """
        if not isinstance(outcome, HaulError):
            if entry is not None:
                entry.copied(outcome.version)
            await self.record(state, source, None)
            return
        if isinstance(outcome, _EXISTS) and await self._is_own(state, source):
            await self.record(state, source, None, already_there=True)
            return
        await self.record(state, source, outcome)

    async def _is_own(self, state: DestinationState, source: Source) -> bool:
        """Return True if an interrupted run wrote the existing copy, but did not record the copy.

        All bytes are compared, because the server may carry out a request of the interrupted run
        after that run has ended.
        """
        if self._journal is None or not self._journal.resumed or isinstance(source, Stream):
            return False
        try:
            await self._check(source, state)
        except HaulError:
            return False
        return True

    async def record(
        self,
        state: DestinationState,
        source: Source,
        error: HaulError | None,
        *,
        already_there: bool = False,
    ) -> None:
        """Record the result of one copy, and write the flag after the last copy.

        A copy that failed for a transient reason is added to the next pass instead.
        """
        if error is not None and not self._last_pass and self._worth_a_pass(source, error):
            self.retry_later.append((source, [state]))
            return
        state.remaining -= 1
        target = state.destination.target(source.name, source.folder)
        attempt = 2 if self._last_pass else 1
        self._copies.record_copy(source.uri, state, target, (source.size, attempt), error)
        if error is None:
            state.objects += 1
            state.already_there += already_there
            state.size += source.size
            self.emit(Copied(source.uri, target, state.name, source.size, already_there))
        else:
            state.failures.append(Failure.of(source.uri, error))
            self.emit(Failed(source.uri, state.name, error))
        if state.complete:
            await self._flag(state)
        state.seconds = anyio.current_time() - self.start

    def _worth_a_pass(self, source: Source, error: HaulError) -> bool:
        """Return True if a retry may succeed. A stream cannot be read again."""
        return isinstance(source, S3Object | LocalFile) and is_transient(error)

    async def _flag(self, state: DestinationState) -> None:
        """Write a destination's flag once every destination with the same flag is complete."""
        destination = state.destination
        location = self._locations.of_flag(destination, state.endpoint)
        sharing = [
            each
            for each in self._states
            if self._locations.of_flag(each.destination, each.endpoint) == location
        ]
        if destination.flag is None or not all(each.complete for each in sharing):
            return
        try:
            target = await state.write_flag()
        except HaulError as error:
            state.failures.append(Failure.of(str(destination.flag), error))
            self.emit(Failed(str(destination.flag), state.name, error))
            return
        for each in sharing:
            each.flag = target
        self.emit(FlagWritten(target, state.name))
