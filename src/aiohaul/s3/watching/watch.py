"""Watching what appears and changes, without an end."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import chain, islice
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.lowlevel import checkpoint

from aiohaul.aws.service import Service
from aiohaul.cancellation import in_own_task
from aiohaul.concurrency import first_of, give_way, work
from aiohaul.errors import HaulError, ObjectNotFoundError, ServiceError
from aiohaul.pickling import NotPicklable
from aiohaul.progress import OnProgress, Watching, ignore
from aiohaul.s3.objects import S3Object, head_object, uri
from aiohaul.s3.selection import matching
from aiohaul.s3.watching.changes import Change, Seen, cursor, digest, packed, restored
from aiohaul.s3.watching.polling import Polling, Viewer
from aiohaul.s3.watching.queues import Listener, Queue

#: Changes that are kept for whoever iterates; a look that shows more is broken off.
_MOST_PENDING = 20_000
#: Hints of a queue that are followed in one go, and HEAD requests of these at the same time.
_HINTS = 1000
_HEADS = 64
#: Changes that are handed over before it is asked whether the loop should have a turn.
_ONE_GO = 50
#: Digests that are packed for a cursor without giving the loop a turn.
_PACKED = 4000


class Watch(NotPicklable, Viewer):
    """What appears and changes in a directory: an async iterator that ends when it is closed.

    Made by :meth:`aiohaul.S3Handler.watch`. Between two steps of the iteration nothing runs: no
    task, no timer, no request. A step may be cancelled, also by a timeout, and the next one goes
    on where it was.

    Each change is handed over once. One counts as done when the next is asked for: that is when
    its message, if a queue said it, may be deleted. :meth:`cursor` covers all that were handed
    over, the last one too; ask for it when that is done.

    Raises:
        PlanError: the directory begins or ends with "/".
        CursorError: the cursor is damaged, or of another directory.
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
        since: Mapping[str, Any] | None,
        horizon: float,
        on_progress: OnProgress,
    ) -> None:
        super().__init__(bucket, directory, pattern, interval if queue is None else reconcile)
        self._polling = polling
        self._s3 = s3
        self._open_queue = queue
        self._queue: Queue | None = None
        self._blind_interval = interval
        self._horizon = horizon
        self._on_progress = on_progress
        self._seen = Seen() if since is None else restored(since, bucket, directory)
        self._silent = since is None and not existing
        self._listener = Listener(bucket, directory, pattern, self._hinted, self._blinded)
        #: What was seen and not handed over, by key, and the version that was seen before it.
        self._pending: dict[str, tuple[S3Object, int | None]] = {}
        #: Keys that the next whole look decides about.
        self._unclear: set[str] = set()
        self._failure: HaulError | None = None
        self._trouble: HaulError | None = None
        self._cutoff = -math.inf
        self._telling = False
        self._looking = False
        self._stepping = False
        self._closed = False
        self._handed = 0

    @property
    def where(self) -> str:
        """What is watched, for messages."""
        return f"{uri(self.bucket, self.directory)} (names like {self.pattern.pattern})"

    def __aiter__(self) -> AsyncIterator[Change]:
        return self

    async def __anext__(self) -> Change:
        if self._stepping:
            raise RuntimeError("this watch is being waited for already: make another one")
        self._stepping = True
        try:
            self._listener.done()
            while not self._pending:
                if self._closed:
                    raise StopAsyncIteration
                await self._step()
            self._handed += 1
            if self._handed % _ONE_GO == 0:
                await give_way()
            return self._next()
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
                self._listener.done()
                if self._queue is not None:
                    await self._queue.tidy()
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """End the iteration, also that of somebody who waits in it. Nothing is sent."""
        self._closed = True
        self._pending.clear()
        if self._queue is not None:
            self._queue.leave(self._listener)
        self._wake()

    async def cursor(self) -> dict[str, Any]:
        """What was handed over, as JSON has it, for ``watch(since=…)`` later on.

        16 bytes (22 characters) for each object that is there and younger than the horizon. It
        may be asked for at any time, but not while somebody waits for the next change.
        """
        waiting = {digest(key): before for key, (_, before) in self._pending.items()}
        pairs = iter(self._seen)
        data = []
        while some := list(islice(pairs, _PACKED)):
            done = ((key, waiting.get(key, version)) for key, version in some)
            data.append(packed((key, known) for key, known in done if known is not None))
            await checkpoint()
        return cursor(self.bucket, self.directory, self._seen.cutoff, b"".join(data))

    # What a listing shows

    def begin(self) -> None:
        """A look starts."""
        self._looking = True
        self._cutoff = datetime.now(UTC).timestamp() - self._horizon
        self._seen.begin()

    def see(self, objects: Sequence[S3Object]) -> None:
        """Keep what is new."""
        for each in matching(objects, self.pattern):
            self._note(each)
        if len(self._pending) >= _MOST_PENDING:
            self._looking = False
            self.hurry()
            self.settle()

    def end(self) -> None:
        """Everything was shown: what was not is gone."""
        self._looking = False
        self._silent = False
        self._trouble = None
        self._seen.end(self._cutoff)
        self._unclear.clear()
        self._listener.release_but(self._pending)
        listens_from_now_on = self._queue is not None and self._looks == 1
        if self._pending or self._listener.hints or listens_from_now_on:
            self._wake()
        else:
            self._tell()

    def fail(self, error: HaulError) -> None:
        """Go on if the failure may pass by itself."""
        self._looking = False
        if isinstance(error, ServiceError) and error.retryable:
            self._trouble = error
            self._tell()
            self._hinted()  # what was said meanwhile
        else:
            self._failure = error
            self._wake()

    def heard(self) -> None:
        """Tell of a look that found nothing."""
        if self._telling:
            self._telling = False
            self._on_progress(Watching(self.where, math.inf, self._trouble))

    def _tell(self) -> None:
        if self._on_progress is not ignore:
            self._telling = True
            self.call()

    def _note(self, each: S3Object) -> bool:
        noted = self._seen.note(each, self._cutoff)
        if noted is None or self._silent:
            return False
        before = noted[1]
        if each.key in self._pending:  # it was replaced before anybody saw it
            before = self._pending[each.key][1]
        self._pending[each.key] = (each, before)
        return True

    # What a queue says

    def _hinted(self) -> None:
        if self._listener.lost:
            self._listener.lost = False
            self.hurry()
        elif self._listener.hints and self._looks and not self._looking:
            self._wake()

    def _blinded(self, error: HaulError) -> None:
        """The queue cannot be read: look as often as without one."""
        self._trouble = error
        self.due = min(self.due, anyio.current_time() + self._blind_interval)
        if self.listing is not None:
            self.listing.poke()
        self._tell()

    async def _follow_hints(self, queue: Queue) -> None:
        """Look at the objects that the queue named (HeadObject)."""
        hints = list(islice(self._listener.hints, _HINTS))
        s3 = await self._s3()
        looks = (partial(self._follow_hint, s3, key) for key in hints)
        await work(chain([queue.tidy], looks), min(_HEADS, len(hints)) + 1)
        self._listener.release_but(self._pending.keys() | self._unclear)

    async def _follow_hint(self, s3: Service, key: str) -> None:
        try:
            self._note(await head_object(s3, self.bucket, key))
        except ObjectNotFoundError:
            pass  # it is gone again
        except HaulError:
            self.hurry()  # a listing may tell, or fail for all
            self._unclear.add(key)
        self._listener.looked_into(key)

    # The iteration

    @in_own_task
    async def _step(self) -> None:
        """Look into what is known to have happened, or wait for something to happen."""
        if self._queue is None and self._open_queue is not None:
            self._queue = await self._open_queue()
            self._queue.join(self._listener)
        if self._queue is not None and self._listener.hints and self._looks:
            await self._follow_hints(self._queue)
            return
        self.settled = self._listener.settled = False
        try:
            # List first: news would cancel a receive, and what it brings would come late.
            if self._queue is None or not self._looks:
                await self._polling.follow(await self._s3(), self)
            else:
                await self._follow_both(self._queue)
        finally:
            self._looking = False
        failure = self._failure or self._listener.failure
        if failure is not None:
            self._failure = self._listener.failure = None
            raise failure

    async def _follow_both(self, queue: Queue) -> None:
        await queue.tidy()
        s3 = await self._s3()
        await first_of(lambda: self._polling.follow(s3, self), lambda: queue.listen(self._listener))

    def _wake(self) -> None:
        self.settle()
        self._listener.settle()
        if self.listing is not None:
            self.listing.poke()

    def _next(self) -> Change:
        key = next(iter(self._pending))
        found, before = self._pending.pop(key)
        self._listener.hand_over(key)
        return Change("appeared" if before is None else "changed", found)
