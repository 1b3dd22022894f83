"""Bytes on their way from one source to many destinations."""

from __future__ import annotations

import hashlib

import anyio

from aiohaul.aws.direct.payload import Bytes, Payload, computed
from aiohaul.concurrency import Lock
from aiohaul.s3.streaming.checksums import Algorithm


class Piece:
    """One part of a source, or all of it. Each of its digests is computed once for everybody.

    Args:
        number: its place among the parts, from 1.
        start: where it begins.
        data: its bytes; never changed.

    Attributes:
        payload: the same, as requests are to send it.
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
        """Its MD5, which is the ETag of what is written in one request without encryption."""
        async with self._lock:
            if self._md5 is None:
                self._md5 = await computed(_md5, self.data)
            return self._md5

    async def crc(self, algorithm: Algorithm) -> int:
        """Its checksum."""
        async with self._lock:
            if algorithm.name not in self._crcs:
                self._crcs[algorithm.name] = await computed(algorithm.of, self.data)
            return self._crcs[algorithm.name]


def _md5(data: Bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


class InOrder:
    """The MD5 of a whole object whose pieces arrive in any order.

    A piece waits until those before it have passed.
    """

    def __init__(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._next = 0
        #: by where the piece begins that waits
        self._waiting: dict[int, anyio.Event] = {}

    async def take(self, piece: Piece) -> None:
        """Add a piece, once everything before it has been added."""
        if self._next != piece.start:
            turn = self._waiting[piece.start] = anyio.Event()
            await turn.wait()
        await computed(self._md5.update, piece.data)
        self._next += len(piece.data)
        if (waiting := self._waiting.pop(self._next, None)) is not None:
            waiting.set()

    def hexdigest(self) -> str:
        """The MD5 of what has passed, as an ETag has it."""
        return self._md5.hexdigest()
