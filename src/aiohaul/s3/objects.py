"""S3Object, and the plain verbs: list, head, touch, delete."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import anyio

from aiohaul.aws.clients import Service
from aiohaul.aws.errors import service_error
from aiohaul.errors import ServiceError

#: Keys that one DeleteObjects takes; more is MalformedXML.
DELETE_BATCH = 1000
T = TypeVar("T")

_ACL = "bucket-owner-full-control"


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


async def list_objects(
    s3: Service, bucket: str, prefix: str = "", *, recursive: bool = True
) -> AsyncGenerator[S3Object, None]:
    """List the objects below a prefix (ListObjectsV2, pages of 1,000 keys), in key order.

    Args:
        s3: the way to S3.
        bucket: the bucket.
        prefix: what the keys begin with.
        recursive: False leaves out keys with a further ``/`` behind the prefix.

    Raises:
        BucketNotFoundError: there is no such bucket.
        ServiceError: or another of its kinds.
    """
    parameters: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix}
    if not recursive:
        parameters["Delimiter"] = "/"
    while True:
        page = await s3.call("list_objects_v2", uri(bucket, prefix), **parameters)
        for entry in page.get("Contents", ()):
            yield S3Object(
                bucket=bucket,
                key=entry["Key"],
                size=entry["Size"],
                etag=unquoted(entry["ETag"]),
                last_modified=entry["LastModified"],
                storage_class=entry.get("StorageClass", "STANDARD"),
            )
        if not page.get("IsTruncated"):
            return
        parameters["ContinuationToken"] = page["NextContinuationToken"]


async def head_object(s3: Service, bucket: str, key: str) -> S3Object:
    """Look at one object (HeadObject).

    Raises:
        ObjectNotFoundError: there is no such object.
        ServiceError: or another of its kinds.
    """
    answer = await s3.call("head_object", uri(bucket, key), Bucket=bucket, Key=key)
    return S3Object(
        bucket=bucket,
        key=key,
        size=answer["ContentLength"],
        etag=unquoted(answer["ETag"]),
        last_modified=answer["LastModified"].astimezone(UTC),
        storage_class=answer.get("StorageClass", "STANDARD"),
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
) -> list[tuple[S3Object, ServiceError]]:
    """Delete these versions of objects of one bucket (DeleteObjects, 1,000 keys at a time).

    Each key goes with its ETag: an object that was overwritten meanwhile is not deleted by a
    server that enforces this, as AWS does.

    Returns:
        The objects that are not deleted, each with the reason. One that is gone already counts
        as deleted.
    """
    failures: list[tuple[S3Object, ServiceError]] = []

    async def delete(batch: Sequence[S3Object]) -> None:
        failures.extend(await _delete_batch(s3, batch))

    async with anyio.create_task_group() as tasks:
        for batch in batches(objects, DELETE_BATCH):
            tasks.start_soon(delete, batch)
    return failures


async def _delete_batch(
    s3: Service, batch: Sequence[S3Object]
) -> Iterable[tuple[S3Object, ServiceError]]:
    bucket = batch[0].bucket
    try:
        answer = await s3.call(
            "delete_objects",
            uri(bucket),
            Bucket=bucket,
            Delete={
                "Objects": [{"Key": each.key, "ETag": quoted(each.etag)} for each in batch],
                "Quiet": True,
            },
        )
    except ServiceError as error:
        return [(each, error) for each in batch]
    by_key = {each.key: each for each in batch}
    # An answer of 200 carries the failures of single keys.
    return [
        (
            by_key[told["Key"]],
            service_error(
                told.get("Code", "Unknown"),
                told.get("Message", ""),
                operation="DeleteObjects",
                target=uri(bucket, told["Key"]),
                status=None,
                request_id=answer.get("ResponseMetadata", {}).get("RequestId"),
            ),
        )
        for told in answer.get("Errors", ())
        if told.get("Code") != "NoSuchKey"
    ]


def batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Cut a sequence into runs of at most ``size``."""
    return [items[start : start + size] for start in range(0, len(items), size)]
