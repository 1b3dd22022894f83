"""Pure: what is still to be brought where, and how much memory it may take on its way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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


def budgets(errands: Sequence[Errand], memory: int) -> tuple[Budget, Budget]:
    """Memory for small objects, and for large ones: neither kind waits for the other."""
    if len({is_small(each) for each in errands}) == 1:
        return Budget(memory), Budget(memory)
    share = memory // _SMALL_SHARE
    return Budget(share), Budget(memory - share)


def through_here(errands: Sequence[Errand]) -> Iterator[Errand]:
    """The errands, and destinations, whose bytes pass through this process."""
    for source, courses in errands:
        chosen = courses
        # S3 has only objects to copy: files and streams pass through here wherever they go.
        if isinstance(source, S3Object) and any(each.server_side for each in courses):
            chosen = [each for each in courses if not each.server_side]
        if chosen:
            yield source, chosen


def is_small(errand: Errand) -> bool:
    """True for what is moved in one piece."""
    source, _ = errand
    return isinstance(source, S3Object | LocalFile) and source.size <= PART_SIZE


def is_large(errand: Errand) -> bool:
    """True for what is moved in parts, or may be."""
    return not is_small(errand)
