"""Creates, resumes, completes and aborts multipart uploads."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import anyio

from aiohaul.aws.errors import translated
from aiohaul.aws.service import Send
from aiohaul.cancellation import run_shielded
from aiohaul.errors import (
    HaulError,
    ObjectNotFoundError,
    PreconditionFailedError,
    ServiceError,
)
from aiohaul.s3.journal import IncompleteWrite, SentPart
from aiohaul.s3.objects import find_object, is_md5, quoted
from aiohaul.s3.streaming.checksum_fallback import with_algorithm
from aiohaul.s3.streaming.checksums import Algorithm, Checksum
from aiohaul.s3.streaming.cleanup import GRACE
from aiohaul.s3.streaming.incomplete_uploads import (
    abort_orphaned,
    abort_unacknowledged,
    abort_upload,
    incomplete_uploads,
    list_parts,
)
from aiohaul.s3.streaming.parts import Layout
from aiohaul.s3.streaming.target import Target
from aiohaul.s3.streaming.verification import Expected, Written, verify

_log = logging.getLogger(__name__)

_COMPLETE = "CompleteMultipartUpload"


class Upload:
    """One multipart upload, whose parts may be sent in any order.

    Args:
        target: the object to write.
        layout: the size of the object, and of each part except the last, in bytes; None if not
            known.
    """

    def __init__(self, target: Target, layout: Layout) -> None:
        self._target = target
        self._layout = layout
        self._upload_id: str | None = None
        #: True if requests whose responses were lost may have created more uploads.
        self._others_created = False
        self._others: frozenset[str] | None = None
        self._created_at = 0.0
        #: The checksum algorithm of the upload; None for no checksums.
        self.algorithm: Algorithm | None = None
        #: The parts that the server has, by number.
        self.sent: dict[int, SentPart] = {}

    @property
    def id(self) -> dict[str, str]:
        """The upload id as a parameter of a request."""
        if self._upload_id is None:
            raise AssertionError(f"the multipart upload of {self._target.uri} was not created")
        return {"UploadId": self._upload_id}

    @property
    def size(self) -> int:
        """The total size in bytes of the parts that the server has."""
        return sum(part.size for part in self.sent.values())

    async def begin(
        self,
        attributes: Mapping[str, Any],
        algorithm: Algorithm | None,
        fallback: Algorithm | None = None,
    ) -> None:
        """Create the upload (CreateMultipartUpload), or resume the upload of an interrupted run.

        Args:
            attributes: the headers, metadata, tags and ACL, as parameters of CreateMultipartUpload.
            algorithm: the checksum algorithm to request; None for no checksums.
            fallback: the algorithm for a store that refuses the first; None for no checksums.

        Raises:
            ServiceError: the upload cannot be created.
        """
        target, entry = self._target, self._target.entry
        if entry is not None:
            known = (algorithm, fallback)
            if entry.earlier is not None and await self._resume(entry.earlier, known):
                return
            self._others = frozenset([each.upload_id async for each in incomplete_uploads(target)])
            await entry.intended(self._others)
        self._created_at = anyio.current_time()
        await with_algorithm(target.s3, algorithm, fallback, partial(self._create, attributes))
        try:
            await self._abort_others()
        except HaulError as error:
            _log.warning(
                "aborting unused uploads to %s failed, and such an upload may remain: %s",
                target.uri,
                error,
            )

    async def _create(self, attributes: Mapping[str, Any], algorithm: Algorithm | None) -> None:
        """Create the upload (CreateMultipartUpload) with this checksum algorithm."""
        target, entry = self._target, self._target.entry
        asked: dict[str, str] = {}
        if algorithm is not None:
            asked = {"ChecksumAlgorithm": algorithm.name, "ChecksumType": "FULL_OBJECT"}

        async def create(send: Send) -> None:
            async def created() -> tuple[str, Algorithm | None]:
                try:
                    upload_id, supported = self._created(await send(_not_noted), algorithm)
                except BaseException as error:  # a cancelled request may still create an upload
                    maybe_created = not isinstance(error, HaulError) or (
                        isinstance(error, ServiceError) and error.outcome_unknown
                    )
                    self._others_created = self._others_created or maybe_created
                    raise
                self._keep(
                    (upload_id, supported)
                )  # before anything can fail, so that it can be aborted
                if entry is not None:
                    await entry.opened(upload_id, self._step, supported.name if supported else None)
                return upload_id, supported

            # Shielded, because a cancelled request could create an upload whose id is unknown.
            await run_shielded(created, GRACE, self._keep)

        await target.s3.call_through(
            create, "create_multipart_upload", target.uri, **target.at, **attributes, **asked
        )

    async def _abort_others(self) -> None:
        """Abort the uploads that were created by requests whose responses were lost."""
        if self._others_created:
            within = anyio.current_time() - self._created_at
            await abort_unacknowledged(self._target, self._upload_id, self._others, within)
            self._others_created = False

    def _created(
        self, answer: Mapping[str, Any], algorithm: Algorithm | None
    ) -> tuple[str, Algorithm | None]:
        """Return the upload id, and the checksum algorithm if the server supports the algorithm."""
        with translated("CreateMultipartUpload", self._target.uri):
            upload_id: str = answer["UploadId"]
        # The response of a server without checksums does not name the algorithm.
        supports = algorithm is not None and answer.get("ChecksumAlgorithm") == algorithm.name
        return upload_id, algorithm if supports else None

    def _keep(self, created: tuple[str, Algorithm | None]) -> None:
        self._upload_id, self.algorithm = created

    @property
    def _step(self) -> int:
        return 0 if self._layout is None else self._layout[1]

    async def _resume(
        self, earlier: IncompleteWrite, algorithms: Sequence[Algorithm | None]
    ) -> bool:
        """Resume the upload of an interrupted run, if this is possible.

        An upload with another part size or another checksum algorithm is aborted instead.

        AWS: ListParts; or AbortMultipartUpload.

        Returns:
            True if the upload was resumed.
        """
        target = self._target
        if earlier.upload_id_or_path is None:
            await abort_orphaned(target, earlier)
            return False
        by_name = {each.name: each for each in algorithms if each is not None}
        supported = by_name.get(earlier.algorithm or "")
        other = earlier.algorithm is not None and supported is None
        if other or self._layout is None or earlier.step != self._step:
            await abort_upload(target.s3, target.bucket, target.key, earlier.upload_id_or_path)
            return False
        try:
            there = await list_parts(target, earlier.upload_id_or_path)
        except ObjectNotFoundError:
            return False  # the upload was completed or aborted, but the journal does not show this
        self._upload_id = earlier.upload_id_or_path
        self.algorithm = supported
        self.sent = {
            number: part
            for number, part in earlier.parts.items()
            if there.get(number) == (part.etag, part.size)
        }
        return True

    def keep(self, number: int, part: SentPart) -> None:
        """Record a part that the server has received, also in the journal."""
        self.sent[number] = part
        if self._target.entry is not None:
            self._target.entry.part(number, part)

    def in_order(self) -> list[SentPart]:
        """Return the parts that the server has, in order."""
        return [self.sent[number] for number in sorted(self.sent)]

    def checksum(self) -> Checksum | None:
        """Return the full-object checksum of all parts.

        Returns None if the upload has no checksum algorithm, or if the checksum of a part is not
        known.
        """
        known = [(part.crc, part.size) for part in self.in_order() if part.crc is not None]
        if self.algorithm is None or len(known) != len(self.sent):
            return None
        return Checksum(self.algorithm, self.algorithm.encode(self.algorithm.whole(known)))

    def composite_etag(self) -> str | None:
        """Return the expected ETag of the object: the MD5 of the parts' MD5s, "-" and their number.

        Returns None if the ETag of a part is not an MD5.
        """
        if not all(is_md5(part.etag) for part in self.sent.values()):
            return None
        digests = b"".join(bytes.fromhex(part.etag) for part in self.in_order())
        whole = hashlib.md5(digests, usedforsecurity=False).hexdigest()
        return f"{whole}-{len(self.sent)}"

    async def complete(self, checksum: Checksum | None) -> Written:
        """Complete the upload (CompleteMultipartUpload), and verify the object.

        Args:
            checksum: the expected full-object checksum, or None. S3 refuses to complete the upload
                if the checksum differs.

        Returns:
            The written version. If its ``proof`` is ``none``, the caller must read the object back.

        Raises:
            PreconditionFailedError: the condition of the target does not hold.
            VerificationError: the size or checksum of the object is wrong.
            ServiceError: a request failed for another reason.
        """
        target = self._target
        if target.entry is not None:  # so that a later run does not send the parts again
            await target.entry.settled()
        await target.check_condition(_COMPLETE)
        # If SSE-KMS or SSE-C encrypts the parts, their ETags are not MD5s, although they look so.
        expected = Expected(size=self.size, checksum=checksum, etag=self.composite_etag())
        parameters: dict[str, Any] = {
            **target.at,
            **self.id,
            **target.condition,
            "MultipartUpload": {
                "Parts": [
                    {"PartNumber": number, "ETag": quoted(self.sent[number].etag)}
                    for number in sorted(self.sent)
                ]
            },
        }
        if checksum is not None:
            parameters |= {
                **checksum.parameters,
                "ChecksumType": "FULL_OBJECT",
                "MpuObjectSize": self.size,
            }
        answer: Mapping[str, Any]
        try:
            answer = await target.s3.call("complete_multipart_upload", target.uri, **parameters)
        except (ObjectNotFoundError, PreconditionFailedError) as error:
            answer = await self._completed_before(error, expected)
        self._upload_id = None
        written = await verify(target, answer, expected)
        written = replace(written, version_id=answer.get("VersionId"))
        await target.probe_condition(_COMPLETE, "complete_multipart_upload", parameters)
        return written

    async def _completed_before(
        self, error: ObjectNotFoundError | PreconditionFailedError, expected: Expected
    ) -> Mapping[str, Any]:
        """Return HeadObject's response, if an earlier attempt has completed the upload.

        The response to such an attempt was lost. The checksum or ETag of the object must be that of
        this upload, because another program may have written an object of the same size.

        Raises:
            ObjectNotFoundError: the upload does not exist.
            PreconditionFailedError: the condition of the target does not hold.
        """
        target = self._target
        if error.attempts > 1:
            found = await find_object(target.s3, target.bucket, target.key)
            if found is not None and expected.is_proven_by(found):
                return found
        if isinstance(error, PreconditionFailedError):
            raise target.condition_error(error) from error
        raise error

    async def abort(self) -> None:
        """Abort the upload (AbortMultipartUpload), unless the upload is completed.

        Raises:
            ServiceError: a request failed, and the upload may still exist.
        """
        target, upload_id = self._target, self._upload_id
        if upload_id is not None:
            there = await abort_upload(target.s3, target.bucket, target.key, upload_id)
            self._upload_id = None
            # If the server does not know the upload id, the id may have been damaged in transit.
            self._others_created = self._others_created or (not there and bool(self._created_at))
        await self._abort_others()
        if upload_id is not None and target.entry is not None:
            target.entry.closed()


def _not_noted(*, reached: bool) -> None:
    """Do nothing: an upload does not need to know if a request reached the server."""
