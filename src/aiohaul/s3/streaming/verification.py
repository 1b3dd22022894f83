"""Verifies a written object by checksum or ETag, or by size if neither proves the object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aiohaul.errors import VerificationError
from aiohaul.s3.objects import find_object, unquoted
from aiohaul.s3.streaming.checksums import Checksum
from aiohaul.s3.streaming.target import Target

#: SSE-S3, with which ETags are MD5s as without encryption. With SSE-KMS and SSE-C they are not.
_S3_OWN = "AES256"
#: SSE-KMS, and DSSE-KMS, which is ``aws:kms:dsse``.
_KMS = "aws:kms"


@dataclass(frozen=True, slots=True)
class Written:
    """The version of a written object or file, and how well it is verified.

    Attributes:
        version: the ETag of the object, or the version of the file.
        proof: ``content`` if the checksum or ETag is as expected. ``size`` if only the size could
            be compared, and is as expected. ``none`` if the ETag seems wrong, so that the copy must
            be read back and compared.
        version_id: the version id; None if the bucket has no versions, and for files.
    """

    version: str
    proof: Literal["content", "size", "none"] = "content"
    version_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The expected size, checksum and ETag of a written object.

    Attributes:
        size: the size in bytes.
        checksum: the full-object checksum; None if no checksum was sent.
        etag: the ETag computed from the bytes sent; None if the ETag was not computed.
    """

    size: int
    checksum: Checksum | None = None
    etag: str | None = None

    def is_proven_by(self, answer: Mapping[str, Any]) -> bool:
        """Return True if the checksum or the ETag in a response is the expected one."""
        checksum = self.checksum
        if checksum is not None and answer.get(checksum.algorithm.parameter) == checksum.value:
            return True
        return self.etag is not None and _etag(answer).lower() == self.etag

    def has_another_checksum(self, answer: Mapping[str, Any]) -> bool:
        """Return True if the full-object checksum in a response is not the expected one."""
        if self.checksum is None or answer.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT":
            return False
        found = str(answer.get(self.checksum.algorithm.parameter) or "")
        return found != "" and "-" not in found and found != self.checksum.value

    def has_another_etag(self, answer: Mapping[str, Any]) -> bool:
        """Return True if an ETag in a response seems to be a wrong MD5.

        The ETag differs from the expected ETag, but has the same form, and no encryption in the
        response explains the difference.
        """
        if self.etag is None or is_encrypted(answer):
            return False
        found = _etag(answer).lower()
        return found != self.etag and _form(found) == _form(self.etag)


async def verify(target: Target, answer: Mapping[str, Any], expected: Expected) -> Written:
    """Verify an object that was just written.

    If the checksum or the ETag is the expected one, the object is verified, even if the other
    differs. A different ETag does not prove an error, because the ETags of some stores are not MD5s
    or are empty. In this case the sizes are compared.

    If the target has a KMS key, a response must say that SSE-KMS encrypts the object.

    AWS: HeadObject if the response to the write proves nothing, or has no ETag.

    Args:
        target: the object.
        answer: the response to the write.
        expected: the expected size, checksum and ETag.

    Returns:
        The written version. If its ``proof`` is ``none``, the caller must read the object back.

    Raises:
        VerificationError: the object does not exist, its size or checksum is wrong, or it is not
            encrypted as it should be.
        ServiceError: HeadObject failed.
    """
    etag = _etag(answer)
    if etag and expected.is_proven_by(answer) and is_encrypted_for(target, answer):
        return Written(etag)
    head = await find_object(target.s3, target.bucket, target.key)
    if head is None:
        raise VerificationError(
            f"verifying {target.uri} failed: the object does not exist after it was written. Run"
            " again"
        )
    size = head.get("ContentLength")
    if size != expected.size:
        raise VerificationError(
            f"verifying {target.uri} failed: the object has {size} bytes, but {expected.size} bytes"
            " were sent. Run again"
        )
    check_encrypted(target, answer, head)
    etag = etag or _etag(head)
    if expected.is_proven_by(answer) or expected.is_proven_by(head):
        return Written(etag)
    if expected.has_another_checksum(answer) or expected.has_another_checksum(head):
        raise VerificationError(
            f"verifying {target.uri} failed: the object's checksum is not that of the bytes sent."
            " Run again"
        )
    looks_wrong = expected.has_another_etag(head) and not is_encrypted(answer)
    return Written(etag, "none" if looks_wrong else "size")


def is_encrypted(answer: Mapping[str, Any]) -> bool:
    """Return True if a response names an encryption (SSE-KMS, SSE-C) whose ETags are not MD5s."""
    return (
        answer.get("ServerSideEncryption", _S3_OWN) != _S3_OWN or "SSECustomerAlgorithm" in answer
    )


def is_encrypted_for(target: Target, answer: Mapping[str, Any]) -> bool:
    """Return True if a response says that SSE-KMS encrypts the object, or if no key is given."""
    if target.options.kms_key_id is None:
        return True
    return str(answer.get("ServerSideEncryption", "")).startswith(_KMS)


def check_encrypted(target: Target, *answers: Mapping[str, Any]) -> None:
    """Check that SSE-KMS encrypts a written object, if the target has a KMS key.

    Some stores ignore the key.

    Args:
        target: the object.
        answers: the responses to the write and to HeadObject.

    Raises:
        VerificationError: no response says that SSE-KMS encrypts the object.
    """
    if not any(is_encrypted_for(target, each) for each in answers):
        raise VerificationError(
            f"verifying {target.uri} failed: the object exists now, but the store does not say that"
            " it is encrypted with the KMS key. Remove the KMS key (kmsKeyId, or kms_key_id in"
            " Python), or use a store that encrypts with it"
        )


def _etag(answer: Mapping[str, Any]) -> str:
    return unquoted(answer.get("ETag") or "")


def _form(etag: str) -> tuple[bool, str]:
    """Return the form of an ETag: True if it begins with an MD5, and the number of parts as text.

    An ETag of a multipart upload is an MD5, "-" and the number of parts, such as "…-3".
    """
    digest, _, count = etag.partition("-")
    return len(digest) == 32 and all(each in "0123456789abcdef" for each in digest), count  # noqa: PLR2004  # an MD5
