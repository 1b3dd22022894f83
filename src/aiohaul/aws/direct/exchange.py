"""One HTTP request and its whole answer, on the connections of a client."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

import aiohttp
from botocore import exceptions as botocore
from yarl import URL

#: Bytes of a body that are written without giving the event loop a turn.
_ONE_GO = 64 * 1024
_PIECE = 256 * 1024
#: A body of this size and more waits for the server's word that it is wanted.
_ASK_FIRST = 2**20


class Reply(NamedTuple):
    """A whole answer.

    Attributes:
        status: the HTTP status.
        headers: with names in lower case.
        body: all of it.
    """

    status: int
    headers: dict[str, str]
    body: bytes


async def exchange(
    session: aiohttp.ClientSession, method: str, url: str, headers: Mapping[str, str], body: bytes
) -> Reply:
    """Send a request, and read the whole answer. Redirects are answers.

    Whatever ends it, the connection is back in its pool, or closed.

    Raises:
        HTTPClientError: or another of botocore's, just as aiobotocore translates aiohttp's.
    """
    sent = {**headers, "Accept-Encoding": "identity"}
    if method not in ("GET", "HEAD"):
        sent["Content-Length"] = str(len(body))
    if len(body) >= _ASK_FIRST:
        sent["Expect"] = "100-continue"
    data: Any = _pieces(body) if len(body) > _ONE_GO else body or None
    try:
        async with session.request(
            method, URL(url, encoded=True), headers=sent, data=data, allow_redirects=False
        ) as response:
            content = await response.read()
            return Reply(response.status, _lower(response.raw_headers), content)
    except (aiohttp.ClientError, OSError, aiohttp.http_exceptions.BadStatusLine) as error:
        raise _as_aiobotocore(error, url) from error


async def _pieces(body: bytes) -> AsyncIterator[memoryview]:
    whole = memoryview(body)
    for start in range(0, len(body), _PIECE):
        yield whole[start : start + _PIECE]


def _lower(headers: tuple[tuple[bytes, bytes], ...]) -> dict[str, str]:
    return {name.decode().lower(): value.decode() for name, value in headers}


def _as_aiobotocore(error: Exception, url: str) -> Exception:
    """What aiobotocore's AIOHTTPSession.send makes of what aiohttp raises."""
    made: Exception
    match error:
        case aiohttp.ClientSSLError():
            made = botocore.SSLError(endpoint_url=url, error=error)
        case (
            aiohttp.ServerDisconnectedError()
            | aiohttp.ClientPayloadError()
            | aiohttp.http_exceptions.BadStatusLine()
        ):
            made = botocore.ConnectionClosedError(error=error, endpoint_url=url)
        case aiohttp.ServerTimeoutError() if str(error).lower().startswith("connect"):
            made = botocore.ConnectTimeoutError(endpoint_url=url, error=error)
        case aiohttp.ServerTimeoutError():
            made = botocore.ReadTimeoutError(endpoint_url=url, error=error)
        case aiohttp.ClientConnectionError() | socket.gaierror():
            made = botocore.EndpointConnectionError(endpoint_url=url, error=error)
        case asyncio.TimeoutError():
            made = botocore.ReadTimeoutError(endpoint_url=url, error=error)
        case _:
            made = botocore.HTTPClientError(error=error)
    return made
