"""S3Handler: everything about S3 that a Session offers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime
from pathlib import Path

from aiohaul.cancellation import in_own_task
from aiohaul.concurrency import give_way
from aiohaul.errors import TransferError
from aiohaul.pickling import NotPicklable
from aiohaul.progress import OnProgress, ignore
from aiohaul.report import ActionReport, DestinationReport, TransferReport, summary
from aiohaul.s3 import objects as verbs
from aiohaul.s3.compact import CompactSequence, size_of, unchanging
from aiohaul.s3.copying.actions import act_on_objects, objects_left
from aiohaul.s3.copying.fanout import Fanout
from aiohaul.s3.copying.plan import (
    Action,
    AnyDestination,
    Destination,
    Source,
    checked_directory,
    identity,
)
from aiohaul.s3.listing import ObjectBlock, list_pages
from aiohaul.s3.objects import S3Object
from aiohaul.s3.resuming.journal import Journal, Opened
from aiohaul.s3.selection import Conditions, list_prefix
from aiohaul.s3.streaming.parts import LIMITS, Limits
from aiohaul.s3.watching.watches import ANY_NAME, Watches
from aiohaul.user_code import guarded, user_code


class S3Handler(NotPicklable, Watches):
    """S3 as one identity sees it. Cheap to make: equal ones share clients and connections.

    Made by :meth:`aiohaul.Session.s3`.
    """

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
        pages = list_pages(await self._s3(), bucket, prefix, recursive=recursive)
        async with aclosing(pages):
            async for page in pages:
                for each in page.objects:
                    yield each

    async def find(
        self,
        bucket: str,
        directory: str = "",
        pattern: str | re.Pattern[str] = ANY_NAME,
        *,
        conditions: Conditions | None = None,
    ) -> Sequence[S3Object]:
        """Find the objects of a directory whose names match.

        AWS: ListObjectsV2, narrowed to what the regex can match.

        Args:
            bucket: the bucket.
            directory: without leading or trailing "/"; "" is the whole bucket, at all depths.
            pattern: a regex, matched from the start of the last part of the key (``re.match``).
            conditions: on size, age and count; if the count is not met, nothing is found.

        Returns:
            The objects, in key order. They cannot be changed here, and take less memory than in a
            list.

        Raises:
            PlanError: the directory begins or ends with "/".
            BucketNotFoundError: there is no such bucket.
            AccessDeniedError: the credentials may not list it.
            ServiceError: another failure.
        """
        checked_directory(directory)
        pattern = re.compile(pattern)
        prefix = list_prefix(directory, pattern)
        pages = list_pages(await self._s3(), bucket, prefix, recursive=not directory)
        async with aclosing(pages):
            found = [page.objects.named(pattern) async for page in pages]
        return await _meeting(found, conditions) if conditions else CompactSequence(found)

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

    @in_own_task
    async def copy(
        self,
        sources: Sequence[Source],
        destinations: Sequence[AnyDestination],
        *,
        on_progress: OnProgress | None = None,
        memory: int = LIMITS.memory,
        reread: bool = False,
        journal: Path | None = None,
    ) -> TransferReport:
        """Copy objects, local files and streams to many destinations at once.

        S3 copies by itself where one identity and one endpoint reach both sides; otherwise each
        source is read once, in parts, and every part is written to all destinations. Every copy
        is verified. A flag is written once everything of its destination is there.

        AWS: CopyObject, or UploadPartCopy beyond 5 GiB; else GetObject, and PutObject or a
        multipart upload.

        Args:
            sources: what :meth:`list`, :meth:`find` or :meth:`wait_for` returned, local files, or
                streams.
            destinations: where to.
            on_progress: told of every object.
            memory: bytes that may be between sources and destinations at once, or one part where
                that is larger: beyond 600 GiB a part is a 10,000th of an object.
            reread: read every copy back, and compare it with its source byte by byte.
            journal: a file to write down what is done, so that a run which was interrupted (or
                failed) can be started again and copies only what is missing. It is made if it is
                not there, and may serve many transfers.

        Raises:
            CollisionError: two writes would meet; nothing was copied.
            PlanError: a name cannot be taken by a destination; nothing was copied.
            JournalBusyError: the same copies are under way elsewhere.
            JournalError: the journal cannot be used.
            TransferError: something is not where it should be; carries the report.
            SessionError: the Session ended; what the copies had begun was undone.
        """
        with user_code("iterating over what to copy"):
            sources, destinations = unchanging(sources), tuple(destinations)
        async with AsyncExitStack() as stack:
            kept = None
            if journal is not None:
                identity = await self._identity(destinations)
                kept = await stack.enter_async_context(Journal(journal, identity))
            reports = await self.copy_all(
                sources,
                destinations,
                on_progress=on_progress,
                limits=Limits(memory=memory),
                reread=reread,
                journal=kept,
            )
            if kept is not None and all(each.ok for each in reports):
                await kept.done()
        report = TransferReport(
            found=len(sources),
            size=size_of(sources),
            destinations=reports,
            seconds=max((each.seconds for each in reports), default=0.0),
        )
        if not report.ok:
            raise TransferError(summary(report), report)
        return report

    @in_own_task
    async def copy_all(
        self,
        sources: Sequence[Source],
        destinations: Sequence[AnyDestination],
        *,
        action: Action | None = None,
        on_progress: OnProgress | None = None,
        limits: Limits = LIMITS,
        reread: bool = False,
        journal: Journal | None = None,
    ) -> tuple[DestinationReport, ...]:
        """Like :meth:`copy`, but failures are in the reports and not raised.

        Args:
            sources: what to copy.
            destinations: where to.
            action: what will be done to the sources afterwards; checked, not done.
            on_progress: told of every object.
            limits: memory and sizes.
            reread: compare every copy with its source.
            journal: what is done is written there, and taken up from there.

        Raises:
            CollisionError: two writes would meet; nothing was copied.
            PlanError: a name cannot be taken by a destination; nothing was copied.
            SessionError: the Session ended; what the copies had begun was undone.
        """
        fanout = Fanout(
            self._clients,
            self._settings,
            guarded("on_progress", on_progress),
            limits=limits,
            reread=reread,
            journal=journal,
        )
        async with self._clients.undoable("the copies were done"):
            return await fanout.copy(unchanging(sources), tuple(destinations), action)
        raise AssertionError  # pragma: no cover  # undoable raises where it swallows

    @in_own_task
    async def check(
        self,
        sources: Sequence[Source],
        destinations: Sequence[AnyDestination],
        action: Action | None = None,
    ) -> tuple[str, ...]:
        """Make sure that copies can be carried out. Nothing is sent.

        Args:
            sources: what will be copied.
            destinations: where to.
            action: what will be done to the sources afterwards.

        Returns:
            The names of the destinations in events and reports.

        Raises:
            CollisionError: two writes would meet.
            PlanError: a name cannot be taken by a destination.
        """
        return await Fanout(self._clients, self._settings, ignore).check(
            sources, destinations, action
        )

    @in_own_task
    async def clean(
        self, destinations: Sequence[AnyDestination], journal: Journal
    ) -> Sequence[Opened]:
        """Abort the uploads, and remove the partial files, that interrupted copies left.

        AWS: AbortMultipartUpload; ListMultipartUploads and ListParts where a process was killed
        before it knew the id of its upload.

        Args:
            destinations: of the copies.
            journal: of the copies.

        Returns:
            What was left, and is not any more. What cannot be cleaned is logged.
        """
        fanout = Fanout(self._clients, self._settings, ignore, journal=journal)
        return await fanout.clean(destinations)

    async def _identity(self, destinations: Sequence[AnyDestination]) -> str:
        """What tells copies to these destinations from others, in a journal."""
        ends = [
            (await self._clients.service("s3", each.settings)).endpoint
            if isinstance(each, Destination)
            else ""
            for each in destinations
        ]
        return identity(zip(destinations, ends, strict=True))

    @in_own_task
    async def left_of(self, objects: Sequence[S3Object]) -> Sequence[S3Object]:
        """Those of these objects of one bucket that are still there in this version.

        AWS: ListObjectsV2.

        Raises:
            ServiceError: or one of its kinds.
        """
        return await objects_left(await self._s3(), objects)

    @in_own_task
    async def act(
        self,
        objects: Sequence[S3Object],
        action: Action,
        *,
        bucket_owner_full_control: bool = True,
        on_progress: OnProgress | None = None,
        journal: Journal | None = None,
    ) -> ActionReport:
        """Move, rename or delete these versions of objects.

        AWS: CopyObject for a move; ListObjectsV2 and DeleteObjects with the ETag of every key.

        Args:
            objects: the versions that may go.
            action: what to do.
            bucket_owner_full_control: the ACL of moved objects.
            on_progress: told of every object.
            journal: where the uploads of objects beyond 5 GiB are written down.

        Returns:
            A report. Failures are in there, not raised.

        Raises:
            CollisionError: two of them would move to one key, or onto another of them.
            PlanError: one has a name that no key can have, or is too large to move.
            SessionError: the Session ended; a move that had begun was undone.
        """
        async with self._clients.undoable(f"the {action.kind} was done"):
            return await act_on_objects(
                await self._s3(),
                unchanging(objects),
                action,
                bucket_owner_full_control=bucket_owner_full_control,
                width=self._clients.max_requests,
                on_progress=guarded("on_progress", on_progress),
                journal=journal,
            )
        raise AssertionError  # pragma: no cover  # undoable raises where it swallows

    async def delete(
        self, objects: Sequence[S3Object], *, on_progress: OnProgress | None = None
    ) -> ActionReport:
        """Delete these versions of objects; one overwritten meanwhile stays.

        AWS: ListObjectsV2, and DeleteObjects with the ETag of every key.

        Returns:
            A report. Failures are in there, not raised.
        """
        return await self.act(objects, Action(kind="delete"), on_progress=on_progress)


async def _meeting(found: Iterable[ObjectBlock], conditions: Conditions) -> Sequence[S3Object]:
    """Those that meet the conditions now; none if their number does not."""
    now = datetime.now(UTC)
    met: list[ObjectBlock] = []
    for block in found:
        await give_way()
        met.append(block.only([conditions.meets(each, now) for each in block]))
    objects = CompactSequence(met)
    return objects if conditions.enough(len(objects)) else CompactSequence()
