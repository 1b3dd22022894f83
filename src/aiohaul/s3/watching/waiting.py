"""Waiting until what is waited for is there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import anyio

from aiohaul import looking
from aiohaul.aws.service import Service
from aiohaul.concurrency import first_of
from aiohaul.errors import HaulError, ServiceError
from aiohaul.looking import no_answer, nothing_found
from aiohaul.progress import OnProgress, Watching, ignore
from aiohaul.s3.objects import S3Object, uri
from aiohaul.s3.selection import Conditions, matching
from aiohaul.s3.watching.polling import Polling, Viewer
from aiohaul.s3.watching.queues import Listener, Queue

#: Objects of which it is worked out when their age will be right; more wait for the next look.
_MOST_AGEING = 5000
#: Added to the moment at which an age becomes right: it must be more than the limit then.
_MOMENT = 0.001
_NO_CONDITIONS = Conditions()


class Wait(Viewer):
    """Waits until objects of a directory match, and meet the conditions.

    It returns what one whole listing shows: files of one batch belong together. With ``early``
    it returns as soon as a page of the listing has enough, and leaves out what follows.

    Args:
        bucket: the bucket.
        directory: without leading or trailing "/"; "" is the whole bucket, at all depths.
        pattern: a regex, matched from the start of the last part of the key.
        timeout: seconds; 0 looks once.
        interval: seconds from the start of one look to the start of the next.
        reconcile: the same, while a queue tells of what happens.
        conditions: that must be met as well. An age that will be right later is waited for.
        early: do not wait for the rest of a listing; without effect where a count has a maximum.
        on_progress: told of every look that found nothing.

    Raises:
        PlanError: the directory begins or ends with "/".
    """

    def __init__(
        self,
        bucket: str,
        directory: str,
        pattern: re.Pattern[str],
        *,
        timeout: float,
        interval: float,
        reconcile: float,
        conditions: Conditions | None = None,
        early: bool = False,
        on_progress: OnProgress = ignore,
    ) -> None:
        super().__init__(bucket, directory, pattern, interval)
        self.deadline = self.due + timeout
        self._timeout = timeout
        self._conditions = conditions or _NO_CONDITIONS
        self._early = early and self._conditions.max_count is None
        self._on_progress = on_progress
        self._found: list[S3Object] = []
        self._ageing: list[S3Object] = []
        self._failure: HaulError | None = None
        self._telling = False
        self._looked = anyio.Event()
        self._intervals = (interval, reconcile)
        self._listener = Listener(bucket, directory, pattern, self.hurry, self._blinded)

    @property
    def where(self) -> str:
        """What is looked at, for messages."""
        return f"{uri(self.bucket, self.directory)} (names like {self.pattern.pattern})"

    async def found(
        self, polling: Polling, s3: Service, queue: Queue | None = None
    ) -> list[S3Object]:
        """Wait.

        Raises:
            WatchTimeoutError: nothing was there until the timeout.
            ServiceError: a look failed for a reason that does not pass by itself, or the last
                one failed for any: then nobody knows what is there.
        """
        with anyio.CancelScope(deadline=self.deadline + looking.OVERRUN) as scope:
            if queue is None:
                await polling.follow(s3, self)
            else:
                await self._follow_both(polling, s3, queue)
        if self._failure is not None:
            raise self._failure
        if scope.cancelled_caught:
            raise no_answer(self.where)
        if not self._found:
            raise nothing_found(self.where, self._timeout)
        return self._found

    def begin(self) -> None:
        """Forget what an earlier look saw."""
        self._found, self._ageing = [], []
        for key in list(self._listener.hints):
            self._listener.looked_into(key)

    def see(self, objects: Sequence[S3Object]) -> None:
        """Keep those that match."""
        now = datetime.now(UTC)
        for each in matching(objects, self.pattern):
            if self._conditions.meets(each, now):
                self._found.append(each)
            elif len(self._ageing) <= _MOST_AGEING:
                self._ageing.append(each)
        if self._early and self._found and self._conditions.enough(len(self._found)):
            self._failure = None
            self.settle()

    def end(self) -> None:
        """The wait is over if enough was found, or the time is up."""
        self._failure = None
        self._listener.release_but(())  # what they hinted at was looked at
        if self._found and self._conditions.enough(len(self._found)):
            self.settle()
            return
        known = [*self._found, *self._ageing]
        self._found, self._ageing = [], []
        if len(known) <= _MOST_AGEING:
            seconds = self._conditions.come_true_in(known, datetime.now(UTC))
            if seconds is not None:
                self.due = min(self.due, anyio.current_time() + seconds + _MOMENT)
        self._go_on()

    def fail(self, error: HaulError) -> None:
        """Go on if the failure may pass by itself, until the time is up."""
        self._failure = error
        self._found, self._ageing = [], []
        if isinstance(error, ServiceError) and error.retryable:
            self._go_on()
        else:
            self.settle()

    def heard(self) -> None:
        """Tell of a look that found nothing."""
        if self._telling and not self.settled:
            left = max(self.deadline - anyio.current_time(), 0)
            self._on_progress(Watching(self.where, left, self._failure))
        self._telling = False

    async def _follow_both(self, polling: Polling, s3: Service, queue: Queue) -> None:
        """Look when the queue says that something happened, and every few minutes."""
        self.interval = self._intervals[1]
        queue.join(self._listener)
        try:
            await first_of(lambda: polling.follow(s3, self), lambda: queue.listen(self._listener))
            await queue.tidy()
        finally:
            queue.leave(self._listener)
        if not self.settled and self._listener.failure is not None:
            self._failure = self._listener.failure

    async def _listen(self, queue: Queue) -> None:
        """List first: whoever finds cancels a receive, and what it brings would come late."""
        await self._looked.wait()
        await queue.listen(self._listener)

    def _blinded(self, error: HaulError) -> None:
        """The queue cannot be read: look as often as without one."""
        if self._failure is None:
            self._on_progress(
                Watching(self.where, max(self.deadline - anyio.current_time(), 0), error)
            )
        self.due = min(self.due, anyio.current_time() + self._intervals[0])
        if self.listing is not None:
            self.listing.poke()

    def _go_on(self) -> None:
        self._looked.set()
        if anyio.current_time() >= self.deadline:
            self.settle()
            return
        self.due = min(self.due, self.deadline)
        if self._on_progress is not ignore:
            self._telling = True
            self.call()
