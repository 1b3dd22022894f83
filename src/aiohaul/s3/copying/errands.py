"""Pure: what is still to be brought where, and how much memory it may take on its way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from aiohaul.concurrency import Budget
from aiohaul.s3.copying.course import Course
from aiohaul.s3.copying.plan import Source
from aiohaul.s3.local import LocalFile
from aiohaul.s3.objects import S3Object
from aiohaul.s3.streaming.parts import PART_SIZE

#: The share of the memory that small objects keep where there are large ones as well.
_SMALL_SHARE = 4

#: One source, and the destinations that it is still to be brought to.
Errand = tuple[Source, Sequence[Course]]


class Everywhere(Sequence[Errand]):
    """Every source is to be brought to all destinations; each errand is made when asked for."""

    def __init__(self, sources: Sequence[Source], courses: Sequence[Course]) -> None:
        self._sources = sources
        self._courses = courses

    def __len__(self) -> int:
        return len(self._sources)

    def __iter__(self) -> Iterator[Errand]:
        return ((source, self._courses) for source in self._sources)

    @overload
    def __getitem__(self, index: int) -> Errand: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Errand]: ...
    def __getitem__(self, index: int | slice) -> Errand | Sequence[Errand]:
        if isinstance(index, slice):
            return Everywhere(self._sources[index], self._courses)
        return self._sources[index], self._courses


@dataclass(frozen=True, slots=True)
class Shares:
    """Memory for small sources, and for large ones: neither kind waits for the other.

    Attributes:
        small: for what passes through this process in one piece; None if nothing does.
        large: for what does in parts, or may; None if nothing does.
        beside: for objects that S3 turns out not to copy.
    """

    small: Budget | None
    large: Budget | None
    beside: Budget


def shares(errands: Sequence[Errand], memory: int) -> Shares:
    """Go through the errands, and share the memory out."""
    small = large = small_here = large_here = False
    for errand in errands:
        is_here = through_here(errand) is not None
        if is_small(errand):
            small, small_here = True, small_here or is_here
        else:
            large, large_here = True, large_here or is_here
        if small_here and large_here:
            break
    if small and large:
        share = memory // _SMALL_SHARE
        least, most = Budget(share), Budget(memory - share)
    else:
        least = most = Budget(memory)
    return Shares(least if small_here else None, most if large_here else None, most)


def through_here(errand: Errand) -> Errand | None:
    """What of an errand passes through this process; None if nothing does."""
    source, courses = errand
    # S3 has only objects to copy: files and streams pass through here wherever they go.
    if isinstance(source, S3Object) and any(each.server_side for each in courses):
        courses = [each for each in courses if not each.server_side]
    return (source, courses) if courses else None


def is_small(errand: Errand) -> bool:
    """True for what is moved in one piece; else it is moved in parts, or may be."""
    source, _ = errand
    return isinstance(source, S3Object | LocalFile) and source.size <= PART_SIZE
