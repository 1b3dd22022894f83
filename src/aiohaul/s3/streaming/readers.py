"""Where bytes come from: objects, local files, and streams that an application hands in."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohaul.aws.direct.payload import Bytes
from aiohaul.aws.errors import translated
from aiohaul.aws.service import Service
from aiohaul.errors import HaulError, StreamError, VerificationError
from aiohaul.hidden import without_queries
from aiohaul.s3.local import LocalFile, read_part
from aiohaul.s3.objects import S3Object, is_md5, quoted, unquoted
from aiohaul.s3.streaming import parts
from aiohaul.s3.streaming.checksums import Checksum, told
from aiohaul.s3.streaming.parts import Layout, Part
from aiohaul.s3.streaming.stream import Stream
from aiohaul.user_code import user_code

#: What of an object's description travels with its bytes.
DESCRIPTION = (
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "ContentType",
    "Metadata",
)
#: Encryptions whose ETags are no MD5s are all but S3's own.
_S3_OWN = "AES256"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What is known of a source beside its bytes.

    Attributes:
        description: content type, metadata and the like, as parameters of a write.
        checksum: that of the whole of it, or None.
        md5: its MD5, or None.
    """

    description: Mapping[str, Any] = field(default_factory=dict)
    checksum: Checksum | None = None
    md5: str | None = None


class Reader(Protocol):
    """One source.

    Attributes:
        again: it can be read again.
        in_order: its parts can only be read one after the other.
    """

    again: bool
    in_order: bool

    def whole(self) -> bool:
        """True if it is small enough to be read, and written, in one go."""

    @property
    def layout(self) -> Layout:
        """Bytes in all and of each part (but the last); None if nobody knows."""

    def part(self, number: int) -> Part | None:
        """Start and size of part ``number``, from 1; None behind the last one."""

    async def open(self) -> Traits:
        """Look at it, before any of its parts is read.

        Raises:
            HaulError: it cannot be read, or is another version by now.
        """

    async def read(self, part: Part) -> Bytes:
        """Read a part.

        Raises:
            HaulError: it cannot be read, or is another version by now.
        """

    async def read_whole(self) -> tuple[Bytes, Traits]:
        """Read all of it.

        Raises:
            HaulError: it cannot be read, or is another version by now.
        """

    async def close(self) -> None:
        """Let go of it: nothing more of it is read."""


class _Sized:
    """A source of known size, read in any order."""

    again = True
    in_order = False

    def __init__(self, size: int) -> None:
        self.size = size
        self._step = parts.part_size(size)

    def whole(self) -> bool:
        return self.size <= self._step

    @property
    def layout(self) -> Layout:
        return (self.size, self._step)

    def part(self, number: int) -> Part | None:
        start = (number - 1) * self._step
        return (start, min(self._step, self.size - start)) if start < self.size else None

    async def close(self) -> None:
        pass


class ObjectReader(_Sized):
    """Reads an object range by range (GetObject), every range of the same version."""

    def __init__(self, s3: Service, source: S3Object) -> None:
        super().__init__(source.size)
        self._s3 = s3
        self._source = source
        self._of_version = {
            "Bucket": source.bucket,
            "Key": source.key,
            "IfMatch": quoted(source.etag),
        }

    async def open(self) -> Traits:
        source = self._source
        answer = await self._s3.call(
            "head_object", source.uri, **self._of_version, ChecksumMode="ENABLED"
        )
        with translated("HeadObject", source.uri):
            self._check(answer, answer["ContentLength"], source.size)
        return traits(answer)

    async def read(self, part: Part) -> Bytes:
        start, size = part
        data, answer = await self._s3.read(
            self._source.uri, **self._of_version, Range=f"bytes={start}-{start + size - 1}"
        )
        self._check(answer, len(data), size)
        return data

    async def read_whole(self) -> tuple[Bytes, Traits]:
        # No range: that of an empty object would be answered with 416.
        data, answer = await self._s3.read(self._source.uri, **self._of_version)
        self._check(answer, len(data), self._source.size)
        return data, traits(answer)

    def _check(self, answer: Mapping[str, Any], size: int, expected: int) -> None:
        source = self._source
        with translated("GetObject", source.uri):
            etag = unquoted(answer["ETag"])
        if etag != source.etag or size != expected:  # not every server enforces If-Match
            raise VerificationError(f"{source.uri} was overwritten while it was read. Run again")


def traits(answer: Mapping[str, Any]) -> Traits:
    """What HeadObject, or GetObject for a whole object, tells of it."""
    etag = unquoted(answer.get("ETag", ""))
    plain = answer.get("ServerSideEncryption", _S3_OWN) == _S3_OWN
    return Traits(
        description={name: answer[name] for name in DESCRIPTION if answer.get(name)},
        checksum=told(answer),
        md5=etag if plain and "SSECustomerAlgorithm" not in answer and is_md5(etag) else None,
    )


class FileReader(_Sized):
    """Reads a local file part by part."""

    def __init__(self, source: LocalFile) -> None:
        super().__init__(source.size)
        self._source = source

    async def open(self) -> Traits:
        return Traits()

    async def read(self, part: Part) -> Bytes:
        return await read_part(self._source, *part)

    async def read_whole(self) -> tuple[Bytes, Traits]:
        return await self.read((0, self.size)), Traits()


class StreamReader:
    """Reads a stream part by part, in order."""

    again = False
    in_order = True

    def __init__(self, source: Stream) -> None:
        self._source = source
        self._chunks: AsyncIterator[bytes] | None = None
        self._left = bytearray()
        self._start = 0
        self._ended = False

    def whole(self) -> bool:
        return False  # who knows

    @property
    def layout(self) -> Layout:
        return None  # its parts cannot be read again, so nothing of it is taken up again

    def part(self, number: int) -> Part | None:
        if self._ended:
            return None
        expected = self._source.expected
        size = parts.stream_part_size(number) if expected is None else parts.part_size(expected)
        return (self._start, size)

    async def open(self) -> Traits:
        return Traits(description=self._source.description)

    async def read(self, part: Part) -> Bytes:
        """Read the next part: shorter than asked for, or empty, at the end."""
        _, size = part
        while len(self._left) < size and not self._ended:
            try:
                with user_code(f"reading {self._source.uri}", StreamError):
                    if self._chunks is None:
                        self._chunks = aiter(self._source.chunks)
                    self._left += await anext(self._chunks)
            except StopAsyncIteration:
                self._ended = True
            except HaulError:
                raise
            except Exception as error:  # whatever an application's own code raises
                why = without_queries(repr(error))
                raise StreamError(f"reading {self._source.uri} failed: {why}") from error
        data = bytes(memoryview(self._left)[:size])
        del self._left[:size]
        if self._left:
            self._ended = False
        self._start += len(data)
        self._check()
        return data

    async def read_whole(self) -> tuple[Bytes, Traits]:
        raise AssertionError  # whole() says no

    async def close(self) -> None:
        """Close an async generator that was not read to its end: its cleanup is not to wait."""
        if not isinstance(self._chunks, AsyncGenerator):
            return
        try:
            with user_code(f"closing {self._source.uri}"):
                await self._chunks.aclose()
        except Exception as error:  # noqa: BLE001  # what the copy comes to is settled already
            _log.warning("closing %s failed: %s", self._source.uri, without_queries(repr(error)))

    def _check(self) -> None:
        source = self._source
        source.size = self._start
        expected = source.expected
        if expected is None:
            return
        if self._start > expected or (self._ended and self._start != expected):
            raise VerificationError(
                f"{source.uri} was to have {expected} bytes, and had"
                f" {'more' if self._start > expected else self._start}"
            )
