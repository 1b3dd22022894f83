"""Finds the finished copies, multipart uploads and partial files of an interrupted run."""

from __future__ import annotations

import logging
import os.path
from collections.abc import Collection, Sequence
from pathlib import Path

from aiohaul.aws.service import Service
from aiohaul.errors import HaulError, JournalError
from aiohaul.s3.bucket_service import for_bucket
from aiohaul.s3.copying import plan
from aiohaul.s3.copying.destination_state import DestinationState
from aiohaul.s3.copying.plan import Action, Destination, Locations, Source
from aiohaul.s3.journal import IncompleteWrite, Journal, Location
from aiohaul.s3.listing import list_objects
from aiohaul.s3.local import find_file
from aiohaul.s3.local_writing import remove_partial
from aiohaul.s3.objects import uri
from aiohaul.s3.options import WRITE_OPTIONS
from aiohaul.s3.streaming.incomplete_uploads import abort_orphaned, abort_upload
from aiohaul.s3.streaming.parts import PART_SIZE
from aiohaul.s3.streaming.target import Target

_log = logging.getLogger(__name__)

#: The URI of a source, and a destination that has a copy of this source.
CopiedPair = tuple[str, DestinationState]


class ResumeReconciler:
    """Compares the journal of an interrupted run with the destinations.

    Args:
        journal: the journal of this transfer.
        states: the destinations of this transfer.
        locations: computes the locations of copies.
        source_s3: the client of the sources, to clean up after moves; None if no source is in S3.
        action: the post-copy action, whose moves may have uploads; None for no action.
    """

    def __init__(
        self,
        journal: Journal,
        states: Sequence[DestinationState],
        locations: Locations,
        source_s3: Service | None,
        action: Action | None,
    ) -> None:
        self._journal = journal
        self._states = states
        self._locations = locations
        self._source_s3 = source_s3
        self._write_options = action.options if action is not None else WRITE_OPTIONS

    async def already_there(self, sources: Sequence[Source]) -> set[CopiedPair]:
        """Return the copies of an interrupted run that exist and are unchanged.

        If a destination cannot be listed, all sources are copied to that destination again.

        AWS: ListObjectsV2 of each destination.
        """
        already_there: set[CopiedPair] = set()
        for state in self._states:
            try:
                already_there.update(
                    [(source.uri, state) for source in await self._copied_at(state, sources)]
                )
            except HaulError as error:
                _log.warning(
                    "listing the copies at %s failed, so all sources are copied there again: %s",
                    state.name,
                    error,
                )
        return already_there

    async def _copied_at(self, state: DestinationState, sources: Sequence[Source]) -> list[Source]:
        """Return the sources whose recorded copies exist unchanged at one destination."""
        recorded: dict[Location, tuple[Source, str]] = {}
        for source in sources:
            location = self._locations.of_copy(source, state.destination, state.endpoint)
            written = self._journal.copied_to(source.uri, plan.version(source), location)
            if written is not None:
                recorded[location] = (source, written)
        there = await self._versions_at(state, recorded) if recorded else {}
        return [
            source
            for location, (source, written) in recorded.items()
            if there.get(location) == written
        ]

    async def _versions_at(
        self, state: DestinationState, locations: Collection[Location]
    ) -> dict[Location, str]:
        """Return the current ETag or file version at each of these locations that exists."""
        destination = state.destination
        found: dict[Location, str] = {}
        if isinstance(destination, Destination):
            prefix = os.path.commonprefix([key for _, _, key in locations])  # noqa: RUF071  # keys
            async for each in list_objects(state.client, destination.bucket, prefix):
                location = (state.endpoint, destination.bucket, each.key)
                if location in locations:
                    found[location] = each.etag
            return found
        for location in locations:
            file = await find_file(Path(location[1], location[2]))
            if file is not None:
                found[location] = file.version_text
        return found

    async def abort_stale(
        self, sources: Sequence[Source], already_there: Collection[CopiedPair]
    ) -> None:
        """Abort the uploads that this run does not resume, and remove all partial files.

        If the cleanup of an upload or file fails, the failure is logged, and the journal still
        lists the upload or file for the next run.

        AWS: AbortMultipartUpload, ListMultipartUploads, ListParts.
        """
        if not self._journal.opened:
            return
        wanted: dict[Location, str] = {}
        for state in self._states:
            for source in sources:
                if source.size > PART_SIZE and (source.uri, state) not in already_there:
                    location = self._locations.of_copy(source, state.destination, state.endpoint)
                    wanted[location] = plan.version(source)
        for location, opened in self._journal.opened.items():
            if not location[0] or wanted.get(location) != opened.version:
                await self.close(opened)

    async def close(self, opened: IncompleteWrite) -> bool:
        """Abort the upload, or remove the partial file, of one interrupted write.

        Returns:
            False if this failed. The failure is logged.
        """
        try:
            await self._close(opened)
        except HaulError as error:
            _log.warning(
                "cleaning up after an interrupted run failed, and the next run tries again: %s",
                error,
            )
            return False
        self._journal.entry(opened.source, opened.version, opened.target).closed()
        return True

    async def _close(self, opened: IncompleteWrite) -> None:
        endpoint, bucket, key = opened.target
        if not endpoint:
            if opened.upload_id_or_path is not None:
                await remove_partial(opened.upload_id_or_path)
            return
        client = self._client_of(endpoint, bucket, opened.source)
        if opened.upload_id_or_path is None:
            await abort_orphaned(Target(s3=client, bucket=bucket, key=key), opened)
        else:
            await abort_upload(client, bucket, key, opened.upload_id_or_path)

    def _client_of(self, endpoint: str, bucket: str, source: str) -> Service:
        """Return the client of the destination, or of the move, that wrote to this bucket."""
        for each in self._states:
            destination = each.destination
            if isinstance(destination, Destination) and (each.endpoint, destination.bucket) == (
                endpoint,
                bucket,
            ):
                return each.client
        if self._source_s3 is None or self._source_s3.endpoint != endpoint:
            raise JournalError(
                f"aborting an upload to s3://{bucket} failed: no destination of this run has the"
                f" endpoint {endpoint}. Abort the upload by hand (AbortMultipartUpload)"
            )
        own = bucket if source.startswith(uri(bucket)) else ""
        return for_bucket(self._source_s3, own, bucket, self._write_options)
