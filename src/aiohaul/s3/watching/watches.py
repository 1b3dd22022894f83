"""What S3Handler offers to wait for objects and lines, and to watch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from aiohaul.aws.clients import Clients
from aiohaul.aws.service import Service
from aiohaul.cancellation import in_own_task
from aiohaul.progress import OnProgress
from aiohaul.s3.objects import S3Object
from aiohaul.s3.selection import Conditions
from aiohaul.s3.watching.polling import Polling
from aiohaul.s3.watching.queues import Queue, Queues, queue_settings
from aiohaul.s3.watching.tail import Tail
from aiohaul.s3.watching.waiting import Wait
from aiohaul.s3.watching.watch import Watch
from aiohaul.settings import Settings
from aiohaul.user_code import guarded

ANY_NAME = re.compile("")
#: Seconds between two listings while a queue tells what happens.
RECONCILE = 300.0


class Watches:
    """The part of :class:`aiohaul.S3Handler` that waits and watches."""

    def __init__(
        self,
        clients: Clients,
        polling: Polling,
        queues: Queues,
        settings: Settings | None = None,
    ) -> None:
        self._clients = clients
        self._polling = polling
        self._queues = queues
        self._settings = settings

    @in_own_task
    async def wait_for(
        self,
        bucket: str,
        directory: str = "",
        pattern: str | re.Pattern[str] = ANY_NAME,
        *,
        timeout: float = 60.0,
        interval: float = 10.0,
        conditions: Conditions | None = None,
        early: bool = False,
        queue: str | None = None,
        reconcile: float = RECONCILE,
        on_progress: OnProgress | None = None,
    ) -> list[S3Object]:
        """Wait until objects of a directory match.

        All waits of a Session that look into one directory share their listings; each keeps its
        own interval, conditions and timeout.

        AWS: ListObjectsV2 every ``interval``. A listing that is throttled, fails with 5xx or
        does not answer counts as one that found nothing. With a queue, ReceiveMessage and
        DeleteMessageBatch: then a listing follows each event of interest.

        Args:
            bucket: the bucket.
            directory: without leading or trailing "/"; "" is the whole bucket, at all depths.
            pattern: a regex, matched from the start of the last part of the key (``re.match``).
            timeout: seconds to wait; 0 looks once.
            interval: seconds between two looks at most.
            queue: the URL of an SQS queue that gets the bucket's notifications.
            reconcile: seconds between two looks at most, while the queue can be read.
            conditions: on size, age and count, that must be met as well. An age that will be
                right later is waited for to the moment.
            early: return as soon as a page of the listing (1,000 keys) has enough, without what
                follows. Where ``conditions`` have a ``max_count``, it takes the whole listing.
            on_progress: told of every look that found nothing.

        Returns:
            All of those that are there, as one whole listing shows them; at least one.

        Raises:
            PlanError: the directory begins or ends with "/".
            WatchTimeoutError: nothing matched until the timeout.
            BucketNotFoundError: there is no such bucket.
            AccessDeniedError: the credentials may not list it.
            ServiceError: another failure that does not pass by itself, or the last listing
                failed: then nobody knows what is there.
        """
        wait = Wait(
            bucket,
            directory,
            re.compile(pattern),
            timeout=timeout,
            interval=interval,
            reconcile=reconcile,
            conditions=conditions,
            early=early,
            on_progress=guarded("on_progress", on_progress),
        )
        opened = await self._queue(queue) if queue is not None else None
        return await wait.found(self._polling, await self._s3(), opened)

    def watch(
        self,
        bucket: str,
        directory: str = "",
        pattern: str | re.Pattern[str] = ANY_NAME,
        *,
        interval: float = 10.0,
        existing: bool = True,
        since: Mapping[str, Any] | None = None,
        horizon: float = math.inf,
        queue: str | None = None,
        reconcile: float = RECONCILE,
        on_progress: OnProgress | None = None,
    ) -> Watch:
        """Watch what appears and changes in a directory, until cancelled.

        ``async for change in s3.watch(…)``. An object counts as new if its key, its ETag or the
        second of its LastModified was not seen before. What two looks have between them is not
        seen: an object that came and went, or the first of two versions.

        Nothing is missed from one process to the next if ``since`` is a cursor of the watch
        before; what was handed over after that cursor was taken is handed over again.

        AWS: ListObjectsV2 every ``interval``, shared with other watches. With a queue,
        ReceiveMessage, HeadObject for each object that it names, and DeleteMessageBatch.

        Args:
            bucket: the bucket.
            directory: without leading or trailing "/"; "" is the whole bucket, at all depths.
            pattern: a regex, matched from the start of the last part of the key (``re.match``).
            interval: seconds between two looks at most.
            existing: False leaves out what the first look shows. Without effect with ``since``.
            since: the cursor of an earlier watch of this directory.
            horizon: seconds for which an object is remembered after its LastModified. One that
                becomes visible later than that after its LastModified is missed: a multipart
                upload has the time of its start, a replica that of the original.
            queue: the URL of an SQS queue that gets the bucket's notifications.
            reconcile: seconds between two looks at most, while the queue can be read.
            on_progress: told of every look that found nothing, and of failures.

        Returns:
            An async iterator. It raises BucketNotFoundError, AccessDeniedError or another
            ServiceError for a failure that does not pass by itself; iterate on to try again.

        Raises:
            PlanError: the directory begins or ends with "/".
            CursorError: the cursor is damaged, or of another directory.
        """
        return Watch(
            self._polling,
            self._s3,
            partial(self._queue, queue) if queue is not None else None,
            bucket=bucket,
            directory=directory,
            pattern=re.compile(pattern),
            interval=interval,
            reconcile=reconcile,
            existing=existing,
            since=since,
            horizon=horizon,
            on_progress=guarded("on_progress", on_progress),
        )

    @in_own_task
    async def wait_for_line(
        self,
        bucket: str,
        key: str,
        pattern: str | re.Pattern[str],
        *,
        at_end: bool = False,
        timeout: float = 60.0,
        interval: float = 10.0,
        on_progress: OnProgress | None = None,
    ) -> str:
        """Wait for a line in an object that is written anew, and longer, again and again.

        AWS: HeadObject every ``interval``, and GetObject for the bytes that are new.

        Args:
            bucket: the bucket.
            key: of the object, which need not be there yet.
            pattern: a regex, searched for in every line.
            at_end: look only at what is added from now on.
            timeout: seconds to wait; 0 looks once.
            interval: seconds between two looks.
            on_progress: told of every look that found nothing.

        Returns:
            The first line that matches.

        Raises:
            WatchTimeoutError: no line matched until the timeout.
            ServiceError: it cannot be read.
        """
        return await Tail(bucket, key, re.compile(pattern)).wait(
            await self._s3(),
            at_end=at_end,
            timeout=timeout,
            interval=interval,
            on_progress=guarded("on_progress", on_progress),
        )

    async def tail_begin(self, tail: Tail, *, at_end: bool) -> None:
        """Make sure that an object to look into is there. AWS: HeadObject.

        Raises:
            ObjectNotFoundError: it is not there.
            ServiceError: another failure.
        """
        await tail.begin(await self._s3(), at_end=at_end)

    async def tail_found(self, tail: Tail) -> bool:
        """Whether a line that was added to an object since the last look matches.

        AWS: HeadObject, and GetObject for the bytes that are new.

        Raises:
            ObjectNotFoundError: it is not there any more.
            ServiceError: another failure.
        """
        return await tail.found(await self._s3()) is not None

    async def _s3(self) -> Service:
        return await self._clients.service("s3", self._settings)

    async def _queue(self, url: str) -> Queue:
        settings = queue_settings(self._clients.resolve(self._settings), url)
        return self._queues.queue(await self._clients.service("sqs", settings), url)
