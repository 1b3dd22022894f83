"""Pure: checksums that both ends of a copy can be held to, computed part by part in any order.

S3 keeps a checksum of the whole object beside it. Those of the CRC family can be put together
from those of the parts. CRC32 comes with Python; with ``awscrt`` (the extra ``crt``) there are
CRC32C and CRC64NVME, S3's own default, as well, at many times the speed.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from aiohaul.aws.direct.payload import Bytes

#: CRC32's polynomial, bit-reversed, and its width.
_POLYNOMIAL = 0xEDB88320
_BITS = 32


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A checksum that S3 knows.

    Attributes:
        name: S3's name for it.
        width: its bytes.
        of: the checksum of some bytes.
        combine: that of two runs of bytes one behind the other, from those of both and the
            length of the second.
    """

    name: str
    width: int
    of: Callable[[Bytes], int]
    combine: Callable[[int, int, int], int]

    @property
    def parameter(self) -> str:
        """The parameter, and field of an answer, that carries it."""
        return f"Checksum{self.name}"

    def encode(self, value: int) -> str:
        """A checksum as S3 writes it: base64, the highest byte first."""
        return base64.b64encode(value.to_bytes(self.width, "big")).decode()

    def whole(self, parts: Iterable[tuple[int, int]]) -> int:
        """The checksum of an object, from checksum and length of each of its parts in order."""
        result = 0
        for value, size in parts:
            result = self.combine(result, value, size)
        return result


@dataclass(frozen=True, slots=True)
class Checksum:
    """The checksum of a whole object.

    Attributes:
        algorithm: how it was made.
        value: as S3 writes it.
    """

    algorithm: Algorithm
    value: str


def combined_crc32(first: int, second: int, length: int) -> int:
    """The CRC32 of two runs of bytes, from the CRC32 of each and the length of the second."""
    return _times(_shift(length), first) ^ second


@lru_cache(maxsize=64)
def _shift(length: int) -> tuple[int, ...]:
    """What ``length`` zero bytes behind a run do to its CRC: a matrix over GF(2), by columns."""
    power = (_POLYNOMIAL, *(1 << bit for bit in range(_BITS - 1)))  # one zero bit
    result = tuple(1 << bit for bit in range(_BITS))
    bits = length * 8
    while bits:
        if bits & 1:
            result = tuple(_times(power, column) for column in result)
        power = tuple(_times(power, column) for column in power)
        bits >>= 1
    return result


def _times(matrix: tuple[int, ...], vector: int) -> int:
    result = 0
    for column in matrix:
        if vector & 1:
            result ^= column
        vector >>= 1
    return result


@lru_cache(maxsize=1)
def algorithms() -> Mapping[str, Algorithm]:
    """The checksums that can be computed here, by S3's names, the best first."""
    known = [Algorithm("CRC32", 4, zlib.crc32, combined_crc32)]
    try:
        from awscrt import checksums as crt  # noqa: PLC0415  # optional, and dear to import
    except ImportError:
        return {each.name: each for each in known}
    if hasattr(crt, "combine_crc64nvme"):  # from 0.31 on
        known[:0] = [
            Algorithm("CRC64NVME", 8, crt.crc64nvme, crt.combine_crc64nvme),
            Algorithm("CRC32C", 4, crt.crc32c, crt.combine_crc32c),
        ]
    return {each.name: each for each in known}


def best() -> Algorithm:
    """The checksum to use where nothing speaks for another."""
    return next(iter(algorithms().values()))


def told(answer: Mapping[str, Any]) -> Checksum | None:
    """The checksum of the whole object that an answer tells, if it can be computed here."""
    if answer.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT":
        return None
    for each in algorithms().values():
        value = answer.get(each.parameter)
        if value and "-" not in value:  # a composite one names the number of its parts
            return Checksum(each, value)
    return None
