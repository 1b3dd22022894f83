"""A pool of keep-alive HTTP connections, with which all requests are sent.

Most of the cost of a small request in an HTTP library is work that AWS does not need, such as
objects for each request and response, cookies, redirects and parsers.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Mapping
from weakref import WeakSet

from aiohaul.aws.http.connection import Connection, Reply
from aiohaul.aws.http.connector import Connector
from aiohaul.aws.http.errors import ConnectionClosedError, HTTPClientError
from aiohaul.aws.http.framing import request_head
from aiohaul.aws.http.observers import report_reached, report_stale
from aiohaul.aws.http.origin import Origin, origin_of
from aiohaul.aws.http.payload import Bytes
from aiohaul.concurrency import yield_if_busy
from aiohaul.errors import SessionError

#: The number of seconds after which an idle connection is closed. S3 closes it after about 20 s.
KEEPALIVE_EXPIRY = 15.0
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
#: The default maximum number of idle connections.
MAX_IDLE = 256


class ConnectionPool:
    """Sends requests, and reuses their connections.

    Args:
        connector: opens the connections.
        max_idle: the maximum number of idle connections.
    """

    def __init__(self, connector: Connector, max_idle: int = MAX_IDLE) -> None:
        self._connector = connector
        self._loop = asyncio.get_running_loop()
        #: idle connections by origin; the most recently used one is the last
        self._idle: dict[Origin, deque[Connection]] = {}
        self._idle_count = 0
        #: all connections, idle and in use
        self._connections: WeakSet[Connection] = WeakSet()
        self._max_idle = max_idle
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    async def exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Bytes,
        *,
        max_size: int | None = None,
        read_timeout: float | None = None,
    ) -> Reply:
        """Send a request, and read the whole response. Redirects are not followed.

        Afterwards the connection is in the pool or closed. A request is sent at most once.

        Args:
            method: the HTTP method.
            url: the URL, percent-encoded.
            headers: the headers, without ``Host`` and ``Content-Length``.
            body: the body.
            max_size: the maximum size in bytes of the body of a success; None is the size of the
                requested range, or no maximum without a ``Range`` header.
            read_timeout: the seconds without received bytes after which the request fails; None
                is the connector's.

        Raises:
            HTTPClientError: no complete response came.
            SessionError: the pool is closed.
            ValueError: the URL or a header contains characters that HTTP does not allow.
        """
        origin = origin_of(_without_path(url))
        proxy = self._connector.proxy
        all_headers = {**headers, "Accept-Encoding": "identity"}
        if method not in ("GET", "HEAD"):
            all_headers["Content-Length"] = str(len(body))
        absolute = proxy is not None and not origin.tls
        if proxy is not None and absolute:
            all_headers |= proxy.headers
        head = request_head(method, url, all_headers, absolute=absolute)
        expected_size = _range_size(headers)
        idle = None
        try:
            with report_reached() as reached:
                idle = await self._take_idle(origin)
                connection = idle or await self._connect(origin)
                reached()
            reply = await connection.exchange(
                head,
                body,
                bodiless=method == "HEAD",
                expected_size=expected_size,
                max_size=(expected_size or None) if max_size is None else max_size,
                timeout=read_timeout,
            )
        except HTTPClientError as error:
            if idle is not None and isinstance(error, ConnectionClosedError) and not error.answered:
                self._close_idle(origin)
                report_stale()
            error.url = url
            raise
        if connection.is_open and not self._closed:
            self._release(origin, connection)
        else:
            connection.close()
        return reply

    @property
    def open_count(self) -> int:
        """The number of open connections, idle and in use."""
        return sum(1 for connection in self._connections if connection.is_open)

    @property
    def idle_count(self) -> int:
        """The number of idle connections in the pool."""
        return self._idle_count

    def close(self) -> None:
        """Close all connections at once, and discard unsent bytes."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for connection in list(self._connections):
            connection.close()
        self._idle.clear()
        self._idle_count = 0

    async def _take_idle(self, origin: Origin) -> Connection | None:
        """Remove the most recently used idle connection that is usable from the pool."""
        expired = self._loop.time() - KEEPALIVE_EXPIRY
        while idle := self._idle.get(origin):
            self._idle_count -= 1
            connection = idle.pop()
            if not idle:
                del self._idle[origin]
            usable = False
            try:
                usable = connection.idle_since > expired and await connection.is_usable()
            finally:
                if not usable:
                    connection.close()
            if usable:
                return connection
        return None

    async def _connect(self, origin: Origin) -> Connection:
        await yield_if_busy()  # many connections may be opened at the same time
        self._check_open()
        connection = await self._connector.connect(origin)
        if self._closed:  # meanwhile
            connection.close()
            self._check_open()
        self._connections.add(connection)
        return connection

    def _check_open(self) -> None:
        if self._closed:  # not an HTTPClientError, which would be retried
            raise SessionError("this Session is closed. Create a new Session")

    def _release(self, origin: Origin, connection: Connection) -> None:
        """Return a connection to the pool."""
        if self._idle_count >= self._max_idle:
            self._evict(next(iter(self._idle)))
        self._idle.setdefault(origin, deque()).append(connection)
        self._idle_count += 1
        if self._sweep is None:
            self._sweep = self._loop.call_later(KEEPALIVE_EXPIRY, self._close_expired)

    def _close_expired(self) -> None:
        """Close connections that have been idle for too long."""
        self._sweep = None
        expired = self._loop.time() - KEEPALIVE_EXPIRY
        try:
            for origin, idle in list(self._idle.items()):
                while idle and (not idle[0].is_open or idle[0].idle_since <= expired):
                    self._evict(origin)
        finally:  # close the others later, even if closing one fails
            if self._idle:
                self._sweep = self._loop.call_later(KEEPALIVE_EXPIRY / 2, self._close_expired)

    def _close_idle(self, origin: Origin) -> None:
        """Close all idle connections to this origin."""
        while origin in self._idle:
            self._evict(origin)

    def _evict(self, origin: Origin) -> None:
        """Close the connection to this origin that has been idle for longest."""
        idle = self._idle[origin]
        self._idle_count -= 1
        oldest = idle.popleft()
        if not idle:
            del self._idle[origin]
        oldest.close()


def _without_path(url: str) -> str:
    """Return the URL up to its path, which is different in each request."""
    end = url.find("/", url.find("://") + 3)
    return url[:end] if end >= 0 else url


def _range_size(headers: Mapping[str, str]) -> int:
    """Return the number of bytes in the Range header; 0 without a Range header."""
    found = _RANGE.fullmatch(headers.get("Range", ""))
    return int(found[2]) - int(found[1]) + 1 if found else 0
