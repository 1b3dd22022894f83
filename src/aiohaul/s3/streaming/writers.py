"""Where bytes go: objects, by one PUT or in parts, and local files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from aiohaul.aws.errors import translated
from aiohaul.aws.service import Service
from aiohaul.errors import PreconditionFailedError, VerificationError
from aiohaul.s3.copying.target import Target
from aiohaul.s3.local_writing import PartialFile
from aiohaul.s3.objects import find_object, unquoted, verify_size
from aiohaul.s3.resuming.journal import Entry, SentPart
from aiohaul.s3.streaming import checksums
from aiohaul.s3.streaming.checksums import Algorithm
from aiohaul.s3.streaming.parts import Layout
from aiohaul.s3.streaming.piece import Piece
from aiohaul.s3.streaming.readers import Traits
from aiohaul.s3.streaming.uploads import Upload

_S3_OWN = "AES256"


class Writer(Protocol):
    """One destination of one source.

    Attributes:
        open: something is begun that would stay behind.
    """

    @property
    def open(self) -> bool: ...

    async def put(self, piece: Piece, traits: Traits) -> str:
        """Write all of it at once, and verify it.

        Returns:
            What tells the version that was written from others: its ETag, for an object.
        """

    async def begin(self, traits: Traits, layout: Layout) -> None:
        """Get ready for parts.

        Args:
            traits: what is known of the source.
            layout: bytes in all and of each part; None if nobody knows.
        """

    def has(self, number: int) -> bool:
        """True if an interrupted run wrote this part already."""

    async def write(self, piece: Piece) -> None:
        """Write a part; in any order."""

    async def finish(self) -> str:
        """Make it appear under its name, whole, and verify that it did; as for :meth:`put`."""

    async def discard(self) -> None:
        """Leave nothing of what is not finished."""


class ObjectWriter:
    """Writes an object: as one PutObject, or as a multipart upload where it has several parts."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._upload: Upload | None = None

    @property
    def open(self) -> bool:
        return self._upload is not None

    async def put(self, piece: Piece, traits: Traits) -> str:
        target = self._target
        await target.check_free()
        algorithm = _algorithm(target.s3, traits)
        checksum: dict[str, str] = {}
        if algorithm is not None:
            checksum = {algorithm.parameter: algorithm.encode(await piece.crc(algorithm))}
        try:
            async with target.gate.turn():
                answer = await target.s3.call(
                    "put_object",
                    target.uri,
                    **target.at,
                    **traits.description,
                    **target.acl,
                    **target.unless_there,
                    **checksum,
                    Body=piece.payload,
                )
        except PreconditionFailedError as error:
            answer = await self._own(piece, error)
        with translated("PutObject", target.uri):
            etag = unquoted(answer["ETag"])
        if etag != (await piece.md5()).hex():
            await self._verify_otherwise(answer, checksum, len(piece.data))
        return etag

    async def _own(self, piece: Piece, error: PreconditionFailedError) -> dict[str, Any]:
        """What is there, if it is what was sent before and the answer to that was lost."""
        target = self._target
        there = await find_object(target.s3, target.bucket, target.key)
        etag = unquoted(there.get("ETag", "")) if there is not None else ""
        if there is not None and error.attempts > 1 and etag == (await piece.md5()).hex():
            return there
        raise target.taken() from error

    async def _verify_otherwise(
        self, answer: Mapping[str, Any], checksum: Mapping[str, str], size: int
    ) -> None:
        """Verify what has an ETag that is no MD5: encrypted with a key of KMS or a customer."""
        if answer.get("ServerSideEncryption", _S3_OWN) == _S3_OWN:
            raise VerificationError(
                f"{self._target.uri} is not what was sent: its ETag is {answer['ETag']}. Run again"
            )
        if not checksum or any(answer.get(name) != value for name, value in checksum.items()):
            await verify_size(self._target.s3, self._target.bucket, self._target.key, size)

    async def begin(self, traits: Traits, layout: Layout) -> None:
        target = self._target
        await target.check_free()
        self._upload = Upload(target, layout)
        await self._upload.begin(
            {**traits.description, **target.acl}, _algorithm(target.s3, traits)
        )

    def has(self, number: int) -> bool:
        return self._upload is not None and number in self._upload.sent

    async def write(self, piece: Piece) -> None:
        upload, target = self._begun(), self._target
        checksum: dict[str, str] = {}
        crc = None
        if upload.algorithm is not None:
            crc = await piece.crc(upload.algorithm)
            checksum = {upload.algorithm.parameter: upload.algorithm.encode(crc)}
        answer = await target.s3.call(
            "upload_part",
            target.uri,
            **target.at,
            **upload.id,
            **checksum,
            PartNumber=piece.number,
            Body=piece.payload,
        )
        with translated("UploadPart", target.uri):
            etag = unquoted(answer["ETag"])
        if upload.algorithm is None:  # then it is the ETag that has to be right
            await self._verify_part(piece, etag, answer)
        upload.keep(piece.number, SentPart(etag, len(piece.data), crc))

    async def _verify_part(self, piece: Piece, etag: str, answer: Mapping[str, Any]) -> None:
        encrypted = answer.get("ServerSideEncryption", _S3_OWN) != _S3_OWN
        if not encrypted and etag != (await piece.md5()).hex():
            raise VerificationError(
                f"part {piece.number} of {self._target.uri} is not what was sent: its ETag is"
                f" {etag}. Run again"
            )

    async def finish(self) -> str:
        upload = self._begun()
        return await upload.complete(checksum=upload.checksum(), etag=upload.expected_etag())

    async def discard(self) -> None:
        if self._upload is not None:
            await self._upload.abort()

    def _begun(self) -> Upload:
        if self._upload is None:
            raise AssertionError(f"{self._target.uri} was not begun")
        return self._upload


def _algorithm(s3: Service, traits: Traits) -> Algorithm | None:
    """The checksum to send: the source's, so that one pass serves both ends, else the best."""
    if not s3.sends_checksums:
        return None
    return traits.checksum.algorithm if traits.checksum is not None else checksums.best()


class FileWriter:
    """Writes a local file, which appears under its name when it is complete."""

    def __init__(
        self, path: Path, mode: int | None, *, overwrite: bool, entry: Entry | None = None
    ) -> None:
        self._file = PartialFile(path, mode, overwrite=overwrite)
        self._entry = entry
        self._begun = False
        self._size = 0

    @property
    def open(self) -> bool:
        return self._begun

    async def _note(self) -> None:
        self._begun = True
        if self._entry is not None:
            await self._entry.opened(str(self._file.partial))

    async def put(self, piece: Piece, traits: Traits) -> str:  # noqa: ARG002
        await self._note()
        return await self._file.put(piece.data)

    async def begin(self, traits: Traits, layout: Layout) -> None:  # noqa: ARG002
        await self._note()
        await self._file.open()

    def has(self, number: int) -> bool:  # noqa: ARG002
        return False

    async def write(self, piece: Piece) -> None:
        await self._file.write(piece.data, piece.start)
        self._size += len(piece.data)

    async def finish(self) -> str:
        return await self._file.commit(self._size)

    async def discard(self) -> None:
        await self._file.discard()
