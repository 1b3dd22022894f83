"""Uploads that are neither completed nor aborted: found, looked into, and aborted."""

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
    EndpointError,
    HaulError,
    ObjectNotFoundError,
    ServiceError,
    ThrottledError,
    UnreachableError,
)
from aiohaul.s3.copying.target import Target
from aiohaul.s3.objects import unquoted, uri
from aiohaul.s3.resuming.journal import Opened

_log = logging.getLogger(__name__)

_SERVER_ERROR = 500
#: Seconds that a server's dates are rounded by.
_ROUNDED = 2.0


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """An upload that is neither completed nor aborted, as a listing shows it.

    Attributes:
        bucket: where.
        key: what it would become.
        upload_id: the server's name for it.
        age: seconds since it was begun, both by the server's clock; None if it does not say.
        initiator: who began it, by the server's name for them; None if it does not say.
    """

    bucket: str
    key: str
    upload_id: str
    age: float | None = None
    initiator: str | None = None


def may_have_begun(error: HaulError) -> bool:
    """True if a request that ended in this error may have begun an upload all the same."""
    if not isinstance(error, ServiceError) or isinstance(error, ThrottledError | UnreachableError):
        return False
    broken = error.status is not None and error.status >= _SERVER_ERROR
    return broken or isinstance(error, EndpointError)


async def abort_upload(s3: Service, bucket: str, key: str, upload_id: str) -> bool:
    """Abort an upload; one that is gone counts as aborted (AbortMultipartUpload).

    Returns:
        False if there is no such upload.

    Raises:
        ServiceError: or one of its kinds.
    """
    try:
        await s3.call(
            "abort_multipart_upload", uri(bucket, key), Bucket=bucket, Key=key, UploadId=upload_id
        )
    except ObjectNotFoundError:
        _log.info("the upload of %s was gone already", uri(bucket, key))
        return False
    return True


async def abort_strays(target: Target, earlier: Opened) -> None:
    """Abort an upload of which a killed process could not write the id down.

    It has no part, and was not there before: one that somebody else began is left alone.

    Raises:
        ServiceError: or one of its kinds.
    """
    async for each in open_uploads(target):
        if each.upload_id not in earlier.others:
            await _abort_if_empty(target, each)


async def abort_lost(
    target: Target, own: str | None, others: Collection[str] | None, within: float
) -> None:
    """Abort uploads that were begun by requests whose answers were lost.

    They have no part, and were not there before. Where nobody looked what was there before, they
    are as young as these requests by the server's own clock; one that does not tell keeps them.
    Where the listing tells of them and of our own upload who began it, that is the same: what
    somebody else began there meanwhile is left alone.

    Args:
        target: of the upload.
        own: the id that an answer did tell, which is to stay; None if there is none.
        others: the uploads of that key that were open before; None if nobody looked.
        within: the seconds since the first of these requests was sent.

    Raises:
        ServiceError: or one of its kinds.
    """
    there = [each async for each in open_uploads(target)]
    us = next((each.initiator for each in there if each.upload_id == own), None)
    for each in there:
        young = each.age is not None and each.age <= within + _ROUNDED
        new = young if others is None else each.upload_id not in others
        theirs = None not in (us, each.initiator) and each.initiator != us
        if each.upload_id != own and new and not theirs:
            await _abort_if_empty(target, each)


async def _abort_if_empty(target: Target, each: OpenUpload) -> None:
    try:
        empty = not await list_parts(target, each.upload_id)
    except ObjectNotFoundError:
        return
    if empty:
        await abort_upload(target.s3, target.bucket, target.key, each.upload_id)


async def open_uploads(target: Target) -> AsyncIterator[OpenUpload]:
    """The open uploads of one key (ListMultipartUploads).

    Raises:
        ServiceError: or one of its kinds.
    """
    further: dict[str, str] = {}
    while True:
        try:
            page = await target.s3.call(
                "list_multipart_uploads",
                target.uri,
                Bucket=target.bucket,
                Prefix=target.key,
                **further,
            )
        except ObjectNotFoundError:  # how some servers say that there is none
            return
        for told in page.get("Uploads", ()):
            if told.get("Key") == target.key:
                initiator = told.get("Initiator", {}).get("ID") or None
                age = _age(page, told)
                yield OpenUpload(target.bucket, target.key, told["UploadId"], age, initiator)
        if not page.get("IsTruncated"):
            return
        further = {
            "KeyMarker": page["NextKeyMarker"],
            "UploadIdMarker": page["NextUploadIdMarker"],
        }


def _age(page: Mapping[str, Any], told: Mapping[str, Any]) -> float | None:
    begun = told.get("Initiated")
    try:
        now = parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"])
    except (KeyError, ValueError):
        return None
    return (now - begun).total_seconds() if isinstance(begun, datetime) else None


async def list_parts(target: Target, upload_id: str) -> dict[int, tuple[str, int]]:
    """ETag and size of the parts that an upload has (ListParts).

    Raises:
        ObjectNotFoundError: there is no such upload.
        ServiceError: or another of its kinds.
    """
    found: dict[int, tuple[str, int]] = {}
    further: dict[str, int] = {}
    while True:
        page = await target.s3.call(
            "list_parts", target.uri, **target.at, UploadId=upload_id, **further
        )
        with translated("ListParts", target.uri):
            for told in page.get("Parts", ()):
                found[told["PartNumber"]] = (unquoted(told["ETag"]), told["Size"])
        if not page.get("IsTruncated"):
            return found
        further = {"PartNumberMarker": page["NextPartNumberMarker"]}
