"""Writers of objects, by PutObject or a multipart upload, and of local files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from aiohaul.aws.errors import translated
from aiohaul.aws.service import Service
from aiohaul.errors import PreconditionFailedError, VerificationError
from aiohaul.s3.journal import Entry, SentPart
from aiohaul.s3.local_writing import PartialFile
from aiohaul.s3.objects import find_object, is_md5, unquoted
from aiohaul.s3.streaming import checksums
from aiohaul.s3.streaming.checksum_fallback import with_algorithm
from aiohaul.s3.streaming.checksums import Algorithm, Checksum
from aiohaul.s3.streaming.part_data import PartData
from aiohaul.s3.streaming.parts import Layout
from aiohaul.s3.streaming.readers import ObjectMetadata
from aiohaul.s3.streaming.tags import Tags, ensure_tags, tagging, with_tags
from aiohaul.s3.streaming.target import Target
from aiohaul.s3.streaming.uploads import Upload
from aiohaul.s3.streaming.verification import Expected, Written, is_encrypted, verify
from aiohaul.storage.directories import DirectoryId

_PUT = "PutObject"


class Writer(Protocol):
    """Writes the copy of one source to one destination.

    The caller calls :meth:`put` once, or :meth:`begin`, :meth:`write` for each part, and
    :meth:`finish`.

    Attributes:
        open: True if a multipart upload or a partial file was created.
    """

    @property
    def open(self) -> bool: ...

    async def put(self, part: PartData, metadata: ObjectMetadata) -> Written:
        """Write the whole copy in one piece, not in parts, and verify the copy."""

    async def begin(self, metadata: ObjectMetadata, layout: Layout) -> None:
        """Create or resume the multipart upload, or create the partial file.

        Args:
            metadata: the metadata of the source.
            layout: the size of the source, and of each part except the last, in bytes; None if not
                known.
        """

    def has_part(self, number: int) -> bool:
        """Return True if this part was written before, by this run or an interrupted run."""

    async def write(self, part: PartData) -> None:
        """Write one part. Parts may be written concurrently and in any order."""

    async def finish(self) -> Written:
        """Complete the upload, or rename the partial file, and verify the copy."""

    async def discard(self) -> None:
        """Abort the unfinished upload, or remove the partial file."""


class ObjectWriter:
    """Writes an object by one PutObject, or by a multipart upload if there are several parts."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._upload: Upload | None = None
        self._tags: Tags = {}

    @property
    def open(self) -> bool:
        return self._upload is not None

    async def put(self, part: PartData, metadata: ObjectMetadata) -> Written:
        target = self._target
        await target.check_condition(_PUT)
        parameters: dict[str, Any] = {}
        expected = Expected(size=len(part.data))

        async def send(algorithm: Algorithm | None) -> Mapping[str, Any]:
            nonlocal parameters, expected
            checksum = None
            if algorithm is not None:
                checksum = Checksum(algorithm, algorithm.encode(await part.crc(algorithm)))
            expected = Expected(size=len(part.data), checksum=checksum)
            parameters = {
                **target.at,
                **_attributes(target, metadata),
                **target.condition,
                **(checksum.parameters if checksum is not None else {}),
                "Body": part.payload,
            }
            return await with_tags(target, metadata.tags, partial(_put_object, target, parameters))

        algorithm = _algorithm(target.s3, metadata)
        write = partial(with_algorithm, target.s3, algorithm, checksums.oldest(), send)
        try:
            async with target.limiter.slot():
                try:
                    answer = await write()
                except PreconditionFailedError as error:
                    if not await target.needs_bare_etag(error):
                        raise
                    answer = await write()
        except PreconditionFailedError as error:
            expected = replace(expected, etag=(await part.md5()).hex())
            answer = await self._written_before(expected, error)
        if not expected.is_proven_by(answer):
            expected = replace(expected, etag=(await part.md5()).hex())
        written = await verify(target, answer, expected)
        written = replace(written, version_id=answer.get("VersionId"))
        probe = {**parameters, **tagging(metadata.tags)}
        await target.probe_condition(_PUT, "put_object", probe)
        await ensure_tags(target, _PUT, metadata.tags)
        return written

    async def _written_before(
        self, expected: Expected, error: PreconditionFailedError
    ) -> Mapping[str, Any]:
        """Return HeadObject's response, if an earlier attempt has written the object.

        The response to such an attempt was lost.

        Raises:
            PreconditionFailedError: the condition of the target does not hold.
        """
        target = self._target
        if error.attempts > 1:
            found = await find_object(target.s3, target.bucket, target.key)
            if found is not None and expected.is_proven_by(found):
                return found
        raise target.condition_error(error) from error

    async def begin(self, metadata: ObjectMetadata, layout: Layout) -> None:
        target = self._target
        await target.check_condition("CompleteMultipartUpload")
        upload = self._upload = Upload(target, layout)
        self._tags = metadata.tags

        async def create(tags: dict[str, str]) -> None:
            attributes = {**_attributes(target, metadata), **tags}
            await upload.begin(attributes, _algorithm(target.s3, metadata), checksums.oldest())

        await with_tags(target, metadata.tags, create)

    def has_part(self, number: int) -> bool:
        return self._upload is not None and number in self._upload.sent

    async def write(self, part: PartData) -> None:
        upload, target = self._begun_upload(), self._target
        checksum: dict[str, str] = {}
        crc = None
        if upload.algorithm is not None:
            crc = await part.crc(upload.algorithm)
            checksum = {upload.algorithm.parameter: upload.algorithm.encode(crc)}
        answer = await target.s3.call(
            "upload_part",
            target.uri,
            **target.at,
            **upload.id,
            **checksum,
            PartNumber=part.number,
            Body=part.payload,
        )
        with translated("UploadPart", target.uri):
            etag = unquoted(answer["ETag"])
        if upload.algorithm is None:  # the request had no checksum for the server to check
            await self._verify_part(part, etag, answer)
        upload.keep(part.number, SentPart(etag, len(part.data), crc))

    async def _verify_part(self, part: PartData, etag: str, answer: Mapping[str, Any]) -> None:
        """Compare the ETag of a part with the MD5 of the bytes sent, if the ETag is an MD5.

        Raises:
            VerificationError: the ETag is not the MD5 of the bytes sent.
        """
        if self._target.options.kms_key_id or is_encrypted(answer) or not is_md5(etag):
            return
        if etag != (await part.md5()).hex():
            raise VerificationError(
                f"uploading part {part.number} of {self._target.uri} failed: the ETag {etag} is not"
                " the MD5 of the bytes sent. Run again"
            )

    async def finish(self) -> Written:
        upload = self._begun_upload()
        written = await upload.complete(upload.checksum())
        await ensure_tags(self._target, "CreateMultipartUpload", self._tags)
        return written

    async def discard(self) -> None:
        if self._upload is not None:
            await self._upload.abort()

    def _begun_upload(self) -> Upload:
        if self._upload is None:
            raise AssertionError(f"the multipart upload of {self._target.uri} was not created")
        return self._upload


async def _put_object(
    target: Target, parameters: Mapping[str, Any], tags: Mapping[str, str]
) -> Mapping[str, Any]:
    """Send PutObject, and return the response."""
    answer: Mapping[str, Any] = await target.s3.call("put_object", target.uri, **parameters, **tags)
    return answer


def _attributes(target: Target, metadata: ObjectMetadata) -> dict[str, Any]:
    """Return the headers, metadata and attributes of the object to write, as parameters."""
    attributes = dict(metadata.description)
    if metadata.storage_class is not None and metadata.endpoint == target.s3.endpoint:
        attributes["StorageClass"] = metadata.storage_class
    return {**attributes, **target.attributes}


def _algorithm(s3: Service, metadata: ObjectMetadata) -> Algorithm | None:
    """Return the checksum algorithm of a write; None if the endpoint does not support checksums.

    This is the algorithm of the source's checksum, so that each part is hashed only once to verify
    both the source and the copy. Without a source checksum, it is the preferred algorithm.
    """
    if not s3.sends_checksums:
        return None
    return metadata.checksum.algorithm if metadata.checksum is not None else checksums.best()


class FileWriter:
    """Writes a local file under a temporary name, and renames the file when it is complete."""

    def __init__(
        self,
        path: Path,
        mode: int | None,
        *,
        overwrite: bool,
        directory: DirectoryId | None = None,
        entry: Entry | None = None,
    ) -> None:
        self._file = PartialFile(path, mode, overwrite=overwrite, directory=directory)
        self._entry = entry
        self._begun = False
        self._size = 0

    @property
    def open(self) -> bool:
        return self._begun

    async def _record(self) -> None:
        """Record the temporary path in the journal, before the file is created."""
        self._begun = True
        if self._entry is not None:
            await self._entry.opened(str(self._file.partial))

    async def put(self, part: PartData, metadata: ObjectMetadata) -> Written:  # noqa: ARG002
        await self._record()
        return Written(await self._file.put(part.data))

    async def begin(self, metadata: ObjectMetadata, layout: Layout) -> None:  # noqa: ARG002
        await self._record()
        await self._file.open()

    def has_part(self, number: int) -> bool:  # noqa: ARG002
        return False

    async def write(self, part: PartData) -> None:
        await self._file.write(part.data, part.start)
        self._size += len(part.data)

    async def finish(self) -> Written:
        return Written(await self._file.commit(self._size))

    async def discard(self) -> None:
        await self._file.discard()
