"""Multipart uploads: begun, filled in any order, completed or aborted, and taken up again."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from aiohaul.aws.errors import translated
from aiohaul.aws.service import Send, Service
from aiohaul.concurrency import to_its_end
from aiohaul.errors import (
    ObjectNotFoundError,
    PreconditionFailedError,
    VerificationError,
)
from aiohaul.s3.copying.cleanup import GRACE
from aiohaul.s3.copying.target import Target
from aiohaul.s3.objects import find_object, is_md5, quoted, unquoted, uri, verify_size
from aiohaul.s3.resuming.journal import Opened, SentPart
from aiohaul.s3.streaming.checksums import Algorithm, Checksum
from aiohaul.s3.streaming.parts import Layout

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """An upload that is neither completed nor aborted, as a listing shows it."""

    bucket: str
    key: str
    upload_id: str


class Upload:
    """One multipart upload.

    Args:
        target: what it will be.
        layout: bytes in all and of each part (but the last); None if nobody knows.
    """

    def __init__(self, target: Target, layout: Layout) -> None:
        self._target = target
        self._layout = layout
        self._upload_id: str | None = None
        #: The checksum that the server keeps; None if it keeps none.
        self.algorithm: Algorithm | None = None
        #: The parts that are there.
        self.sent: dict[int, SentPart] = {}

    @property
    def id(self) -> dict[str, str]:
        """Its id, as a parameter."""
        if self._upload_id is None:
            raise AssertionError(f"the upload of {self._target.uri} was not begun")
        return {"UploadId": self._upload_id}

    @property
    def size(self) -> int:
        """Bytes of the parts that are there."""
        return sum(part.size for part in self.sent.values())

    async def begin(self, attributes: Mapping[str, Any], algorithm: Algorithm | None) -> None:
        """Start it (CreateMultipartUpload), or take up that of an interrupted run.

        Args:
            attributes: content type, metadata, ACL and the like.
            algorithm: the checksum to ask for; None asks for none.

        Raises:
            ServiceError: or one of its kinds.
        """
        target, entry = self._target, self._target.entry
        asked: dict[str, str] = {}
        if algorithm is not None:
            asked = {"ChecksumAlgorithm": algorithm.name, "ChecksumType": "FULL_OBJECT"}
        if entry is not None:
            if entry.earlier is not None and await self._take_up(entry.earlier, algorithm):
                return
            await entry.intended([each.upload_id async for each in open_uploads(target)])

        async def create(send: Send) -> None:
            async def created() -> tuple[str, Algorithm | None]:
                upload_id, spoken = self._created(await send(_not_noted), algorithm)
                self._keep((upload_id, spoken))  # before anything can fail: it is to be aborted
                if entry is not None:
                    await entry.opened(upload_id, self._step, spoken.name if spoken else None)
                return upload_id, spoken

            # Cancelled half-way, it would leave an upload whose id nobody knows.
            await to_its_end(created, GRACE, self._keep)

        await target.s3.call_through(
            create, "create_multipart_upload", target.uri, **target.at, **attributes, **asked
        )

    def _created(
        self, answer: Mapping[str, Any], algorithm: Algorithm | None
    ) -> tuple[str, Algorithm | None]:
        """The id of the upload, and the checksum that the server keeps of it."""
        with translated("CreateMultipartUpload", self._target.uri):
            upload_id: str = answer["UploadId"]
        # A server that speaks no checksums does not repeat what it was asked for.
        speaks = algorithm is not None and answer.get("ChecksumAlgorithm") == algorithm.name
        return upload_id, algorithm if speaks else None

    def _keep(self, created: tuple[str, Algorithm | None]) -> None:
        self._upload_id, self.algorithm = created

    @property
    def _step(self) -> int:
        return 0 if self._layout is None else self._layout[1]

    async def _take_up(self, earlier: Opened, algorithm: Algorithm | None) -> bool:
        """Go on with the upload of an interrupted run: True if that can be done."""
        target = self._target
        if earlier.handle is None:
            await abort_strays(target, earlier)
            return False
        spoken = algorithm if algorithm and algorithm.name == earlier.algorithm else None
        other = earlier.algorithm is not None and spoken is None
        if other or self._layout is None or earlier.step != self._step:
            await abort_upload(target.s3, target.bucket, target.key, earlier.handle)
            return False
        try:
            there = await _list_parts(target, earlier.handle)
        except ObjectNotFoundError:
            return False  # it was completed, or aborted, and nobody could write that down
        self._upload_id = earlier.handle
        self.algorithm = spoken
        self.sent = {
            number: part
            for number, part in earlier.parts.items()
            if there.get(number) == (part.etag, part.size)
        }
        return True

    def keep(self, number: int, part: SentPart) -> None:
        """Note a part that is there."""
        self.sent[number] = part
        if self._target.entry is not None:
            self._target.entry.part(number, part)

    def in_order(self) -> list[SentPart]:
        """The parts that are there, in order."""
        return [self.sent[number] for number in sorted(self.sent)]

    def checksum(self) -> Checksum | None:
        """The checksum of all parts together, if the server keeps one and all are known."""
        known = [(part.crc, part.size) for part in self.in_order() if part.crc is not None]
        if self.algorithm is None or len(known) != len(self.sent):
            return None
        return Checksum(self.algorithm, self.algorithm.encode(self.algorithm.whole(known)))

    def expected_etag(self) -> str | None:
        """The ETag that the whole gets from the MD5s of its parts.

        None where a checksum speaks for it, or where parts are encrypted and have no MD5s.
        """
        return None if self.algorithm is not None else self._composite_etag()

    def _composite_etag(self) -> str | None:
        """The MD5 of the MD5s of the parts; None where those have none."""
        if not all(is_md5(part.etag) for part in self.sent.values()):
            return None
        digests = b"".join(bytes.fromhex(part.etag) for part in self.in_order())
        whole = hashlib.md5(digests, usedforsecurity=False).hexdigest()
        return f"{whole}-{len(self.sent)}"

    async def complete(self, *, checksum: Checksum | None, etag: str | None) -> str:
        """Make an object of the parts (CompleteMultipartUpload), and verify it.

        Args:
            checksum: what the whole must have; S3 refuses to complete another.
            etag: what ETag it must have, unless it is encrypted with another's key.

        Returns:
            Its ETag.

        Raises:
            ObjectExistsError: there is one, and it is not to be overwritten.
            VerificationError: it is not what was sent.
            ServiceError: or one of its kinds.
        """
        target = self._target
        if target.entry is not None:  # its parts are not to be sent again, whatever comes now
            await target.entry.settled()
        held: dict[str, Any] = {}
        if checksum is not None:
            held = {
                checksum.algorithm.parameter: checksum.value,
                "ChecksumType": "FULL_OBJECT",
                "MpuObjectSize": self.size,
            }
        try:
            answer = await target.s3.call(
                "complete_multipart_upload",
                target.uri,
                **target.at,
                **self.id,
                **target.unless_there,
                **held,
                MultipartUpload={
                    "Parts": [
                        {"PartNumber": number, "ETag": quoted(self.sent[number].etag)}
                        for number in sorted(self.sent)
                    ]
                },
            )
        except (ObjectNotFoundError, PreconditionFailedError) as error:
            answer = await self._completed_before(error, checksum)
        self._upload_id = None
        await self._verify(answer, checksum, etag)
        return unquoted(answer["ETag"])

    async def _completed_before(
        self,
        error: ObjectNotFoundError | PreconditionFailedError,
        checksum: Checksum | None,
    ) -> dict[str, Any]:
        """What is there, if it was completed before and that answer was lost.

        It has the checksum, or the ETag, that this upload has to have: of another object of the
        same size nothing is said.
        """
        target = self._target
        there = None
        if error.attempts > 1:
            there = await find_object(target.s3, target.bucket, target.key)
        if there is not None:
            told = there.get(checksum.algorithm.parameter) if checksum is not None else None
            if checksum is not None and told == checksum.value:
                return there
            if unquoted(there.get("ETag", "")) == self._composite_etag():
                return there
        if isinstance(error, PreconditionFailedError):
            raise target.taken() from error
        raise error

    async def _verify(
        self, answer: Mapping[str, Any], checksum: Checksum | None, etag: str | None
    ) -> None:
        target = self._target
        with translated("CompleteMultipartUpload", target.uri):
            found = unquoted(answer["ETag"])
        if etag is not None and found == etag:
            return
        if checksum is not None:
            told = answer.get(checksum.algorithm.parameter)
            if told == checksum.value:
                return
            if told is not None and "-" not in told:
                raise VerificationError(f"{target.uri} is not what was sent. Run again")
        if etag is not None and answer.get("ServerSideEncryption", "AES256") == "AES256":
            raise VerificationError(
                f"{target.uri} is not what was sent: its ETag is {found}. Run again"
            )
        await verify_size(target.s3, target.bucket, target.key, self.size)

    async def abort(self) -> None:
        """Leave nothing of it (AbortMultipartUpload), unless it is complete.

        Raises:
            ServiceError: it may still be there.
        """
        if self._upload_id is not None:
            target = self._target
            await abort_upload(target.s3, target.bucket, target.key, self._upload_id)
            self._upload_id = None
            if target.entry is not None:
                target.entry.closed()


def _not_noted(*, reached: bool) -> None:
    """Take no note of whether a request may have reached its server."""


async def abort_upload(s3: Service, bucket: str, key: str, upload_id: str) -> None:
    """Abort an upload; one that is gone counts as aborted (AbortMultipartUpload).

    Raises:
        ServiceError: or one of its kinds.
    """
    try:
        await s3.call(
            "abort_multipart_upload", uri(bucket, key), Bucket=bucket, Key=key, UploadId=upload_id
        )
    except ObjectNotFoundError:
        _log.info("the upload of %s was gone already", uri(bucket, key))


async def abort_strays(target: Target, earlier: Opened) -> None:
    """Abort an upload of which a killed process could not write the id down.

    It has no part, and was not there before: one that somebody else began is left alone.

    Raises:
        ServiceError: or one of its kinds.
    """
    async for each in open_uploads(target):
        if each.upload_id not in earlier.others:
            try:
                empty = not await _list_parts(target, each.upload_id)
            except ObjectNotFoundError:
                continue
            if empty:
                await abort_upload(target.s3, target.bucket, target.key, each.upload_id)


async def open_uploads(target: Target) -> AsyncIterator[OpenUpload]:
    """The open uploads of one key (ListMultipartUploads).

    Raises:
        ServiceError: or one of its kinds.
    """
    further: dict[str, str] = {}
    while True:
        try:
            page = await target.s3.call(
                "list_multipart_uploads",
                target.uri,
                Bucket=target.bucket,
                Prefix=target.key,
                **further,
            )
        except ObjectNotFoundError:  # how some servers say that there is none
            return
        for told in page.get("Uploads", ()):
            if told.get("Key") == target.key:
                yield OpenUpload(target.bucket, target.key, told["UploadId"])
        if not page.get("IsTruncated"):
            return
        further = {
            "KeyMarker": page["NextKeyMarker"],
            "UploadIdMarker": page["NextUploadIdMarker"],
        }


async def _list_parts(target: Target, upload_id: str) -> dict[int, tuple[str, int]]:
    """ETag and size of the parts that an upload has (ListParts)."""
    found: dict[int, tuple[str, int]] = {}
    further: dict[str, int] = {}
    while True:
        page = await target.s3.call(
            "list_parts", target.uri, **target.at, UploadId=upload_id, **further
        )
        with translated("ListParts", target.uri):
            for told in page.get("Parts", ()):
                found[told["PartNumber"]] = (unquoted(told["ETag"]), told["Size"])
        if not page.get("IsTruncated"):
            return found
        further = {"PartNumberMarker": page["NextPartNumberMarker"]}
