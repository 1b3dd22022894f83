"""What an interrupted run left: copies that are there, and uploads and files that are open."""

from __future__ import annotations

import logging
import os.path
from collections.abc import Collection, Sequence

from aiohaul.aws.service import Service
from aiohaul.errors import HaulError, JournalError
from aiohaul.s3.copying import plan
from aiohaul.s3.copying.course import Course
from aiohaul.s3.copying.plan import Destination, Places, Source
from aiohaul.s3.copying.target import Target
from aiohaul.s3.listing import list_objects
from aiohaul.s3.local import find_file
from aiohaul.s3.local_writing import remove_partial
from aiohaul.s3.resuming.journal import Journal, Opened, Place
from aiohaul.s3.streaming.open_uploads import abort_strays, abort_upload
from aiohaul.s3.streaming.parts import PART_SIZE

_log = logging.getLogger(__name__)

#: The URI of a source, and a destination that has it.
Kept = tuple[str, Course]


class Resumed:
    """What the journal tells, held against what is really there.

    Args:
        journal: of this transfer.
        courses: its destinations.
        places: where everything goes.
        home: the way to the sources, where moves of theirs may have been under way.
    """

    def __init__(
        self,
        journal: Journal,
        courses: Sequence[Course],
        places: Places,
        home: Service | None,
    ) -> None:
        self._journal = journal
        self._courses = courses
        self._places = places
        self._home = home

    async def kept(self, sources: Sequence[Source]) -> set[Kept]:
        """What an interrupted run copied, and is there unchanged.

        A destination that cannot be looked at keeps nothing: it is copied to anew, and fails or
        not by that.

        AWS: ListObjectsV2 of each destination.
        """
        kept: set[Kept] = set()
        for course in self._courses:
            try:
                kept.update([(source.uri, course) for source in await self._at(course, sources)])
            except HaulError as error:
                _log.warning("what %s has is not known: %s", course.name, error)
        return kept

    async def _at(self, course: Course, sources: Sequence[Source]) -> list[Source]:
        """The sources whose copies are at one destination."""
        noted: dict[Place, tuple[Source, str]] = {}
        for source in sources:
            place = self._places.of_copy(source, course.destination, course.endpoint)
            written = self._journal.copied_to(source.uri, plan.version(source), place)
            if written is not None:
                noted[place] = (source, written)
        there = await self._there(course, noted) if noted else {}
        return [source for place, (source, written) in noted.items() if there.get(place) == written]

    async def _there(self, course: Course, places: Collection[Place]) -> dict[Place, str]:
        """The version of what is at these places."""
        destination = course.destination
        found: dict[Place, str] = {}
        if isinstance(destination, Destination):
            prefix = os.path.commonprefix([key for _, _, key in places])  # noqa: RUF071  # keys
            async for each in list_objects(course.way, destination.bucket, prefix):
                place = (course.endpoint, destination.bucket, each.key)
                if place in places:
                    found[place] = each.etag
            return found
        for place in places:
            file = await find_file(destination.directory / place[2])
            if file is not None:
                found[place] = file.written
        return found

    async def tidy(self, sources: Sequence[Source], kept: Collection[Kept]) -> None:
        """Abort the uploads that will not be taken up, and remove the partial files.

        What cannot be is logged, and stays in the journal for the next time.

        AWS: AbortMultipartUpload, ListMultipartUploads, ListParts.
        """
        if not self._journal.opened:
            return
        wanted: dict[Place, str] = {}
        for course in self._courses:
            for source in sources:
                if source.size > PART_SIZE and (source.uri, course) not in kept:
                    place = self._places.of_copy(source, course.destination, course.endpoint)
                    wanted[place] = plan.version(source)
        for place, opened in self._journal.opened.items():
            if not place[0] or wanted.get(place) != opened.version:
                await self.close(opened)

    async def close(self, opened: Opened) -> bool:
        """Leave nothing of what an interrupted run had begun to write: True if nothing is left."""
        try:
            await self._close(opened)
        except HaulError as error:
            _log.warning("what an interrupted run had begun stays open: %s", error)
            return False
        self._journal.entry(opened.source, opened.version, opened.target).closed()
        return True

    async def _close(self, opened: Opened) -> None:
        endpoint, bucket, key = opened.target
        if not endpoint:
            if opened.handle is not None:
                await remove_partial(opened.handle)
            return
        way = self._way(endpoint, bucket)
        if opened.handle is None:
            await abort_strays(Target(s3=way, bucket=bucket, key=key), opened)
        else:
            await abort_upload(way, bucket, key, opened.handle)

    def _way(self, endpoint: str, bucket: str) -> Service:
        for each in self._courses:
            destination = each.destination
            if isinstance(destination, Destination) and (each.endpoint, destination.bucket) == (
                endpoint,
                bucket,
            ):
                return each.way
        if self._home is None or self._home.endpoint != endpoint:
            raise JournalError(f"nothing leads to s3://{bucket} at {endpoint} any more")
        return self._home
