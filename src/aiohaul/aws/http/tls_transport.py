"""TLS on a transport of asyncio, with little memory.

asyncio's own TLS has a buffer of 256 KiB in each connection, which is 64 MiB for 256 connections.
Here, all connections of an event loop share the buffer for encrypted bytes, because these are
decrypted as soon as they arrive, into the place where the connection wants them.
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from typing import Any, cast

from aiohaul.aws.http.read_buffer import encrypted_buffer


class TLSTransport(asyncio.BufferedProtocol):
    """Encrypts what a protocol sends, and decrypts what it receives.

    To asyncio's transport, this object is the protocol. To the protocol, it is the transport.

    Args:
        protocol: the protocol, which is connected after the handshake.
        context: the TLS context.
        host: the host name of the server, which its certificate must have.

    Attributes:
        connected: a future that is done after the handshake, or fails with its error.
    """

    def __init__(
        self, protocol: asyncio.BufferedProtocol, context: ssl.SSLContext, host: str
    ) -> None:
        loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._context = context
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._read_buffer = encrypted_buffer(loop)
        self._transport: asyncio.Transport | None = None
        self._connected = False
        self._lost = False
        #: what TLS could not encrypt before it has received something
        self._unwritten: list[memoryview] = []
        self.connected: asyncio.Future[None] = loop.create_future()

    # Called by asyncio -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the handshake."""
        self._transport = cast("asyncio.Transport", transport)
        self._proceed()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's signature
        """Return the buffer for encrypted bytes."""
        return self._read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Decrypt the received bytes."""
        self._incoming.write(self._read_buffer[:nbytes])
        self._proceed()

    def eof_received(self) -> bool:
        """Handle the end of the encrypted bytes, which should come after TLS's own end."""
        self._incoming.write_eof()
        if self._connected:
            self._protocol.eof_received()
        self.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the handshake, or tell the protocol."""
        self._lost = True
        self._unwritten.clear()
        if self._connected:
            self._protocol.connection_lost(exc)
        else:
            reset = ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
            self._fail_handshake(exc or reset)

    def pause_writing(self) -> None:
        """Tell the protocol to stop writing."""
        if self._connected:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Tell the protocol to continue writing."""
        if self._connected:
            self._protocol.resume_writing()

    # TLS ---------------------------------------------------------------------------------

    def _proceed(self) -> None:
        """Continue the handshake, or decrypt what has arrived."""
        try:
            if not self._connected:
                self._shake_hands()
            if self._connected:
                self._write_pending()
                self._read()
        except ssl.SSLError as error:
            self._flush()  # the alert that tells the server why
            self._fail(error)
        else:
            self._flush()

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        self._connected = True
        self._protocol.connection_made(cast("asyncio.Transport", self))
        if not self.connected.done():
            self.connected.set_result(None)

    def _read(self) -> None:
        """Decrypt into the protocol's own buffer, until no complete record is left."""
        while not self.is_closing():
            try:
                received = self._decrypt()
            except ssl.SSLWantReadError:
                return
            except ssl.SSLZeroReturnError:
                received = 0
            if not received:  # the server will send no more
                self._protocol.eof_received()
                self.abort()
                return
            self._protocol.buffer_updated(received)

    def _decrypt(self) -> int:
        # Alone in a function, because the protocol cannot resize a buffer that has a view.
        buffer = cast("bytearray", self._protocol.get_buffer(-1))
        return int(self._tls.read(len(buffer), buffer))

    def _write_pending(self) -> None:
        while self._unwritten:
            try:
                written = self._tls.write(self._unwritten[0])
            except ssl.SSLWantReadError:
                return
            self._unwritten[0] = self._unwritten[0][written:]
            if not self._unwritten[0]:
                del self._unwritten[0]

    def _flush(self) -> None:
        """Send what TLS has encrypted."""
        if self._outgoing.pending and self._transport is not None and not self.is_closing():
            self._transport.write(self._outgoing.read())

    def _fail(self, error: Exception) -> None:
        if not self._connected:
            self._fail_handshake(error)
        elif not self._lost:
            self._lost, self._connected = True, False
            self._protocol.connection_lost(error)
        self.abort()

    def _fail_handshake(self, error: Exception) -> None:
        if not self.connected.done():
            self.connected.set_exception(error)
            self.connected.exception()  # whoever waited may have been cancelled

    # Called by the protocol --------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send bytes."""
        if self.is_closing():
            return
        self._unwritten.append(memoryview(data))
        try:
            self._write_pending()
        except ssl.SSLError as error:
            self._fail(error)
            return
        self._flush()

    def abort(self) -> None:
        """Close the connection at once, and discard unsent bytes."""
        self._unwritten.clear()
        if self._transport is not None:
            self._transport.abort()

    def is_closing(self) -> bool:
        """Return True if the connection is closed or closing."""
        return self._lost or self._transport is None or self._transport.is_closing()

    def get_write_buffer_size(self) -> int:
        """Return the number of encrypted bytes that are not sent."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return information on the connection, as asyncio's transports do."""
        if name == "sslcontext":
            return self._context
        if name == "ssl_object":
            return self._tls
        return default if self._transport is None else self._transport.get_extra_info(name, default)
