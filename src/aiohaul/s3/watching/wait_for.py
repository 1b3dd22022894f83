"""Waits until objects of a directory match, with listings and with events of an SQS queue."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import anyio

from aiohaul.aws.service import Service
from aiohaul.concurrency import race
from aiohaul.errors import HaulError, ServiceError
from aiohaul.polling import GRACE, no_answer_error, timeout_error
from aiohaul.progress import OnProgress, WatchPolled, ignore
from aiohaul.s3.keys import directory_prefix
from aiohaul.s3.objects import S3Object, uri
from aiohaul.s3.selection import Conditions
from aiohaul.s3.watching.polling import Polling, Subscriber
from aiohaul.s3.watching.queues import Listener, Queue

#: Maximum number of unmatched objects for which the next poll is set to the moment at which their
#: age meets the conditions. With more objects, the next poll comes after the usual interval.
_MAX_AGEING = 5000
#: Seconds added to the moment at which an object reaches an age, because the age must exceed the
#: limit.
_AGE_MARGIN = 0.001
_NO_CONDITIONS = Conditions()


class Wait(Subscriber):
    """Waits until objects of a directory match a regex and meet conditions.

    The result is all matches of one complete listing, so that files which were written together
    are returned together. With ``early`` the wait ends as soon as the objects listed so far
    contain enough matches.

    Args:
        bucket: the bucket.
        directory: without leading or trailing "/"; "" is the whole bucket, at all depths.
        pattern: a regex, matched from the start of the name, which is the key after the last "/".
        timeout: seconds; 0 polls once.
        interval: seconds from the start of one poll to the start of the next, without a queue and
            while the queue cannot be read.
        reconcile: seconds from the start of one poll to the start of the next, while the queue
            can be read.
        conditions: conditions on size, age and count. If an object is too young, the next poll
            starts when the object reaches the age.
        early: True returns before the listing is complete; ignored if the conditions have a
            max_count.
        ignored: the storage classes whose objects are left out.
        recursive: True waits for objects of subdirectories too, and returns them with their root.
        on_progress: called after every poll without a result.

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
        ignored: Collection[str] = (),
        recursive: bool = False,
        on_progress: OnProgress = ignore,
    ) -> None:
        super().__init__(bucket, directory, pattern, interval, ignored, recursive=recursive)
        self._root = directory_prefix(directory) if recursive else None
        self.deadline = self.due + timeout
        self._timeout = timeout
        self._conditions = conditions or _NO_CONDITIONS
        self._early = early and self._conditions.max_count is None
        self._on_progress = on_progress
        self._found: list[S3Object] = []
        self._ageing: list[S3Object] = []
        self._failure: HaulError | None = None
        self._progress_due = False
        self._polled = anyio.Event()
        self._intervals = (interval, reconcile)
        self._listener = Listener(
            bucket,
            directory,
            pattern,
            self.poll_now,
            self._on_queue_unavailable,
            recursive=recursive,
        )

    @property
    def where(self) -> str:
        """The directory and the regex, as error messages name them."""
        return f"{uri(self.bucket, self.directory)} (names like {self.pattern.pattern})"

    async def wait(
        self, polling: Polling, s3: Service, queue: Queue | None = None
    ) -> list[S3Object]:
        """Wait for the matching objects. AWS: ListObjectsV2; ReceiveMessage with a queue.

        Args:
            polling: the shared polls of the Session.
            s3: the client that lists the directory.
            queue: an SQS queue whose events start a poll; None polls only.

        Returns:
            The matching objects.

        Raises:
            WatchTimeoutError: no object matched before the timeout.
            ServiceError: a poll failed with a permanent error, or the last poll before the
                timeout failed, so that nobody knows which objects exist.
        """
        with anyio.CancelScope(deadline=self.deadline + GRACE) as scope:
            if queue is None:
                await polling.follow(s3, self)
            else:
                await self._follow_with_queue(polling, s3, queue)
        if self._failure is not None:
            raise self._failure
        if scope.cancelled_caught:
            raise no_answer_error(self.where)
        if not self._found:
            raise timeout_error(self.where, self._timeout)
        if self._root is not None:
            return [replace(each, root=self._root) for each in self._found]
        return self._found

    def on_start(self) -> None:
        """Discard the objects of the earlier poll."""
        self._found, self._ageing = [], []
        for key in list(self._listener.dirty_keys):
            self._listener.mark_checked(key)

    def on_objects(self, objects: Sequence[S3Object]) -> None:
        """Collect the objects, and end the wait early if enough of them meet the conditions."""
        now = datetime.now(UTC)
        for each in objects:
            if self._conditions.meets(each, now):
                self._found.append(each)
            elif len(self._ageing) <= _MAX_AGEING:
                self._ageing.append(each)
        if self._early and self._found and self._conditions.enough(len(self._found)):
            self._failure = None
            self.settle()

    def on_end(self) -> None:
        """End the wait if enough objects match or time is up; else schedule the next poll."""
        self._failure = None
        self._listener.release_except(())  # this poll has listed their keys
        if self._found and self._conditions.enough(len(self._found)):
            self.settle()
            return
        known = [*self._found, *self._ageing]
        self._found, self._ageing = [], []
        if len(known) <= _MAX_AGEING:
            seconds = self._conditions.seconds_until_met(known, datetime.now(UTC))
            if seconds is not None:
                self.due = min(self.due, anyio.current_time() + seconds + _AGE_MARGIN)
        self._continue()

    def on_error(self, error: HaulError) -> None:
        """Continue after a transient error until the timeout; end the wait after another error."""
        self._failure = error
        self._found, self._ageing = [], []
        if isinstance(error, ServiceError) and error.retryable:
            self._continue()
        else:
            self.settle()

    def on_wake(self) -> None:
        """Call ``on_progress`` after a poll without a result."""
        if self._progress_due and not self.settled:
            remaining = max(self.deadline - anyio.current_time(), 0)
            self._on_progress(WatchPolled(self.where, remaining, self._failure))
        self._progress_due = False

    async def _follow_with_queue(self, polling: Polling, s3: Service, queue: Queue) -> None:
        """Poll after each event of the queue, and at the interval ``reconcile``."""
        self.interval = self._intervals[1]
        queue.join(self._listener)
        try:
            await race(lambda: polling.follow(s3, self), lambda: self._listen(queue))
            await queue.delete_acked()
        finally:
            queue.leave(self._listener)
        if not self.settled and self._listener.failure is not None:
            self._failure = self._listener.failure

    async def _listen(self, queue: Queue) -> None:
        """Read the queue after the first poll.

        If the first poll finds enough objects, it ends the wait. A ReceiveMessage that runs at
        that moment would be cancelled, and its messages would stay invisible to other readers
        until the visibility timeout.
        """
        await self._polled.wait()
        await queue.listen(self._listener)

    def _on_queue_unavailable(self, error: HaulError) -> None:
        """Poll at ``interval`` instead of ``reconcile`` while the queue cannot be read."""
        if self._failure is None:
            self._on_progress(
                WatchPolled(self.where, max(self.deadline - anyio.current_time(), 0), error)
            )
        self.due = min(self.due, anyio.current_time() + self._intervals[0])
        if self.poll is not None:
            self.poll.wake()

    def _continue(self) -> None:
        self._polled.set()
        if anyio.current_time() >= self.deadline:
            self.settle()
            return
        self.due = min(self.due, self.deadline)
        if self._on_progress is not ignore:
            self._progress_due = True
            self.wake()
