"""The S3Object class, and requests that read, write and delete single objects."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import anyio

from aiohaul.aws import answers
from aiohaul.aws.endpoint_support import is_not_implemented
from aiohaul.aws.error_codes import service_error
from aiohaul.aws.errors import translated
from aiohaul.aws.retry import ATTEMPTS, backoff_delay
from aiohaul.aws.service import Service
from aiohaul.concurrency import Paced, run_limited
from aiohaul.errors import (
    HaulError,
    ObjectNotFoundError,
    PreconditionFailedError,
    ServiceError,
)
from aiohaul.s3.bucket_service import bound
from aiohaul.s3.options import WriteOptions, write_parameters

#: The maximum number of keys in one DeleteObjects. For more keys, S3 returns MalformedXML.
DELETE_BATCH = 1000
#: The storage classes that copies do not get: the default, and those that must be restored first.
_NOT_COPIED = frozenset({"STANDARD", "GLACIER", "DEEP_ARCHIVE"})
#: The maximum number of concurrent DeleteObject requests.
_DELETES_AT_ONCE = 64
T = TypeVar("T")

_MD5 = re.compile(r"[0-9a-f]{32}")
#: Characters that XML 1.0 cannot carry, not even escaped.
_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class S3Object:
    """One version of an object, from ListObjectsV2 or HeadObject.

    Attributes:
        bucket: the bucket of the object.
        key: the full key, such as ``src/data.csv``.
        size: the size in bytes.
        etag: the ETag of this version, without quotes.
        last_modified: the time of this version, in UTC. In whole seconds if HeadObject returned it.
        storage_class: the storage class, such as ``STANDARD`` or ``GLACIER_IR``.
        root: the prefix below which copies keep the key, such as ``src/``, if ``find`` found the
            object with ``recursive=True``; else None. It is not compared.
    """

    bucket: str
    key: str
    size: int
    etag: str
    last_modified: datetime
    storage_class: str = "STANDARD"
    root: str | None = field(default=None, compare=False, repr=False)

    @property
    def folder(self) -> str:
        """The part of the key between ``root`` and the file name, such as ``2026/``, or ""."""
        if self.root is None:
            return ""
        return self.key[len(self.root) : len(self.key) - len(self.name)]

    @property
    def name(self) -> str:
        """The file name: the part of the key after the last "/"."""
        return self.key.rpartition("/")[2]

    @property
    def uri(self) -> str:
        """The URI of the object, such as ``s3://bucket/key``."""
        return uri(self.bucket, self.key)


def uri(bucket: str, key: str = "") -> str:
    """Return the URI of an object in errors and reports, such as ``s3://bucket/key``."""
    return f"s3://{bucket}/{key}"


def class_of_copy(source: S3Object) -> str | None:
    """Return the storage class of the source for its copies; None for the default class.

    The copy of an archived object that was restored gets the default class, because nobody could
    read the copy in the class of the source, not even to verify it.
    """
    return None if source.storage_class in _NOT_COPIED else source.storage_class


def quoted(etag: str) -> str:
    """Return an ETag in quotes, as the headers If-Match and If-None-Match need it."""
    return f'"{etag}"'


def unquoted(etag: str) -> str:
    """Return an ETag without quotes, as in S3Object."""
    return etag.strip('"')


def is_md5(etag: str) -> bool:
    """Return True if an ETag has the form of an MD5; the ETag of a multipart upload has not."""
    return _MD5.fullmatch(etag) is not None


async def head_object(s3: Service, bucket: str, key: str) -> S3Object:
    """Read the metadata of one object (HeadObject).

    Raises:
        ObjectNotFoundError: the object does not exist.
        ServiceError: the request failed for another reason.
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


async def find_object(s3: Service, bucket: str, key: str) -> answers.ObjectInfo | None:
    """Return the response of HeadObject, with checksums; None if the object does not exist.

    Raises:
        ServiceError: the request failed.
    """
    try:
        return await s3.call(
            "head_object", uri(bucket, key), Bucket=bucket, Key=key, ChecksumMode="ENABLED"
        )
    except ObjectNotFoundError:
        return None


async def touch_object(s3: Service, bucket: str, key: str, options: WriteOptions) -> None:
    """Write an empty object (PutObject). An existing object is overwritten.

    Raises:
        BucketNotFoundError: the bucket does not exist.
        ServiceError: the request failed for another reason.
    """
    await bound(s3, options).call(
        "put_object",
        uri(bucket, key),
        Bucket=bucket,
        Key=key,
        Body=b"",
        **write_parameters(options),
    )


async def delete_objects(
    s3: Service, objects: Sequence[S3Object]
) -> list[tuple[S3Object, HaulError]]:
    """Delete these versions of objects of one bucket (DeleteObjects, 1,000 keys per request).

    Each key is sent with the ETag, so that AWS does not delete an object that was overwritten. An
    S3Object with the ETag "" is deleted in whichever version it is.

    An object is deleted by a request of its own (DeleteObject) if the endpoint has no
    DeleteObjects, or if XML cannot contain the key. Outside of AWS, HeadObject then reads the ETag
    before each delete, because some servers ignore ``If-Match``.

    Returns:
        The objects that were not deleted, each with the error. An object that no longer exists
        counts as deleted.
    """
    failures: list[tuple[S3Object, HaulError]] = []

    single: list[S3Object] = []
    bulk: list[S3Object] = []

    async def delete_batch(batch: Sequence[S3Object]) -> None:
        try:
            failures.extend(await _delete_batch(s3, batch))
        except _NoBulkDeleteError:
            single.extend(batch)

    async def delete_one(each: S3Object) -> None:
        failures.extend(await _delete_one(s3, each))

    async for each in Paced(objects):
        (single if _NOT_IN_XML.search(each.key) else bulk).append(each)
    async with anyio.create_task_group() as tasks:
        for batch in batches(bulk, DELETE_BATCH):
            tasks.start_soon(delete_batch, batch)
    await run_limited(
        (partial(delete_one, each) for each in single), min(_DELETES_AT_ONCE, len(single))
    )
    return failures


class _NoBulkDeleteError(Exception):
    """The endpoint does not implement DeleteObjects."""


async def _delete_one(s3: Service, each: S3Object) -> list[tuple[S3Object, HaulError]]:
    """Delete one object if this version is still current (HeadObject, DeleteObject)."""
    try:
        if each.etag and not s3.is_aws:
            current = await head_object(s3, each.bucket, each.key)
            if current.etag != each.etag:
                return [(each, overwritten_error(each, "DeleteObject"))]
        await s3.call(
            "delete_object",
            each.uri,
            Bucket=each.bucket,
            Key=each.key,
            **({"IfMatch": quoted(each.etag)} if each.etag else {}),
        )
    except ObjectNotFoundError:
        return []
    except HaulError as error:
        return [(each, error)]
    return []


async def _delete_batch(s3: Service, batch: Sequence[S3Object]) -> list[tuple[S3Object, HaulError]]:
    """Delete up to 1,000 objects, and retry those that failed with a transient error.

    Raises:
        _NoBulkDeleteError: the endpoint does not implement DeleteObjects. Nothing was deleted.
    """
    if "DeleteObjects" in s3.support.missing:
        raise _NoBulkDeleteError
    failures: list[tuple[S3Object, HaulError]] = []
    remaining = batch
    for attempt in range(1, ATTEMPTS + 1):
        try:
            failed = await _delete_once(s3, remaining)
        except HaulError as error:
            if isinstance(error, ServiceError) and _has_no_bulk_delete(error):
                s3.support.missing.add("DeleteObjects")
                raise _NoBulkDeleteError from error
            return failures + [(each, error) for each in remaining]
        failures += [(each, error) for each, error in failed if not error.retryable]
        transient = [(each, error) for each, error in failed if error.retryable]
        if not transient or attempt == ATTEMPTS:
            return [*failures, *transient]
        remaining = [each for each, _ in transient]
        await anyio.sleep(backoff_delay(attempt + 1, None))
    raise AssertionError  # pragma: no cover  # the loop returns


def _has_no_bulk_delete(error: ServiceError) -> bool:
    return is_not_implemented(error) or error.code in {"MethodNotAllowed", "MissingContentMD5"}


def overwritten_error(each: S3Object, operation: str) -> PreconditionFailedError:
    """Return the error for an object that is not deleted because it was overwritten."""
    return PreconditionFailedError(
        "the object was overwritten after it was copied, and is not deleted. Run again to copy the"
        " new version.",
        operation=operation,
        target=each.uri,
        code="PreconditionFailed",
    )


async def _delete_once(
    s3: Service, batch: Sequence[S3Object]
) -> list[tuple[S3Object, ServiceError]]:
    target = uri(batch[0].bucket)
    answer = await s3.call(
        "delete_objects",
        target,
        Bucket=batch[0].bucket,
        Delete={
            "Objects": [_identifier(each) for each in batch],
            "Quiet": True,
        },
    )
    by_key = {each.key: each for each in batch}
    request_id = answer.get("ResponseMetadata", {}).get("RequestId")
    with translated("DeleteObjects", target):
        # A response with status 200 may contain errors of single keys.
        return [
            (
                by_key[failed["Key"]],
                service_error(
                    failed.get("Code", "Unknown"),
                    failed.get("Message", ""),
                    operation="DeleteObjects",
                    target=by_key[failed["Key"]].uri,
                    status=None,
                    request_id=request_id,
                ),
            )
            for failed in answer.get("Errors", ())
            if failed.get("Code") != "NoSuchKey"
        ]


def _identifier(each: S3Object) -> dict[str, str]:
    """Return an object of DeleteObjects: this version, or any version if the ETag is empty."""
    return {"Key": each.key, "ETag": quoted(each.etag)} if each.etag else {"Key": each.key}


def batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Return slices of a sequence with at most ``size`` items each."""
    return [items[start : start + size] for start in range(0, len(items), size)]
