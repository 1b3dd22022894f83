"""The method stream of S3Handler, which reads a large object part by part."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from functools import partial

from aiohaul.aws.http.payload import Bytes, computed
from aiohaul.aws.service import Service
from aiohaul.errors import VerificationError
from aiohaul.s3.object_io.access import S3Access, checked_limit
from aiohaul.s3.object_io.details import ObjectDetails, check_range, details_of
from aiohaul.s3.object_io.prefetch import Job, prefetched
from aiohaul.s3.object_io.reading import check_etag, version_parameters
from aiohaul.s3.objects import uri
from aiohaul.s3.streaming.checksums import Algorithm, Checksum, full_object_checksum
from aiohaul.s3.streaming.parts import LIMITS, PART_SIZE
from aiohaul.s3.streaming.readers import ObjectReader


async def stream(
    self: S3Access,
    bucket: str,
    key: str,
    *,
    offset: int = 0,
    length: int | None = None,
    version_id: str | None = None,
    if_match: str | None = None,
    chunk_size: int = PART_SIZE,
    memory: int = LIMITS.memory,
) -> AsyncGenerator[bytes, None]:
    """Read a large object in chunks, with several chunks read ahead.

    All chunks are of one version: an object that is overwritten meanwhile raises an error. A chunk
    whose connection breaks is read again; chunks that were yielded are not. A whole object is
    compared with its full-object checksum, if it has one, before the last chunk is yielded.

    AWS: HeadObject, and one GetObject per chunk.

    Args:
        bucket: the bucket.
        key: the key.
        offset: the first byte; a negative number reads that many last bytes of the object.
        length: the number of bytes; None for all bytes from ``offset``. If the object ends before,
            fewer bytes are read.
        version_id: the version to read; None reads the current version.
        if_match: the ETag that the object must have; None for any.
        chunk_size: the size of each chunk except the last, in bytes.
        memory: the maximum size of chunks in memory, in bytes. One chunk may be larger.

    Yields:
        The bytes, in order. An empty object has no chunk. Requests that are still open are
        cancelled when the iterator is closed (``aclose``, or ``contextlib.aclosing``).

    Raises:
        ObjectNotFoundError: the object, the version or the bucket does not exist.
        PreconditionFailedError: the object has another ETag than ``if_match``, or was overwritten
            while it was read.
        AccessDeniedError: the credentials do not allow to read the object.
        PlanError: ``length`` is negative, or is given with a negative offset; ``chunk_size`` or
            ``memory`` is below 1.
        VerificationError: the object was overwritten while it was read, or its bytes do not match
            its checksum.
        ServiceError: a request failed for another reason.
    """
    check_range(offset, length)
    checked_limit("chunk_size", chunk_size)
    checked_limit("memory", memory)
    opened = await OpenedObject.open(await self._s3(), bucket, key, version_id, if_match)
    start, end = opened.bounds(offset, length)
    chunks = opened.chunks(start, end, chunk_size=chunk_size, memory=memory)
    async with aclosing(chunks):
        async for chunk in chunks:
            yield bytes(chunk)


class OpenedObject:
    """One version of an object, whose bytes are read in ranges.

    Attributes:
        details: the metadata of the object.
    """

    def __init__(self, s3: Service, details: ObjectDetails, checksum: Checksum | None) -> None:
        self.details = details
        self._checksum = checksum
        self._reader = ObjectReader(s3, details.object, version_id=details.version_id)

    @classmethod
    async def open(
        cls, s3: Service, bucket: str, key: str, version_id: str | None, if_match: str | None
    ) -> OpenedObject:
        """Find the version to read (HeadObject).

        Raises:
            PreconditionFailedError: the object has another ETag than ``if_match``.
            ServiceError: the request failed.
        """
        answer = await s3.call(
            "head_object",
            uri(bucket, key),
            Bucket=bucket,
            Key=key,
            ChecksumMode="ENABLED",
            **version_parameters(version_id, if_match),
        )
        details = details_of(answer, bucket, key, operation="HeadObject")
        check_etag(details, if_match, operation="HeadObject")
        return cls(s3, details, full_object_checksum(answer))

    def bounds(self, offset: int, length: int | None) -> tuple[int, int]:
        """Return the first byte of a range, and the byte after its last one."""
        size = self.details.size
        start = max(size + offset, 0) if offset < 0 else min(offset, size)
        return start, size if length is None else min(start + length, size)

    async def read(self, start: int, end: int) -> Bytes:
        """Read the bytes from ``start`` to ``end``, without the last one (GetObject).

        Raises:
            VerificationError: the object was overwritten.
            ServiceError: the request failed.
        """
        return await self._reader.read((start, end - start)) if start < end else b""

    async def chunks(
        self, start: int, end: int, *, chunk_size: int, memory: int
    ) -> AsyncGenerator[Bytes, None]:
        """Read the bytes from ``start`` to ``end`` in chunks, with chunks read ahead.

        Raises:
            VerificationError: the object was overwritten, or does not match its checksum.
            ServiceError: a request failed.
        """
        is_whole = (start, end) == (0, self.details.size)
        checksum = self._checksum if is_whole else None
        algorithm = checksum.algorithm if checksum is not None else None

        def jobs() -> Iterator[Job[tuple[Bytes, int]]]:
            for at in range(start, end, chunk_size):
                until = min(at + chunk_size, end)
                yield until - at, partial(self._hashed, at, until, algorithm)

        known: list[tuple[int, int]] = []
        position = start
        async with aclosing(prefetched(jobs(), memory)) as results:
            async for data, crc in results:
                position += len(data)
                known.append((crc, len(data)))
                if checksum is not None and position == end:
                    self._check(checksum, known)
                yield data

    async def _hashed(self, start: int, end: int, algorithm: Algorithm | None) -> tuple[Bytes, int]:
        data = await self.read(start, end)
        return data, 0 if algorithm is None else await computed(algorithm.of, data)

    def _check(self, checksum: Checksum, known: list[tuple[int, int]]) -> None:
        algorithm = checksum.algorithm
        if algorithm.encode(algorithm.whole(known)) != checksum.value:
            raise VerificationError(
                f"reading {self.details.uri} failed: the {algorithm.name} of the bytes is not that"
                " of the object. Read again"
            )
