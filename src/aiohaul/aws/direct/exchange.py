"""HTTP requests and their whole answers, on connections that are kept for the next ones.

What a small request costs is mostly what an HTTP library does beside it: objects for each request
and each answer, cookies, redirects, a parser for each. None of that is needed here. What makes a
connection good is: names looked up once, all addresses tried, TLS, timeouts. Those are made by
aiohttp, and then taken over. It has no public word for the one or other part of that, so this is
done with the series of its releases in which a test holds it; with others all requests go through
the client.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections import deque
from collections.abc import Mapping
from weakref import WeakSet

import aiohttp
from botocore import exceptions as botocore
from yarl import URL

from aiohaul.aws.direct.connection import Connection, Reply
from aiohaul.aws.direct.framing import request_head
from aiohaul.aws.direct.payload import Bytes
from aiohaul.concurrency import give_way

#: Connections are taken over from this series of aiohttp's releases.
_KNOWN = "3.14."
IS_KNOWN = aiohttp.__version__.startswith(_KNOWN)
#: Seconds that a connection is kept without a request: S3 keeps it for about 20.
_KEPT = 15.0
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
#: Origins that are remembered.
_ORIGINS = 1024
#: Connections that are kept, unless another number is asked for.
MOST = 256


class Connections:
    """The connections of one HTTP session that requests are sent on from here.

    Args:
        session: aiohttp's, which makes the connections, and closes them all when it is closed. Its
            connector must allow as many as are used at once, and as many more as are kept.
        most: connections that are kept.
    """

    def __init__(self, session: aiohttp.ClientSession, most: int = MOST) -> None:
        self._session = session
        self._loop = asyncio.get_running_loop()
        #: by origin, the last used one last
        self._idle: dict[str, deque[Connection]] = {}
        self._count = 0
        #: those that are used too
        self._all: WeakSet[Connection] = WeakSet()
        self._most = most
        self._sweep: asyncio.TimerHandle | None = None
        #: what aiohttp's connector is asked for: it looks at the origin alone
        self._asked: dict[str, aiohttp.ClientRequest] = {}

    async def exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: Bytes
    ) -> Reply:
        """Send a request, and read the whole answer. Redirects are answers.

        Whatever ends it, the connection is kept for another, or closed.

        Raises:
            HTTPClientError: or another of botocore's, just as aiobotocore translates aiohttp's.
            ValueError: there is something in it that HTTP cannot carry.
        """
        sent = {**headers, "Accept-Encoding": "identity"}
        if method not in ("GET", "HEAD"):
            sent["Content-Length"] = str(len(body))
        head = request_head(method, url, sent)
        origin = url[: url.index("/", url.index("://") + 3) + 1]
        try:
            connection = await self._kept(origin) or await self._made(origin)
            reply = await connection.exchange(
                head, body, bodiless=method == "HEAD", room=_asked_for(headers)
            )
        except (aiohttp.ClientError, OSError) as error:
            raise _as_aiobotocore(error, url) from error
        if connection.is_open:
            self._keep(origin, connection)
        else:
            connection.close()
        return reply

    @property
    def kept(self) -> int:
        """How many are used by nobody."""
        return self._count

    def close(self) -> None:
        """Close them all, also where a server takes nothing of what is to be sent to it."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for connection in list(self._all):
            connection.close()
        self._idle.clear()
        self._count = 0

    async def _kept(self, origin: str) -> Connection | None:
        """The connection that was used last, of those that are still good."""
        until = self._loop.time() - _KEPT
        while kept := self._idle.get(origin):
            self._count -= 1
            connection = kept.pop()
            if not kept:
                del self._idle[origin]
            usable = False
            try:
                usable = connection.idle_since > until and await connection.is_usable()
            finally:
                if not usable:
                    connection.close()
            if usable:
                return connection
        return None

    async def _made(self, origin: str) -> Connection:
        await give_way()  # many may be made at the same time
        session = self._session
        if session.closed or session.connector is None:
            raise aiohttp.ClientConnectionError("the session is closed")
        if origin not in self._asked:
            if len(self._asked) >= _ORIGINS:  # a bucket may have one of its own
                self._asked.clear()
            self._asked[origin] = aiohttp.ClientRequest(
                "GET", URL(origin, encoded=True), loop=self._loop
            )
        asked = self._asked[origin]
        try:
            connection = await session.connector.connect(asked, traces=[], timeout=session.timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError(
                f"Connection timeout to host {asked.url}"
            ) from error
        made = Connection(connection, session.timeout.sock_read)
        self._all.add(made)
        return made

    def _keep(self, origin: str, connection: Connection) -> None:
        """Keep a connection for another request."""
        if self._count >= self._most:
            self._drop(next(iter(self._idle)))
        self._idle.setdefault(origin, deque()).append(connection)
        self._count += 1
        if self._sweep is None:
            self._sweep = self._loop.call_later(_KEPT, self._close_old)

    def _close_old(self) -> None:
        """Close what nobody has used for a while, and forget what is closed."""
        self._sweep = None
        until = self._loop.time() - _KEPT
        try:
            for origin, kept in list(self._idle.items()):
                while kept and (not kept[0].is_open or kept[0].idle_since <= until):
                    self._drop(origin)
        finally:  # the others' turn comes, whatever became of one
            if self._idle:
                self._sweep = self._loop.call_later(_KEPT / 2, self._close_old)

    def _drop(self, origin: str) -> None:
        """Close the one to this origin that has been idle for longest."""
        kept = self._idle[origin]
        self._count -= 1
        oldest = kept.popleft()
        if not kept:
            del self._idle[origin]
        oldest.close()


def _asked_for(headers: Mapping[str, str]) -> int:
    """How many bytes are asked for; 0 if that is not said."""
    found = _RANGE.fullmatch(headers.get("Range", ""))
    return int(found[2]) - int(found[1]) + 1 if found else 0


def _as_aiobotocore(error: Exception, url: str) -> Exception:
    """What aiobotocore's AIOHTTPSession.send makes of what aiohttp raises."""
    made: Exception
    match error:
        case aiohttp.ClientSSLError():
            made = botocore.SSLError(endpoint_url=url, error=error)
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
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
