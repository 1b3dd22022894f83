"""One HTTP request and its whole answer, on the connections of a client.

Small requests are written to a connection of the client's pool as they are: what aiohttp's own
``request`` does beside that (cookies, redirects, an object for each request and each answer) is
most of what a small request costs. Connections, their timeouts and the parser of answers are
aiohttp's all the same. It has no public word for this, so that is done with the series of releases
in which a test holds it; with others, every request goes through ``request``.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import aiohttp
from botocore import exceptions as botocore
from yarl import URL

from aiohaul.aws.bounded import whole_body

#: Bytes of a body that are written without giving the event loop a turn.
_ONE_GO = 64 * 1024
_PIECE = 256 * 1024
#: A body of this size and more waits for the server's word that it is wanted.
_ASK_FIRST = 2**20
#: Bytes of an answer that wait to be read before the connection is told to wait: a socket gives
#: as many at once, and stopping and starting it for each is dear.
_READ_AHEAD = 2**18
#: The series of aiohttp's releases whose connections are used by themselves.
_KNOWN = "3.14."
_IS_KNOWN = aiohttp.__version__.startswith(_KNOWN)
#: The ports that a Host header leaves out.
_PORTS = {"http": ":80", "https": ":443"}
#: Answers that only say that another one follows; but for 101, which is one.
_INTERIM = frozenset({100, *range(102, 200)})


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
    try:
        if _IS_KNOWN and len(body) <= _ONE_GO:
            head = _head(method, url, sent)
            if head is not None:
                return await _on_connection(session, method, url, head, body)
        return await _by_request(session, method, url, sent, body)
    except (aiohttp.ClientError, OSError, aiohttp.http_exceptions.BadStatusLine) as error:
        raise _as_aiobotocore(error, url) from error


async def _by_request(
    session: aiohttp.ClientSession, method: str, url: str, sent: dict[str, str], body: bytes
) -> Reply:
    """Send a request as everybody does, a body of many bytes piece by piece."""
    if len(body) >= _ASK_FIRST:
        sent["Expect"] = "100-continue"
    data: Any = _pieces(body) if len(body) > _ONE_GO else body or None
    async with session.request(
        method,
        URL(url, encoded=True),
        headers=sent,
        data=data,
        allow_redirects=False,
        read_bufsize=_READ_AHEAD,
    ) as response:
        content = await whole_body(response.content, response.status)
        return Reply(response.status, _lower(response.raw_headers), content)


async def _on_connection(
    session: aiohttp.ClientSession, method: str, url: str, head: bytes, body: bytes
) -> Reply:
    """Send a small request, all of it at once, and read the answer."""
    asked = _asking(session, url)
    try:
        connection = await _connector(session).connect(asked, traces=[], timeout=session.timeout)
    except TimeoutError as error:
        raise aiohttp.ConnectionTimeoutError(f"Connection timeout to host {asked.url}") from error
    try:
        reply = await _exchanged(session, connection.protocol, method, head + body)
    except aiohttp.http_exceptions.HttpProcessingError as error:
        connection.close()
        raise aiohttp.ClientResponseError(
            asked.request_info, (), status=error.code, message=error.message, headers=error.headers
        ) from error
    except BaseException:
        connection.close()
        raise
    connection.release()  # closes it where the answer says so
    return reply


async def _exchanged(
    session: aiohttp.ClientSession, protocol: Any, method: str, request: bytes
) -> Reply:
    if protocol.should_close:  # it was sent what nobody asked for, since its last answer
        raise aiohttp.ServerDisconnectedError
    protocol.set_response_params(
        skip_payload=method == "HEAD",
        read_until_eof=True,
        auto_decompress=False,
        read_timeout=session.timeout.sock_read,
        read_bufsize=_READ_AHEAD,
    )
    transport = protocol.transport
    if transport is None or transport.is_closing():
        raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
    transport.write(request)
    protocol.start_timeout()
    message, payload = await protocol.read()
    while message.code in _INTERIM:
        message, payload = await protocol.read()
    content = await whole_body(payload, message.code)
    return Reply(message.code, _lower(message.raw_headers), content)


def _connector(session: aiohttp.ClientSession) -> Any:
    if session.closed:
        raise aiohttp.ClientConnectionError("the session is closed")
    return session.connector


def _head(method: str, url: str, headers: Mapping[str, str]) -> bytes | None:
    """A request up to its body; None if it has something that a head cannot carry."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    # An end of a line would begin another header, and a space end the path.
    told = url + "".join(headers.values())
    if not (slash and told.isascii() and told.isprintable()) or " " in url or "@" in host:
        return None
    host = host.lower().removesuffix(_PORTS.get(scheme.lower(), ""))
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    return (
        f"{method} /{path} HTTP/1.1\r\nHost: {host}\r\n{''.join(lines)}Accept: */*\r\n\r\n"
    ).encode("ascii")


#: What the pools of these sessions are asked for, by origin.
_asked: WeakKeyDictionary[aiohttp.ClientSession, dict[str, aiohttp.ClientRequest]]
_asked = WeakKeyDictionary()


def _asking(session: aiohttp.ClientSession, url: str) -> aiohttp.ClientRequest:
    """What a pool is asked for: it looks at the origin alone."""
    origin = url[: url.index("/", url.index("://") + 3) + 1]
    made = _asked.setdefault(session, {})
    if origin not in made:
        loop = asyncio.get_running_loop()
        made[origin] = aiohttp.ClientRequest("GET", URL(origin, encoded=True), loop=loop)
    return made[origin]


async def _pieces(body: bytes) -> AsyncIterator[memoryview]:
    whole = memoryview(body)
    for start in range(0, len(body), _PIECE):
        yield whole[start : start + _PIECE]


def _lower(headers: tuple[tuple[bytes, bytes], ...]) -> dict[str, str]:
    return {_name(name): value.decode() for name, value in headers}


@lru_cache(maxsize=512)
def _name(name: bytes) -> str:
    return name.decode().lower()


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
