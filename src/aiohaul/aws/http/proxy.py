"""HTTP proxies: requests in absolute form for plain HTTP, tunnels (CONNECT) for TLS."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from aiohaul.aws.http.errors import ProxyConnectionError
from aiohaul.aws.http.framing import HEAD_LIMIT, MalformedAnswerError, read_head
from aiohaul.aws.http.origin import Origin, origin_of
from aiohaul.aws.http.sockets import abort

_END_OF_HEAD = b"\r\n\r\n"
_SUCCESS = range(200, 300)


class Proxy:
    """An HTTP proxy.

    Args:
        url: the URL of the proxy, with user and password if it needs them.
        tls: returns the TLS context for connections to a proxy with ``https://``. It is called in
            a thread.

    Raises:
        ValueError: the URL is not an HTTP URL.
    """

    def __init__(self, url: str, tls: Callable[[], ssl.SSLContext]) -> None:
        self.origin = origin_of(url)
        self.tls = tls
        parts = urlsplit(url)
        #: the headers for the proxy
        self.headers: dict[str, str] = {}
        if parts.username and parts.password:
            pair = f"{unquote(parts.username)}:{unquote(parts.password)}".encode()
            self.headers["Proxy-Authorization"] = f"Basic {base64.b64encode(pair).decode()}"

    def failure(self, problem: str, status: int | None = None) -> ProxyConnectionError:
        """Return the error for a connection that the proxy did not make."""
        return ProxyConnectionError(
            f"{self.origin.scheme}://{self.origin.authority}", problem, status
        )

    async def tunnel(
        self,
        sock: socket.socket,
        context: ssl.SSLContext | None,
        origin: Origin,
    ) -> asyncio.Transport:
        """Ask the proxy for a tunnel to a server (CONNECT).

        Args:
            sock: a socket that is connected to the proxy.
            context: the TLS context for the proxy; None without TLS.
            origin: the server.

        Returns:
            The transport of the tunnel, for ``loop.start_tls``.

        Raises:
            ProxyConnectionError: the proxy refused the tunnel, or closed the connection.
        """
        loop = asyncio.get_running_loop()
        transport, answer = await loop.create_connection(
            _Answer,
            sock=sock,
            ssl=context,
            server_hostname=self.origin.host if context is not None else None,
        )
        try:
            await self._ask(transport, answer, origin)
        except BaseException:
            abort(transport)
            raise
        return transport

    async def _ask(self, transport: asyncio.Transport, answer: _Answer, origin: Origin) -> None:
        lines = [f"CONNECT {origin.authority} HTTP/1.1", f"Host: {origin.authority}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        transport.write("\r\n".join([*lines, "", ""]).encode())
        try:
            status = await answer.status
        except (ConnectionError, MalformedAnswerError) as error:
            raise self.failure(str(error)) from error
        if status not in _SUCCESS:
            raise self.failure(f"it responded with status {status}", status)


class _Answer(asyncio.Protocol):
    """Reads the response to a CONNECT request, which has no body.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self) -> None:
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._received = bytearray()

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            status = self._read_status()
        except MalformedAnswerError as error:
            self._fail(error)
            return
        if status is not None and not self.status.done():
            self.status.set_result(status)

    def _read_status(self) -> int | None:
        """Return the status of the response; None before the end of its head."""
        end = self._received.find(_END_OF_HEAD)
        if end < 0:
            if len(self._received) > HEAD_LIMIT:
                raise MalformedAnswerError("the head of the proxy's response is too long")
            return None
        status = read_head(bytes(self._received[:end]), bodiless=True).status
        # The server speaks only after the client, so that nothing follows the head.
        if status in _SUCCESS and len(self._received) > end + len(_END_OF_HEAD):
            raise MalformedAnswerError("bytes follow the head of the proxy's response")
        return status

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionResetError("it closed the connection"))

    def _fail(self, error: Exception) -> None:
        if not self.status.done():
            self.status.set_exception(error)
            self.status.exception()  # nobody may wait any longer
