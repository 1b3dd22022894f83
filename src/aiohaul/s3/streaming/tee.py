"""Reads one source once, and writes every part to all destinations, like the program ``tee``."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup

from aiohaul.aws.http.payload import Bytes
from aiohaul.concurrency import FifoLimiter, MemoryLimiter
from aiohaul.errors import HaulError, VerificationError
from aiohaul.s3.streaming.cleanup import discard_all
from aiohaul.s3.streaming.part_data import OrderedMD5, PartData
from aiohaul.s3.streaming.parts import PartRange
from aiohaul.s3.streaming.readers import ObjectMetadata, Reader
from aiohaul.s3.streaming.verification import Written
from aiohaul.s3.streaming.writers import Writer

#: The bytes of memory that a part needs in addition to its data, for tasks, buffers and requests.
_OVERHEAD = 64 * 1024

#: The maximum number of parts of one source that are read concurrently. With a higher number, all
#: parts arrive at the same time, so that reads and writes alternate instead of overlapping.
_READS = 3

#: The result of one copy.
Outcome = Written | HaulError
#: Called after a writer has finished, with the index of the writer and the written version.
OnWritten = Callable[[int, Written], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Source:
    """A source to read once for all destinations.

    Attributes:
        uri: the name of the source in errors.
        reader: reads the parts of the source.
        hash_all: compare the MD5 of all bytes read with the MD5 of the source, if the source has
            no checksum.
    """

    uri: str
    reader: Reader
    hash_all: bool


def initial_memory(source: Source) -> int:
    """Return the bytes of memory that the first part of a source needs."""
    part_range = source.reader.part_range(1)
    return (part_range[1] if part_range is not None else 0) + _OVERHEAD


async def tee(
    source: Source,
    writers: Sequence[Writer],
    memory: MemoryLimiter,
    reserved: int,
    on_written: OnWritten,
) -> dict[int, HaulError]:
    """Read a source once, and write it to all destinations.

    If a write to one destination fails, writes to the other destinations continue. A slow
    destination delays the others only when its unwritten parts fill the memory. After an error or a
    cancellation, unfinished uploads are aborted and partial files are removed.

    Args:
        source: the source.
        writers: one writer for each destination.
        memory: limits the bytes in memory.
        reserved: the bytes of ``memory`` that the caller has acquired for the first part, see
            :func:`initial_memory`. This function releases them.
        on_written: called after each destination has its copy, while others are still written.

    Returns:
        The errors of the writers that failed, by the index of the writer.

    Raises:
        HaulError: the source cannot be read, or differs from its checksum.
    """
    fan_out = StreamFanOut(source, writers, memory, reserved, on_written)
    try:
        await fan_out.run()
    finally:
        fan_out.give_back()
        try:
            await discard_all([each.discard for each in fan_out.unfinished()])
        finally:
            await source.reader.close()
    return fan_out.failures


class StreamFanOut:
    """Copies one source through several writers. For the arguments, see :func:`tee`."""

    def __init__(
        self,
        source: Source,
        writers: Sequence[Writer],
        memory: MemoryLimiter,
        reserved: int,
        on_written: OnWritten,
    ) -> None:
        self._source = source
        self._reader = source.reader
        self._writers = writers
        self._memory = memory
        self._reserved = reserved
        self._metadata = ObjectMetadata()
        self._on_written = on_written
        self._reads = FifoLimiter(_READS)
        #: The errors of the writers that failed, by the index of the writer.
        self.failures: dict[int, HaulError] = {}
        self._written: set[int] = set()
        # By part number, the checksum and size of each part, to compute the source's checksum.
        self._crcs: dict[int, tuple[int, int]] = {}
        self._in_order: OrderedMD5 | None = None
        self._all_read = True
        self._read_error: HaulError | None = None

    async def run(self) -> None:
        """Copy the source. The errors of writers are added to ``failures``, and not raised."""
        if self._reader.whole():
            data, self._metadata = await self._reader.read_whole()
            await self._put(PartData(1, 0, data))
            return
        self._metadata = await self._reader.open()
        data = b""
        if self._reader.in_order:
            part_range = self._reader.part_range(1)
            data = await self._reader.read(part_range) if part_range is not None else b""
            if self._reader.part_range(2) is None:
                await self._put(PartData(1, 0, data))
                return
        await self._each(self._begin)
        await self._transfer_parts(data)
        await self._each(self._finish)

    def unfinished(self) -> list[Writer]:
        """Return the writers with an unfinished upload or partial file."""
        return [
            each
            for index, each in enumerate(self._writers)
            if each.open and index not in self._written
        ]

    def give_back(self) -> None:
        """Release the memory that the caller acquired for the first part, if it was not used."""
        reserved, self._reserved = self._reserved, 0
        self._memory.release(reserved)

    def _active(self) -> list[int]:
        return [index for index in range(len(self._writers)) if index not in self.failures]

    async def _each(self, step: Callable[[int], Awaitable[None]]) -> None:
        """Run a step concurrently for every writer that has not failed; save the errors."""

        async def guarded(index: int) -> None:
            try:
                await step(index)
            except HaulError as error:
                self.failures[index] = error

        active = self._active()
        if len(active) == 1:
            await guarded(active[0])
            return
        async with anyio.create_task_group() as tasks:
            for index in active:
                tasks.start_soon(guarded, index)

    async def _begin(self, index: int) -> None:
        await self._writers[index].begin(self._metadata, self._reader.layout)

    async def _finish(self, index: int) -> None:
        await self._mark_written(index, await self._writers[index].finish())

    async def _mark_written(self, index: int, written: Written) -> None:
        self._written.add(index)
        await self._on_written(index, written)

    async def _put(self, part: PartData) -> None:
        """Verify and write a source that has only one part."""
        await self._check_md5(part)

        async def put(index: int) -> None:
            await self._mark_written(index, await self._writers[index].put(part, self._metadata))

        await self._each(put)

    async def _check_md5(self, part: PartData) -> None:
        """Compare the MD5 of the bytes read with the MD5 of the source.

        If the MD5s differ, either the bytes were damaged, or the ETags of the server are not MD5s.
        To find out, the source is read again: different bytes mean damage.

        Raises:
            VerificationError: the bytes were damaged in transit.
        """
        if self._metadata.md5 is None or (await part.md5()).hex() == self._metadata.md5:
            return
        second_read, _ = await self._reader.read_whole()
        if second_read != part.data:
            raise VerificationError(
                f"reading {self._source.uri} failed: the bytes were damaged in transit. Run again"
            )

    async def _transfer_parts(self, first: Bytes) -> None:
        """Read and write all parts. ``first`` contains the bytes of part 1 if it was read."""
        hashes = self._metadata.checksum is None and self._metadata.md5 is not None
        if hashes and self._source.hash_all:
            self._in_order = OrderedMD5()
        async with anyio.create_task_group() as tasks:
            if first:
                reserved, self._reserved = self._reserved, 0
                tasks.start_soon(
                    self._transfer_part, 1, (0, len(first)), first, reserved, tasks.cancel_scope
                )
            await self._schedule_parts(tasks, 2 if first else 1)
        if self._read_error is not None:
            raise self._read_error
        await self._check_whole()

    async def _schedule_parts(self, tasks: TaskGroup, start: int) -> None:
        """Start a task for each part from ``start``, when memory for the part is free.

        A part that all writers already have, from an interrupted run, is not read.
        """
        for number in itertools.count(start):
            part_range = self._reader.part_range(number)
            if part_range is None or not self._active():
                return
            if all(self._writers[index].has_part(number) for index in self._active()):
                self._all_read = False
                continue
            reserved, self._reserved = self._reserved, 0
            if not reserved:
                reserved = await self._memory.acquire(part_range[1] + _OVERHEAD)
            data = None
            try:
                if self._reader.in_order:  # read here, because the other tasks run concurrently
                    data = await self._reader.read(part_range)
            except HaulError as error:
                self._read_error = error
            except BaseException:
                self._memory.release(reserved)
                raise
            if self._read_error is not None:
                self._memory.release(reserved)
                tasks.cancel_scope.cancel()
                return
            tasks.start_soon(
                self._transfer_part, number, part_range, data, reserved, tasks.cancel_scope
            )

    async def _transfer_part(
        self,
        number: int,
        part_range: PartRange,
        data: Bytes | None,
        reserved: int,
        all_parts: anyio.CancelScope,
    ) -> None:
        """Read one part if ``data`` is None, and write the part to all destinations."""
        try:
            if data is None:
                async with self._reads:
                    data = await self._reader.read(part_range)
            if data:
                await self._write(PartData(number, part_range[0], data))
        except HaulError as error:
            self._read_error = error
            all_parts.cancel()
        finally:
            self._memory.release(reserved)

    async def _write(self, part: PartData) -> None:
        """Write one part to all destinations, and add the part to the checksum of the source."""

        async def write(index: int) -> None:
            if not self._writers[index].has_part(part.number):
                await self._writers[index].write(part)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._note, part)
            tasks.start_soon(self._each, write)

    async def _note(self, part: PartData) -> None:
        """Add a part to the checksum, or to the MD5, of all bytes read."""
        if self._metadata.checksum is not None:
            crc = await part.crc(self._metadata.checksum.algorithm)
            self._crcs[part.number] = (crc, len(part.data))
        elif self._in_order is not None and self._all_read:
            await self._in_order.take(part)

    async def _check_whole(self) -> None:
        """Compare the checksum, or the MD5, of all bytes read with that of the source.

        No check is made if an interrupted run had written some of the parts.

        Raises:
            VerificationError: the bytes were damaged in transit.
        """
        wanted = self._metadata.checksum
        if not self._all_read or not self._active():
            return
        matches = True
        if wanted is not None:
            crcs = [self._crcs[number] for number in sorted(self._crcs)]
            matches = wanted.algorithm.encode(wanted.algorithm.whole(crcs)) == wanted.value
        elif self._in_order is not None:
            digest = self._in_order.hexdigest()
            # If the ETag is not an MD5, the MD5s of a first and a second read are still equal.
            matches = digest == self._metadata.md5 or digest == await self._read_again()
        if not matches:
            raise VerificationError(
                f"reading {self._source.uri} failed: the bytes were damaged in transit. Run again"
            )

    async def _read_again(self) -> str:
        """Read all parts again, and return the MD5 of all bytes, in hexadecimal."""
        md5 = OrderedMD5()
        for number in itertools.count(1):
            part_range = self._reader.part_range(number)
            if part_range is None:
                return md5.hexdigest()
            data = await self._reader.read(part_range)
            await md5.take(PartData(number, part_range[0], data))
        raise AssertionError  # pragma: no cover  # the loop returns
