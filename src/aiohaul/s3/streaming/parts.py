"""Divides objects into parts. Pure."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024
GIB = 1024 * MIB

#: The limits of S3: bytes of an object for CopyObject, bytes of a part, parts of an upload, and
#: bytes of an object.
MAX_COPY = 5 * GIB
MAX_PART = 5 * GIB
MAX_PARTS = 10_000
MAX_SIZE = MAX_PARTS * MAX_PART
#: The size of a part in bytes, and of the largest object that one PutObject writes. Objects that
#: would need more than 10,000 parts have larger parts.
PART_SIZE = 8 * MIB
#: The minimum size in bytes of a part in UploadPartCopy, and the number of parts above which parts
#: become larger.
_COPY_PART_SIZE = 128 * MIB
_COPY_PARTS = 1000
#: The part size of a stream doubles after this number of parts, because its length is unknown.
_DOUBLED_AFTER = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a transfer.

    Attributes:
        memory: the maximum number of bytes in memory between sources and destinations. A part that
            is larger, as in objects above 600 GiB, is in memory alone.
        copy: the size in bytes of the largest object that CopyObject copies. Larger objects are
            copied by UploadPartCopy.
        copy_step: the size in bytes of a part in UploadPartCopy; None computes a size from the
            size of the object.
    """

    memory: int = 64 * MIB
    copy: int = MAX_COPY
    copy_step: int | None = None


LIMITS = Limits()

#: The offset and the size of a part, in bytes.
PartRange = tuple[int, int]
#: The size of an object, and of each part except the last, in bytes; None if not known.
Layout = tuple[int, int] | None


def part_size(size: int) -> int:
    """Return the bytes of each part, except the last, of an upload of ``size`` bytes."""
    return max(PART_SIZE, _in_mib(size, MAX_PARTS))


def copy_part_size(size: int) -> int:
    """Return the bytes of each part, except the last, of a server-side copy of ``size`` bytes."""
    wanted = max(_COPY_PART_SIZE, _in_mib(size, _COPY_PARTS))
    return max(min(wanted, MAX_PART), _in_mib(size, MAX_PARTS))


def stream_part_size(number: int) -> int:
    """Return the bytes of part ``number``, from 1, of a stream of unknown length."""
    return min(PART_SIZE << ((number - 1) // _DOUBLED_AFTER), MAX_PART)


def split(size: int, step: int) -> list[PartRange]:
    """Divide ``size`` bytes into parts of ``step`` bytes; one empty part if ``size`` is 0."""
    return [(start, min(step, size - start)) for start in range(0, size, step)] or [(0, 0)]


def _in_mib(size: int, count: int) -> int:
    """Return the bytes of each of ``count`` parts of ``size`` bytes, rounded up to whole MiB."""
    return -(-size // (count * MIB)) * MIB
