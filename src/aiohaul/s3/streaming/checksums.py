"""Full-object checksums, computed part by part in any order. Pure.

S3 stores a checksum with every object. The CRC of a whole object can be computed from the CRCs of
its parts. Python's ``zlib`` computes CRC32. ``awscrt`` (the extra ``crt``) adds CRC32C and
CRC64NVME, which is the default of S3, and computes checksums many times faster.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from aiohaul.aws.http.payload import Bytes

#: The bit-reversed polynomial of CRC32, and the width of a CRC32 in bits.
_POLYNOMIAL = 0xEDB88320
_BITS = 32


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A checksum algorithm that S3 supports.

    Attributes:
        name: the name in S3, such as ``CRC64NVME``.
        width: the length of a checksum, in bytes.
        of: computes the checksum of bytes.
        combine: computes the checksum of two consecutive byte strings from three arguments: the
            checksum of the first string, the checksum and the length of the second.
    """

    name: str
    width: int
    of: Callable[[Bytes], int]
    combine: Callable[[int, int, int], int]

    @property
    def parameter(self) -> str:
        """The parameter of requests and responses with the checksum, such as ``ChecksumCRC32``."""
        return f"Checksum{self.name}"

    def encode(self, value: int) -> str:
        """Encode a checksum as big-endian bytes in base64, as S3 does."""
        return base64.b64encode(value.to_bytes(self.width, "big")).decode()

    def whole(self, parts: Iterable[tuple[int, int]]) -> int:
        """Return the checksum of an object from the checksum and length of each part, in order."""
        result = 0
        for value, size in parts:
            result = self.combine(result, value, size)
        return result


@dataclass(frozen=True, slots=True)
class Checksum:
    """The checksum of a whole object.

    Attributes:
        algorithm: the algorithm that computed the checksum.
        value: the checksum in base64, as in S3's requests and responses.
    """

    algorithm: Algorithm
    value: str

    @property
    def parameters(self) -> dict[str, str]:
        """The checksum as a parameter of a request."""
        return {self.algorithm.parameter: self.value}


def combined_crc32(first: int, second: int, length: int) -> int:
    """Return the CRC32 of two consecutive byte strings.

    Args:
        first: the CRC32 of the first string.
        second: the CRC32 of the second string.
        length: the length of the second string, in bytes.
    """
    return _times(_shift(length), first) ^ second


@lru_cache(maxsize=64)
def _shift(length: int) -> tuple[int, ...]:
    """Return the effect of ``length`` appended zero bytes on a CRC.

    The effect is a matrix over GF(2), as a tuple of columns.
    """
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
    """Multiply a matrix by a vector over GF(2)."""
    result = 0
    for column in matrix:
        if vector & 1:
            result ^= column
        vector >>= 1
    return result


@lru_cache(maxsize=1)
def algorithms() -> Mapping[str, Algorithm]:
    """Return the algorithms available in this process, by S3's names, in order of preference."""
    known = [Algorithm("CRC32", 4, zlib.crc32, combined_crc32)]
    try:
        from awscrt import checksums as crt  # noqa: PLC0415  # optional, and slow to import
    except ImportError:
        return {each.name: each for each in known}
    if hasattr(crt, "combine_crc64nvme"):  # from 0.31 on
        known[:0] = [
            Algorithm("CRC64NVME", 8, crt.crc64nvme, crt.combine_crc64nvme),
            Algorithm("CRC32C", 4, crt.crc32c, crt.combine_crc32c),
        ]
    return {each.name: each for each in known}


def best() -> Algorithm:
    """Return the preferred algorithm: CRC64NVME with ``awscrt``, else CRC32."""
    return next(iter(algorithms().values()))


def oldest() -> Algorithm:
    """Return CRC32, which every store with checksums supports."""
    return list(algorithms().values())[-1]


def full_object_checksum(answer: Mapping[str, Any]) -> Checksum | None:
    """Return the full-object checksum in a response of S3.

    Returns None if the response has no full-object checksum, or only one whose algorithm is not
    available in this process.
    """
    if answer.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT":
        return None
    for each in algorithms().values():
        value = answer.get(each.parameter)
        if value and "-" not in value:  # "value-N" is a composite checksum of N parts
            return Checksum(each, value)
    return None
