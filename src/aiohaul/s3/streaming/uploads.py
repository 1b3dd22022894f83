"""Multipart uploads: begun, filled in any order, completed or aborted, and taken up again."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

import anyio

from aiohaul.aws.errors import translated
from aiohaul.aws.service import Send
from aiohaul.cancellation import to_its_end
from aiohaul.errors import (
    HaulError,
    ObjectNotFoundError,
    PreconditionFailedError,
    VerificationError,
)
from aiohaul.s3.copying.cleanup import GRACE
from aiohaul.s3.copying.target import Target
from aiohaul.s3.objects import find_object, is_md5, quoted, unquoted, verify_size
from aiohaul.s3.resuming.journal import Opened, SentPart
from aiohaul.s3.streaming.checksums import Algorithm, Checksum
from aiohaul.s3.streaming.open_uploads import (
    abort_lost,
    abort_strays,
    abort_upload,
    list_parts,
    may_have_begun,
    open_uploads,
)
from aiohaul.s3.streaming.parts import Layout

_log = logging.getLogger(__name__)


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
        #: Others may have been begun for it, by requests whose answers were lost.
        self._others_begun = False
        self._others: frozenset[str] | None = None
        self._begun_at = 0.0
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
            self._others = frozenset([each.upload_id async for each in open_uploads(target)])
            await entry.intended(self._others)
        self._begun_at = anyio.current_time()

        async def create(send: Send) -> None:
            async def created() -> tuple[str, Algorithm | None]:
                try:
                    upload_id, spoken = self._created(await send(_not_noted), algorithm)
                except BaseException as error:  # cancelled, it may have begun one as well
                    in_doubt = not isinstance(error, HaulError) or may_have_begun(error)
                    self._others_begun = self._others_begun or in_doubt
                    raise
                self._keep((upload_id, spoken))  # before anything can fail: it is to be aborted
                if entry is not None:
                    await entry.opened(upload_id, self._step, spoken.name if spoken else None)
                return upload_id, spoken

            # Cancelled half-way, it would leave an upload whose id nobody knows.
            await to_its_end(created, GRACE, self._keep)

        await target.s3.call_through(
            create, "create_multipart_upload", target.uri, **target.at, **attributes, **asked
        )
        try:
            await self._abort_others()
        except HaulError as error:
            _log.warning("an upload may have been left behind: %s", error)

    async def _abort_others(self) -> None:
        """Leave nothing of the uploads that were begun without an answer."""
        if self._others_begun:
            within = anyio.current_time() - self._begun_at
            await abort_lost(self._target, self._upload_id, self._others, within)
            self._others_begun = False

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
            there = await list_parts(target, earlier.handle)
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
        target, upload_id = self._target, self._upload_id
        if upload_id is not None:
            there = await abort_upload(target.s3, target.bucket, target.key, upload_id)
            self._upload_id = None
            # A server that knows no such upload may have begun one whose id came damaged.
            self._others_begun = self._others_begun or (not there and bool(self._begun_at))
        await self._abort_others()
        if upload_id is not None and target.entry is not None:
            target.entry.closed()


def _not_noted(*, reached: bool) -> None:
    """Take no note of whether a request may have reached its server."""
