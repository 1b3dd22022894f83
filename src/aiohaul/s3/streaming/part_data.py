"""The bytes of one part, with checksums that are computed once for all destinations."""

from __future__ import annotations

import hashlib

import anyio

from aiohaul.aws.http.payload import Bytes, Payload, computed
from aiohaul.concurrency import Lock
from aiohaul.s3.streaming.checksums import Algorithm


class PartData:
    """The bytes of one part of a source, or of the whole source.

    The MD5 and the checksum of each algorithm are computed once, on first use.

    Args:
        number: the part number, from 1.
        start: the offset of the part in the source, in bytes.
        data: the bytes of the part, which must not change.

    Attributes:
        payload: the bytes as the body of a request.
    """

    __slots__ = ("_crcs", "_lock", "_md5", "data", "number", "payload", "start")

    def __init__(self, number: int, start: int, data: Bytes) -> None:
        self.number = number
        self.start = start
        self.data = data
        self.payload = Payload(data)
        self._lock = Lock()
        self._md5: bytes | None = None
        self._crcs: dict[str, int] = {}

    async def md5(self) -> bytes:
        """Return the MD5 of the part, 16 bytes.

        On most servers, the MD5 is the ETag of the part, and of an object that is uploaded in one
        request, unless SSE-KMS or SSE-C encrypts them.
        """
        async with self._lock:
            if self._md5 is None:
                self._md5 = await computed(_md5, self.data)
            return self._md5

    async def crc(self, algorithm: Algorithm) -> int:
        """Return the checksum of the part by this algorithm."""
        async with self._lock:
            if algorithm.name not in self._crcs:
                self._crcs[algorithm.name] = await computed(algorithm.of, self.data)
            return self._crcs[algorithm.name]


def _md5(data: Bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


class OrderedMD5:
    """Computes the MD5 of a whole source whose parts arrive in any order.

    An MD5 is computed from the first byte to the last, so each part waits for all earlier parts.
    """

    def __init__(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._next = 0
        #: The events that wake waiting parts, by the offset of the part.
        self._waiting: dict[int, anyio.Event] = {}

    async def take(self, part: PartData) -> None:
        """Add a part to the MD5, after waiting until all earlier parts are added."""
        if self._next != part.start:
            ready = self._waiting[part.start] = anyio.Event()
            await ready.wait()
        await computed(self._md5.update, part.data)
        self._next += len(part.data)
        if (waiting := self._waiting.pop(self._next, None)) is not None:
            waiting.set()

    def hexdigest(self) -> str:
        """Return the MD5 of the parts added so far, in hexadecimal as in an ETag."""
        return self._md5.hexdigest()
