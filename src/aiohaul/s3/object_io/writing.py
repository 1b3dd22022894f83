"""The method write of S3Handler, which writes bytes, an iterator or a file to one object."""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from aiohaul.cancellation import in_own_task
from aiohaul.concurrency import MemoryLimiter
from aiohaul.errors import PlanError, VerificationError
from aiohaul.s3.bucket_service import bound
from aiohaul.s3.copying.verify import compare
from aiohaul.s3.local import stat_files
from aiohaul.s3.object_io.access import S3Access, checked_limit
from aiohaul.s3.objects import head_object, uri
from aiohaul.s3.options import WRITE_OPTIONS, WriteOptions
from aiohaul.s3.streaming import tee
from aiohaul.s3.streaming.parts import LIMITS
from aiohaul.s3.streaming.readers import (
    BytesReader,
    FileReader,
    ObjectReader,
    Reader,
    StreamReader,
)
from aiohaul.s3.streaming.stream import Stream
from aiohaul.s3.streaming.tags import ensure_tags, tagging
from aiohaul.s3.streaming.target import Target
from aiohaul.s3.streaming.verification import Written
from aiohaul.s3.streaming.writers import ObjectWriter

#: What an object is written from.
Data = bytes | bytearray | memoryview | AsyncIterable[bytes] | Path


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteResult:
    """One version of an object that was written.

    Attributes:
        bucket: the bucket.
        key: the key.
        size: the size in bytes.
        etag: the ETag of the version, without quotes.
        version_id: the version id; None if the bucket has no versions.
    """

    bucket: str
    key: str
    size: int
    etag: str
    version_id: str | None = None

    @property
    def uri(self) -> str:
        """The URI of the object, such as ``s3://bucket/key``."""
        return uri(self.bucket, self.key)


@in_own_task
async def write(
    self: S3Access,
    bucket: str,
    key: str,
    data: Data,
    *,
    size: int | None = None,
    if_none_match: bool = False,
    if_match: str | None = None,
    content_type: str | None = None,
    content_encoding: str | None = None,
    content_language: str | None = None,
    content_disposition: str | None = None,
    cache_control: str | None = None,
    expires: datetime | None = None,
    metadata: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    options: WriteOptions = WRITE_OPTIONS,
    memory: int = LIMITS.memory,
) -> WriteResult:
    """Write one object from bytes, an async iterator or a local file.

    Up to 8 MiB are written in one request, more in a multipart upload whose parts are sent
    concurrently. The object is verified by its checksum or its ETag. After an error or a
    cancellation, the multipart upload is aborted.

    AWS: PutObject; or CreateMultipartUpload, UploadPart and CompleteMultipartUpload, and after a
    failure AbortMultipartUpload. HeadObject if a response proves nothing.

    Args:
        bucket: the bucket.
        key: the key.
        data: the bytes; an async iterator of bytes, in chunks of any size; or the path of a file.
            An iterator is read once, and not faster than S3 takes the bytes.
        size: the number of bytes of an async iterator; another number raises an error. None if it
            is not known; then an object above about 100 GiB takes more than ``memory``.
        if_none_match: True writes only if the key does not exist.
        if_match: the ETag that the object must have now, which is then replaced; None for any.
        content_type: the header Content-Type.
        content_encoding: the header Content-Encoding.
        content_language: the header Content-Language.
        content_disposition: the header Content-Disposition.
        cache_control: the header Cache-Control.
        expires: the header Expires.
        metadata: the user metadata, without the prefix ``x-amz-meta-``.
        tags: the tags, at most 10.
        options: the ACL, the storage class and the encryption of the object. A payer or an owner
            there replaces that of the handler.
        memory: the maximum size of the parts in memory, in bytes. One part may be larger.

    Returns:
        The written version.

    Raises:
        ObjectExistsError: the key exists, and ``if_none_match`` is True.
        PreconditionFailedError: the object has another ETag than ``if_match``.
        BucketNotFoundError: the bucket does not exist.
        AccessDeniedError: the credentials do not allow to write to the bucket.
        LocalFileError: the file cannot be read, or changed meanwhile.
        StreamError: the iterator raised CancelledError, or an error that is not a HaulError.
        VerificationError: the written object, or the length of the iterator, is not as expected.
        PlanError: an argument has the wrong type, or both conditions are given.
        SessionError: the Session was closed meanwhile. The unfinished upload was aborted.
        ServiceError: a request failed for another reason.
    """
    checked_limit("memory", memory)
    if if_none_match and if_match is not None:
        raise PlanError(
            f"writing {uri(bucket, key)} failed: if_none_match and if_match exclude each other."
            " Give one of them"
        )
    headers: dict[str, object] = {
        "ContentType": content_type,
        "ContentEncoding": content_encoding,
        "ContentLanguage": content_language,
        "ContentDisposition": content_disposition,
        "CacheControl": cache_control,
        "Expires": expires,
        "Metadata": dict(metadata) if metadata else None,
        **tagging(tags or {}),
    }
    description = {name: value for name, value in headers.items() if value is not None}
    async with self._clients.cancel_on_close("the object was written"):
        target = Target(
            s3=bound(await self._s3(), options),
            bucket=bucket,
            key=key,
            options=options,
            overwrite=not if_none_match,
            if_match=if_match,
        )
        source, reader = await _source(key, data, size, description)
        written = await _write(source, reader, target, memory)
        if tags:
            operation = "PutObject" if reader.whole() else "CreateMultipartUpload"
            await ensure_tags(target, operation, tags)
        return WriteResult(
            bucket=bucket,
            key=key,
            size=reader.size,
            etag=written.version,
            version_id=written.version_id,
        )
    raise AssertionError  # pragma: no cover  # cancel_on_close raises if it ends the block


async def _source(
    key: str, data: Data, size: int | None, description: Mapping[str, object]
) -> tuple[str, BytesReader | FileReader | StreamReader]:
    """Return the name of the data in errors, and a reader of the data."""
    if size is not None and not isinstance(data, AsyncIterable):
        raise PlanError("size is for async iterators only: bytes and files have their own size")
    match data:
        case bytes() | bytearray() | memoryview():
            return "bytes", BytesReader(bytes(data), description)
        case Path():
            (file,) = await stat_files([data])
            return file.uri, FileReader(file, description)
        case AsyncIterable():
            stream = Stream(key, data, size=size, description=description)
            return stream.uri, StreamReader(stream)
    raise PlanError(
        f"data must be bytes, an async iterator of bytes or a pathlib.Path, not"
        f" {type(data).__name__}. Encode a str, or wrap the path of a file in a Path"
    )


async def _write(source: str, reader: Reader, target: Target, memory: int) -> Written:
    """Write what a reader reads, and read the object back if nothing else proves it."""
    results: list[Written] = []

    async def on_written(_: int, written: Written) -> None:
        results.append(written)

    read = tee.Source(source, reader, hash_all=False)
    budget = MemoryLimiter(memory)
    reserved = await budget.acquire(tee.initial_memory(read))
    failures = await tee.tee(read, [ObjectWriter(target)], budget, reserved, on_written)
    if failures:
        raise failures[0]
    written = results[0]
    if written.proof == "none":
        await _check_same(source, reader, target, written)
    return written


async def _check_same(source: str, reader: Reader, target: Target, written: Written) -> None:
    if not reader.rereadable:
        raise VerificationError(
            f"verifying {target.uri} failed: the ETag {written.version} is not the MD5 of the bytes"
            " sent, and an iterator cannot be read again to compare. Write again"
        )
    copy = ObjectReader(target.s3, await head_object(target.s3, target.bucket, target.key))
    await compare(reader, source, copy, target.uri)
