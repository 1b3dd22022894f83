"""Opens HTTP connections, with asyncio's public interface alone."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio

from aiohaul.aws.http.connection import Connection
from aiohaul.aws.http.errors import (
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    SSLError,
    reason_of,
)
from aiohaul.aws.http.origin import Origin
from aiohaul.aws.http.proxy import Proxy
from aiohaul.aws.http.resolver import AddressInfo, Resolver
from aiohaul.aws.http.sockets import keepalive_socket
from aiohaul.aws.http.tls_transport import TLSTransport
from aiohaul.threads import run_in_thread

#: The number of seconds after which the next address is tried at the same time (RFC 8305).
_HAPPY_EYEBALLS_DELAY = 0.25


class Connector:
    """Opens connections to any server.

    Args:
        tls: returns the TLS context. It is called in a thread, for the first encrypted connection.
        connect_timeout: the seconds for resolving the host, connecting and the TLS handshake
            together; None waits forever.
        read_timeout: the seconds without received bytes after which a request fails; None waits
            forever.
        proxy: the proxy for all connections, or None.
    """

    def __init__(
        self,
        tls: Callable[[], ssl.SSLContext],
        *,
        connect_timeout: float | None = None,
        read_timeout: float | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        self._tls = tls
        self._context: ssl.SSLContext | None = None
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self.proxy = proxy
        self._resolver = Resolver()

    async def connect(self, origin: Origin) -> Connection:
        """Open a connection.

        Raises:
            HTTPClientError: no connection was made.
        """
        try:
            with anyio.fail_after(self._connect_timeout):
                return await self._connect(origin)
        except TimeoutError as error:
            raise ConnectTimeoutError from error

    async def _connect(self, origin: Origin) -> Connection:
        context = await self._tls_context() if origin.tls else None
        if self.proxy is not None:
            return await self._connect_through(self.proxy, origin, context)
        sock = await self._open_socket(origin.host, origin.port)
        with _handshake_errors():
            return await self._start(sock, context, origin.host)

    async def _start(
        self, sock: socket.socket, context: ssl.SSLContext | None, host: str
    ) -> Connection:
        connection = Connection(self._read_timeout)
        tls = TLSTransport(connection, context, host) if context is not None else None
        # From here on, asyncio closes the socket, also if this is cancelled.
        await asyncio.get_running_loop().create_connection(lambda: tls or connection, sock=sock)
        if tls is not None:
            await _handshake(tls)
        return connection

    async def _connect_through(
        self, proxy: Proxy, origin: Origin, context: ssl.SSLContext | None
    ) -> Connection:
        """Open a connection through a proxy; with TLS to the server, through a tunnel."""
        proxy_context = await run_in_thread(proxy.tls) if proxy.origin.tls else None
        try:
            sock = await self._open_socket(proxy.origin.host, proxy.origin.port)
        except EndpointConnectionError as error:
            raise proxy.failure(error.problem) from error
        try:
            if context is None:
                return await self._start(sock, proxy_context, proxy.origin.host)
            transport = await proxy.tunnel(sock, proxy_context, origin)
        except OSError as error:
            raise proxy.failure(reason_of(error)) from error
        with _handshake_errors():
            return await self._encrypt(transport, context, origin.host)

    async def _encrypt(
        self, transport: asyncio.Transport, context: ssl.SSLContext, host: str
    ) -> Connection:
        """Start TLS to the server, in a tunnel."""
        connection = Connection(self._read_timeout)
        tls = TLSTransport(connection, context, host)
        transport.set_protocol(tls)
        tls.connection_made(transport)
        await _handshake(tls)
        return connection

    async def _tls_context(self) -> ssl.SSLContext:
        if self._context is None:
            try:
                self._context = await run_in_thread(self._tls)
            except OSError as error:
                raise HTTPClientError(
                    f"the trusted certificates cannot be read: {error}"
                ) from error
        return self._context

    async def _open_socket(self, host: str, port: int) -> socket.socket:
        try:
            addresses = await self._resolver.resolve(host, port)
        except OSError as error:
            raise EndpointConnectionError(reason_of(error), error.errno or 0) from error
        except UnicodeError as error:
            raise EndpointConnectionError(f"{host} is not a host name") from error
        try:
            return await _connected(addresses)
        except OSError as error:
            self._resolver.forget(host, port)
            raise EndpointConnectionError(reason_of(error), error.errno or 0) from error


async def _connected(addresses: list[AddressInfo]) -> socket.socket:
    """Return a socket that is connected to one of the addresses."""
    loop = asyncio.get_running_loop()
    if len(addresses) == 1:
        sock = keepalive_socket(addresses[0])
        with _closing_on_error(sock):
            await loop.sock_connect(sock, addresses[0][4])
            return sock
    from aiohappyeyeballs import start_connection  # noqa: PLC0415  # most endpoints need none

    return await start_connection(
        addresses,
        happy_eyeballs_delay=_HAPPY_EYEBALLS_DELAY,
        interleave=1,
        loop=loop,
        socket_factory=keepalive_socket,
    )


async def _handshake(tls: TLSTransport) -> None:
    """Wait for the end of the handshake, and close the connection if it fails."""
    try:
        await tls.connected
    except BaseException:
        tls.abort()
        raise


@contextmanager
def _closing_on_error(sock: socket.socket) -> Iterator[None]:
    """Close the socket if the block fails or is cancelled."""
    try:
        yield
    except BaseException:
        sock.close()
        raise


@contextmanager
def _handshake_errors() -> Iterator[None]:
    """Translate the errors of a TLS handshake."""
    try:
        yield
    except ssl.SSLError as error:
        raise SSLError(str(error), untrusted=isinstance(error, ssl.CertificateError)) from error
    except ConnectionError as error:
        raise EndpointConnectionError(reason_of(error), error.errno or 0) from error
