"""Selects the headers of an object that its copy gets too. Pure.

CopyObject copies Cache-Control, Content-Disposition, Content-Encoding, Content-Language,
Content-Type, Expires, user metadata and tags. UploadPartCopy, and copies through this process, do
not: aiohaul sends these headers with such copies. According to the AWS documentation, CopyObject
does not copy the website redirect, the storage class, the ACL, the encryption and the object lock.
aiohaul sends the website redirect and the storage class with copies too, and the ACL
bucket-owner-full-control. The bucket of the copy sets the encryption and the object lock.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_HEADERS = (
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "ContentType",
    "WebsiteRedirectLocation",
)
#: In HTTP, an invalid Expires header, such as "0", means a time in the past.
_EXPIRED = datetime(1970, 1, 1, tzinfo=UTC)


def description(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the headers in a response of HeadObject or GetObject, as parameters of a write."""
    made: dict[str, Any] = {name: answer[name] for name in _HEADERS if answer.get(name)}
    if answer.get("Expires") or answer.get("ExpiresString"):
        made["Expires"] = answer.get("Expires") or _EXPIRED
    if answer.get("Metadata"):
        made["Metadata"] = {name: _ascii(value) for name, value in answer["Metadata"].items()}
    return made


def _ascii(value: str) -> str:
    """Encode user metadata as S3 returns user metadata: by RFC 2047 if a value is not ASCII."""
    if value.isascii():
        return value
    data = value.encode("utf-8", "surrogateescape")
    try:
        data.decode()
    except UnicodeDecodeError:
        data = data.decode("latin-1").encode()
    return f"=?UTF-8?B?{base64.b64encode(data).decode()}?="
