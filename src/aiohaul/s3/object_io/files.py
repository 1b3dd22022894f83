"""The class ObjectFile, an asynchronous file-like reader, and the method open of S3Handler."""

from __future__ import annotations

import os
from contextlib import aclosing
from types import TracebackType
from typing import Self

from aiohaul.errors import PlanError
from aiohaul.pickling import NotPicklable
from aiohaul.s3.object_io.access import S3Access, checked_limit
from aiohaul.s3.object_io.details import ObjectDetails
from aiohaul.s3.object_io.streaming import OpenedObject
from aiohaul.s3.streaming.parts import LIMITS, MIB, PART_SIZE

#: The default size in bytes of the block that a small read reads ahead.
BLOCK = MIB


async def open_object(
    self: S3Access,
    bucket: str,
    key: str,
    *,
    version_id: str | None = None,
    if_match: str | None = None,
    block_size: int = BLOCK,
) -> ObjectFile:
    """Open an object for reading as an asynchronous file with ``seek``.

    AWS: HeadObject.

    Args:
        bucket: the bucket.
        key: the key.
        version_id: the version to read; None reads the current version.
        if_match: the ETag that the object must have; None for any.
        block_size: the bytes that a smaller read reads ahead. The file keeps one such block.

    Returns:
        The file, at offset 0. It holds no connection between calls.

    Raises:
        ObjectNotFoundError: the object, the version or the bucket does not exist.
        PreconditionFailedError: the object has another ETag than ``if_match``.
        AccessDeniedError: the credentials do not allow to read the object.
        PlanError: ``block_size`` is below 1.
        ServiceError: the request failed for another reason.
    """
    checked_limit("block_size", block_size)
    opened = await OpenedObject.open(await self._s3(), bucket, key, version_id, if_match)
    return ObjectFile(opened, block_size)


class ObjectFile(NotPicklable):
    """Reads one version of an object like a file that is open for reading in binary mode.

    :meth:`S3Handler.open` makes it. The methods are those of ``anyio.AsyncFile``. Iterating yields
    lines. One task at a time may use it.
    """

    def __init__(self, opened: OpenedObject, block_size: int) -> None:
        self._opened = opened
        self._block_size = block_size
        self._position = 0
        #: The block that was read last, and the offset of its first byte.
        self._block: bytes = b""
        self._block_start = 0
        self._closed = False

    @property
    def details(self) -> ObjectDetails:
        """The metadata of the object."""
        return self._opened.details

    @property
    def closed(self) -> bool:
        """True after :meth:`aclose`."""
        return self._closed

    async def read(self, size: int = -1) -> bytes:
        """Read up to ``size`` bytes, or all bytes up to the end if it is negative.

        AWS: GetObject, unless the bytes are in the block that was read last.

        Returns:
            The bytes; fewer than ``size`` only at the end of the object.

        Raises:
            VerificationError: the object was overwritten after it was opened.
            PreconditionFailedError: the same, as S3 answers it.
            PlanError: the file is closed.
            ServiceError: a request failed.
        """
        self._check_open()
        start = self._position
        end = self._opened.bounds(start, None if size < 0 else size)[1]
        if start >= end:
            return b""
        parts = [self._buffered(start, end)]
        at = start + len(parts[0])
        if at < end:
            if end - at < self._block_size:
                await self._fill(at)
                parts.append(self._buffered(at, end))
            else:
                parts.append(await self._read_large(at, end))
        self._position = end
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def readline(self) -> bytes:
        r"""Read up to the next line break ``\n``, and return the line with it.

        Returns:
            The line; at the end of the object, the rest, or ``b""``.

        Raises:
            VerificationError: the object was overwritten after it was opened.
            PlanError: the file is closed.
            ServiceError: a request failed.
        """
        self._check_open()
        size, parts, at = self.details.size, list[bytes](), self._position
        while at < size:
            if not self._block_start <= at < self._block_start + len(self._block):
                await self._fill(at)
            begin = at - self._block_start
            found = self._block.find(b"\n", begin)
            part = self._block[begin:] if found < 0 else self._block[begin : found + 1]
            parts.append(part)
            at += len(part)
            if found >= 0:
                break
        self._position = max(at, self._position)
        return b"".join(parts)

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position, and return it in bytes from the start.

        Args:
            offset: the bytes from ``whence``.
            whence: ``os.SEEK_SET``, the start; ``os.SEEK_CUR``, the position; or ``os.SEEK_END``.

        Raises:
            PlanError: the new position is negative, ``whence`` is not valid, or the file is closed.
        """
        self._check_open()
        bases = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.details.size}
        if whence not in bases:
            raise PlanError(f"whence must be 0, 1 or 2, not {whence}")
        position = bases[whence] + offset
        if position < 0:
            raise PlanError(f"seeking in {self.details.uri} failed: {position} is before the start")
        self._position = position
        return position

    async def tell(self) -> int:
        """Return the position, in bytes from the start.

        Raises:
            PlanError: the file is closed.
        """
        self._check_open()
        return self._position

    async def aclose(self) -> None:
        """Close the file. Later reads raise PlanError."""
        self._closed = True
        self._block = b""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return the next line, as :meth:`readline` does."""
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    def _check_open(self) -> None:
        if self._closed:
            raise PlanError(f"reading {self.details.uri} failed: the file is closed. Open it again")

    def _buffered(self, start: int, end: int) -> bytes:
        """Return the bytes from ``start`` that are in the block, at most up to ``end``."""
        begin = start - self._block_start
        if not 0 <= begin < len(self._block):
            return b""
        return self._block[begin : end - self._block_start]

    async def _fill(self, start: int) -> None:
        end = min(start + self._block_size, self.details.size)
        self._block = bytes(await self._opened.read(start, end))
        self._block_start = start

    async def _read_large(self, start: int, end: int) -> bytes:
        """Read a range that is larger than a block, in parts that are read concurrently."""
        data = bytearray()
        chunks = self._opened.chunks(start, end, chunk_size=PART_SIZE, memory=LIMITS.memory)
        async with aclosing(chunks):
            async for chunk in chunks:
                if not data and start + len(chunk) == end:
                    return bytes(chunk)
                data += chunk
        return bytes(data)
