"""Limits the size of response bodies, which a server could otherwise send without end."""

from __future__ import annotations

from aiohaul.aws.http.errors import ConnectionClosedError

#: HTTP statuses from here on are not a success, and their bodies are short.
FIRST_ERROR_STATUS = 300
#: The maximum size of an error body, in bytes. Error bodies of AWS have a few hundred bytes.
_MAX_ERROR_SIZE = 2**20
#: The maximum size of an XML or JSON document, in bytes. A page of 1,000 keys has less than 8 MiB.
MAX_DOCUMENT_SIZE = 32 * 2**20


class BodyTooLargeError(ConnectionClosedError):
    """The body of a response is larger than any that the request may have."""


def check_body_size(status: int, size: int, maximum: int | None) -> None:
    """Check the size of the body of a response.

    Args:
        status: the HTTP status. The body of an error may have 1 MiB.
        size: the size of the body so far, in bytes, or the size that the head gives.
        maximum: the maximum size of the body of a success; None without a maximum.

    Raises:
        BodyTooLargeError: the body is larger. The rest is not read, so the connection cannot be
            reused.
    """
    if status >= FIRST_ERROR_STATUS:
        if size > _MAX_ERROR_SIZE:
            raise BodyTooLargeError(
                f"the error response with status {status} has more than {_MAX_ERROR_SIZE:,} bytes",
                answered=True,
            )
    elif maximum is not None and size > maximum:
        raise BodyTooLargeError(
            f"the response has more than the {maximum:,} bytes that were requested", answered=True
        )
