"""Readers of sources, which are objects, local files, and streams of an application."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohaul.aws.errors import translated
from aiohaul.aws.http.payload import Bytes
from aiohaul.aws.service import Service
from aiohaul.errors import HaulError, StreamError, VerificationError
from aiohaul.s3.local import LocalFile, read_part
from aiohaul.s3.objects import S3Object, class_of_copy, is_md5, quoted, unquoted
from aiohaul.s3.streaming import parts
from aiohaul.s3.streaming.checksums import Checksum, full_object_checksum
from aiohaul.s3.streaming.description import description
from aiohaul.s3.streaming.parts import Layout, PartRange
from aiohaul.s3.streaming.stream import Stream
from aiohaul.s3.streaming.tags import Tags, source_tags
from aiohaul.s3.streaming.verification import is_encrypted
from aiohaul.sensitive import without_queries
from aiohaul.user_code import user_code

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectMetadata:
    """The metadata of a source.

    Attributes:
        description: headers and user metadata, as parameters of a write such as ``ContentType``.
        storage_class: the storage class for copies of the source; None for the default class. Only
            copies at the same endpoint get this class, because other endpoints have other classes.
        endpoint: the endpoint of the source; "" for files and streams.
        tags: the tags.
        checksum: the full-object checksum; None if not known.
        md5: the MD5 of all bytes, in hexadecimal; None if not known.
    """

    description: Mapping[str, Any] = field(default_factory=dict)
    storage_class: str | None = None
    endpoint: str = ""
    tags: Tags = field(default_factory=dict)
    checksum: Checksum | None = None
    md5: str | None = None


class Reader(Protocol):
    """Reads the parts and the metadata of one source.

    Attributes:
        rereadable: True if the source can be read more than once.
        in_order: True if the parts must be read in order.
    """

    rereadable: bool
    in_order: bool

    def whole(self) -> bool:
        """Return True if the source is read, and its copy is written, in one request."""

    @property
    def layout(self) -> Layout:
        """The size of the source, and of each part except the last, in bytes; None if not known."""

    def part_range(self, number: int) -> PartRange | None:
        """Return the offset and the size of part ``number``, from 1; None after the last part."""

    async def open(self) -> ObjectMetadata:
        """Return the metadata of the source. Must be called before a part is read.

        Raises:
            HaulError: the source cannot be read, or was overwritten.
        """

    async def read(self, part_range: PartRange) -> Bytes:
        """Return the bytes of one part.

        Raises:
            HaulError: the source cannot be read, or was overwritten.
        """

    async def read_whole(self) -> tuple[Bytes, ObjectMetadata]:
        """Return all bytes and the metadata of the source.

        Raises:
            HaulError: the source cannot be read, or was overwritten.
        """

    async def close(self) -> None:
        """Release the resources of the reader. Must be called after the last read."""


class _Sized:
    """The common base of readers of a source of known size, whose parts are read in any order."""

    rereadable = True
    in_order = False

    def __init__(self, size: int) -> None:
        self.size = size
        self._step = parts.part_size(size)

    def whole(self) -> bool:
        return self.size <= self._step

    @property
    def layout(self) -> Layout:
        return (self.size, self._step)

    def part_range(self, number: int) -> PartRange | None:
        start = (number - 1) * self._step
        return (start, min(self._step, self.size - start)) if start < self.size else None

    async def close(self) -> None:
        pass


class ObjectReader(_Sized):
    """Reads byte ranges of one version of an object (HeadObject, GetObject).

    Args:
        s3: the client.
        source: the version to read.
        with_tags: read the tags too (GetObjectTagging), because a destination is in S3.
        version_id: the version id; None reads the current version, if its ETag is that of
            ``source``.
    """

    def __init__(
        self,
        s3: Service,
        source: S3Object,
        *,
        with_tags: bool = False,
        version_id: str | None = None,
    ) -> None:
        super().__init__(source.size)
        self._s3 = s3
        self._with_tags = with_tags
        self._source = source
        self._of_version = {
            "Bucket": source.bucket,
            "Key": source.key,
            "IfMatch": quoted(source.etag),
            **({} if version_id is None else {"VersionId": version_id}),
        }

    async def open(self) -> ObjectMetadata:
        source = self._source
        answer = await self._s3.call(
            "head_object", source.uri, **self._of_version, ChecksumMode="ENABLED"
        )
        with translated("HeadObject", source.uri):
            self._check(answer, answer["ContentLength"], source.size)
        return await self._metadata(answer)

    async def read(self, part_range: PartRange) -> Bytes:
        start, size = part_range
        data, answer = await self._s3.read(
            self._source.uri,
            size,
            **self._of_version,
            Range=f"bytes={start}-{start + size - 1}",
        )
        self._check(answer, len(data), size)
        return data

    async def read_whole(self) -> tuple[Bytes, ObjectMetadata]:
        # Without a Range, because S3 would refuse a Range of an empty object with status 416.
        data, answer = await self._s3.read(self._source.uri, self._source.size, **self._of_version)
        self._check(answer, len(data), self._source.size)
        return data, await self._metadata(answer)

    async def _metadata(self, answer: Mapping[str, Any]) -> ObjectMetadata:
        source, etag = self._source, unquoted(answer.get("ETag", ""))
        return ObjectMetadata(
            description=description(answer),
            storage_class=class_of_copy(source),
            endpoint=self._s3.endpoint,
            tags=await source_tags(self._s3, source, answer) if self._with_tags else {},
            checksum=full_object_checksum(answer),
            md5=etag if is_md5(etag) and not is_encrypted(answer) else None,
        )

    def _check(self, answer: Mapping[str, Any], size: int, expected: int) -> None:
        """Raise VerificationError if a response is of another version or size."""
        source = self._source
        with translated("GetObject", source.uri):
            etag = unquoted(answer["ETag"])
        if etag != source.etag or size != expected:  # some servers ignore If-Match
            raise VerificationError(
                f"reading {source.uri} failed: the object was overwritten after it was listed. Run"
                " again"
            )


class FileReader(_Sized):
    """Reads a local file part by part.

    Args:
        source: the file.
        description: headers and user metadata of the copy, as parameters of PutObject.
    """

    def __init__(self, source: LocalFile, description: Mapping[str, Any] | None = None) -> None:
        super().__init__(source.size)
        self._source = source
        self._metadata = ObjectMetadata(description=description or {})

    async def open(self) -> ObjectMetadata:
        return self._metadata

    async def read(self, part_range: PartRange) -> Bytes:
        return await read_part(self._source, *part_range)

    async def read_whole(self) -> tuple[Bytes, ObjectMetadata]:
        return await self.read((0, self.size)), self._metadata


class BytesReader(_Sized):
    """Reads bytes in memory part by part.

    Args:
        data: the bytes.
        description: headers and user metadata of the object, as parameters of PutObject.
    """

    def __init__(self, data: bytes, description: Mapping[str, Any] | None = None) -> None:
        super().__init__(len(data))
        self._data = data
        self._metadata = ObjectMetadata(description=description or {})

    async def open(self) -> ObjectMetadata:
        return self._metadata

    async def read(self, part_range: PartRange) -> Bytes:
        start, size = part_range
        return self._data[start : start + size]

    async def read_whole(self) -> tuple[Bytes, ObjectMetadata]:
        return self._data, self._metadata


class StreamReader:
    """Reads a stream part by part, in order."""

    rereadable = False
    in_order = True

    def __init__(self, source: Stream) -> None:
        self._source = source
        self._chunks: AsyncIterator[bytes] | None = None
        self._buffer = bytearray()
        self._start = 0
        self._ended = False

    @property
    def size(self) -> int:
        """The number of bytes that were read."""
        return self._start

    def whole(self) -> bool:
        return False  # the length is unknown

    @property
    def layout(self) -> Layout:
        return None  # an interrupted upload cannot be resumed: the stream cannot be read again

    def part_range(self, number: int) -> PartRange | None:
        if self._ended:
            return None
        expected = self._source.expected
        size = parts.stream_part_size(number) if expected is None else parts.part_size(expected)
        return (self._start, size)

    async def open(self) -> ObjectMetadata:
        return ObjectMetadata(description=self._source.description)

    async def read(self, part_range: PartRange) -> Bytes:
        """Return the next part; the last part may be shorter than its range, or empty."""
        _, size = part_range
        while len(self._buffer) < size and not self._ended:
            try:
                with user_code(f"reading {self._source.uri}", StreamError):
                    if self._chunks is None:
                        self._chunks = aiter(self._source.chunks)
                    self._buffer += await anext(self._chunks)
            except StopAsyncIteration:
                self._ended = True
            except HaulError:
                raise
            except Exception as error:  # the application may raise anything
                why = without_queries(repr(error))
                raise StreamError(f"reading {self._source.uri} failed: {why}") from error
        data = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        if self._buffer:
            self._ended = False
        self._start += len(data)
        self._check()
        return data

    async def read_whole(self) -> tuple[Bytes, ObjectMetadata]:
        raise AssertionError  # whole() returns False

    async def close(self) -> None:
        """Close the stream's async generator, so that its cleanup code runs now."""
        if not isinstance(self._chunks, AsyncGenerator):
            return
        try:
            with user_code(f"closing {self._source.uri}"):
                await self._chunks.aclose()
        except Exception as error:  # noqa: BLE001  # the copy already has its result
            _log.warning("closing %s failed: %s", self._source.uri, without_queries(repr(error)))

    def _check(self) -> None:
        """Raise VerificationError if the stream has another number of bytes than expected."""
        source = self._source
        source.size = self._start
        expected = source.expected
        if expected is None:
            return
        if self._start > expected or (self._ended and self._start != expected):
            raise VerificationError(
                f"reading {source.uri} failed: the stream should have {expected} bytes, but has"
                f" {'more' if self._start > expected else self._start}. Correct the argument size"
                " of the Stream"
            )
