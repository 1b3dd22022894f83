"""S3Handler: everything about S3 that a Session offers."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from typing import Any

from aiohaul.aws.clients import Clients
from aiohaul.aws.service import Service
from aiohaul.errors import TransferError
from aiohaul.progress import OnProgress, ignore
from aiohaul.report import ActionReport, DestinationReport, TransferReport
from aiohaul.s3 import objects as verbs
from aiohaul.s3.actions import act_on_objects
from aiohaul.s3.fanout import Fanout
from aiohaul.s3.objects import S3Object
from aiohaul.s3.plan import Action, AnyDestination, Source, checked_directory
from aiohaul.s3.polling import Polling
from aiohaul.s3.queues import Queue, Queues, queue_settings
from aiohaul.s3.selection import Conditions, list_prefix, matching
from aiohaul.s3.tail import Tail
from aiohaul.s3.waiting import Wait
from aiohaul.s3.watch import Watch
from aiohaul.settings import Settings

ANY_NAME = re.compile("")
#: Seconds between two listings while a queue tells what happens.
RECONCILE = 300.0
#: S3Handler has a method of the name "list".
Objects = list[S3Object]


class S3Handler:
    """S3 as one identity sees it. Cheap to make: equal ones share clients and connections.

    Made by :meth:`aiohaul.Session.s3`.
    """

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

    async def list(
        self, bucket: str, prefix: str = "", *, recursive: bool = True
    ) -> AsyncIterator[S3Object]:
        """List the objects whose keys begin with a prefix, in key order.

        AWS: ListObjectsV2, a page of 1,000 keys at a time, and no request per object.

        Args:
            bucket: the bucket.
            prefix: such as ``src/``.
            recursive: False leaves out keys with a further "/" behind the prefix.

        Raises:
            BucketNotFoundError: there is no such bucket.
            AccessDeniedError: the credentials may not list it.
            ServiceError: another failure.
        """
        listing = verbs.list_objects(await self._s3(), bucket, prefix, recursive=recursive)
        async with aclosing(listing):
            async for each in listing:
                yield each

    async def find(
        self,
        bucket: str,
        directory: str = "",
        pattern: str | re.Pattern[str] = ANY_NAME,
        *,
        conditions: Conditions | None = None,
    ) -> Objects:
        """Find the objects of a directory whose names match.

        AWS: ListObjectsV2, narrowed to what the regex can match.

        Args:
            bucket: the bucket.
            directory: without leading or trailing "/"; "" is the whole bucket, at all depths.
            pattern: a regex, matched from the start of the last part of the key (``re.match``).
            conditions: on size, age and count; if the count is not met, nothing is found.

        Raises:
            PlanError: the directory begins or ends with "/".
            BucketNotFoundError: there is no such bucket.
            AccessDeniedError: the credentials may not list it.
            ServiceError: another failure.
        """
        checked_directory(directory)
        pattern = re.compile(pattern)
        listing = self.list(bucket, list_prefix(directory, pattern), recursive=not directory)
        found = matching([each async for each in listing], pattern)
        return conditions.apply(found, datetime.now(UTC)) if conditions else found

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
    ) -> Objects:
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
            on_progress=on_progress or ignore,
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
            on_progress=on_progress or ignore,
        )

    async def head(self, bucket: str, key: str) -> S3Object:
        """Look at one object. AWS: HeadObject.

        Raises:
            ObjectNotFoundError: there is no such object, or no such bucket.
            AccessDeniedError: the credentials may not read it.
            ServiceError: another failure.
        """
        return await verbs.head_object(await self._s3(), bucket, key)

    async def touch(self, bucket: str, key: str, *, bucket_owner_full_control: bool = True) -> None:
        """Write an empty object, whatever was there before. AWS: PutObject.

        Args:
            bucket: the bucket.
            key: the key.
            bucket_owner_full_control: give it the ACL of that name.

        Raises:
            BucketNotFoundError: there is no such bucket.
            AccessDeniedError: the credentials may not write there.
            ServiceError: another failure.
        """
        await verbs.touch_object(
            await self._s3(), bucket, key, bucket_owner_full_control=bucket_owner_full_control
        )

    async def copy(
        self,
        sources: Sequence[Source],
        destinations: Sequence[AnyDestination],
        *,
        on_progress: OnProgress | None = None,
    ) -> TransferReport:
        """Copy objects and local files to many destinations at once.

        S3 copies by itself where one identity and one endpoint reach both sides; otherwise each
        source is read once and written to all destinations. Every copy is verified. A flag is
        written once everything of its destination is there.

        AWS: CopyObject; else GetObject, and PutObject or a multipart upload.

        Args:
            sources: what :meth:`list`, :meth:`find` or :meth:`wait_for` returned, or local files.
            destinations: where to.
            on_progress: told of every object.

        Raises:
            CollisionError: two writes would meet; nothing was copied.
            PlanError: a name cannot be taken by a destination; nothing was copied.
            TransferError: something is not where it should be; carries the report.
        """
        reports = await self.copy_all(sources, destinations, on_progress=on_progress)
        report = TransferReport(
            found=len(sources),
            size=sum(source.size for source in sources),
            destinations=reports,
            seconds=max((each.seconds for each in reports), default=0.0),
        )
        if not report.ok:
            raise TransferError(summary(report), report)
        return report

    async def copy_all(
        self,
        sources: Sequence[Source],
        destinations: Sequence[AnyDestination],
        *,
        action: Action | None = None,
        on_progress: OnProgress | None = None,
    ) -> tuple[DestinationReport, ...]:
        """Like :meth:`copy`, but failures are in the reports and not raised.

        Args:
            sources: what to copy.
            destinations: where to.
            action: what will be done to the sources afterwards; checked, not done.
            on_progress: told of every object.

        Raises:
            CollisionError: two writes would meet; nothing was copied.
            PlanError: a name cannot be taken by a destination; nothing was copied.
        """
        fanout = Fanout(self._clients, self._settings, on_progress or ignore)
        return await fanout.copy(sources, destinations, action)

    async def act(
        self,
        objects: Sequence[S3Object],
        action: Action,
        *,
        bucket_owner_full_control: bool = True,
        on_progress: OnProgress | None = None,
    ) -> ActionReport:
        """Move, rename or delete these versions of objects.

        AWS: CopyObject for a move; ListObjectsV2 and DeleteObjects with the ETag of every key.

        Args:
            objects: the versions that may go.
            action: what to do.
            bucket_owner_full_control: the ACL of moved objects.
            on_progress: told of every object.

        Returns:
            A report. Failures are in there, not raised.

        Raises:
            CollisionError: two of them would move to one key, or onto another of them.
            PlanError: one has a name that no key can have, or is too large to move.
        """
        return await act_on_objects(
            await self._s3(),
            objects,
            action,
            bucket_owner_full_control=bucket_owner_full_control,
            width=self._clients.max_requests,
            on_progress=on_progress or ignore,
        )

    async def delete(
        self, objects: Sequence[S3Object], *, on_progress: OnProgress | None = None
    ) -> ActionReport:
        """Delete these versions of objects; one overwritten meanwhile stays.

        AWS: ListObjectsV2, and DeleteObjects with the ETag of every key.

        Returns:
            A report. Failures are in there, not raised.
        """
        return await self.act(objects, Action(kind="delete"), on_progress=on_progress)

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
        return await tail.found(await self._s3())

    async def _s3(self) -> Service:
        return await self._clients.service("s3", self._settings)

    async def _queue(self, url: str) -> Queue:
        settings = queue_settings(self._clients.resolve(self._settings), url)
        return self._queues.queue(await self._clients.service("sqs", settings), url)


def summary(report: TransferReport) -> str:
    """What failed, in a sentence for an error message."""
    parts = [
        f"{len(each.failures)} of {report.found} objects did not get to {each.destination}"
        f" ({each.failures[0].error})"
        for each in report.destinations
        if each.failures
    ]
    if report.action is not None and report.action.failures:
        first = report.action.failures[0]
        parts.append(
            f"the {report.action.action} failed for {len(report.action.failures)} of"
            f" {report.found} sources ({first.error})"
        )
    return "; ".join(parts)
