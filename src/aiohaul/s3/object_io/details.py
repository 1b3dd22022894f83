"""What S3 says of an object: ObjectDetails, and ObjectData with bytes of the object."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohaul.aws.errors import translated
from aiohaul.errors import PlanError
from aiohaul.s3.objects import S3Object, unquoted, uri

#: The total size at the end of a Content-Range header, such as ``bytes 0-9/1234``.
_TOTAL = re.compile(r"/(\d+)$")
_CHECKSUMS = ("CRC64NVME", "CRC32C", "CRC32", "SHA256", "SHA1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectDetails:
    """The metadata of one version of an object, from HeadObject or GetObject.

    Attributes:
        bucket: the bucket.
        key: the full key.
        size: the size of the whole object in bytes, also if only a range was read.
        etag: the ETag of this version, without quotes.
        last_modified: the time of this version, in UTC and in whole seconds.
        version_id: the version id; None if the bucket has no versions.
        storage_class: the storage class, such as ``STANDARD`` or ``GLACIER_IR``.
        content_type: the header Content-Type; None if there is none.
        content_encoding: the header Content-Encoding; None if there is none.
        cache_control: the header Cache-Control; None if there is none.
        content_disposition: the header Content-Disposition; None if there is none.
        content_language: the header Content-Language; None if there is none.
        expires: the header Expires, in UTC; None if there is none, or if it is not a date.
        metadata: the user metadata, without the prefix ``x-amz-meta-``.
        tag_count: the number of tags; None if the response has no number.
        checksums: the checksums in base64 by algorithm, such as ``{"CRC32": "…"}``. A checksum that
            ends in "-" and a number is a checksum of the checksums of that many parts.
        encryption: the server-side encryption, such as ``AES256`` or ``aws:kms``; None if the
            response names none.
        kms_key_id: the id of the KMS key; None without SSE-KMS.
    """

    bucket: str
    key: str
    size: int
    etag: str
    last_modified: datetime
    version_id: str | None = None
    storage_class: str = "STANDARD"
    content_type: str | None = None
    content_encoding: str | None = None
    cache_control: str | None = None
    content_disposition: str | None = None
    content_language: str | None = None
    expires: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)
    tag_count: int | None = None
    checksums: Mapping[str, str] = field(default_factory=dict, hash=False)
    encryption: str | None = None
    kms_key_id: str | None = None

    @property
    def uri(self) -> str:
        """The URI of the object, such as ``s3://bucket/key``."""
        return uri(self.bucket, self.key)

    @property
    def object(self) -> S3Object:
        """This version as an S3Object, which can be copied, moved and deleted."""
        return S3Object(
            self.bucket, self.key, self.size, self.etag, self.last_modified, self.storage_class
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectData:
    """Bytes of an object, and the metadata of the object.

    Attributes:
        data: the bytes.
        details: the metadata of the object.
    """

    data: bytes = field(repr=False)
    details: ObjectDetails


def details_of(
    answer: Mapping[str, Any], bucket: str, key: str, *, operation: str
) -> ObjectDetails:
    """Return the metadata in a response to HeadObject or GetObject.

    Raises:
        ServiceError: the response is not one to these operations.
    """
    with translated(operation, uri(bucket, key)):
        total = _TOTAL.search(answer.get("ContentRange") or "")
        expires = answer.get("Expires")
        return ObjectDetails(
            bucket=bucket,
            key=key,
            size=int(total[1]) if total else answer["ContentLength"],
            etag=unquoted(answer["ETag"]),
            last_modified=answer["LastModified"].astimezone(UTC),
            version_id=answer.get("VersionId"),
            storage_class=answer.get("StorageClass", "STANDARD"),
            content_type=answer.get("ContentType"),
            content_encoding=answer.get("ContentEncoding"),
            cache_control=answer.get("CacheControl"),
            content_disposition=answer.get("ContentDisposition"),
            content_language=answer.get("ContentLanguage"),
            expires=expires.astimezone(UTC) if isinstance(expires, datetime) else None,
            metadata=dict(answer.get("Metadata") or {}),
            tag_count=answer.get("TagCount"),
            checksums={
                name: answer[f"Checksum{name}"]
                for name in _CHECKSUMS
                if answer.get(f"Checksum{name}")
            },
            encryption=answer.get("ServerSideEncryption"),
            kms_key_id=answer.get("SSEKMSKeyId"),
        )


def range_header(offset: int, length: int | None) -> str | None:
    """Return the value of the header Range; None for the whole object.

    Args:
        offset: the first byte; a negative number counts from the end of the object.
        length: the number of bytes, 1 or more; None for all bytes from ``offset``.
    """
    if offset < 0:
        return f"bytes={offset}"
    if length is None:
        return f"bytes={offset}-" if offset else None
    return f"bytes={offset}-{offset + length - 1}"


def check_range(offset: int, length: int | None) -> None:
    """Check the arguments ``offset`` and ``length`` of a read.

    Raises:
        PlanError: the length is negative, or is given together with a negative offset.
    """
    if length is not None and length < 0:
        raise PlanError(f"length must be at least 0, not {length}")
    if length is not None and offset < 0:
        raise PlanError(
            f"length must be None with a negative offset ({offset}), which reads the last bytes"
        )
