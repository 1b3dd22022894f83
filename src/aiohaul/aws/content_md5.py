"""Adds the header Content-MD5 to requests whose body is XML, because some stores require it.

AWS accepts any checksum for DeleteObjects and PutObjectTagging. The gateway of JuiceFS (older code
of MinIO), OVH and CubeFS respond with ``400 MissingContentMD5`` if Content-MD5 is missing.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from aiohaul.aws.http.payload import Bytes

HEADER = "Content-MD5"


def content_md5(body: Bytes) -> str:
    """Return the value of Content-MD5 for a body."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def send_content_md5(client: Any) -> None:
    """Make a botocore client send Content-MD5 with DeleteObjects and PutObjectTagging."""
    for operation in ("DeleteObjects", "PutObjectTagging"):
        client.meta.events.register(f"before-call.s3.{operation}", _add)


def _add(params: dict[str, Any], **_: Any) -> None:
    """Add Content-MD5 to a request. Handles botocore's event ``before-call``."""
    body = params["body"]
    params["headers"].setdefault(
        HEADER, content_md5(body.encode() if isinstance(body, str) else body)
    )
