"""Polls directories with ListObjectsV2. All watches of one directory share the listings."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import aclosing, contextmanager
from time import perf_counter

import anyio
from anyio.lowlevel import checkpoint

from aiohaul.aws.retry import backoff_delay
from aiohaul.aws.service import Service
from aiohaul.concurrency import LeaderQueue, Waiter
from aiohaul.errors import AccessDeniedError, HaulError, RegexLimitError, ServiceError
from aiohaul.s3.keys import checked_directory, directory_prefix
from aiohaul.s3.listing import list_pages
from aiohaul.s3.objects import S3Object
from aiohaul.s3.selection import list_prefix, select_matching

#: Number of objects in one call of ``on_objects``, and seconds after which ``_deliver`` yields to
#: the event loop.
_OBJECTS_AT_ONCE = 200
_MAX_BLOCKING = 0.002


class Subscriber(Waiter):
    """Receives the objects of one directory from a shared poll. Subclasses handle the objects.

    A poll lists the directory once, for all subscribers of the same directory.

    Args:
        bucket: the bucket.
        directory: without leading or trailing "/"; "" is the whole bucket, at all depths.
        pattern: a regex that the names of the wanted objects match.
        interval: seconds from the start of one poll to the start of the next.
        ignored: the storage classes whose objects are left out.
        recursive: True includes the objects of subdirectories.

    Attributes:
        prefix: the longest prefix that all wanted keys share.
        due: the time at which the next poll starts, by the loop's clock. The poll starts earlier
            if another subscriber is due earlier.
        poll: the shared poll that the subscriber waits for now.
        in_poll: True while the subscriber receives the objects of a poll. A subscriber that
            leaves during the poll misses objects, and joins again at the next poll.

    Raises:
        PlanError: the directory begins or ends with "/".
    """

    def __init__(
        self,
        bucket: str,
        directory: str,
        pattern: re.Pattern[str],
        interval: float,
        ignored: Collection[str] = (),
        *,
        recursive: bool = False,
    ) -> None:
        super().__init__()
        checked_directory(directory)
        self.bucket = bucket
        self.directory = directory
        self.pattern = pattern
        self._ignored = ignored
        self.recursive = recursive or not directory
        self.prefix = (
            directory_prefix(directory) if self.recursive else list_prefix(directory, pattern)
        )
        self.interval = interval
        self.due = anyio.current_time()
        self.poll: _SharedPoll | None = None
        self.in_poll = False
        self._poll_again = False
        self._polls = 0
        self._failures = 0

    def poll_now(self) -> None:
        """Start a poll as soon as possible.

        A poll that runs already may have listed the key before the change, so another poll
        follows.
        """
        self._poll_again = True
        self.due = min(self.due, anyio.current_time())
        if self.poll is not None:
            self.poll.wake()

    async def _wanted(self, objects: Sequence[S3Object]) -> list[S3Object]:
        """Return the objects whose names match, and whose storage classes are not left out.

        Raises:
            RegexLimitError: a name takes too many steps.
        """
        found = await select_matching(objects, self.pattern)
        if not self._ignored:
            return found
        return [each for each in found if each.storage_class not in self._ignored]

    def start_poll(self) -> None:
        """Join the poll that starts now."""
        self._poll_again = False
        self.in_poll = True
        self.on_start()

    def on_start(self) -> None:
        """Handle the start of a poll: discard the objects of an earlier poll that did not end."""

    def on_objects(self, objects: Sequence[S3Object]) -> None:
        """Handle the next wanted objects of the poll, in key order."""
        raise NotImplementedError

    def on_end(self) -> None:
        """Handle the end of a complete poll."""
        raise NotImplementedError

    def on_error(self, error: HaulError) -> None:
        """Handle the failure of a poll."""
        raise NotImplementedError

    def schedule_next(self, start: float, spread: float) -> None:
        """Set the time of the next poll, after a poll that succeeded.

        The pause before the second poll is a random part of the interval. Later pauses are one
        interval. So watches that start at the same time do not poll at the same time for ever.

        Args:
            start: the time at which this poll was due, by the loop's clock.
            spread: the random part of the interval, from 0.1 to 1. All subscribers of a poll use
                the same value, because the minimum of many random values would be close to 0.
        """
        now = anyio.current_time()
        self._polls += 1
        self._failures = 0
        gap = self.interval
        if self._polls == 1:
            gap *= spread
        # After a poll that took longer than the interval, the next one starts at once.
        self.due = now if self._poll_again else max(start + gap, now)

    def back_off(self) -> None:
        """Set the time of the next poll, after a failed poll.

        The pause grows with each failure, up to the interval.
        """
        self._failures += 1
        pause = backoff_delay(self._failures + 1, None)
        self.due = anyio.current_time() + min(self.interval, pause)


class Polling:
    """Polls the directories of a Session, each with one listing for all of its subscribers."""

    def __init__(self) -> None:
        self._directories: dict[tuple[Service, str, str, bool], _Directory] = {}

    async def follow(self, s3: Service, subscriber: Subscriber) -> None:
        """Poll the directory of a subscriber until the subscriber is settled.

        Raises:
            Exception: ``on_wake`` of the subscriber raised this exception.
        """
        key = (s3, subscriber.bucket, subscriber.directory, subscriber.recursive)
        directory = self._directories.get(key)
        if directory is None:
            directory = self._directories[key] = _Directory(
                s3, subscriber.bucket, recursive=subscriber.recursive
            )
        try:
            with directory.subscribed(subscriber):
                while not subscriber.settled:
                    await directory.poll_for(subscriber).follow(subscriber)
        finally:
            if not directory.prefixes:
                self._directories.pop(key, None)


class _Directory:
    """The polls of one directory: one poll for all subscribers, or one poll for each prefix.

    Each regex begins with other literal characters, and so has a prefix of its own. One poll
    lists the common prefix for all regexes while the listing fits in one page (1,000 keys).
    """

    def __init__(self, s3: Service, bucket: str, *, recursive: bool) -> None:
        self.s3 = s3
        self.bucket = bucket
        self.recursive = recursive
        self.prefixes: Counter[str] = Counter()
        self._common: str | None = None
        self._is_split = False
        self._polls: dict[str, _SharedPoll] = {}

    @contextmanager
    def subscribed(self, subscriber: Subscriber) -> Iterator[None]:
        common = subscriber.prefix if self._common is None else self._common
        common = _common_prefix(common, subscriber.prefix)
        self.prefixes[subscriber.prefix] += 1
        if common != self._common:
            self._common = common
            self._reassign()
        try:
            yield
        finally:
            self.prefixes[subscriber.prefix] -= 1
            if not self.prefixes[subscriber.prefix]:
                del self.prefixes[subscriber.prefix]

    def prefix_for(self, subscriber: Subscriber) -> str:
        return subscriber.prefix if self._is_split or self._common is None else self._common

    def poll_for(self, subscriber: Subscriber) -> _SharedPoll:
        prefix = self.prefix_for(subscriber)
        if prefix not in self._polls:
            self._polls[prefix] = _SharedPoll(self, prefix)
        return self._polls[prefix]

    def remove(self, poll: _SharedPoll) -> None:
        if self._polls.get(poll.prefix) is poll:
            del self._polls[poll.prefix]

    def split(self, prefix: str) -> bool:
        """Poll each prefix separately from now on.

        Returns:
            True if the polls were split. False if they are split already, or if all subscribers
            have this same prefix.
        """
        if self._is_split or all(own == prefix for own in self.prefixes):
            return False
        self._is_split = True
        self._reassign()
        return True

    def _reassign(self) -> None:
        for poll in self._polls.values():
            poll.wake()
            for subscriber in poll.leaders:
                subscriber.wake()


class _SharedPoll:
    """Lists one prefix for all subscribers of this prefix.

    The task of one subscriber, the leader, sends the requests.
    """

    def __init__(self, directory: _Directory, prefix: str) -> None:
        self.prefix = prefix
        self.leaders: LeaderQueue[Subscriber] = LeaderQueue()
        self._directory = directory
        self._woken = anyio.Event()

    async def follow(self, subscriber: Subscriber) -> None:
        self.wake()
        subscriber.poll = self
        try:
            await self.leaders.wait(subscriber, self._step, lambda: self._serves(subscriber))
        finally:
            subscriber.poll = None
            subscriber.in_poll = False
            if not self.leaders:
                self._directory.remove(self)

    def wake(self) -> None:
        """End the sleep before the next poll, to compute the time of the next poll again."""
        self._woken.set()

    def _serves(self, subscriber: Subscriber) -> bool:
        return self._directory.prefix_for(subscriber) == self.prefix

    async def _step(self) -> None:
        """Poll if a subscriber is due, else sleep until one is due or ``wake`` is called."""
        await checkpoint()  # let subscribers that start in the same loop iteration share the poll
        dues = [subscriber.due for subscriber in self.leaders if self._serves(subscriber)]
        if not dues:
            return  # another poll lists the prefixes of these subscribers now
        due = min(dues)
        if due <= anyio.current_time():
            await self._poll(due)
            return
        self._woken = anyio.Event()
        with anyio.CancelScope(deadline=due):
            await self._woken.wait()

    async def _poll(self, due: float) -> None:
        receiving = [subscriber for subscriber in self.leaders if not subscriber.settled]
        for subscriber in receiving:
            subscriber.start_poll()
        pages = list_pages(
            self._directory.s3,
            self._directory.bucket,
            self.prefix,
            recursive=self._directory.recursive,
        )
        try:
            async with aclosing(pages):
                async for page in pages:
                    if page.more and self._directory.split(self.prefix):
                        receiving = [each for each in receiving if self._serves(each)]
                    receiving = await self._deliver([*page.objects], receiving)
                    if not receiving:
                        return
        except AccessDeniedError as error:
            if self._directory.split(self.prefix):  # the policy may allow single prefixes
                receiving = [each for each in receiving if self._serves(each)]
            self._fail(receiving, error)
        except HaulError as error:
            self._fail(receiving, error)
        else:
            spread = random.uniform(0.1, 1)  # noqa: S311  # no secret
            for subscriber in self._receiving(receiving):
                subscriber.schedule_next(due, spread)
                subscriber.on_end()

    def _fail(self, subscribers: Sequence[Subscriber], error: HaulError) -> None:
        for subscriber in self._receiving(subscribers):
            if isinstance(error, ServiceError) and error.retryable:
                subscriber.back_off()
            subscriber.on_error(error)

    def _receiving(self, subscribers: Sequence[Subscriber]) -> list[Subscriber]:
        return [each for each in subscribers if self._receives(each)]

    def _receives(self, subscriber: Subscriber) -> bool:
        return not subscriber.settled and subscriber.in_poll and subscriber in self.leaders

    async def _deliver(
        self, objects: Sequence[S3Object], subscribers: Sequence[Subscriber]
    ) -> list[Subscriber]:
        """Pass the objects of a page to all subscribers, and yield to the event loop in between.

        Returns:
            The subscribers that still receive objects.
        """
        since = perf_counter()
        for start in range(0, len(objects), _OBJECTS_AT_ONCE):
            part = objects[start : start + _OBJECTS_AT_ONCE]
            for subscriber in subscribers:
                if not self._receives(subscriber):
                    continue
                try:
                    wanted = await subscriber._wanted(part)  # noqa: SLF001  # of this module
                except RegexLimitError as error:  # this subscriber's alone
                    subscriber.in_poll = False
                    subscriber.on_error(error)
                    continue
                if self._receives(subscriber):  # still, if the names took long
                    subscriber.on_objects(wanted)
                if perf_counter() - since > _MAX_BLOCKING:
                    await checkpoint()
                    since = perf_counter()
        return self._receiving(subscribers)


def _common_prefix(one: str, other: str) -> str:
    """Return the longest common prefix of two strings."""
    for at, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return one[:at]
    return min(one, other, key=len)
