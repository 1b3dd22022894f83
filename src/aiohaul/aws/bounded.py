"""Answers that are errors, read up to a size that no error has."""

from __future__ import annotations

from typing import Any

import aiohttp

#: Answers from here on are no success, and short.
FAILURE = 300
#: Bytes. Errors of AWS have a few hundred; a list of a thousand failures is a success.
_LONGEST_ERROR = 2**20


class TooLongError(aiohttp.ClientPayloadError):
    """An error has more bytes than any error has."""


async def whole_body(stream: Any, status: int) -> bytes:
    """Read the body of an answer to its end.

    Args:
        stream: of aiohttp.
        status: the HTTP status.

    Raises:
        TooLongError: it is an error, and too long for one: the connection is of no use now.
    """
    if status < FAILURE:
        return bytes(await stream.read())
    pieces = list[bytes]()
    size = 0
    while piece := await stream.readany():
        pieces.append(piece)
        size += len(piece)
        check_length(status, size)
    return b"".join(pieces)


def check_length(status: int, size: int) -> None:
    """Give up an answer that is an error, and too long for one.

    Raises:
        TooLongError: it is.
    """
    if status >= FAILURE and size > _LONGEST_ERROR:
        raise TooLongError(f"the answer, of status {status}, has over {_LONGEST_ERROR:,} bytes")
