"""Lists a large prefix with many requests at a time, in key order.

The listing starts as one range of keys. A range is split while it is listed: a request starts at a
key in the middle (StartAfter), and its page is the first one of the upper half. So every request
that hits is also progress. Pages are passed on in key order, and later pages wait in a buffer.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import AsyncGenerator, Sequence

import anyio

from aiohaul.concurrency import yield_if_busy
from aiohaul.errors import ServiceError
from aiohaul.s3.listings.keyspace import KeySpace
from aiohaul.s3.listings.pages import Answer, Fetch, ObjectBlock
from aiohaul.s3.listings.ranges import DisorderError, KeyRange, MismatchError

_log = logging.getLogger(__name__)

#: The maximum number of requests in flight.
WIDTH = 64
#: The number of pages in the buffer for callers that do not keep all objects. All
#: but the first _PLAIN pages are compressed to a fifth.
BUFFER, _PLAIN = 640, 64
#: With a buffer, the number of remaining pages above which a range is split, and the number of
#: pages that a range may list before its turn comes.
_PART, _AHEAD = 24.0, 64
#: The maximum share of requests that bring nothing new, and the expected waste of each range,
#: whose last page overlaps with the next range.
_WASTE, _OVERLAP = 0.13, 0.4
#: A range with fewer remaining pages is not split: without a buffer; with one, the first range.
_MIN_PAGES, _MIN_PAGES_FIRST = 3.0, 6.0
#: Client errors: the server may refuse StartAfter.
_REFUSED = range(400, 500)
_NOT_IMPLEMENTED = 501


class ParallelListing:
    """A listing that continues after some pages, with many requests at a time.

    The rest of the listing is listed with one request after the other if the server does not list
    keys in the order of their UTF-8 bytes, or does not start after the key in StartAfter. Every
    page is checked, and every range must overlap with the next one.

    Args:
        fetch: requests a page.
        prefix: the prefix of all keys.
        recursive: False if keys with another "/" after the prefix are not listed.
        buffer: the maximum number of pages in the buffer; None if the caller keeps all objects.

    Attributes:
        in_order: False if the server does not list as S3 does.
        is_parallel: True if many requests may be sent at a time.
    """

    def __init__(
        self, fetch: Fetch, prefix: str, *, recursive: bool = True, buffer: int | None = BUFFER
    ) -> None:
        self.in_order = True
        self._fetch = fetch
        self._prefix = prefix
        self._space = KeySpace(prefix, recursive=recursive)
        self._buffer = math.inf if buffer is None else buffer
        self._ahead = math.inf if buffer is None else _AHEAD
        first = KeyRange("", None, None)
        first.is_first = True
        self._ranges = [first]
        self.is_parallel = True
        self._requests = 0
        self._useful = 0.0
        self._in_flight: dict[asyncio.Task[Answer], KeyRange] = {}
        self._dropped: set[asyncio.Task[Answer]] = set()
        self._done: deque[asyncio.Task[Answer]] = deque()
        self._woken: asyncio.Future[None] | None = None

    def add_first(self, answer: Answer) -> None:
        """Add a page that the caller has listed and consumed: the first pages, in order."""
        first = self._ranges[0]
        self._requests += 1
        try:
            self._add(first, answer, first.position)
        except DisorderError:
            self.is_parallel = self.in_order = False
        first.ready.clear()

    async def blocks(self) -> AsyncGenerator[tuple[ObjectBlock, bool], None]:
        """Yield the rest of the objects, each block with True if another page follows.

        Raises:
            ServiceError: a request failed. The other requests are cancelled.
        """
        try:
            while self._ranges:
                self._launch()
                first = self._ranges[0]
                if first.ready:
                    await yield_if_busy()  # the caller may not wait for anything
                    blocks = first.take()
                    more = len(self._ranges) > 1 or bool(first.ready) or not first.finished
                    for block in blocks:
                        yield block, more
                        await self._take()
                elif first.finished:
                    self._ranges.pop(0)
                else:
                    await self._wait()
                    await self._take()
        finally:
            await self._cancel()

    def _launch(self) -> None:
        """Send the next request of each range, and split ranges, within the limits."""
        waiting = self._waiting_pages()
        before = 0.0  # an estimate of the pages between the caller and this range
        for each in self._ranges:
            # The first range always continues, because the others wait for it.
            if before and (len(self._in_flight) >= WIDTH or max(waiting, before) >= self._buffer):
                break
            if not each.finished and each.task is None and len(each.ready) < self._ahead:
                each.task = self._start(each, *each.next_request)
                waiting += 1
            before += len(each.ready) + each.remaining + 1
        while self.is_parallel and len(self._in_flight) < WIDTH and waiting < self._buffer:
            if not self._split():
                return
            waiting += 1

    def _waiting_pages(self) -> int:
        return len(self._in_flight) + sum(len(each.ready) for each in self._ranges)

    def _split(self) -> bool:
        """Send a request that splits a range. Return False if no range can be split now."""
        completed = self._requests - len(self._in_flight)
        probes = sum(each.probe is not None for each in self._ranges)
        waste = completed - self._useful + probes + _OVERLAP * (len(self._ranges) - 1)
        if waste + 1 > _WASTE * self._useful:
            return False
        for each in self._worth_a_split():
            point = each.split_point(self._space)
            if point is not None:
                each.probe = self._start(each, None, point)
                each.probe_start = point
                return True
            each.remaining = 0.0  # no other split point before its next page
        return False

    def _worth_a_split(self) -> Sequence[KeyRange]:
        """Return the ranges that are worth a split, the best one first."""
        if self._buffer == math.inf:
            found = [e for e in self._ranges if e.can_split and e.remaining >= _MIN_PAGES]
            return sorted(found, key=lambda each: -each.remaining)
        # Pages of distant ranges would only wait in the buffer.
        near: list[KeyRange] = []
        before = 0.0
        for each in self._ranges:
            if before >= self._buffer:
                break
            # The first range delays all others.
            if each.can_split and each.remaining > (_PART if before else _MIN_PAGES_FIRST):
                near.append(each)
            before += len(each.ready) + each.remaining + 1
        return near

    def _start(
        self, owner: KeyRange, token: str | None, start_after: str | None
    ) -> asyncio.Task[Answer]:
        task = asyncio.ensure_future(self._fetch(token, start_after))
        self._requests += 1
        self._in_flight[task] = owner
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[Answer]) -> None:
        self._done.append(task)
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def _wait(self) -> None:
        """Wait until a request has a response."""
        if not self._done:
            self._woken = asyncio.get_running_loop().create_future()
            await self._woken
            self._woken = None

    async def _take(self) -> None:
        """Add the pages that have arrived, and send the next requests."""
        if not self._done:
            return
        while self._done:
            task = self._done.popleft()
            owner = self._in_flight.pop(task, None)
            if owner is None:  # its page is not needed any more
                continue
            if task is owner.probe:
                owner.probe = None
                self._take_probe(owner, task)
            else:
                owner.task = None
                self._take_next(owner, task.result())
            is_large = self._buffer != math.inf and self._waiting_pages() > _PLAIN
            if is_large and owner is not self._ranges[0]:
                owner.pack()
            await yield_if_busy()
        self._launch()

    def _take_next(self, owner: KeyRange, answer: Answer) -> None:
        """Add the next page of a range."""
        if not self.is_parallel:
            owner.add_unchecked(answer)
            return
        was_first = owner.is_first
        try:
            self._add(owner, answer, owner.position)
        except MismatchError:
            self._list_sequentially("two parts of the listing do not overlap")
        except DisorderError:
            self.in_order = False
            self._list_sequentially("the server does not list in the order of UTF-8 bytes")
            if was_first:
                owner.add_unchecked(answer)

    def _take_probe(self, owner: KeyRange, task: asyncio.Task[Answer]) -> None:
        """Split a range at the start of a page that was requested for this purpose."""
        try:
            answer = task.result()
        except ServiceError as error:
            if error.status not in _REFUSED and error.status != _NOT_IMPLEMENTED:
                raise
            # If the reason is another one, the next request of the first range fails, too.
            self._list_sequentially(f"the server refuses StartAfter: {error.problem}")
            return
        start = owner.probe_start
        if not owner.can_split or owner.position >= start:
            owner.missed(self._space)  # the range was listed faster than the response came
            return
        try:
            owner.check(answer, start, self._prefix)
        except DisorderError:
            self.in_order = False
            self._list_sequentially("the server does not start after the key in StartAfter")
            return
        entries = answer.entries
        if not entries or (owner.end is not None and entries[0] > owner.end):
            owner.missed(self._space)
            return
        at = self._ranges.index(owner)
        upper = owner.split(start, entries)
        self._ranges.insert(at + 1, upper)
        try:
            self._add(upper, answer, start)
        except MismatchError:
            self._list_sequentially("two parts of the listing do not overlap")
        owner.estimate(self._space)

    def _add(self, owner: KeyRange, answer: Answer, start: str) -> None:
        owner.check(answer, start, self._prefix)
        following = next(iter(self._ranges[self._ranges.index(owner) + 1 :]), None)
        self._space.learn(answer.entries)
        self._useful += owner.add(answer, following)
        owner.estimate(self._space)

    def _list_sequentially(self, reason: str) -> None:
        """Continue the first unfinished range to the end of the listing, and drop the others.

        All ranges before it are complete, and each overlaps with the next one.
        """
        self.is_parallel = False
        at = next((at for at, each in enumerate(self._ranges) if not each.finished), None)
        if at is None:
            return
        _log.info("listing %s with one request at a time: %s", self._prefix or "a bucket", reason)
        rest, dropped = self._ranges[at], self._ranges[at + 1 :]
        del self._ranges[at + 1 :]
        unwanted = [rest.probe, *(task for each in dropped for task in (each.probe, each.task))]
        if not rest.is_first:
            unwanted.append(rest.task)
            rest.task = None
        rest.probe = None
        for task in unwanted:
            if task is not None:
                task.cancel()
                self._in_flight.pop(task, None)
                self._dropped.add(task)
        rest.continue_unchecked()

    async def _cancel(self) -> None:
        """Cancel all requests, and wait until they have ended."""
        tasks = {*self._in_flight, *self._dropped}
        self._in_flight.clear()
        for task in tasks:
            task.cancel()
        cancelled: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):
            while any(not task.done() for task in tasks):
                try:
                    await asyncio.wait(tasks)
                except asyncio.CancelledError as error:
                    cancelled = error
        for task in tasks:
            if not task.cancelled():
                task.exception()  # so that asyncio does not report it
        if cancelled is not None:
            try:
                raise cancelled
            finally:
                del cancelled
