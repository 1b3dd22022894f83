"""Watches a directory for new and changed objects until the watch is closed."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import chain, islice
from types import TracebackType
from typing import Self

import anyio
from anyio.lowlevel import checkpoint

from aiohaul.aws.service import Service
from aiohaul.cancellation import in_own_task
from aiohaul.concurrency import race, run_limited, yield_if_busy
from aiohaul.errors import HaulError, ObjectNotFoundError, ServiceError
from aiohaul.pickling import NotPicklable
from aiohaul.progress import OnProgress, WatchPolled, ignore
from aiohaul.s3.objects import S3Object, head_object, uri
from aiohaul.s3.watching.changes import Change, Cursor, SeenVersions, cursor, digest, pack, restore
from aiohaul.s3.watching.polling import Polling, Subscriber
from aiohaul.s3.watching.queues import Listener, Queue

#: Maximum number of changes that wait to be yielded. A poll that finds more is stopped, and
#: repeated once these are yielded.
_MAX_PENDING = 20_000
#: Maximum number of dirty keys checked in one step, and of concurrent HeadObject requests.
_MAX_CHECKS = 1000
_MAX_HEADS = 64
#: Changes yielded between two calls of :func:`yield_if_busy`.
_YIELD_EVERY = 50
#: Number of objects packed into a cursor between two yields to the event loop.
_PACK_AT_ONCE = 4000


class Watch(NotPicklable, Subscriber):
    """An asynchronous iterator over the new and changed objects of a directory.

    :meth:`aiohaul.S3Handler.watch` returns a watch. The iteration ends when the watch is closed.

    The watch works only while a task awaits the next change. At other times the watch runs no
    task, no timer and no request. The task may be cancelled, also by a timeout; the next call
    continues where the cancelled call stopped.

    The watch yields each change once. When the caller asks for the next change, the earlier
    change counts as handled, and the watch may delete its message from the SQS queue.
    :meth:`cursor` includes all changes that the watch has yielded, also the last one. So call it
    after you have handled that change.

    AWS: ListObjectsV2; with a queue also ReceiveMessage, HeadObject and DeleteMessageBatch.

    Raises:
        PlanError: the directory begins or ends with "/".
        CursorError: the cursor is damaged, or belongs to another directory.
    """

    def __init__(
        self,
        polling: Polling,
        s3: Callable[[], Awaitable[Service]],
        queue: Callable[[], Awaitable[Queue]] | None,
        *,
        bucket: str,
        directory: str,
        pattern: re.Pattern[str],
        interval: float,
        reconcile: float,
        existing: bool,
        since: Mapping[str, object] | None,
        horizon: float,
        on_progress: OnProgress,
        ignored: Collection[str] = (),
    ) -> None:
        first = interval if queue is None else reconcile
        super().__init__(bucket, directory, pattern, first, ignored)
        self._polling = polling
        self._s3 = s3
        self._open_queue = queue
        self._queue: Queue | None = None
        self._interval_without_queue = interval
        self._horizon = horizon
        self._on_progress = on_progress
        self._seen = SeenVersions() if since is None else restore(since, bucket, directory)
        self._baseline = since is None and not existing
        self._listener = Listener(
            bucket, directory, pattern, self._on_dirty, self._on_queue_unavailable
        )
        #: The changed objects that wait to be yielded, by key. Each has the digest of the version
        #: that was yielded before; None for a new key.
        self._pending: dict[str, tuple[S3Object, int | None]] = {}
        #: Keys whose HeadObject failed. The next complete poll lists these keys.
        self._unresolved: set[str] = set()
        self._failure: HaulError | None = None
        self._transient_error: HaulError | None = None
        self._cutoff = -math.inf
        self._progress_due = False
        self._polling_now = False
        self._stepping = False
        self._closed = False
        self._yielded = 0

    @property
    def where(self) -> str:
        """The directory and the regex, as error messages name them."""
        return f"{uri(self.bucket, self.directory)} (names like {self.pattern.pattern})"

    def __aiter__(self) -> AsyncIterator[Change]:
        return self

    async def __anext__(self) -> Change:
        if self._stepping:
            raise RuntimeError(
                f"reading the next change of {self.where} failed: another task already waits for"
                " the next change of this watch. Use one watch for each task"
            )
        self._stepping = True
        try:
            self._listener.acknowledge()
            while not self._pending:
                if self._closed:
                    raise StopAsyncIteration
                await self._step()
            self._yielded += 1
            if self._yielded % _YIELD_EVERY == 0:
                await yield_if_busy()
            return self._next_change()
        finally:
            self._stepping = False

    async def __aenter__(self) -> Self:
        return self

    @in_own_task
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._listener.acknowledge()
                if self._queue is not None:
                    await self._queue.delete_acked()
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Close the watch, which ends the iteration without an error. Sends no request.

        A task that waits for the next change stops waiting. Changes that were not yielded are
        discarded.
        """
        self._closed = True
        self._pending.clear()
        if self._queue is not None:
            self._queue.leave(self._listener)
        self._wake()

    async def cursor(self) -> Cursor:
        """Return a cursor, a JSON object that records the changes yielded so far.

        Store the cursor, and pass it to ``watch(since=…)`` in a later process, which then yields
        later changes only. A cursor contains 16 bytes (22 characters) for each object that exists
        and is younger than the horizon. Do not call this method while a task waits for the next
        change.
        """
        unyielded = {digest(key): before for key, (_, before) in self._pending.items()}
        pairs = iter(self._seen)
        data = []
        while some := list(islice(pairs, _PACK_AT_ONCE)):
            yielded = ((key, unyielded.get(key, version)) for key, version in some)
            data.append(pack((key, known) for key, known in yielded if known is not None))
            await checkpoint()
        return cursor(self.bucket, self.directory, self._seen.cutoff, b"".join(data))

    # Results of polls

    def on_start(self) -> None:
        """Start to record the objects of a poll."""
        self._polling_now = True
        self._cutoff = datetime.now(UTC).timestamp() - self._horizon
        self._seen.start()

    def on_objects(self, objects: Sequence[S3Object]) -> None:
        """Record the objects, and stop the poll if too many changes wait."""
        for each in objects:
            self._record(each)
        if len(self._pending) >= _MAX_PENDING:
            self._polling_now = False
            self.poll_now()
            self.settle()

    def on_end(self) -> None:
        """End a complete poll, and forget the objects that it did not find: they are deleted."""
        self._polling_now = False
        self._baseline = False
        self._transient_error = None
        self._seen.end(self._cutoff)
        self._unresolved.clear()
        self._listener.release_except(self._pending)
        listens_next = self._queue is not None and self._polls == 1
        if self._pending or self._listener.dirty_keys or listens_next:
            self._wake()
        else:
            self._request_progress()

    def on_error(self, error: HaulError) -> None:
        """Continue after a transient error; raise any other error from the iteration."""
        self._polling_now = False
        if isinstance(error, ServiceError) and error.retryable:
            self._transient_error = error
            self._request_progress()
            self._on_dirty()  # check the keys of events that arrived during the poll
        else:
            self._failure = error
            self._wake()

    def on_wake(self) -> None:
        """Call ``on_progress`` after a poll without a change."""
        if self._progress_due:
            self._progress_due = False
            self._on_progress(WatchPolled(self.where, math.inf, self._transient_error))

    def _request_progress(self) -> None:
        if self._on_progress is not ignore:
            self._progress_due = True
            self.wake()

    def _record(self, each: S3Object) -> bool:
        recorded = self._seen.record(each, self._cutoff)
        if recorded is None or self._baseline:
            return False
        before = recorded[1]
        if each.key in self._pending:  # a newer version replaces one that was not yielded
            before = self._pending[each.key][1]
        self._pending[each.key] = (each, before)
        return True

    # Events of the queue

    def _on_dirty(self) -> None:
        if self._listener.overflowed:
            self._listener.overflowed = False
            self.poll_now()
        elif self._listener.dirty_keys and self._polls and not self._polling_now:
            self._wake()

    def _on_queue_unavailable(self, error: HaulError) -> None:
        """Poll at ``interval`` instead of ``reconcile`` while the queue cannot be read."""
        self._transient_error = error
        self.due = min(self.due, anyio.current_time() + self._interval_without_queue)
        if self.poll is not None:
            self.poll.wake()
        self._request_progress()

    async def _check_dirty_keys(self, queue: Queue) -> None:
        """Check the objects that events named, and record their changes. AWS: HeadObject."""
        keys = list(islice(self._listener.dirty_keys, _MAX_CHECKS))
        s3 = await self._s3()
        checks = (partial(self._check_key, s3, key) for key in keys)
        await run_limited(chain([queue.delete_acked], checks), min(_MAX_HEADS, len(keys)) + 1)
        self._listener.release_except(self._pending.keys() | self._unresolved)

    async def _check_key(self, s3: Service, key: str) -> None:
        try:
            for each in await self._wanted([await head_object(s3, self.bucket, key)]):
                self._record(each)
        except ObjectNotFoundError:
            pass  # deleted since the event
        except HaulError:
            self.poll_now()  # the poll lists the key, or fails and ends the step with an error
            self._unresolved.add(key)
        self._listener.mark_checked(key)

    # The iteration

    @in_own_task
    async def _step(self) -> None:
        """Check the dirty keys if there are any, else wait for a poll or an event."""
        if self._queue is None and self._open_queue is not None:
            self._queue = await self._open_queue()
            self._queue.join(self._listener)
        if self._queue is not None and self._listener.dirty_keys and self._polls:
            await self._check_dirty_keys(self._queue)
            return
        self.settled = self._listener.settled = False
        try:
            # Poll before the first ReceiveMessage. A poll that finds changes would cancel a
            # running request, and its messages would stay invisible until the visibility timeout.
            if self._queue is None or not self._polls:
                await self._polling.follow(await self._s3(), self)
            else:
                await self._follow_both(self._queue)
        finally:
            self._polling_now = False
        failure = self._failure or self._listener.failure
        if failure is not None:
            self._failure = self._listener.failure = None
            raise failure

    async def _follow_both(self, queue: Queue) -> None:
        await queue.delete_acked()
        s3 = await self._s3()
        await race(lambda: self._polling.follow(s3, self), lambda: queue.listen(self._listener))

    def _wake(self) -> None:
        self.settle()
        self._listener.settle()
        if self.poll is not None:
            self.poll.wake()

    def _next_change(self) -> Change:
        key = next(iter(self._pending))
        found, before = self._pending.pop(key)
        self._listener.yield_key(key)
        return Change("appeared" if before is None else "changed", found)
