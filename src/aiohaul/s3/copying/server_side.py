"""Copies that S3 makes by itself: no byte of them passes through this process."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import urlencode

from aiohaul.aws.errors import translated
from aiohaul.aws.service import Service
from aiohaul.concurrency import work
from aiohaul.errors import (
    HaulError,
    ObjectNotFoundError,
    PreconditionFailedError,
    ServiceError,
    VerificationError,
)
from aiohaul.s3.copying.cleanup import discarded
from aiohaul.s3.copying.target import Target
from aiohaul.s3.objects import S3Object, find_object, quoted, unquoted, verify_size
from aiohaul.s3.resuming.journal import SentPart
from aiohaul.s3.streaming import parts
from aiohaul.s3.streaming.checksums import told
from aiohaul.s3.streaming.parts import LIMITS, Limits
from aiohaul.s3.streaming.readers import DESCRIPTION, traits
from aiohaul.s3.streaming.uploads import Upload

_log = logging.getLogger(__name__)

#: What servers say that have no tags at all, or none on this object.
_NO_TAGS = frozenset({"NotImplemented", "NoSuchTagSet"})
_SERVER_ERROR = 500
#: Parts of one object that are copied at once.
_WIDTH = 64


class PartsNotCopiedError(HaulError):
    """The server does not copy parts by itself. Never leaves the copy engine."""


async def copy_server_side(source: S3Object, target: Target, limits: Limits = LIMITS) -> str:
    """Let S3 copy one object, and verify the copy.

    Content type, metadata, tags and storage class go with it. The copy is pinned to the ETag that
    was listed.

    Returns:
        The copy's ETag.

    Raises:
        PreconditionFailedError: the source is another version by now.
        ObjectExistsError: there is one already, and it is not to be overwritten.
        PartsNotCopiedError: it is too large for CopyObject, and the server has no UploadPartCopy.
        VerificationError: the copy is not what was listed.
        ServiceError: or another of its kinds.
    """
    await target.check_free()
    if source.size <= limits.copy:
        return await _copy_whole(source, target)
    return await _copy_in_parts(source, target, limits.copy_step)


async def _copy_whole(source: S3Object, target: Target) -> str:
    """Copy an object in one request (CopyObject)."""
    try:
        answer = await target.s3.call(
            "copy_object",
            target.uri,
            **target.at,
            **_pinned(source),
            **_storage(source),
            **target.acl,
            **target.unless_there,
            MetadataDirective="COPY",
        )
    except PreconditionFailedError as error:
        if target.overwrite:
            raise
        return await _which_failed(source, target, error)
    with translated("CopyObject", target.uri):
        etag = unquoted(answer["CopyObjectResult"]["ETag"])
    if etag != source.etag:
        # Encrypted objects, and sources that were uploaded in parts, get another ETag; so does a
        # source that was overwritten in front of a server that ignores CopySourceIfMatch.
        await _verify_otherwise(source, target)
    return etag


async def _which_failed(source: S3Object, target: Target, error: PreconditionFailedError) -> str:
    """Tell the two conditions of a copy apart: on the source, and on the target."""
    there = await find_object(target.s3, target.bucket, target.key)
    if there is None:
        raise error
    etag = unquoted(there.get("ETag", ""))
    if error.attempts > 1 and etag == source.etag:
        return etag  # it was copied before, and the answer to that was lost
    raise target.taken() from error


async def _verify_otherwise(source: S3Object, target: Target) -> None:
    """Hold a copy against its source where their ETags say nothing: by checksum, else size."""
    await verify_size(target.s3, target.bucket, target.key, source.size)
    now = await _unchanged(source, target.s3)
    there = await find_object(target.s3, target.bucket, target.key) or {}
    wanted = told(now)
    got = told(there)
    if wanted and got and wanted.algorithm == got.algorithm and wanted.value != got.value:
        raise VerificationError(
            f"{target.uri} has another {wanted.algorithm.name} than {source.uri}. Run again"
        )


async def _unchanged(source: S3Object, s3: Service) -> Mapping[str, Any]:
    """What HeadObject tells of a source that is still the version that was listed."""
    now = await find_object(s3, source.bucket, source.key)
    if now is None:
        raise ObjectNotFoundError(
            "it was deleted while it was copied.",
            operation="HeadObject",
            target=source.uri,
            code="NoSuchKey",
            status=404,
        )
    with translated("HeadObject", source.uri):
        etag = unquoted(now["ETag"])
    if etag != source.etag:
        raise VerificationError(f"{source.uri} was overwritten while it was copied. Run again")
    return now


async def _copy_in_parts(source: S3Object, target: Target, step: int | None) -> str:
    """Copy an object of any size (UploadPartCopy): what CopyObject carries is carried here."""
    now = await _unchanged(source, target.s3)
    attributes = {
        **{name: now[name] for name in (*DESCRIPTION, "WebsiteRedirectLocation") if now.get(name)},
        **_storage(source),
        **target.acl,
        **await _tags(source, target.s3, now),
    }
    step = step or parts.copy_part_size(source.size)
    upload = Upload(target, (source.size, step))
    checksum = traits(now).checksum if target.s3.sends_checksums else None
    async with discarded(upload.abort):
        await upload.begin(attributes, checksum.algorithm if checksum is not None else None)
        await work(
            (
                partial(_copy_part, source, target, upload, number, part)
                for number, part in enumerate(parts.cut(source.size, step), start=1)
                if number not in upload.sent
            ),
            _WIDTH,
        )
        await _unchanged(source, target.s3)  # not every server enforces CopySourceIfMatch
        # The source's own checksum: S3 completes nothing that has another.
        return await upload.complete(
            checksum=checksum if upload.algorithm is not None else None, etag=None
        )


async def _copy_part(
    source: S3Object, target: Target, upload: Upload, number: int, part: parts.Part
) -> None:
    start, size = part
    try:
        answer = await target.s3.call(
            "upload_part_copy",
            target.uri,
            **target.at,
            **upload.id,
            **_pinned(source),
            CopySourceRange=f"bytes={start}-{start + size - 1}",
            PartNumber=number,
        )
    except ServiceError as error:
        if error.code == "NotImplemented":
            raise PartsNotCopiedError(str(error)) from error
        raise
    etag = answer.get("CopyPartResult", {}).get("ETag")
    if not etag:  # a server that took it for an upload of an empty part
        raise PartsNotCopiedError(f"no part of {target.uri} was copied")
    upload.keep(number, SentPart(unquoted(etag), size))


def _pinned(source: S3Object) -> dict[str, Any]:
    """The source of a copy, in the version that was listed, as parameters."""
    return {
        "CopySource": {"Bucket": source.bucket, "Key": source.key},
        "CopySourceIfMatch": quoted(source.etag),
    }


def _storage(source: S3Object) -> dict[str, str]:
    return {} if source.storage_class == "STANDARD" else {"StorageClass": source.storage_class}


async def _tags(source: S3Object, s3: Service, now: Mapping[str, Any]) -> dict[str, str]:
    """The tags of a source as a parameter (GetObjectTagging)."""
    if not now.get("TagCount", 1):  # not every server counts them
        return {}
    try:
        answer = await s3.call(
            "get_object_tagging", source.uri, Bucket=source.bucket, Key=source.key
        )
    except ServiceError as error:
        if error.code in _NO_TAGS:
            return {}
        if s3.is_aws or error.status is None or error.status < _SERVER_ERROR:
            raise
        _log.warning("%s; it is copied without tags, which this server does not know", error)
        return {}
    with translated("GetObjectTagging", source.uri):
        pairs = [(tag["Key"], tag["Value"]) for tag in answer.get("TagSet", ())]
    return {"Tagging": urlencode(pairs)} if pairs else {}
