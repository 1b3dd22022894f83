"""What an interrupted run left: copies that are there, and uploads and files that are open."""

from __future__ import annotations

import os.path
from collections.abc import Collection, Sequence

from aiohaul.s3 import plan
from aiohaul.s3.course import Course
from aiohaul.s3.journal import Journal, Opened, Place
from aiohaul.s3.local import find_file, remove_partial
from aiohaul.s3.objects import S3Object, list_objects
from aiohaul.s3.parts import PART_SIZE
from aiohaul.s3.plan import Destination, Places, Source
from aiohaul.s3.target import Target
from aiohaul.s3.uploads import abort_strays, abort_upload

#: The URI of a source, and the name of a destination that has it.
Kept = tuple[str, str]


class Resumed:
    """What the journal tells, held against what is really there.

    Args:
        journal: of this transfer.
        courses: its destinations.
        places: where everything goes.
    """

    def __init__(self, journal: Journal, courses: Sequence[Course], places: Places) -> None:
        self._journal = journal
        self._courses = courses
        self._places = places

    async def kept(self, sources: Sequence[Source]) -> set[Kept]:
        """What an interrupted run copied, and is there unchanged.

        AWS: ListObjectsV2 of each destination.
        """
        kept: set[Kept] = set()
        for course in self._courses:
            noted: dict[Place, tuple[Source, str]] = {}
            for source in sources:
                place = self._places.of_copy(source, course.destination, course.endpoint)
                written = self._written(source, course, place)
                if written is not None:
                    noted[place] = (source, written)
            if noted:
                there = await self._there(course, noted)
                kept.update(
                    (source.uri, course.name)
                    for place, (source, written) in noted.items()
                    if there.get(place) == written
                )
        return kept

    def _written(self, source: Source, course: Course, place: Place) -> str | None:
        """The version of the copy, if an interrupted run has made it."""
        written = self._journal.copied_to(source.uri, plan.version(source), place)
        if written is None and self._journal.resumed and not course.destination.overwrite:
            # It may have been made and not noted any more; then it must not be in its own way.
            return source.etag if isinstance(source, S3Object) else None
        return written

    async def _there(self, course: Course, places: Collection[Place]) -> dict[Place, str]:
        """The version of what is at these places."""
        destination = course.destination
        if isinstance(destination, Destination):
            prefix = os.path.commonprefix([key for _, _, key in places])  # noqa: RUF071  # keys
            return {
                (course.endpoint, destination.bucket, each.key): each.etag
                async for each in list_objects(course.way, destination.bucket, prefix)
            }
        found = {}
        for place in places:
            file = await find_file(destination.directory / place[2])
            if file is not None:
                found[place] = file.written
        return found

    async def tidy(self, sources: Sequence[Source], kept: Collection[Kept]) -> None:
        """Abort the uploads that will not be taken up, and remove the partial files.

        AWS: AbortMultipartUpload, ListMultipartUploads, ListParts.

        Raises:
            ServiceError: an upload can be neither taken up nor aborted.
            LocalFileError: a partial file cannot be removed.
        """
        if not self._journal.opened:
            return
        wanted: dict[Place, str] = {}
        for course in self._courses:
            for source in sources:
                if source.size > PART_SIZE and (source.uri, course.name) not in kept:
                    place = self._places.of_copy(source, course.destination, course.endpoint)
                    wanted[place] = plan.version(source)
        for place, opened in self._journal.opened.items():
            if not place[0] or wanted.get(place) != opened.version:
                await self.close(opened)

    async def close(self, opened: Opened) -> None:
        """Leave nothing of what an interrupted run had begun to write.

        Raises:
            ServiceError: an upload cannot be aborted.
            LocalFileError: a partial file cannot be removed.
        """
        endpoint, bucket, key = opened.target
        if not endpoint:
            if opened.handle is not None:
                await remove_partial(opened.handle)
        else:
            course = self._course(endpoint, bucket)
            if course is None:
                return
            if opened.handle is None:
                await abort_strays(Target(s3=course.way, bucket=bucket, key=key), opened)
            else:
                await abort_upload(course.way, bucket, key, opened.handle)
        self._journal.entry(opened.source, opened.version, opened.target).closed()

    def _course(self, endpoint: str, bucket: str) -> Course | None:
        for each in self._courses:
            destination = each.destination
            if isinstance(destination, Destination) and (each.endpoint, destination.bucket) == (
                endpoint,
                bucket,
            ):
                return each
        return None
