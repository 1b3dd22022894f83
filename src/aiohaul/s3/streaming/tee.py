"""The tee: one source is read once, and every part of it goes to all destinations."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup

from aiohaul.aws.direct.payload import Bytes
from aiohaul.concurrency import Budget, Slots
from aiohaul.errors import HaulError, VerificationError
from aiohaul.s3.copying.cleanup import discard_all
from aiohaul.s3.streaming.parts import Part
from aiohaul.s3.streaming.piece import InOrder, Piece
from aiohaul.s3.streaming.readers import Reader, Traits
from aiohaul.s3.streaming.writers import Writer

#: Bytes that a piece takes beside its data: tasks, buffers, the request.
_OVERHEAD = 64 * 1024

#: Parts of one source that are read at once. More of them would come together, and leave together:
#: reading and writing would take turns instead of going on side by side.
_READS = 3

#: What became of one destination: what tells the version that was written, or why it was not.
Outcome = str | HaulError
#: Told at once which writer has finished, by its index, and what it wrote.
OnWritten = Callable[[int, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Source:
    """A source as the tee sees it.

    Attributes:
        uri: its name in errors.
        reader: reads it.
        hash_all: hold what is read against the source's MD5 where it has no better checksum.
    """

    uri: str
    reader: Reader
    hash_all: bool


def footprint(source: Source) -> int:
    """Bytes of memory that the first piece of a source takes."""
    part = source.reader.part(1)
    return (part[1] if part is not None else 0) + _OVERHEAD


async def tee(
    source: Source,
    writers: Sequence[Writer],
    budget: Budget,
    taken: int,
    on_written: OnWritten,
) -> dict[int, HaulError]:
    """Read a source once, and write it to all destinations.

    A destination that fails drops out, and the others go on. A slow one holds up only itself,
    until what it has not taken yet has used up the budget. Whatever ends it, no half-written
    object, upload or file stays.

    Args:
        source: what to read.
        writers: one for each destination.
        budget: bytes that may be in memory.
        taken: what of it was taken for the first piece: its :func:`footprint`.
        on_written: told of each destination that has it; others may still be waited for.

    Returns:
        For the writers that failed, by their index, why.

    Raises:
        HaulError: the source cannot be read; no destination has it then.
    """
    haul = _Haul(source, writers, budget, taken, on_written)
    try:
        await haul.run()
    finally:
        haul.give_back()
        try:
            await discard_all([each.discard for each in haul.unfinished()])
        finally:
            await source.reader.close()
    return haul.failures


class _Haul:
    """One source on its way."""

    def __init__(
        self,
        source: Source,
        writers: Sequence[Writer],
        budget: Budget,
        taken: int,
        on_written: OnWritten,
    ) -> None:
        self._source = source
        self._reader = source.reader
        self._writers = writers
        self._budget = budget
        self._taken = taken
        self._traits = Traits()
        self._on_written = on_written
        self._reads = Slots(_READS)
        #: Why a writer failed, by its index.
        self.failures: dict[int, HaulError] = {}
        self._written: set[int] = set()
        # Of what was read, for the source's own checksum:
        self._crcs: dict[int, tuple[int, int]] = {}
        self._in_order: InOrder | None = None
        self._all_read = True
        self._broken: HaulError | None = None

    async def run(self) -> None:
        """Copy it. What fails for one destination is among the outcomes."""
        if self._reader.whole():
            data, self._traits = await self._reader.read_whole()
            await self._put(Piece(1, 0, data))
            return
        self._traits = await self._reader.open()
        data = b""
        if self._reader.in_order:
            part = self._reader.part(1)
            data = await self._reader.read(part) if part is not None else b""
            if self._reader.part(2) is None:
                await self._put(Piece(1, 0, data))
                return
        await self._each(self._begin)
        await self._move_parts(data)
        await self._each(self._finish)

    def unfinished(self) -> list[Writer]:
        """The writers that have begun something and not brought it to its end."""
        return [
            each
            for index, each in enumerate(self._writers)
            if each.open and index not in self._written
        ]

    def give_back(self) -> None:
        """Give back what was taken for the first piece."""
        taken, self._taken = self._taken, 0
        self._budget.give_back(taken)

    def _going(self) -> list[int]:
        return [index for index in range(len(self._writers)) if index not in self.failures]

    async def _each(self, step: Callable[[int], Awaitable[None]]) -> None:
        """Do a step for every destination that is still going."""

        async def guarded(index: int) -> None:
            try:
                await step(index)
            except HaulError as error:
                self.failures[index] = error

        going = self._going()
        if len(going) == 1:
            await guarded(going[0])
            return
        async with anyio.create_task_group() as tasks:
            for index in going:
                tasks.start_soon(guarded, index)

    async def _begin(self, index: int) -> None:
        await self._writers[index].begin(self._traits, self._reader.layout)

    async def _finish(self, index: int) -> None:
        await self._has_it(index, await self._writers[index].finish())

    async def _has_it(self, index: int, written: str) -> None:
        self._written.add(index)
        await self._on_written(index, written)

    async def _put(self, piece: Piece) -> None:
        """Write a source that is one piece."""
        await self._check_md5(piece)

        async def put(index: int) -> None:
            await self._has_it(index, await self._writers[index].put(piece, self._traits))

        await self._each(put)

    async def _check_md5(self, piece: Piece) -> None:
        """Hold what was read against the source's MD5.

        Where that does not fit, either the bytes were damaged on their way, or the server's ETags
        are no MD5s: reading again tells.
        """
        if self._traits.md5 is None or (await piece.md5()).hex() == self._traits.md5:
            return
        again, _ = await self._reader.read_whole()
        if again != piece.data:
            raise VerificationError(f"{self._source.uri} was damaged on its way here. Run again")

    async def _move_parts(self, first: Bytes) -> None:
        """Read part after part, and write each; ``first`` is what was read of it already."""
        hashes = self._traits.checksum is None and self._traits.md5 is not None
        if hashes and self._source.hash_all:
            self._in_order = InOrder()
        async with anyio.create_task_group() as tasks:
            if first:
                taken, self._taken = self._taken, 0
                tasks.start_soon(self._move, 1, (0, len(first)), first, taken, tasks.cancel_scope)
            await self._feed(tasks, 2 if first else 1)
        if self._broken is not None:
            raise self._broken
        await self._check_whole()

    async def _feed(self, tasks: TaskGroup, start: int) -> None:
        """Start the parts, as the budget allows."""
        for number in itertools.count(start):
            part = self._reader.part(number)
            if part is None or not self._going():
                return
            if all(self._writers[index].has(number) for index in self._going()):
                self._all_read = False
                continue
            taken, self._taken = self._taken, 0
            if not taken:
                taken = await self._budget.take(part[1] + _OVERHEAD)
            data = None
            try:
                if self._reader.in_order:  # by this one task
                    data = await self._reader.read(part)
            except HaulError as error:
                self._broken = error
            except BaseException:
                self._budget.give_back(taken)
                raise
            if self._broken is not None:
                self._budget.give_back(taken)
                tasks.cancel_scope.cancel()
                return
            tasks.start_soon(self._move, number, part, data, taken, tasks.cancel_scope)

    async def _move(
        self, number: int, part: Part, data: Bytes | None, taken: int, all_parts: anyio.CancelScope
    ) -> None:
        """Bring one part to all destinations."""
        try:
            if data is None:
                async with self._reads:
                    data = await self._reader.read(part)
            if data:
                await self._write(Piece(number, part[0], data))
        except HaulError as error:
            self._broken = error
            all_parts.cancel()
        finally:
            self._budget.give_back(taken)

    async def _write(self, piece: Piece) -> None:
        async def write(index: int) -> None:
            if not self._writers[index].has(piece.number):
                await self._writers[index].write(piece)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._note, piece)
            tasks.start_soon(self._each, write)

    async def _note(self, piece: Piece) -> None:
        """Keep what the whole is to be verified by."""
        if self._traits.checksum is not None:
            crc = await piece.crc(self._traits.checksum.algorithm)
            self._crcs[piece.number] = (crc, len(piece.data))
        elif self._in_order is not None and self._all_read:
            await self._in_order.take(piece)

    async def _check_whole(self) -> None:
        """Hold what was read in parts against the source's own checksum.

        Raises:
            VerificationError: it is something else.
        """
        wanted = self._traits.checksum
        if not self._all_read or not self._going():
            return
        good = True
        if wanted is not None:
            crcs = [self._crcs[number] for number in sorted(self._crcs)]
            good = wanted.algorithm.encode(wanted.algorithm.whole(crcs)) == wanted.value
        elif self._in_order is not None:
            good = self._in_order.hexdigest() == self._traits.md5
        if not good:
            raise VerificationError(f"{self._source.uri} was damaged on its way here. Run again")
