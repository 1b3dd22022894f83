"""S3Object, and the plain verbs: head, touch, delete."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import anyio

from aiohaul.aws.error_codes import service_error
from aiohaul.aws.errors import translated
from aiohaul.aws.retry import ATTEMPTS, pause_before
from aiohaul.aws.service import Service
from aiohaul.concurrency import Paced
from aiohaul.errors import HaulError, ObjectNotFoundError, ServiceError, VerificationError

#: Keys that one DeleteObjects takes; more is MalformedXML.
DELETE_BATCH = 1000
T = TypeVar("T")

_MD5 = re.compile(r"[0-9a-f]{32}")
_ACL = "bucket-owner-full-control"
#: Characters that XML 1.0 cannot carry, not even escaped.
_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class S3Object:
    """One object of a bucket, as a listing or a HEAD saw it.

    Attributes:
        bucket: its bucket.
        key: its whole key.
        size: bytes.
        etag: of this version, without the quotes.
        last_modified: in UTC; a HEAD gives whole seconds.
        storage_class: such as ``STANDARD`` or ``GLACIER_IR``.
    """

    bucket: str
    key: str
    size: int
    etag: str
    last_modified: datetime
    storage_class: str = "STANDARD"

    @property
    def name(self) -> str:
        """The last part of the key: the file name."""
        return self.key.rpartition("/")[2]

    @property
    def uri(self) -> str:
        """``s3://bucket/key``."""
        return uri(self.bucket, self.key)


def uri(bucket: str, key: str = "") -> str:
    """``s3://bucket/key``, the form in which errors and reports name objects."""
    return f"s3://{bucket}/{key}"


def acl(*, bucket_owner_full_control: bool) -> dict[str, str]:
    """The ACL parameter that every write carries unless the user disabled it."""
    return {"ACL": _ACL} if bucket_owner_full_control else {}


def quoted(etag: str) -> str:
    """An ETag as conditional headers want it."""
    return f'"{etag}"'


def unquoted(etag: str) -> str:
    """An ETag as S3Object holds it."""
    return etag.strip('"')


def is_md5(etag: str) -> bool:
    """True if an ETag may be the MD5 of the bytes; those of multipart uploads are not."""
    return _MD5.fullmatch(etag) is not None


async def head_object(s3: Service, bucket: str, key: str) -> S3Object:
    """Look at one object (HeadObject).

    Raises:
        ObjectNotFoundError: there is no such object.
        ServiceError: or another of its kinds.
    """
    answer = await s3.call("head_object", uri(bucket, key), Bucket=bucket, Key=key)
    with translated("HeadObject", uri(bucket, key)):
        return S3Object(
            bucket=bucket,
            key=key,
            size=answer["ContentLength"],
            etag=unquoted(answer["ETag"]),
            last_modified=answer["LastModified"].astimezone(UTC),
            storage_class=answer.get("StorageClass", "STANDARD"),
        )


async def find_object(s3: Service, bucket: str, key: str) -> dict[str, Any] | None:
    """What HeadObject tells of an object, its checksum too; None if there is none.

    Raises:
        ServiceError: or one of its kinds.
    """
    try:
        return await s3.call(
            "head_object", uri(bucket, key), Bucket=bucket, Key=key, ChecksumMode="ENABLED"
        )
    except ObjectNotFoundError:
        return None


async def verify_size(s3: Service, bucket: str, key: str, size: int) -> None:
    """Make sure that an object has so many bytes (HeadObject).

    Raises:
        VerificationError: it has not.
        ServiceError: or one of its kinds.
    """
    written = await head_object(s3, bucket, key)
    if written.size != size:
        raise VerificationError(
            f"{uri(bucket, key)} has {written.size} bytes where {size} were sent. Run again"
        )


async def touch_object(
    s3: Service, bucket: str, key: str, *, bucket_owner_full_control: bool = True
) -> None:
    """Write an empty object (PutObject), whatever was there before.

    Raises:
        BucketNotFoundError: there is no such bucket.
        ServiceError: or another of its kinds.
    """
    await s3.call(
        "put_object",
        uri(bucket, key),
        Bucket=bucket,
        Key=key,
        Body=b"",
        **acl(bucket_owner_full_control=bucket_owner_full_control),
    )


async def delete_objects(
    s3: Service, objects: Sequence[S3Object]
) -> list[tuple[S3Object, HaulError]]:
    """Delete these versions of objects of one bucket (DeleteObjects, 1,000 keys at a time).

    Each key goes with its ETag: an object that was overwritten meanwhile is not deleted by a
    server that enforces this, as AWS does.

    Returns:
        The objects that are not deleted, each with the reason. One that is gone already counts
        as deleted.
    """
    failures: list[tuple[S3Object, HaulError]] = []

    async def delete(batch: Sequence[S3Object]) -> None:
        failures.extend(await _delete_batch(s3, batch))

    async def delete_alone(each: S3Object) -> None:
        failures.extend(await _delete_one(s3, each))

    alone: list[S3Object] = []
    together: list[S3Object] = []
    async for each in Paced(objects):
        (alone if _NOT_IN_XML.search(each.key) else together).append(each)
    async with anyio.create_task_group() as tasks:
        for batch in batches(together, DELETE_BATCH):
            tasks.start_soon(delete, batch)
        for each in alone:
            tasks.start_soon(delete_alone, each)
    return failures


async def _delete_one(s3: Service, each: S3Object) -> list[tuple[S3Object, HaulError]]:
    """Delete one whose key the XML of DeleteObjects cannot carry (DeleteObject)."""
    try:
        await s3.call(
            "delete_object",
            each.uri,
            Bucket=each.bucket,
            Key=each.key,
            IfMatch=quoted(each.etag),
        )
    except ObjectNotFoundError:
        return []
    except HaulError as error:
        return [(each, error)]
    return []


async def _delete_batch(s3: Service, batch: Sequence[S3Object]) -> list[tuple[S3Object, HaulError]]:
    """Delete up to 1,000, and again those that failed for a reason that passes by itself."""
    failures: list[tuple[S3Object, HaulError]] = []
    left = batch
    for attempt in range(1, ATTEMPTS + 1):
        try:
            failed = await _delete_once(s3, left)
        except HaulError as error:
            return failures + [(each, error) for each in left]
        failures += [(each, error) for each, error in failed if not error.retryable]
        passing = [(each, error) for each, error in failed if error.retryable]
        if not passing or attempt == ATTEMPTS:
            return [*failures, *passing]
        left = [each for each, _ in passing]
        await anyio.sleep(pause_before(attempt + 1, None))
    raise AssertionError  # pragma: no cover  # the loop returns


async def _delete_once(
    s3: Service, batch: Sequence[S3Object]
) -> list[tuple[S3Object, ServiceError]]:
    target = uri(batch[0].bucket)
    answer = await s3.call(
        "delete_objects",
        target,
        Bucket=batch[0].bucket,
        Delete={
            "Objects": [{"Key": each.key, "ETag": quoted(each.etag)} for each in batch],
            "Quiet": True,
        },
    )
    by_key = {each.key: each for each in batch}
    request_id = answer.get("ResponseMetadata", {}).get("RequestId")
    with translated("DeleteObjects", target):
        # An answer of 200 carries the failures of single keys.
        return [
            (
                by_key[told["Key"]],
                service_error(
                    told.get("Code", "Unknown"),
                    told.get("Message", ""),
                    operation="DeleteObjects",
                    target=by_key[told["Key"]].uri,
                    status=None,
                    request_id=request_id,
                ),
            )
            for told in answer.get("Errors", ())
            if told.get("Code") != "NoSuchKey"
        ]


def batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Cut a sequence into runs of at most ``size``."""
    return [items[start : start + size] for start in range(0, len(items), size)]
