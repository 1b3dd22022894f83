"""Reading a copy back, on request, and comparing it with its source byte by byte."""

from __future__ import annotations

import itertools

from aiohaul.errors import PlanError, VerificationError
from aiohaul.s3.copying.course import Course
from aiohaul.s3.copying.plan import LocalDestination, Source
from aiohaul.s3.local import look_at
from aiohaul.s3.objects import head_object
from aiohaul.s3.streaming.readers import FileReader, ObjectReader, Reader


async def check_same(reader: Reader, course: Course, source: Source) -> None:
    """Compare a source with its copy.

    AWS: HeadObject and GetObject of the copy, GetObject of the source.

    Args:
        reader: reads the source once more.
        course: the destination.
        source: what was copied.

    Raises:
        VerificationError: they differ.
        PlanError: the source cannot be read again.
        HaulError: one of them cannot be read.
    """
    if not reader.again:
        raise PlanError(f"{source.uri} cannot be compared with its copy: it is read only once")
    copy = await _reader_of_copy(course, source)
    for number in itertools.count(1):
        part, other = reader.part(number), copy.part(number)
        if part is None and other is None:
            return
        if part is None or part != other or await reader.read(part) != await copy.read(part):
            target = course.destination.target(source.name)
            raise VerificationError(f"{target} is not what {source.uri} is. Run again")


async def _reader_of_copy(course: Course, source: Source) -> Reader:
    destination = course.destination
    if isinstance(destination, LocalDestination):
        (file,) = await look_at([destination.path(source.name)])
        return FileReader(file)
    copy = await head_object(course.way, destination.bucket, destination.key(source.name))
    return ObjectReader(course.way, copy)
