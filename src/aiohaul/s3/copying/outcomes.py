"""What becomes of every source at every destination: entered, told, put off, and flagged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import anyio

from aiohaul.errors import HaulError, LocalFileExistsError, ObjectExistsError
from aiohaul.progress import Copied, Event, Failed, Flagged, OnProgress
from aiohaul.report import Failure
from aiohaul.s3.copying import plan
from aiohaul.s3.copying.course import Course, may_pass
from aiohaul.s3.copying.errands import Errand
from aiohaul.s3.copying.plan import Source
from aiohaul.s3.local import LocalFile
from aiohaul.s3.objects import S3Object
from aiohaul.s3.resuming.journal import Entry, Journal
from aiohaul.s3.streaming import tee
from aiohaul.s3.streaming.stream import Stream
from aiohaul.telemetry.runs import Copies

#: What a destination says whose key or name is taken.
_TAKEN = (ObjectExistsError, LocalFileExistsError)


class CallbackError(Exception):
    """``on_progress`` raised an error. That may be a HaulError, and yet no failure of a copy."""


class Outcomes:
    """What became of the copies, as it comes in.

    Args:
        on_progress: told of every object.
        courses: the destinations; filled in once they are settled.
        places: what tells them from each other.
        copies: told of every object, for whoever listens to the run.
        journal: what an interrupted run has done, and where this one writes what it does.
        check: compares a source with its copy; raises HaulError if they differ.

    Attributes:
        callback_failure: what ``on_progress`` raised.
        again: what is put off to the next pass.
        start: when the copying started, on the clock of the event loop.
    """

    def __init__(  # noqa: PLR0917  # what the copies share
        self,
        on_progress: OnProgress,
        courses: Sequence[Course],
        places: plan.Places,
        copies: Copies,
        journal: Journal | None,
        check: Callable[[Source, Course], Awaitable[None]],
    ) -> None:
        self.callback_failure: Exception | None = None
        self.again: list[Errand] = []
        self.start = 0.0
        self._on_progress = on_progress
        self._courses = courses
        self._places = places
        self._copies = copies
        self._journal = journal
        self._check = check
        self._last_pass = False

    def tell(self, event: Event) -> None:
        """Tell of an event, and remember if that is answered with an error."""
        try:
            self._on_progress(event)
        except Exception as error:
            self.callback_failure = error  # raised by Fanout as it is, not as part of a group
            raise CallbackError from error

    def next_pass(self, *, last: bool) -> list[Errand]:
        """What is to be tried again, also where a destination could not be reached."""
        again, self.again = self.again, []
        self._last_pass = last
        for course in self._courses:
            if course.gate.stopped is not None and may_pass(course.gate.stopped):
                course.gate.stopped = None
        return again

    async def settle(
        self, course: Course, source: Source, entry: Entry | None, outcome: tee.Outcome
    ) -> None:
        """Enter what became of one source at one destination, or put it off to the next pass."""
        if not isinstance(outcome, HaulError):
            if entry is not None:
                entry.copied(outcome)
            await self.enter(course, source, None)
            return
        if isinstance(outcome, _TAKEN) and await self._is_own(course, source):
            await self.enter(course, source, None, kept=True)
            return
        await self.enter(course, source, outcome)

    async def _is_own(self, course: Course, source: Source) -> bool:
        """Whether what is in the way is what an interrupted run wrote and did not note any more.

        Its bytes tell: a request of that run may even have been carried out only now.
        """
        if self._journal is None or not self._journal.resumed or isinstance(source, Stream):
            return False
        try:
            await self._check(source, course)
        except HaulError:
            return False
        return True

    async def enter(
        self, course: Course, source: Source, error: HaulError | None, *, kept: bool = False
    ) -> None:
        """Enter how one source fared at one destination; the last one brings the flag."""
        if error is not None and not self._last_pass and self._worth_a_pass(source, error):
            self.again.append((source, [course]))
            return
        course.left -= 1
        target = course.destination.target(source.name)
        attempt = 2 if self._last_pass else 1
        self._copies.ended(source.uri, course, target, (source.size, attempt), error)
        if error is None:
            course.objects += 1
            course.kept += kept
            course.size += source.size
            self.tell(Copied(source.uri, target, course.name, source.size, kept))
        else:
            course.failures.append(Failure.of(source.uri, error))
            self.tell(Failed(source.uri, course.name, error))
        if course.complete:
            await self._flag(course)
        course.seconds = anyio.current_time() - self.start

    def _worth_a_pass(self, source: Source, error: HaulError) -> bool:
        return isinstance(source, S3Object | LocalFile) and may_pass(error)

    async def _flag(self, course: Course) -> None:
        """Write a complete destination's flag, unless another one shares it and is not."""
        destination = course.destination
        place = self._places.of_flag(destination, course.endpoint)
        sharing = [
            each
            for each in self._courses
            if self._places.of_flag(each.destination, each.endpoint) == place
        ]
        if destination.flag is None or not all(each.complete for each in sharing):
            return
        try:
            target = await course.write_flag()
        except HaulError as error:
            course.failures.append(Failure.of(str(destination.flag), error))
            self.tell(Failed(str(destination.flag), course.name, error))
            return
        for each in sharing:
            each.flag = target
        self.tell(Flagged(target, course.name))
