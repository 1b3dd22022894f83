"""Sends a large body from memory to the socket without copies."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from aiohaul.aws.http.payload import Bytes


class BodySender:
    """Writes a body to the socket of a connection whenever the socket accepts data.

    asyncio's transport copies the bytes that the socket does not accept at once, which are most of
    a large body. So this class writes to a duplicate of the socket's file descriptor. This is not
    possible with TLS, or while the transport has unsent bytes in its write buffer.

    Args:
        transport: the transport of the connection, with an empty write buffer.
        body: the body.
        on_progress: called whenever the socket has accepted bytes.

    Attributes:
        ended: a future that is done when the body is sent or the socket fails. After a failure,
            reading from the connection raises the error.
        remaining: the unsent bytes.
        complete: True if all bytes are sent.
        failure: an error that reading from the connection does not raise, or None.
    """

    def __init__(
        self, transport: asyncio.Transport, body: Bytes, on_progress: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._on_progress = on_progress
        self._socket: socket.socket | None = None
        self.remaining = memoryview(body)
        self.complete = False
        self.failure: Exception | None = None
        self.ended: asyncio.Future[None] = self._loop.create_future()

    def start(self) -> bool:
        """Start sending. Return False if the body must be written to the transport instead."""
        transport = self._transport
        original = transport.get_extra_info("socket")
        encrypts = transport.get_extra_info("sslcontext") is not None
        if encrypts or original is None or transport.get_write_buffer_size():
            return False
        try:
            duplicate = socket.fromfd(original.fileno(), original.family, original.type)
        except OSError:  # no file descriptor is left
            return False
        duplicate.setblocking(False)  # noqa: FBT003  # socket's signature
        try:
            self._loop.add_writer(duplicate, self._send)
        except NotImplementedError:  # an event loop without add_writer
            duplicate.close()
            return False
        self._socket = duplicate
        self._send()
        return True

    def stop(self) -> None:
        """Stop sending, and free the body and the duplicate of the socket."""
        if self._socket is not None:
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None
        self.remaining = memoryview(b"")
        if not self.ended.done():
            self.ended.set_result(None)

    def _send(self) -> None:
        if self._socket is None:
            return
        try:
            self.remaining = self.remaining[self._socket.send(self.remaining) :]
            self._on_progress()
            self.complete = not self.remaining
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.stop()
        except Exception as error:  # noqa: BLE001  # raised to the waiting request instead
            self.failure = error
            self.stop()
        if self.complete:
            self.stop()
