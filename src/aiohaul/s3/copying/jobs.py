"""Divides a transfer into jobs, and the memory between small and large jobs. Pure.

A job is one source with the destinations that do not have a copy of this source yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from aiohaul.concurrency import MemoryLimiter
from aiohaul.s3.copying.destination_state import DestinationState
from aiohaul.s3.copying.plan import Source
from aiohaul.s3.local import LocalFile
from aiohaul.s3.objects import S3Object
from aiohaul.s3.streaming.parts import PART_SIZE

#: If a transfer has small and large sources, small ones get the memory divided by this number.
_SMALL_SHARE = 4

#: One source, and the destinations that do not have a copy of this source yet.
TransferJob = tuple[Source, Sequence[DestinationState]]


class JobSequence(Sequence[TransferJob]):
    """A sequence with one job for each source, to all destinations. Jobs are created on access."""

    def __init__(self, sources: Sequence[Source], states: Sequence[DestinationState]) -> None:
        self._sources = sources
        self._states = states

    def __len__(self) -> int:
        return len(self._sources)

    def __iter__(self) -> Iterator[TransferJob]:
        return ((source, self._states) for source in self._sources)

    @overload
    def __getitem__(self, index: int) -> TransferJob: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TransferJob]: ...
    def __getitem__(self, index: int | slice) -> TransferJob | Sequence[TransferJob]:
        if isinstance(index, slice):
            return JobSequence(self._sources[index], self._states)
        return self._sources[index], self._states


@dataclass(frozen=True, slots=True)
class MemoryShares:
    """Separate memory for small and large sources, so that neither kind waits for the other.

    Attributes:
        small: memory for sources that this process copies in one request; None if there are none.
        large: memory for sources that this process copies, or may copy, in parts; None if there
            are none.
        beside: memory for objects that the server could not copy by itself.
    """

    small: MemoryLimiter | None
    large: MemoryLimiter | None
    beside: MemoryLimiter


def memory_shares(jobs: Sequence[TransferJob], memory: int) -> MemoryShares:
    """Divide the memory between the small and the large jobs."""
    small = large = small_here = large_here = False
    for job in jobs:
        is_here = through_worker(job) is not None
        if is_small(job):
            small, small_here = True, small_here or is_here
        else:
            large, large_here = True, large_here or is_here
        if small_here and large_here:
            break
    if small and large:
        share = memory // _SMALL_SHARE
        least, most = MemoryLimiter(share), MemoryLimiter(memory - share)
    else:
        least = most = MemoryLimiter(memory)
    return MemoryShares(least if small_here else None, most if large_here else None, most)


def through_worker(job: TransferJob) -> TransferJob | None:
    """Return the job for the destinations to which this process copies; None if there are none."""
    source, states = job
    # S3 copies only objects by itself; this process copies files and streams.
    if isinstance(source, S3Object) and any(each.server_side for each in states):
        states = [each for each in states if not each.server_side]
    return (source, states) if states else None


def is_small(job: TransferJob) -> bool:
    """Return True if the source is copied in one request; False if it may need several parts."""
    source, _ = job
    return isinstance(source, S3Object | LocalFile) and source.size <= PART_SIZE
