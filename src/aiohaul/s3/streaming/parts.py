"""Pure: in which parts objects are moved."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024
GIB = 1024 * MIB

#: S3's limits: bytes of one CopyObject, bytes of a part, parts of an upload, bytes of an object.
MAX_COPY = 5 * GIB
MAX_PART = 5 * GIB
MAX_PARTS = 10_000
MAX_SIZE = MAX_PARTS * MAX_PART
#: Bytes of a part, and of the largest object that goes as one PUT, where sizes allow it.
PART_SIZE = 8 * MIB
#: Bytes of the parts that S3 copies by itself, and how many it gets at most where sizes allow it.
_COPY_PART_SIZE = 128 * MIB
_COPY_PARTS = 1000
#: Parts of a stream after which their size doubles: nobody knows how long it will be.
_DOUBLED_AFTER = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a transfer may take.

    Attributes:
        memory: bytes between a source and its destinations at once; or one part, where that is
            larger, as those of objects beyond 600 GiB are.
        copy: bytes of the largest object that S3 copies in one request.
        copy_step: bytes of the parts in which it copies a larger one; None suits the size.
    """

    memory: int = 64 * MIB
    copy: int = MAX_COPY
    copy_step: int | None = None


LIMITS = Limits()

#: Where a part starts, and how many bytes it has.
Part = tuple[int, int]
#: Bytes in all and of each part (but the last); None if nobody knows.
Layout = tuple[int, int] | None


def part_size(size: int) -> int:
    """Bytes of each part (but the last) in which an object of ``size`` bytes is sent."""
    return max(PART_SIZE, _in_mib(size, MAX_PARTS))


def copy_part_size(size: int) -> int:
    """Bytes of each part (but the last) in which S3 copies an object of ``size`` bytes."""
    wanted = max(_COPY_PART_SIZE, _in_mib(size, _COPY_PARTS))
    return max(min(wanted, MAX_PART), _in_mib(size, MAX_PARTS))


def stream_part_size(number: int) -> int:
    """Bytes of part ``number``, from 1, of a stream of unknown length."""
    return min(PART_SIZE << ((number - 1) // _DOUBLED_AFTER), MAX_PART)


def cut(size: int, step: int) -> list[Part]:
    """``size`` bytes in parts of ``step``; one empty part if there are none."""
    return [(start, min(step, size - start)) for start in range(0, size, step)] or [(0, 0)]


def _in_mib(size: int, count: int) -> int:
    """The whole MiB that each of ``count`` parts needs."""
    return -(-size // (count * MIB)) * MIB
