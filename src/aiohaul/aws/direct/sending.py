"""A large body on its way out: from where it lies to the socket, without a copy in between."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from aiohaul.aws.direct.payload import Bytes


class Sending:
    """Writes to a connection's socket as much as it takes, when it takes it.

    A transport copies what its socket does not take at once, which is most of a large body. Beside
    it the socket is written to under a number of its own; a transport that encrypts, or that has
    something left to send itself, has to be written to.

    Args:
        transport: of the connection, with nothing in it that is still to be sent.
        body: what is sent.
        went_on: called whenever some of it was taken.

    Attributes:
        ended: done when all of it is sent, or the socket takes no more: whoever reads from the
            connection learns why.
        left: what is still to be sent.
        whole: all of it is sent.
        failure: why it cannot be sent, if that is not for the connection to tell.
    """

    def __init__(
        self, transport: asyncio.Transport, body: Bytes, went_on: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._went_on = went_on
        self._socket: socket.socket | None = None
        self.left = memoryview(body)
        self.whole = False
        self.failure: Exception | None = None
        self.ended: asyncio.Future[None] = self._loop.create_future()

    def start(self) -> bool:
        """Begin: False if the transport has to be written to."""
        transport = self._transport
        theirs = transport.get_extra_info("socket")
        encrypts = transport.get_extra_info("sslcontext") is not None
        if encrypts or theirs is None or transport.get_write_buffer_size():
            return False
        try:
            made = socket.fromfd(theirs.fileno(), theirs.family, theirs.type)
        except OSError:  # no file descriptor is left
            return False
        made.setblocking(False)  # noqa: FBT003  # socket's own
        try:
            self._loop.add_writer(made, self._send)
        except NotImplementedError:  # a loop that does not wait for sockets
            made.close()
            return False
        self._socket = made
        self._send()
        return True

    def stop(self) -> None:
        """Send no more of it, and keep nothing of it."""
        if self._socket is not None:
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None
        self.left = memoryview(b"")
        if not self.ended.done():
            self.ended.set_result(None)

    def _send(self) -> None:
        if self._socket is None:
            return
        try:
            self.left = self.left[self._socket.send(self.left) :]
            self._went_on()
            self.whole = not self.left
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.stop()
        except Exception as error:  # noqa: BLE001  # nobody else hears it, and one waits
            self.failure = error
            self.stop()
        if self.whole:
            self.stop()
