"""Reads the tags of a source, and writes them with the copy or after the copy."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from aiohaul.aws.endpoint_support import is_not_implemented
from aiohaul.aws.errors import translated
from aiohaul.aws.service import Service
from aiohaul.errors import SERVER_ERROR, AccessDeniedError, ServiceError
from aiohaul.s3.objects import S3Object, uri
from aiohaul.s3.streaming.target import Target

T = TypeVar("T")
#: The tags of one object.
Tags = Mapping[str, str]

#: Objects of a bucket whose tags are read although the store did not count any.
_SAMPLES = 8

_log = logging.getLogger(__name__)


async def source_tags(
    s3: Service, source: S3Object, answer: Mapping[str, Any], *, required: bool = False
) -> Tags:
    """Return the tags of a source (GetObjectTagging).

    AWS, and every store known to support tags, returns the number of tags (TagCount) with GetObject
    and HeadObject. AWS does so only if the credentials may read tags, so the tags of one object of
    each bucket are read to find out. In other stores those of the first objects of each bucket are
    read: if one has tags that were not counted, the tags of every object are read.

    Args:
        s3: the client.
        source: the object.
        answer: the response of GetObject or HeadObject.
        required: raise an error if the tags cannot be read. If False, log the error and return no
            tags.

    Raises:
        ServiceError: the tags cannot be read, and ``required`` is True.
    """
    support, count = s3.support, answer.get("TagCount")
    if count == 0 or "GetObjectTagging" in support.missing:
        return {}
    if count:
        support.counts_tags.add(source.bucket)
    elif not support.hides_tags:
        if source.bucket in support.counts_tags:
            return {}
        async with support.tag_lock:  # one after the other, until the result is known
            if source.bucket in support.counts_tags:
                return {}
            if not support.hides_tags:
                return await _sample(s3, source, required=required)
    return await _read_if_allowed(s3, source, required=required)


async def _sample(s3: Service, source: S3Object, *, required: bool) -> Tags:
    """Read the tags of an object without TagCount, to find out if the store counts tags."""
    support = s3.support
    tags = await _read_if_allowed(s3, source, required=required)
    read = support.untagged[source.bucket] = support.untagged.get(source.bucket, 0) + 1
    if tags:
        support.hides_tags = True
    elif s3.is_aws or read >= _SAMPLES:
        support.counts_tags.add(source.bucket)
    return tags


async def _read_if_allowed(s3: Service, source: S3Object, *, required: bool) -> Tags:
    """Read the tags of an object; return no tags if the credentials may not read tags."""
    try:
        return await _read(s3, source.bucket, source.key)
    except ServiceError as error:
        if not s3.is_aws and _has_no_tags(error):
            s3.support.missing.add("GetObjectTagging")
            _log.warning("this and all later objects are copied without tags: %s", error)
            return {}
        if s3.is_aws:
            s3.support.counts_tags.add(source.bucket)
        if required:
            raise
        _log.warning("%s is copied without tags: %s", source.uri, error)
        return {}


async def _read(s3: Service, bucket: str, key: str) -> Tags:
    """Return the tags of an object (GetObjectTagging)."""
    target = uri(bucket, key)
    try:
        answer = await s3.call("get_object_tagging", target, Bucket=bucket, Key=key)
    except ServiceError as error:
        if error.code == "NoSuchTagSet":
            return {}
        raise
    with translated("GetObjectTagging", target):
        return {tag["Key"]: tag["Value"] for tag in answer.get("TagSet", ())}


def _has_no_tags(error: ServiceError) -> bool:
    """Return True if an error shows that the server does not support tags.

    Some servers without tags return status 500, or the object itself instead of its tags.
    """
    return is_not_implemented(error) or error.status == SERVER_ERROR or error.code == "BadAnswer"


async def with_tags(
    target: Target, tags: Tags, send: Callable[[dict[str, str]], Awaitable[T]]
) -> T:
    """Send a write with tags, or without tags if the server refuses or does not support tags.

    A write without tags is logged.

    Args:
        target: the object to write.
        tags: the tags of the object.
        send: sends the write with the additional parameters in its argument.

    Returns:
        The result of ``send``.

    Raises:
        ServiceError: the write failed.
    """
    if not tags:
        return await send({})
    try:
        return await send(tagging(tags))
    except ServiceError as error:
        if not (isinstance(error, AccessDeniedError) or is_not_implemented(error)):
            raise
        answer = await send({})
        _log.warning("%s is written without tags: %s", target.uri, error)
        return answer


def tagging(tags: Tags) -> dict[str, str]:
    """Return tags as a parameter of a write; {} if there are no tags."""
    # Spaces as "%20", because some servers do not decode "+" as a space.
    return {"Tagging": urlencode(tags, quote_via=quote, safe="")} if tags else {}


async def ensure_tags(target: Target, operation: str, tags: Tags) -> None:
    """Set the tags of an object (PutObjectTagging) if the store ignored the tags of the write.

    Some stores other than AWS ignore the tags in CreateMultipartUpload. After the first write by
    an operation, aiohaul reads the tags (GetObjectTagging) to find out if the store ignores them.
    An error is logged and not raised.

    Args:
        target: the object that was written.
        operation: the operation that sent the tags, such as ``PutObject``.
        tags: the tags of the object.
    """
    s3 = target.s3
    kept = s3.support.keeps_tags
    if not tags or s3.is_aws or kept.get(operation):
        return
    try:
        if operation not in kept:
            kept[operation] = await _read(s3, target.bucket, target.key) == tags
            if kept[operation]:
                return
        await s3.call(
            "put_object_tagging",
            target.uri,
            **target.at,
            Tagging={"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]},
        )
    except ServiceError as error:
        _log.warning("%s may have no tags: %s", target.uri, error)
