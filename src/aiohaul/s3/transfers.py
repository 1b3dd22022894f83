"""The S3Transfers class: copies and post-copy actions for S3Handler and task definitions."""

from __future__ import annotations

from collections.abc import Sequence

from aiohaul.aws.clients import Clients
from aiohaul.aws.service import Service
from aiohaul.cancellation import in_own_task
from aiohaul.progress import OnProgress, ignore
from aiohaul.report import ActionReport, DestinationReport
from aiohaul.s3.bucket_service import bound
from aiohaul.s3.compact import frozen
from aiohaul.s3.copying import plan
from aiohaul.s3.copying.actions import apply_to_objects, remaining_objects
from aiohaul.s3.copying.engine import TransferEngine
from aiohaul.s3.copying.plan import Action, AnyDestination, Destination, Source
from aiohaul.s3.journal import IncompleteWrite, Journal
from aiohaul.s3.objects import S3Object
from aiohaul.s3.options import SourceOptions
from aiohaul.s3.streaming.parts import LIMITS, Limits
from aiohaul.s3.watching.tail import Tail
from aiohaul.settings import Settings
from aiohaul.user_code import guarded


class S3Transfers:
    """Copies objects and applies post-copy actions, with one set of credentials.

    Unlike :class:`aiohaul.S3Handler`, which uses this class, the methods accept a Journal, and
    return failures in reports instead of raising TransferError.
    """

    def __init__(
        self, clients: Clients, settings: Settings | None, options: SourceOptions | None
    ) -> None:
        self._clients = clients
        self._settings = settings
        self._options = options

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
        """Copy every source to every destination.

        Args:
            sources: the sources.
            destinations: the destinations.
            action: the post-copy action, or None. The action is checked, and not applied.
            on_progress: called with an event for every object.
            limits: the limits of memory, and the sizes of parts.
            reread: True compares every copy with its source byte by byte.
            journal: the journal that records finished copies, and resumes an interrupted transfer.

        Returns:
            One report for each destination. The failures are in the reports, and are not raised.

        Raises:
            CollisionError: two writes have the same key or file. Nothing was copied.
            PlanError: a name is not valid at a destination. Nothing was copied.
            SessionError: the Session was closed during the copies. Unfinished copies were removed.
        """
        engine = TransferEngine(
            self._clients,
            self._settings,
            guarded("on_progress", on_progress),
            options=self._options,
            limits=limits,
            reread=reread,
            journal=journal,
        )
        async with self._clients.cancel_on_close("the copies were done"):
            return await engine.copy(frozen(sources), tuple(destinations), action)
        raise AssertionError  # pragma: no cover  # cancel_on_close raises if it ends the block

    @in_own_task
    async def check(
        self,
        sources: Sequence[Source],
        destinations: Sequence[AnyDestination],
        action: Action | None = None,
    ) -> tuple[str, ...]:
        """Check copies before they start, without sending a request.

        Args:
            sources: the sources.
            destinations: the destinations.
            action: the post-copy action, or None.

        Returns:
            The names of the destinations in events and reports.

        Raises:
            CollisionError: two writes have the same key or file.
            PlanError: a name is not valid at a destination.
        """
        return await TransferEngine(self._clients, self._settings, ignore).check(
            sources, destinations, action
        )

    @in_own_task
    async def clean(
        self,
        destinations: Sequence[AnyDestination],
        journal: Journal,
        action: Action | None = None,
    ) -> Sequence[IncompleteWrite]:
        """Clean up after interrupted copies: abort multipart uploads, remove partial local files.

        AWS: AbortMultipartUpload. Also ListMultipartUploads and ListParts, if a process was killed
        before it recorded the id of its upload.

        Args:
            destinations: the destinations of the interrupted copies.
            journal: the journal of the interrupted copies.
            action: the post-copy action, or None. Its moves may have uploads too.

        Returns:
            The writes that were cleaned up. For each write that could not be cleaned up, a warning
            is logged.
        """
        engine = TransferEngine(
            self._clients, self._settings, ignore, options=self._options, journal=journal
        )
        return await engine.clean(destinations, action)

    async def identity(self, destinations: Sequence[AnyDestination]) -> str:
        """Return the text that identifies copies to these destinations in a journal."""
        ends = [
            (await self._clients.service("s3", each.settings)).endpoint
            if isinstance(each, Destination)
            else ""
            for each in destinations
        ]
        return plan.identity(zip(destinations, ends, strict=True))

    @in_own_task
    async def remaining(self, objects: Sequence[S3Object]) -> Sequence[S3Object]:
        """Return the objects whose current version is still this one. All are in one bucket.

        AWS: ListObjectsV2.

        Raises:
            ServiceError: a request failed.
        """
        return await remaining_objects(await self._s3(), objects)

    @in_own_task
    async def act(
        self,
        objects: Sequence[S3Object],
        action: Action,
        *,
        on_progress: OnProgress | None = None,
        journal: Journal | None = None,
    ) -> ActionReport:
        """Move, rename or delete these versions of objects.

        AWS: CopyObject for a move or rename; then ListObjectsV2, and DeleteObjects with the ETag of
        every key.

        Args:
            objects: the versions of the objects.
            action: the action.
            on_progress: called with an event for every object.
            journal: the journal that records the uploads of moved objects larger than 5 GiB.

        Returns:
            A report. The failures are in the report, and are not raised.

        Raises:
            CollisionError: two objects would get the same key, or the key of another object.
            PlanError: a new name is not a valid key.
            SessionError: the Session was closed during the action. Unfinished moves were undone.
        """
        async with self._clients.cancel_on_close(f"the {action.kind} was done"):
            return await apply_to_objects(
                await self._s3(),
                frozen(objects),
                action,
                width=self._clients.max_requests,
                on_progress=guarded("on_progress", on_progress),
                journal=journal,
            )
        raise AssertionError  # pragma: no cover  # cancel_on_close raises if it ends the block

    async def tail_begin(self, tail: Tail, *, at_end: bool) -> None:
        """Check that the object of a tail exists. AWS: HeadObject.

        Raises:
            ObjectNotFoundError: the object does not exist.
            ServiceError: the request failed for another reason.
        """
        await tail.start(await self._s3(), at_end=at_end)

    async def tail_found(self, tail: Tail) -> bool:
        """Return True if a line that was added to the object since the last call matches.

        AWS: HeadObject, and GetObject for the new bytes.

        Raises:
            ObjectNotFoundError: the object no longer exists.
            ServiceError: a request failed for another reason.
        """
        return await tail.next_match(await self._s3()) is not None

    async def _s3(self) -> Service:
        return bound(await self._clients.service("s3", self._settings), self._options)
