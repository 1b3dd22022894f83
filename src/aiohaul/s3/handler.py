"""The S3Handler class, which lists, watches, copies and deletes objects."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from aiohaul.aws.clients import Clients
from aiohaul.aws.service import Service
from aiohaul.cancellation import in_own_task
from aiohaul.concurrency import yield_if_busy
from aiohaul.errors import TransferError
from aiohaul.pickling import NotPicklable
from aiohaul.progress import OnProgress
from aiohaul.report import ActionReport, TransferReport, transfer_summary
from aiohaul.s3 import objects as requests
from aiohaul.s3.bucket_service import bound
from aiohaul.s3.compact import CompactSequence, frozen, total_size
from aiohaul.s3.copying.plan import Action, AnyDestination, Source
from aiohaul.s3.journal import Journal
from aiohaul.s3.keys import checked_directory, directory_prefix
from aiohaul.s3.listing import list_pages
from aiohaul.s3.listings.pages import ObjectBlock
from aiohaul.s3.object_io.deleting import delete_keys
from aiohaul.s3.object_io.directories import list_directory, walk
from aiohaul.s3.object_io.files import open_object
from aiohaul.s3.object_io.reading import exists, info, read, read_many
from aiohaul.s3.object_io.streaming import stream
from aiohaul.s3.object_io.versions import get_tags, list_versions, put_tags
from aiohaul.s3.object_io.writing import write
from aiohaul.s3.objects import S3Object
from aiohaul.s3.options import WRITE_OPTIONS, SourceOptions, WriteOptions
from aiohaul.s3.selection import Conditions, list_prefix
from aiohaul.s3.streaming.parts import LIMITS, Limits
from aiohaul.s3.transfers import S3Transfers
from aiohaul.s3.watching.polling import Polling
from aiohaul.s3.watching.queues import Queue, Queues, queue_settings
from aiohaul.s3.watching.tail import Tail
from aiohaul.s3.watching.wait_for import Wait
from aiohaul.s3.watching.watch import Watch
from aiohaul.settings import Settings
from aiohaul.user_code import guarded, user_code

ANY_NAME = re.compile("")
#: The default maximum number of seconds between two listings while a queue can be read.
RECONCILE = 300.0


class S3Handler(NotPicklable):
    """Lists, watches, copies and deletes objects with one set of credentials.

    :meth:`aiohaul.Session.s3` makes a handler. Handlers with equal Settings share clients and
    connections, so an application may make many of them.
    """

    # Methods whose functions are in the room s3/object_io.
    read = read
    read_many = read_many
    stream = stream
    open = open_object
    write = write
    list_versions = list_versions
    list_directory = list_directory
    walk = walk
    get_tags = get_tags
    put_tags = put_tags
    delete_keys = delete_keys
    info = info
    exists = exists

    def __init__(
        self,
        clients: Clients,
        polling: Polling,
        queues: Queues,
        settings: Settings | None = None,
        options: SourceOptions | None = None,
    ) -> None:
        self._clients = clients
        self._polling = polling
        self._queues = queues
        self._settings = settings
        self._options = options
        self._ignored = frozenset(options.ignore_storage_classes) if options else frozenset()
        self._transfers = S3Transfers(clients, settings, options)

    async def list(
        self, bucket: str, prefix: str = "", *, recursive: bool = True
    ) -> AsyncIterator[S3Object]:
        """List the objects whose keys begin with a prefix, in key order.

        AWS: ListObjectsV2, one request per 1,000 keys; of more than 8,000 keys many at a time, and
        some 10 % more requests.

        Args:
            bucket: the bucket.
            prefix: the prefix of the keys, such as ``src/``; "" lists the whole bucket.
            recursive: False omits keys with another "/" after the prefix.

        Yields:
            The objects, with ``size`` in bytes and ``last_modified`` in UTC.

        Raises:
            BucketNotFoundError: the bucket does not exist.
            AccessDeniedError: the credentials do not allow to list the bucket.
            ServiceError: a request failed for another reason.
        """
        pages = list_pages(await self._s3(), bucket, prefix, recursive=recursive)
        async with aclosing(pages):
            async for page in pages:
                for each in page.objects.outside(self._ignored):
                    yield each

    async def find(
        self,
        bucket: str,
        directory: str = "",
        pattern: str | re.Pattern[str] = ANY_NAME,
        *,
        conditions: Conditions | None = None,
        recursive: bool = False,
    ) -> Sequence[S3Object]:
        """Find the objects of a directory whose file names match.

        AWS: ListObjectsV2, with the literal start of the regex in the prefix; of more than 8,000
        keys many requests at a time.

        Args:
            bucket: the bucket.
            directory: the directory, without "/" at the start or end. Objects in its subdirectories
                are found with ``recursive`` only. "" is the whole bucket, with all subdirectories.
            pattern: a regex for the file name, the part of the key after the last "/"
                (``re.match``).
            conditions: conditions on size, age and count. If the number of objects does not meet
                the conditions, the result is empty.
            recursive: True finds the objects of all subdirectories too. Copies and moves of these
                objects keep the key below ``directory``; otherwise only the file name.

        Returns:
            The objects in key order, as an immutable sequence that takes less memory than a list.

        Raises:
            PlanError: the directory begins or ends with "/".
            RegexLimitError: the regex takes too many steps for a name.
            BucketNotFoundError: the bucket does not exist.
            AccessDeniedError: the credentials do not allow to list the bucket.
            ServiceError: a request failed for another reason.
        """
        checked_directory(directory)
        pattern = re.compile(pattern)
        root = directory_prefix(directory) if recursive else None

        async def select(block: ObjectBlock) -> ObjectBlock:
            return (await block.outside(self._ignored).named(pattern)).below(root)

        pages = list_pages(
            await self._s3(),
            bucket,
            list_prefix(directory, pattern) if root is None else root,
            recursive=recursive or not directory,
            select=select,
            buffer=None,
        )
        async with aclosing(pages):
            found = [page.objects async for page in pages]
        return await _meeting(found, conditions) if conditions else CompactSequence(found)

    async def head(self, bucket: str, key: str) -> S3Object:
        """Read the metadata of one object.

        AWS: HeadObject.

        Returns:
            The object, with ``last_modified`` in whole seconds.

        Raises:
            ObjectNotFoundError: the object or the bucket does not exist.
            AccessDeniedError: the credentials do not allow to read the object.
            ServiceError: the request failed for another reason.
        """
        return await requests.head_object(await self._s3(), bucket, key)

    async def touch(self, bucket: str, key: str, *, options: WriteOptions = WRITE_OPTIONS) -> None:
        """Write an empty object. An existing object is overwritten.

        AWS: PutObject.

        Args:
            bucket: the bucket.
            key: the key of the object.
            options: the ACL, the storage class and the encryption of the object. A payer or an
                owner there replaces that of the handler.

        Raises:
            BucketNotFoundError: the bucket does not exist.
            AccessDeniedError: the credentials do not allow to write to the bucket.
            ServiceError: the request failed for another reason.
        """
        await requests.touch_object(await self._s3(), bucket, key, options)

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
        """Copy objects, local files and streams to one or more destinations.

        If source and destination have the same credentials and endpoint, S3 copies server-side.
        Otherwise aiohaul reads each source once, in parts, and writes every part to all
        destinations. Every copy is verified. The flag of a destination is written after all copies
        to this destination are verified.

        AWS: CopyObject server-side, or UploadPartCopy for objects larger than 5 GiB. Otherwise
        GetObject, and PutObject or a multipart upload.

        Args:
            sources: objects from :meth:`list`, :meth:`find` or :meth:`wait_for`, local files, or
                streams.
            destinations: S3 and local destinations.
            on_progress: called with an event for every object.
            memory: the maximum size of the data in memory between sources and destinations, in
                bytes. One part may be larger: a part has a 10,000th of the bytes of an object
                larger than 600 GiB.
            reread: True reads every copy back, and compares the copy with its source byte by byte.
            journal: the path of a file that records the finished copies. After an interrupted or
                failed run, the same call with the same journal copies only the rest. The file is
                created if it does not exist. Many transfers may share one file.

        Returns:
            A report with the result of each destination.

        Raises:
            CollisionError: two copies have the same target. Nothing was copied.
            PlanError: a name is not valid at a destination. Nothing was copied.
            RegexLimitError: the regex of a rename takes too many steps for a name.
            JournalBusyError: another process runs the same copies with this journal.
            JournalError: the journal cannot be used.
            TransferError: at least one copy or flag failed. The error has the report.
            SessionError: the Session was closed during the copies. Unfinished copies were removed.
        """
        with user_code("the iterable of sources or destinations"):
            sources, destinations = frozen(sources), tuple(destinations)
        async with AsyncExitStack() as stack:
            opened = None
            if journal is not None:
                identity = await self._transfers.identity(destinations)
                opened = await stack.enter_async_context(Journal(journal, identity))
            reports = await self._transfers.copy_all(
                sources,
                destinations,
                on_progress=on_progress,
                limits=Limits(memory=memory),
                reread=reread,
                journal=opened,
            )
            if opened is not None and all(each.ok for each in reports):
                await opened.done()
        report = TransferReport(
            found=len(sources),
            size=total_size(sources),
            destinations=reports,
            seconds=max((each.seconds for each in reports), default=0.0),
        )
        if not report.ok:
            raise TransferError(transfer_summary(report), report)
        return report

    @in_own_task
    async def check(
        self,
        sources: Sequence[Source],
        destinations: Sequence[AnyDestination],
        action: Action | None = None,
    ) -> tuple[str, ...]:
        """Check copies before they start, without sending a request.

        Args:
            sources: the objects, files and streams to copy.
            destinations: S3 and local destinations.
            action: the action on the sources after the copies, or None.

        Returns:
            The names of the destinations in events and reports.

        Raises:
            CollisionError: two copies have the same target.
            PlanError: a name is not valid at a destination.
        """
        return await self._transfers.check(sources, destinations, action)

    @in_own_task
    async def act(
        self,
        objects: Sequence[S3Object],
        action: Action,
        *,
        on_progress: OnProgress | None = None,
    ) -> ActionReport:
        """Move, rename or delete these versions of objects.

        An object that was overwritten after it was listed is not changed.

        AWS: CopyObject for a move or rename; then ListObjectsV2, and DeleteObjects with the ETag of
        every key.

        Args:
            objects: the versions of the objects, from :meth:`list` or :meth:`find`.
            action: the action.
            on_progress: called with an event for every object.

        Returns:
            A report. The failures of single objects are in the report, and are not raised.

        Raises:
            CollisionError: two objects would get the same key, or the key of another object.
            PlanError: a new name is not a valid key, or an object is too large to move.
            SessionError: the Session was closed during the action. Unfinished moves were undone.
        """
        return await self._transfers.act(objects, action, on_progress=on_progress)

    async def delete(
        self, objects: Sequence[S3Object], *, on_progress: OnProgress | None = None
    ) -> ActionReport:
        """Delete these versions of objects.

        An object that was overwritten after it was listed is not deleted.

        AWS: ListObjectsV2, and DeleteObjects with the ETag of every key.

        Args:
            objects: the versions of the objects, from :meth:`list` or :meth:`find`.
            on_progress: called with an event for every object.

        Returns:
            A report. The failures of single objects are in the report, and are not raised.

        Raises:
            SessionError: the Session was closed during the action.
        """
        return await self.act(objects, Action(kind="delete"), on_progress=on_progress)

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
        recursive: bool = False,
        queue: str | None = None,
        reconcile: float = RECONCILE,
        on_progress: OnProgress | None = None,
    ) -> Sequence[S3Object]:
        """Wait until a directory has matching objects.

        The waits and watches of a Session on the same directory share listings. Each wait has its
        own interval, conditions and timeout.

        AWS: ListObjectsV2 every ``interval``. A listing that fails with a transient error
        (throttled, 5xx, no response) counts as a listing without matches. With a queue, also
        ReceiveMessage and DeleteMessageBatch. Each message about a matching object triggers a
        listing.

        Args:
            bucket: the bucket.
            directory: the directory, without "/" at the start or end. Objects in its subdirectories
                do not count. "" is the whole bucket, with all subdirectories.
            pattern: a regex for the file name, the part of the key after the last "/"
                (``re.match``).
            timeout: the seconds to wait; 0 lists once.
            interval: the maximum number of seconds between two listings.
            conditions: conditions on size, age and count. If objects only have to get older, the
                next listing is sent when they are old enough.
            early: True returns as soon as one page of a listing (1,000 keys) has enough matches,
                without the matches in later pages. Ignored if ``conditions`` has a ``max_count``.
            recursive: True waits for objects of subdirectories too, as in :meth:`find`.
            queue: the URL of an SQS queue that receives the event notifications of the bucket.
            reconcile: the maximum number of seconds between two listings while the queue can be
                read.
            on_progress: called after every listing without a result.

        Returns:
            All matching objects of one complete listing, at least one. With ``early``, the matching
            objects of the first pages.

        Raises:
            RegexLimitError: the regex takes too many steps for a name.
            PlanError: the directory begins or ends with "/".
            WatchTimeoutError: no object matched before the timeout.
            BucketNotFoundError: the bucket does not exist.
            AccessDeniedError: the credentials do not allow to list the bucket.
            ServiceError: a request failed with an error that is not transient; or the last listing
                failed, so it is not known which objects exist.
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
            recursive=recursive,
            ignored=self._ignored,
            on_progress=guarded("on_progress", on_progress),
        )
        opened = await self._queue(queue) if queue is not None else None
        return await wait.wait(self._polling, await self._s3(), opened)

    def watch(
        self,
        bucket: str,
        directory: str = "",
        pattern: str | re.Pattern[str] = ANY_NAME,
        *,
        interval: float = 10.0,
        existing: bool = True,
        since: Mapping[str, object] | None = None,
        horizon: float = math.inf,
        queue: str | None = None,
        reconcile: float = RECONCILE,
        on_progress: OnProgress | None = None,
    ) -> Watch:
        """Watch a directory for new and changed objects, until the caller stops.

        Example: ``async for change in s3.watch("bucket", "src"): ...``. The watch yields an object
        if its key, ETag or LastModified (in whole seconds) is new. Changes between two listings are
        merged, so the watch misses an object that is created and deleted between two listings, and
        the first one of two new versions.

        To continue a watch in another process, pass the cursor of the first watch as ``since``. The
        new watch yields all changes since the cursor was read. It yields some of them again if the
        first watch yielded changes after that.

        AWS: ListObjectsV2 every ``interval``, shared with other watches. With a queue, also
        ReceiveMessage, HeadObject for each object in a message, and DeleteMessageBatch.

        Args:
            bucket: the bucket.
            directory: the directory, without "/" at the start or end. Objects in its subdirectories
                do not count. "" is the whole bucket, with all subdirectories.
            pattern: a regex for the file name, the part of the key after the last "/"
                (``re.match``).
            interval: the maximum number of seconds between two listings.
            existing: False omits the objects of the first listing. Ignored with ``since``.
            since: the cursor of an earlier watch of this directory.
            horizon: the seconds after the LastModified of an object for which the watch remembers
                the object. The watch misses an object that becomes visible later than that. The
                LastModified of a multipart upload is the time at which the upload started. The
                LastModified of a replica is the time of the original.
            queue: the URL of an SQS queue that receives the event notifications of the bucket.
            reconcile: the maximum number of seconds between two listings while the queue can be
                read.
            on_progress: called after every listing without a result, and after a transient error.

        Returns:
            An async iterator. An error that is not transient, such as BucketNotFoundError or
            AccessDeniedError, is raised from the iteration. Iterate again to continue after it.

        Raises:
            RegexLimitError: the regex takes too many steps for a name.
            PlanError: the directory begins or ends with "/".
            CursorError: the cursor is damaged, or belongs to another directory.
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
            ignored=self._ignored,
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
        """Wait for a line in an object to which another program adds lines by overwriting it.

        AWS: HeadObject every ``interval``, and GetObject for the new bytes.

        Args:
            bucket: the bucket.
            key: the key of the object. The object may not exist yet.
            pattern: a regex that is searched for in every line (``re.search``).
            at_end: True searches only lines that are added after this call.
            timeout: the seconds to wait; 0 polls once.
            interval: the seconds between two polls.
            on_progress: called after every poll without a result.

        Returns:
            The first line that matches, without its line break.

        Raises:
            WatchTimeoutError: no line matched before the timeout.
            RegexLimitError: the regex takes too many steps for a line.
            ServiceError: the object cannot be read.
        """
        return await Tail(bucket, key, re.compile(pattern)).wait(
            await self._s3(),
            at_end=at_end,
            timeout=timeout,
            interval=interval,
            on_progress=guarded("on_progress", on_progress),
        )

    async def _s3(self) -> Service:
        return bound(await self._clients.service("s3", self._settings), self._options)

    async def _queue(self, url: str) -> Queue:
        settings = queue_settings(self._clients.resolve(self._settings), url)
        return self._queues.queue(await self._clients.service("sqs", settings), url)


async def _meeting(found: Iterable[ObjectBlock], conditions: Conditions) -> Sequence[S3Object]:
    """Return the objects that meet the conditions now; none if their number does not."""
    now = datetime.now(UTC)
    met: list[ObjectBlock] = []
    for block in found:
        await yield_if_busy()
        met.append(block.only([conditions.meets(each, now) for each in block]))
    objects = CompactSequence(met)
    return objects if conditions.enough(len(objects)) else CompactSequence()


def transfers_of(s3: S3Handler) -> S3Transfers:
    """Return the S3Transfers of a handler. Task definitions need its journals and its reports."""
    return s3._transfers  # noqa: SLF001  # the class above, not public to applications
