"""Methods of S3Handler for versions and tags: list_versions, get_tags, put_tags."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohaul.aws.errors import translated
from aiohaul.errors import ServiceError
from aiohaul.s3.object_io.access import S3Access
from aiohaul.s3.object_io.reading import version_parameters
from aiohaul.s3.objects import unquoted, uri


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectVersion:
    """One version of an object, or a delete marker, from ListObjectVersions.

    Attributes:
        bucket: the bucket.
        key: the full key.
        version_id: the version id; ``null`` for an object from before the bucket had versions.
        is_latest: True for the current version of the key.
        is_delete_marker: True for a delete marker, which hides older versions. It has no size, ETag
            or storage class.
        last_modified: the time of the version, in UTC.
        size: the size in bytes; 0 for a delete marker.
        etag: the ETag without quotes; "" for a delete marker.
        storage_class: the storage class; "" for a delete marker.
    """

    bucket: str
    key: str
    version_id: str
    is_latest: bool
    is_delete_marker: bool
    last_modified: datetime
    size: int = 0
    etag: str = ""
    storage_class: str = ""

    @property
    def uri(self) -> str:
        """The URI of the object, such as ``s3://bucket/key``, without the version id."""
        return uri(self.bucket, self.key)


async def list_versions(
    self: S3Access, bucket: str, prefix: str = ""
) -> AsyncGenerator[ObjectVersion, None]:
    """List all versions and delete markers of the objects whose keys begin with a prefix.

    AWS: ListObjectVersions, one request per 1,000 versions.

    Args:
        bucket: the bucket.
        prefix: the prefix of the keys; "" lists the whole bucket.

    Yields:
        The versions, in key order, and the newest version of a key first.

    Raises:
        BucketNotFoundError: the bucket does not exist.
        AccessDeniedError: the credentials do not allow to list versions.
        ServiceError: a request failed for another reason.
    """
    s3, target = await self._s3(), uri(bucket, prefix)
    parameters: dict[str, str] = {"Bucket": bucket, "Prefix": prefix}
    while True:
        page = await s3.call("list_object_versions", target, **parameters)
        with translated("ListObjectVersions", target):
            found = [_version(bucket, each) for each in page.get("Versions", ())]
            found += [
                _version(bucket, each, is_delete_marker=True)
                for each in page.get("DeleteMarkers", ())
            ]
            following = _following(page, parameters) if page["IsTruncated"] else None
        found.sort(key=_order)
        for each in found:
            yield each
        if following is None:
            return
        parameters = following


def _version(
    bucket: str, entry: Mapping[str, Any], *, is_delete_marker: bool = False
) -> ObjectVersion:
    return ObjectVersion(
        bucket=bucket,
        key=entry["Key"],
        version_id=entry["VersionId"],
        is_latest=entry["IsLatest"],
        is_delete_marker=is_delete_marker,
        last_modified=entry["LastModified"].astimezone(UTC),
        size=0 if is_delete_marker else entry["Size"],
        etag="" if is_delete_marker else unquoted(entry["ETag"]),
        storage_class="" if is_delete_marker else entry.get("StorageClass", "STANDARD"),
    )


def _order(each: ObjectVersion) -> tuple[bytes, bool, float]:
    """Return the sort key of a version: S3 lists versions and delete markers separately."""
    return each.key.encode(), not each.is_latest, -each.last_modified.timestamp()


def _following(page: Mapping[str, Any], parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters of the next page."""
    made = {
        **parameters,
        "KeyMarker": page["NextKeyMarker"],
        "VersionIdMarker": page["NextVersionIdMarker"],
    }
    if made == parameters:
        raise ValueError("the server returned the same markers again")
    return made


async def get_tags(
    self: S3Access, bucket: str, key: str, *, version_id: str | None = None
) -> dict[str, str]:
    """Read the tags of an object.

    AWS: GetObjectTagging.

    Args:
        bucket: the bucket.
        key: the key.
        version_id: the version; None for the current version.

    Returns:
        The tags; empty if there are none.

    Raises:
        ObjectNotFoundError: the object does not exist.
        AccessDeniedError: the credentials do not allow to read tags.
        ServiceError: the request failed for another reason.
    """
    target, version = uri(bucket, key), version_parameters(version_id, None)
    s3 = await self._s3()
    try:
        answer = await s3.call("get_object_tagging", target, Bucket=bucket, Key=key, **version)
    except ServiceError as error:
        if error.code == "NoSuchTagSet":
            return {}
        raise
    with translated("GetObjectTagging", target):
        return {tag["Key"]: tag["Value"] for tag in answer.get("TagSet", ())}


async def put_tags(
    self: S3Access,
    bucket: str,
    key: str,
    tags: Mapping[str, str],
    *,
    version_id: str | None = None,
) -> None:
    """Replace all tags of an object.

    AWS: PutObjectTagging; DeleteObjectTagging if ``tags`` is empty.

    Args:
        bucket: the bucket.
        key: the key.
        tags: the new tags, at most 10. An empty mapping removes all tags.
        version_id: the version; None for the current version.

    Raises:
        ObjectNotFoundError: the object does not exist.
        AccessDeniedError: the credentials do not allow to write tags.
        ServiceError: the request failed for another reason, or S3 refuses a tag.
    """
    target, version = uri(bucket, key), version_parameters(version_id, None)
    s3 = await self._s3()
    if not tags:
        await s3.call("delete_object_tagging", target, Bucket=bucket, Key=key, **version)
        return
    await s3.call(
        "put_object_tagging",
        target,
        Bucket=bucket,
        Key=key,
        Tagging={"TagSet": [{"Key": name, "Value": value} for name, value in tags.items()]},
        **version,
    )
