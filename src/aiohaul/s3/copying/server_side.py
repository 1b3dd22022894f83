"""Server-side copies, in which S3 copies the bytes and this process does not read them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from aiohaul.aws.endpoint_support import is_not_implemented
from aiohaul.aws.errors import translated
from aiohaul.aws.service import Service
from aiohaul.concurrency import run_limited
from aiohaul.errors import (
    HaulError,
    ObjectNotFoundError,
    PreconditionFailedError,
    ServiceError,
    VerificationError,
)
from aiohaul.s3.bucket_service import source_parameters
from aiohaul.s3.journal import SentPart
from aiohaul.s3.objects import S3Object, class_of_copy, find_object, quoted, unquoted
from aiohaul.s3.streaming import parts
from aiohaul.s3.streaming.checksums import full_object_checksum
from aiohaul.s3.streaming.cleanup import discarded
from aiohaul.s3.streaming.description import description
from aiohaul.s3.streaming.parts import LIMITS, Limits
from aiohaul.s3.streaming.tags import ensure_tags, source_tags, tagging
from aiohaul.s3.streaming.target import Target
from aiohaul.s3.streaming.uploads import Upload
from aiohaul.s3.streaming.verification import Written, check_encrypted, is_encrypted_for

_COPY = "CopyObject"
_COPY_PART = "UploadPartCopy"
_WHOLE = "FULL_OBJECT"
#: The maximum number of parts of one object that are copied concurrently.
_WIDTH = 64


class NotCopiedError(HaulError):
    """The server does not copy this object by itself, so this process must copy the object.

    Callers in this package catch this error; users never see it.
    """


async def copy_server_side(
    source_s3: Service, source: S3Object, target: Target, limits: Limits = LIMITS
) -> Written:
    """Copy one object on the server, and verify the copy.

    The copy has the headers, metadata and tags of the source, and its storage class if the target
    has no storage class of its own. CopyObject does not
    copy the website redirect, so the copy has the redirect only if the object is empty or is copied
    in parts. The copy is conditional on the ETag of the source.

    AWS: CopyObject, or for large objects CreateMultipartUpload, UploadPartCopy and
    CompleteMultipartUpload.

    Args:
        source_s3: the client of the source, at the endpoint of the target.
        source: the version to copy.
        target: the object to write.
        limits: the maximum size in bytes for CopyObject, and the size of parts of larger objects.

    Raises:
        PreconditionFailedError: the source was overwritten.
        ObjectExistsError: the key exists, and ``overwrite`` is False.
        NotCopiedError: the server has no CopyObject, or no UploadPartCopy for a large object.
        VerificationError: the copy differs from the source.
        ServiceError: a request failed for another reason.
    """
    if source.size <= limits.copy:
        return await _copy_whole(source_s3, source, target)
    return await _copy_in_parts(source_s3, source, target, limits.copy_step)


async def _copy_whole(source_s3: Service, source: S3Object, target: Target) -> Written:
    """Copy an object in one request (CopyObject)."""
    if _COPY in target.s3.support.missing:
        raise NotCopiedError(f"{target.s3.endpoint} does not support CopyObject")
    parameters = {
        **target.at,
        **_pinned(source_s3, source),
        **_storage(source),
        **await _redirect(source_s3, source),
        **target.attributes,
        **target.condition,
        "MetadataDirective": "COPY",
    }
    await target.check_condition(_COPY)
    try:
        answer = await target.s3.call("copy_object", target.uri, **parameters)
    except PreconditionFailedError as error:
        if target.overwrite:
            raise
        return await _which_failed(source_s3, source, target, error)
    except ServiceError as error:
        _raise_if_missing(error, target.s3)
        raise
    etag = _copied_etag(answer)
    # The ETags differ if one object is encrypted by SSE-KMS or SSE-C, or if the source was uploaded
    # in parts. They also differ if the source was overwritten and the server ignores
    # CopySourceIfMatch.
    if etag == source.etag and is_encrypted_for(target, answer):
        written = Written(etag)
    else:
        written = await _verify(source_s3, source, target, answer)
    await target.probe_condition(_COPY, "copy_object", parameters)
    return written


def _copied_etag(answer: Mapping[str, Any]) -> str:
    return unquoted(answer.get("CopyObjectResult", {}).get("ETag") or "")


def _raise_if_missing(error: ServiceError, s3: Service) -> None:
    """Raise NotCopiedError if the endpoint does not support the operation that failed.

    Later copies to an endpoint that is not AWS do not try this operation again.
    """
    if is_not_implemented(error):
        if not s3.is_aws:  # in AWS, support depends on the bucket
            s3.support.missing.add(error.operation)
        raise NotCopiedError(str(error)) from error


async def _redirect(s3: Service, source: S3Object) -> dict[str, str]:
    """Return the website redirect of an empty object as a parameter of CopyObject.

    CopyObject does not copy redirects. For an object with bytes, no parameter is returned.
    """
    if source.size:
        return {}
    now = await _unchanged(s3, source)
    redirect = now.get("WebsiteRedirectLocation")
    return {"WebsiteRedirectLocation": redirect} if redirect else {}


async def _which_failed(
    source_s3: Service, source: S3Object, target: Target, error: PreconditionFailedError
) -> Written:
    """Find out which condition of a copy failed: the one on the source, or the one on the target.

    Returns:
        The written version, if an earlier attempt copied the object and its response was lost.

    Raises:
        PreconditionFailedError: the source was overwritten.
        ObjectExistsError: the target exists.
    """
    there = await find_object(target.s3, target.bucket, target.key)
    if there is None:
        raise error
    etag = unquoted(there.get("ETag") or "")
    if error.attempts > 1:  # an earlier attempt, whose response was lost, may have copied it
        if etag == source.etag:
            return Written(etag)
        if _same_checksum(await _unchanged(source_s3, source), there):
            return Written(etag)
    raise target.condition_error(error) from error


async def _verify(
    source_s3: Service, source: S3Object, target: Target, answer: Mapping[str, Any]
) -> Written:
    """Verify a copy by the checksum or ETag, or else by the size.

    AWS verifies its own copies, so an equal size is enough proof there.

    AWS: HeadObject of the copy and of the source.
    """
    there = await find_object(target.s3, target.bucket, target.key)
    if there is None:
        raise VerificationError(
            f"verifying {target.uri} failed: the object does not exist after it was written. Run"
            " again"
        )
    size = there.get("ContentLength")
    if size != source.size:
        raise VerificationError(
            f"verifying {target.uri} failed: the copy has {size} bytes, and {source.uri} has"
            f" {source.size} bytes. Run again"
        )
    now = await _unchanged(source_s3, source)
    check_encrypted(target, answer, there)
    etag = _copied_etag(answer) or unquoted(there.get("ETag") or "")
    same = _same_checksum(now, there)
    if same is False:
        raise VerificationError(
            f"verifying {target.uri} failed: the checksum differs from that of {source.uri}. Run"
            " again"
        )
    proven = same or etag == source.etag or target.s3.is_aws
    return Written(etag, "content" if proven else "size")


def _same_checksum(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool | None:
    """Return True if the full-object checksums in two responses of HeadObject are equal.

    Returns None if the responses have no full-object checksum of the same algorithm.
    """
    results = [
        first[name] == second[name]
        for name in first.keys() & second.keys()
        if name.startswith("Checksum")
        and name != "ChecksumType"
        and "-" not in f"{first[name]}{second[name]}"
    ]
    whole = all(each.get("ChecksumType", _WHOLE) == _WHOLE for each in (first, second))
    return all(results) if results and whole else None


async def _unchanged(s3: Service, source: S3Object) -> Mapping[str, Any]:
    """Check that a source is still the version that was listed; return HeadObject's response.

    Raises:
        ObjectNotFoundError: the source was deleted.
        VerificationError: the source was overwritten.
    """
    now = await find_object(s3, source.bucket, source.key)
    if now is None:
        raise ObjectNotFoundError(
            "the object was deleted during the copy.",
            operation="HeadObject",
            target=source.uri,
            code="NoSuchKey",
            status=404,
        )
    with translated("HeadObject", source.uri):
        etag = unquoted(now["ETag"])
    if etag != source.etag:
        raise VerificationError(
            f"copying {source.uri} failed: the object was overwritten during the copy. Run again"
        )
    return now


async def _copy_in_parts(
    source_s3: Service, source: S3Object, target: Target, step: int | None
) -> Written:
    """Copy an object in parts (UploadPartCopy), with the metadata and tags of the source."""
    if _COPY_PART in target.s3.support.missing:
        raise NotCopiedError(f"{target.s3.endpoint} does not support UploadPartCopy")
    await target.check_condition("CompleteMultipartUpload")
    now = await _unchanged(source_s3, source)
    tags = await source_tags(source_s3, source, now, required=True)
    attributes = {**description(now), **_storage(source), **target.attributes, **tagging(tags)}
    pinned = _pinned(source_s3, source)
    step = step or parts.copy_part_size(source.size)
    upload = Upload(target, (source.size, step))
    checksum = full_object_checksum(now) if target.s3.sends_checksums else None
    async with discarded(upload.abort):
        await upload.begin(attributes, checksum.algorithm if checksum is not None else None)
        await run_limited(
            (
                partial(_copy_part, pinned, target, upload, number, part_range)
                for number, part_range in enumerate(parts.split(source.size, step), start=1)
                if number not in upload.sent
            ),
            _WIDTH,
        )
        await _unchanged(source_s3, source)  # some servers ignore CopySourceIfMatch
        # S3 refuses to complete the upload if the copy's checksum differs from the source's.
        written = await upload.complete(checksum if upload.algorithm is not None else None)
    await ensure_tags(target, "CreateMultipartUpload", tags)
    if written.proof == "content" or target.s3.is_aws:
        return Written(written.version)
    return Written(written.version, "size")  # aiohaul has not read the bytes


async def _copy_part(
    pinned: Mapping[str, Any],
    target: Target,
    upload: Upload,
    number: int,
    part_range: parts.PartRange,
) -> None:
    """Copy one part on the server (UploadPartCopy)."""
    start, size = part_range
    try:
        answer = await target.s3.call(
            "upload_part_copy",
            target.uri,
            **target.at,
            **upload.id,
            **pinned,
            CopySourceRange=f"bytes={start}-{start + size - 1}",
            PartNumber=number,
        )
    except ServiceError as error:
        _raise_if_missing(error, target.s3)
        raise
    etag = answer.get("CopyPartResult", {}).get("ETag")
    if not etag:  # the server has treated the request as UploadPart with an empty body
        raise NotCopiedError(f"UploadPartCopy to {target.uri} copied no bytes")
    upload.keep(number, SentPart(unquoted(etag), size))


def _pinned(s3: Service, source: S3Object) -> dict[str, Any]:
    """Return the source of a copy, and the conditions on its ETag and owner, as parameters."""
    return {
        **source_parameters(s3),
        "CopySource": {"Bucket": source.bucket, "Key": source.key},
        "CopySourceIfMatch": quoted(source.etag),
    }


def _storage(source: S3Object) -> dict[str, str]:
    """Return the storage class for the copy as a parameter; {} for the default class."""
    storage_class = class_of_copy(source)
    return {} if storage_class is None else {"StorageClass": storage_class}
