"""Removes whitespace before the XML of a response, because no XML parser accepts the whitespace.

A server such as older MinIO sends whitespace to keep the connection alive while it completes a long
upload. botocore would treat such a response with status 200 as a 500, and the library would
complete the upload again.
"""

from __future__ import annotations

from aiohaul.aws.http.payload import Bytes

_WHITESPACE = b" \t\r\n"


def without_leading_whitespace(body: Bytes) -> Bytes:
    """Return the body without leading whitespace. A body of whitespace alone is not changed."""
    if body[:1] not in _WHITESPACE:
        return body
    # Whitespace alone is an incomplete response. An empty body would be a complete one.
    return body.lstrip(_WHITESPACE) or body
