"""Finds and aborts multipart uploads that are neither completed nor aborted."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from aiohaul.aws.errors import translated
from aiohaul.aws.service import Service
from aiohaul.errors import (
    ObjectNotFoundError,
)
from aiohaul.s3.journal import IncompleteWrite
from aiohaul.s3.objects import unquoted, uri
from aiohaul.s3.streaming.target import Target

_log = logging.getLogger(__name__)

#: The maximum difference in seconds between a server's clock and its rounded dates.
_ROUNDED = 2.0


@dataclass(frozen=True, slots=True)
class IncompleteUpload:
    """A multipart upload that is neither completed nor aborted, from ListMultipartUploads.

    Attributes:
        bucket: the bucket of the upload.
        key: the key of the object after the upload is completed.
        upload_id: the upload id.
        age: the seconds since the upload was created, by the server's clock; None if the server
            sends no date.
        initiator: the id of the user who created the upload; None if the server sends no id.
    """

    bucket: str
    key: str
    upload_id: str
    age: float | None = None
    initiator: str | None = None


async def abort_upload(s3: Service, bucket: str, key: str, upload_id: str) -> bool:
    """Abort a multipart upload (AbortMultipartUpload).

    Returns:
        False if the upload does not exist, because it was completed or aborted before.

    Raises:
        ServiceError: the request failed, and the upload may still exist.
    """
    try:
        await s3.call(
            "abort_multipart_upload", uri(bucket, key), Bucket=bucket, Key=key, UploadId=upload_id
        )
    except ObjectNotFoundError:
        _log.info("aborting the upload to %s was not needed: it does not exist", uri(bucket, key))
        return False
    return True


async def abort_orphaned(target: Target, earlier: IncompleteWrite) -> None:
    """Abort an upload whose id is not in the journal, because the process was killed too early.

    Only uploads without parts that did not exist before are aborted, because the other uploads may
    belong to another program.

    AWS: ListMultipartUploads, ListParts, AbortMultipartUpload.

    Args:
        target: the object of the upload.
        earlier: the journal's record of the write, with the ids of the uploads that existed before.

    Raises:
        ServiceError: a request failed, and the upload may still exist.
    """
    async for each in incomplete_uploads(target):
        if each.upload_id not in earlier.others:
            await _abort_if_empty(target, each)


async def abort_unacknowledged(
    target: Target, own: str | None, others: Collection[str] | None, within: float
) -> None:
    """Abort uploads that were created by CreateMultipartUpload requests whose responses were lost.

    An upload is aborted only if all these conditions hold, because other uploads may belong to
    another program:

    - The upload has no parts.
    - The upload did not exist before. If ``others`` is None, the upload must not be older than the
      requests, by the server's clock. If the server sends no date, no upload is aborted.
    - The initiator is the same as that of the upload ``own``, if the server sends initiators.

    AWS: ListMultipartUploads, ListParts, AbortMultipartUpload.

    Args:
        target: the object of the uploads.
        own: the id of the upload in use, which is not aborted; None if there is none.
        others: the ids of the uploads of this key that existed before; None if not known.
        within: the seconds since the first of these requests was sent.

    Raises:
        ServiceError: a request failed, and an upload may still exist.
    """
    there = [each async for each in incomplete_uploads(target)]
    us = next((each.initiator for each in there if each.upload_id == own), None)
    for each in there:
        young = each.age is not None and each.age <= within + _ROUNDED
        new = young if others is None else each.upload_id not in others
        theirs = None not in (us, each.initiator) and each.initiator != us
        if each.upload_id != own and new and not theirs:
            await _abort_if_empty(target, each)


async def _abort_if_empty(target: Target, each: IncompleteUpload) -> None:
    """Abort an upload if it has no parts."""
    try:
        empty = not await list_parts(target, each.upload_id)
    except ObjectNotFoundError:
        return
    if empty:
        await abort_upload(target.s3, target.bucket, target.key, each.upload_id)


async def incomplete_uploads(target: Target) -> AsyncIterator[IncompleteUpload]:
    """List the incomplete uploads of one key (ListMultipartUploads).

    Raises:
        ServiceError: a request failed.
    """
    markers: dict[str, str] = {}
    while True:
        try:
            page = await target.s3.call(
                "list_multipart_uploads",
                target.uri,
                Bucket=target.bucket,
                Prefix=target.key,
                **markers,
            )
        except ObjectNotFoundError:  # some servers return 404 if there are no uploads
            return
        for entry in page.get("Uploads", ()):
            if entry.get("Key") == target.key:
                initiator = entry.get("Initiator", {}).get("ID") or None
                age = _age(page, entry)
                yield IncompleteUpload(target.bucket, target.key, entry["UploadId"], age, initiator)
        if not page.get("IsTruncated"):
            return
        markers = {
            "KeyMarker": page["NextKeyMarker"],
            "UploadIdMarker": page["NextUploadIdMarker"],
        }


def _age(page: Mapping[str, Any], entry: Mapping[str, Any]) -> float | None:
    """Return the age of an upload in seconds; None if the response has no dates."""
    begun = entry.get("Initiated")
    try:
        now = parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"])
    except (KeyError, ValueError):
        return None
    return (now - begun).total_seconds() if isinstance(begun, datetime) else None


async def list_parts(target: Target, upload_id: str) -> dict[int, tuple[str, int]]:
    """Return the ETag and the size in bytes of each part of an upload, by part number (ListParts).

    Raises:
        ObjectNotFoundError: the upload does not exist.
        ServiceError: a request failed for another reason.
    """
    found: dict[int, tuple[str, int]] = {}
    markers: dict[str, int] = {}
    while True:
        page = await target.s3.call(
            "list_parts", target.uri, **target.at, UploadId=upload_id, **markers
        )
        with translated("ListParts", target.uri):
            for part in page.get("Parts", ()):
                found[part["PartNumber"]] = (unquoted(part["ETag"]), part["Size"])
        if not page.get("IsTruncated"):
            return found
        markers = {"PartNumberMarker": page["NextPartNumberMarker"]}
