"""Moving the bytes: S3's own copies, and the tee, which reads once and writes many times."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import anyio
from anyio import to_thread

from aiohaul.aws.errors import translated
from aiohaul.aws.service import Service
from aiohaul.concurrency import to_its_end, work
from aiohaul.errors import HaulError, ObjectNotFoundError, VerificationError
from aiohaul.s3 import plan
from aiohaul.s3.local import LocalFile, PartialFile, read_part
from aiohaul.s3.objects import S3Object, acl, head_object, quoted, unquoted, uri

#: Seconds that a cancelled copy may take to learn the id of its upload, and then to abort it: a
#: cancelled task must end within one.
_GRACE = 0.4

_log = logging.getLogger(__name__)
#: What of an object's description travels with its bytes.
_DESCRIPTION = (
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "ContentType",
    "Metadata",
)
#: Parts up to this size are hashed on the event loop, larger ones in a thread.
_HASH_INLINE = 256 * 1024


async def copy_server_side(
    s3: Service,
    source: S3Object,
    bucket: str,
    key: str,
    *,
    bucket_owner_full_control: bool,
) -> None:
    """Let S3 copy one object of at most 5 GiB (CopyObject), and verify the copy.

    Content type, metadata and tags go with it by S3's own default, the storage class because it
    is asked for. The copy is pinned to the ETag that was listed.

    Raises:
        PreconditionFailedError: the source is another version by now.
        VerificationError: the copy is not what was listed.
        ServiceError: or another of its kinds.
    """
    storage = {} if source.storage_class == "STANDARD" else {"StorageClass": source.storage_class}
    answer = await s3.call(
        "copy_object",
        uri(bucket, key),
        Bucket=bucket,
        Key=key,
        CopySource={"Bucket": source.bucket, "Key": source.key},
        CopySourceIfMatch=quoted(source.etag),
        MetadataDirective="COPY",
        **storage,
        **acl(bucket_owner_full_control=bucket_owner_full_control),
    )
    with translated("CopyObject", uri(bucket, key)):
        etag = unquoted(answer["CopyObjectResult"]["ETag"])
    if etag == source.etag:
        return
    # Encrypted objects, and sources that were uploaded in parts, get another ETag; so does a
    # source that was overwritten in front of a server that ignores CopySourceIfMatch.
    await _verify_size(s3, bucket, key, source.size)
    now = await head_object(s3, source.bucket, source.key)
    if now.etag != source.etag:
        raise VerificationError(f"{source.uri} was overwritten while it was copied. Run again")


async def _verify_size(s3: Service, bucket: str, key: str, size: int) -> None:
    written = await head_object(s3, bucket, key)
    if written.size != size:
        raise VerificationError(
            f"{uri(bucket, key)} has {written.size} bytes where {size} were sent. Run again"
        )


class Reader(Protocol):
    """One source: its parts on request, and then its description."""

    description: Mapping[str, Any]

    async def read(self, start: int, size: int) -> bytes:
        """Read a part.

        Raises:
            ServiceError: the object cannot be read, or is another version by now.
            LocalFileError: likewise for a file.
        """


class ObjectReader:
    """Reads an object range by range (GetObject), every range of the same version."""

    def __init__(self, s3: Service, source: S3Object) -> None:
        self._s3 = s3
        self._source = source
        self.description: Mapping[str, Any] = {}

    async def read(self, start: int, size: int) -> bytes:
        source = self._source
        # A range of a whole object would be answered with 206, that of an empty one with 416.
        whole = size == source.size
        data, answer = await self._s3.read(
            source.uri,
            Bucket=source.bucket,
            Key=source.key,
            IfMatch=quoted(source.etag),
            **({} if whole else {"Range": f"bytes={start}-{start + size - 1}"}),
        )
        with translated("GetObject", source.uri):
            etag = unquoted(answer["ETag"])
        if etag != source.etag or len(data) != size:  # not every server enforces If-Match
            raise VerificationError(f"{source.uri} was overwritten while it was read. Run again")
        self.description = {name: answer[name] for name in _DESCRIPTION if name in answer}
        return data


class FileReader:
    """Reads a local file part by part."""

    description: Mapping[str, Any] = {}  # a file has none

    def __init__(self, source: LocalFile) -> None:
        self._source = source

    async def read(self, start: int, size: int) -> bytes:
        return await read_part(self._source, start, size)


class Writer(Protocol):
    """One destination of one source."""

    async def start(self, size: int, description: Mapping[str, Any]) -> None:
        """Get ready for that many bytes."""

    async def write(self, data: bytes) -> None:
        """Take the next part."""

    async def finish(self) -> None:
        """Make it appear under its name, whole, and verify that it did."""

    async def discard(self) -> None:
        """Leave nothing of what is not finished."""


class ObjectWriter:
    """Writes an object: as one PutObject, or as a multipart upload where it has several parts."""

    def __init__(
        self, s3: Service, bucket: str, key: str, *, bucket_owner_full_control: bool
    ) -> None:
        self._s3 = s3
        self._at = {"Bucket": bucket, "Key": key}
        self._target = uri(bucket, key)
        self._acl = acl(bucket_owner_full_control=bucket_owner_full_control)
        self._attributes: dict[str, Any] = {}
        self._size = 0
        self._upload: dict[str, str] | None = None
        self._etags: list[str] = []
        self._digests: list[bytes] = []
        self._body = b""

    async def start(self, size: int, description: Mapping[str, Any]) -> None:
        self._size = size
        self._attributes = {**description, **self._acl}
        if len(plan.parts(size)) == 1:
            return
        # Cancelled half-way, it would leave an upload whose id nobody knows.
        await to_its_end(self._create, _GRACE, self._keep)

    async def _create(self) -> dict[str, Any]:
        return await self._s3.call(
            "create_multipart_upload", self._target, **self._at, **self._attributes
        )

    def _keep(self, answer: Mapping[str, Any]) -> None:
        with translated("CreateMultipartUpload", self._target):
            self._upload = {"UploadId": answer["UploadId"]}

    async def write(self, data: bytes) -> None:
        self._digests.append(await _md5(data))
        if self._upload is None:
            self._body = data
            return
        answer = await self._s3.call(
            "upload_part",
            self._target,
            **self._at,
            **self._upload,
            PartNumber=len(self._etags) + 1,
            Body=data,
        )
        with translated("UploadPart", self._target):
            self._etags.append(answer["ETag"])

    async def finish(self) -> None:
        if self._upload is None:
            answer = await self._s3.call(
                "put_object", self._target, **self._at, **self._attributes, Body=self._body
            )
            expected = self._digests[0].hex()
        else:
            answer = await self._complete(self._upload)
            self._upload = None
            whole = hashlib.md5(b"".join(self._digests), usedforsecurity=False).hexdigest()
            expected = f"{whole}-{len(self._etags)}"
        with translated("PutObject", self._target):
            etag = unquoted(answer["ETag"])
        if etag != expected:
            await self._verify_otherwise(answer)

    async def _complete(self, upload: Mapping[str, str]) -> dict[str, Any]:
        parts = [{"PartNumber": n, "ETag": e} for n, e in enumerate(self._etags, start=1)]
        try:
            return await self._s3.call(
                "complete_multipart_upload",
                self._target,
                **self._at,
                **upload,
                MultipartUpload={"Parts": parts},
            )
        except ObjectNotFoundError as error:
            if error.attempts == 1:
                raise
            # It was completed before, and that answer was lost: look at what is there.
            return await self._s3.call("head_object", self._target, **self._at)

    async def _verify_otherwise(self, answer: Mapping[str, Any]) -> None:
        """Verify what has an ETag that is no MD5: encrypted with a key of KMS or a customer."""
        if answer.get("ServerSideEncryption", "AES256") == "AES256":
            raise VerificationError(
                f"{self._target} is not what was sent: its ETag is {answer['ETag']}. Run again"
            )
        await _verify_size(self._s3, self._at["Bucket"], self._at["Key"], self._size)

    async def discard(self) -> None:
        if self._upload is not None:
            await self._s3.call("abort_multipart_upload", self._target, **self._at, **self._upload)


class FileWriter:
    """Writes a local file, which appears under its name when it is complete."""

    def __init__(self, path: Path, mode: int | None) -> None:
        self._file = PartialFile(path, mode)
        self._size = 0

    async def start(self, size: int, description: Mapping[str, Any]) -> None:  # noqa: ARG002
        self._size = size

    async def write(self, data: bytes) -> None:
        await self._file.write(data)

    async def finish(self) -> None:
        await self._file.commit(self._size)

    async def discard(self) -> None:
        await self._file.discard()


async def tee(
    source: plan.Source, reader: Reader, writers: Sequence[Writer]
) -> list[HaulError | None]:
    """Read one source once, part by part, and write every part to all destinations.

    A destination that fails drops out, and the others go on. Whatever ends it, no half-written
    object, upload or file stays.

    Returns:
        For each writer None, or why it does not have the object.

    Raises:
        HaulError: the source cannot be read; no destination has the object then.
    """
    failures: list[HaulError | None] = [None] * len(writers)

    async def step(index: int, number: int, data: bytes) -> None:
        writer = writers[index]
        try:
            if number == 0:
                await writer.start(source.size, reader.description)
            await writer.write(data)
            if number == len(ranges) - 1:
                await writer.finish()
        except HaulError as error:
            failures[index] = error

    ranges = plan.parts(source.size)
    complete = False
    try:
        for number, (start, size) in enumerate(ranges):
            going = [index for index, failure in enumerate(failures) if failure is None]
            if not going:
                break
            data = await reader.read(start, size)
            async with anyio.create_task_group() as tasks:
                for index in going:
                    tasks.start_soon(step, index, number, data)
        complete = True
    finally:
        left = [
            writer
            for writer, failure in zip(writers, failures, strict=True)
            if failure is not None or not complete
        ]
        if left:
            await _discard(left)
    return failures


async def _discard(writers: Sequence[Writer]) -> None:
    """Tidy up behind these, cancelled or not."""

    async def discard(writer: Writer) -> None:
        try:
            await writer.discard()
        except HaulError as error:
            # The failure that led here is the one to raise.
            _log.warning("an upload or a file was left behind: %s", error)

    async def discard_all() -> None:
        await work((partial(discard, writer) for writer in writers), len(writers))

    await to_its_end(discard_all, _GRACE, lambda _: None)


async def _md5(data: bytes) -> bytes:
    if len(data) <= _HASH_INLINE:
        return hashlib.md5(data, usedforsecurity=False).digest()
    return await to_thread.run_sync(
        lambda: hashlib.md5(data, usedforsecurity=False).digest(), abandon_on_cancel=True
    )
