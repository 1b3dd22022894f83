"""Reads a copy back, and compares the copy with its source byte by byte."""

from __future__ import annotations

import itertools

from aiohaul.errors import PlanError, VerificationError
from aiohaul.s3.copying.destination_state import DestinationState
from aiohaul.s3.copying.plan import LocalDestination, Source
from aiohaul.s3.local import stat_files
from aiohaul.s3.objects import head_object
from aiohaul.s3.streaming.readers import FileReader, ObjectReader, Reader


async def check_same(reader: Reader, state: DestinationState, source: Source) -> None:
    """Compare all bytes of a source and its copy.

    AWS: HeadObject and GetObject of the copy, GetObject of the source.

    Args:
        reader: reads the source again.
        state: the destination of the copy.
        source: the source.

    Raises:
        VerificationError: the source and the copy differ.
        PlanError: the source is a stream, which cannot be read again.
        HaulError: the source or the copy cannot be read.
    """
    if not reader.rereadable:
        raise PlanError(
            f"comparing {source.uri} with its copy failed: a stream can be read only once. Copy the"
            " stream without reread, or write a file first"
        )
    copy = await _reader_of_copy(state, source)
    await compare(reader, source.uri, copy, state.destination.target(source.name, source.folder))


async def compare(reader: Reader, uri: str, copy: Reader, target: str) -> None:
    """Compare all bytes of a source and its copy, part by part.

    Raises:
        VerificationError: the source and the copy differ.
        HaulError: the source or the copy cannot be read.
    """
    for number in itertools.count(1):
        part_range, other = reader.part_range(number), copy.part_range(number)
        if part_range is None and other is None:
            return
        if (
            part_range is None
            or part_range != other
            or await reader.read(part_range) != await copy.read(part_range)
        ):
            raise VerificationError(
                f"verifying {target} failed: part {number} differs from the source {uri}. Run again"
            )


async def _reader_of_copy(state: DestinationState, source: Source) -> Reader:
    """Return a reader of the copy of a source (HeadObject for an object)."""
    destination = state.destination
    if isinstance(destination, LocalDestination):
        (file,) = await stat_files([destination.path(source.name, source.folder)])
        return FileReader(file)
    key = destination.key(source.name, source.folder)
    copy = await head_object(state.client, destination.bucket, key)
    return ObjectReader(state.client, copy)
