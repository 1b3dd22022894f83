"""Bodies of many bytes, on connections of aiohttp's, without a copy on their way.

aiohttp hands over an answer in the chunks in which it was read, each copied by its parser, to be
joined in the end; and what a socket does not take at once, asyncio copies before it is sent.
Here, for the time of one request, a protocol of our own takes the connection: what is read goes
from the socket to its place (``asyncio.BufferedProtocol``), and what is sent from its place to the
socket. Answers that are not plain, with a length that was expected, are aiohttp's to read.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import aiohttp
from aiohttp.http import HttpResponseParser

from aiohaul.aws.direct.payload import Bytes

#: Bytes in which a head has to fit; answers to what is sent, too, or aiohttp reads them.
_HEAD = 16 * 1024
#: Bytes that are handed at once to a transport that encrypts them.
_PIECE = 256 * 1024
#: Seconds after which a body is sent to a server that does not say whether it wants it.
_UNASKED = 1.0

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
_CONTINUE, _SWITCHING, _FINAL = 100, 101, 200
_WITHOUT_BODY = frozenset({204, 304})


class Answer(NamedTuple):
    """What came back.

    Attributes:
        status: the HTTP status.
        headers: as they came.
        content: all of the body.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    content: Bytes


def wanted(headers: Mapping[str, str]) -> int:
    """How many bytes a request asks for; 0 if it does not say."""
    found = _RANGE.fullmatch(headers.get("Range", ""))
    return int(found[2]) - int(found[1]) + 1 if found else 0


async def exchanged(
    protocol: Any, head: bytes, body: Bytes, *, asks: bool, size: int, parameters: dict[str, Any]
) -> Answer:
    """Send a request on a connection, and read the whole answer.

    Args:
        protocol: aiohttp's, of a connection that is free.
        head: the request up to its body.
        body: of any size.
        asks: the body waits for the server's word, for a second.
        size: bytes of the body of the answer that is expected.
        parameters: for ``set_response_params``, should aiohttp have to read the answer.

    Raises:
        ClientError: or another of aiohttp's; whatever it is, the connection is to be closed.
    """
    if protocol.should_close:  # it was sent what nobody asked for, since its last answer
        raise aiohttp.ServerDisconnectedError
    transport = protocol.transport
    if transport is None or transport.is_closing():
        raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
    taking = _Taking(protocol, body, max(size, _HEAD), parameters)
    transport.set_protocol(taking)
    try:
        transport.write(head)
        taking.start(asks=asks)
        answer = await taking.answer
    except BaseException:
        taking.give_up()
        raise
    finally:
        taking.forget()
    if answer is not None:
        return answer
    message, payload = await protocol.read()
    while _CONTINUE <= message.code < _FINAL and message.code != _SWITCHING:
        message, payload = await protocol.read()
    return Answer(message.code, message.raw_headers, await payload.read())


class _Sending:
    """A body on its way out.

    Args:
        transport: of its connection.
        body: all of it.
        sent: called when nothing is left of it.
    """

    def __init__(self, transport: Any, body: Bytes, sent: Callable[[], None]) -> None:
        self._transport = transport
        self._left = memoryview(body)
        self._sent: Callable[[], None] | None = sent
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._going = False
        #: the transport has enough for now
        self.paused = False

    @property
    def done(self) -> bool:
        """True if all of it was sent."""
        return not self._left

    def start(self) -> None:
        """Send what can be sent, and the rest when it can be."""
        if self._going or self.done:
            return
        self._going = True
        transport = self._transport
        plain = transport.get_extra_info("sslcontext") is None
        if plain and not transport.get_write_buffer_size():
            # Of its own number: the transport's is the transport's.
            theirs = transport.get_extra_info("socket")
            made = socket.fromfd(theirs.fileno(), theirs.family, theirs.type)
            made.setblocking(False)  # noqa: FBT003  # socket's own
            try:
                self._loop.add_writer(made, self._to_socket)
            except NotImplementedError:  # a loop that does not wait for sockets
                made.close()
            else:
                self._socket = made
                self._to_socket()
                return
        self.go_on()

    def go_on(self) -> None:
        """Hand the transport more, as much as it takes."""
        while self._going and self._socket is None and not self.paused:
            piece, self._left = self._left[:_PIECE], self._left[_PIECE:]
            self._transport.write(piece)
            if self.done:
                self._end()

    def stop(self) -> None:
        """Send no more."""
        self._going = False
        if self._socket is not None:
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None

    def forget(self) -> None:
        """Keep nothing: a ring of objects would keep a body in memory until it is collected."""
        self.stop()
        self._left, self._sent = memoryview(b""), None

    def _to_socket(self) -> None:
        if self._socket is None:
            return
        try:
            sent = self._socket.send(self._left)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # whoever reads learns why, perhaps from an answer
            self._end()
            return
        self._left = self._left[sent:]
        if self.done:
            self._end()

    def _end(self) -> None:
        self.stop()
        if self._sent is not None:
            self._sent()


class _Taking(asyncio.BufferedProtocol):
    """Takes a connection for the time of one request.

    Args:
        ours: aiohttp's protocol, which has the connection before and after.
        body: what is sent.
        most: bytes of the largest answer that is read here.
        parameters: how aiohttp reads the others.
    """

    def __init__(self, ours: Any, body: Bytes, most: int, parameters: dict[str, Any]) -> None:
        self._ours = ours
        self._transport = ours.transport
        self._most = most
        self._parameters = parameters
        self._loop = asyncio.get_running_loop()
        self._sending = _Sending(self._transport, body, self._listen)
        #: the answer; None if aiohttp is to read it
        self.answer: asyncio.Future[Answer | None] = self._loop.create_future()
        self._head = bytearray(_HEAD)
        self._message: Any = None
        self._content = bytearray()
        # Where the next bytes go, and how many are there:
        self._place = memoryview(self._head)
        self._filled = 0
        self._heard = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, *, asks: bool) -> None:
        """Send the body, once the server wants it."""
        if self._sending.done:
            self._listen()
        elif asks:
            self._timer = self._loop.call_later(_UNASKED, self._sending.start)
        else:
            self._sending.start()

    def give_up(self) -> None:
        """Send and wait no more: the connection is to be closed."""
        self._rest()
        if self._transport.get_write_buffer_size():  # else closing it waits for a peer
            self._transport.abort()

    def forget(self) -> None:
        """Keep nothing of the bodies."""
        self._sending.forget()

    # What asyncio calls ----------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Where the next bytes go."""
        return self._place[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Take what came."""
        self._filled += nbytes
        self._heard = self._loop.time()
        if self._message is None:
            self._read_head()
        elif self._filled == len(self._content):
            self._finish()

    def eof_received(self) -> None:
        """Have the connection closed, as a method that returns nothing does."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits for the answer, and aiohttp."""
        self._rest()
        error: Exception
        if self._message is not None:
            error = aiohttp.ClientPayloadError(f"Response payload is not completed: {exc!r}")
        elif isinstance(exc, OSError):
            error = aiohttp.ClientOSError(*exc.args)
        else:
            error = exc or aiohttp.ServerDisconnectedError()
        self._fail(error)
        self._ours.connection_lost(exc)

    def pause_writing(self) -> None:
        """Hand it no more of the body for now."""
        self._sending.paused = True

    def resume_writing(self) -> None:
        """Go on with the body."""
        self._sending.paused = False
        self._sending.go_on()

    # Answers ---------------------------------------------------------------------------------

    def _read_head(self) -> None:
        """Read the answer's head, and those before it that only say that it comes."""
        while True:
            end = self._head.find(b"\r\n\r\n", 0, self._filled) + 4
            if end < 4:  # noqa: PLR2004  # not found
                if self._filled == _HEAD:
                    self._hand_over()
                return
            message = self._parsed(bytes(self._place[:end]))
            if message is None or message.code == _SWITCHING:
                self._hand_over()
                return
            if message.code >= _FINAL:
                self._begin(message, end)
                return
            left = self._filled - end
            self._place[:left] = bytes(self._place[end : self._filled])
            self._filled = left
            if message.code == _CONTINUE:
                self._rest(sending=False)
                self._sending.start()
                if self._sending.done:
                    self._listen()

    def _parsed(self, head: bytes) -> Any:
        """What aiohttp's parser makes of a head; None if that is nothing, or an error."""
        parser = HttpResponseParser(
            self._ours,
            self._loop,
            _HEAD,
            response_with_body=False,
            read_until_eof=False,
            auto_decompress=False,
        )
        try:
            messages, _, _ = parser.feed_data(head)
        except aiohttp.http_exceptions.HttpProcessingError:
            return None
        return messages[0][0] if messages else None

    def _begin(self, message: Any, end: int) -> None:
        """Make room for the body, if it has one of a length that was expected."""
        length = message.headers.get("Content-Length", "")
        plain = length.isascii() and length.isdigit() and not message.chunked
        plain = plain and "Transfer-Encoding" not in message.headers
        if not plain or message.code in _WITHOUT_BODY or int(length) > self._most:
            self._hand_over()
            return
        came = self._place[end : self._filled]
        if not self._sending.done:  # it has seen enough
            self._sending.stop()
            self._listen()
        self._message, self._content = message, bytearray(int(length))
        self._place = memoryview(self._content)
        self._filled = min(len(came), len(self._content))
        self._place[: self._filled] = came[: self._filled]
        if message.should_close or len(came) > self._filled:
            self._ours.force_close()
        if self._filled == len(self._content):
            self._finish()

    def _finish(self) -> None:
        """All of the answer is there."""
        self._give_back()
        self._place = memoryview(b"")
        message, content = self._message, self._content
        if not self.answer.done():
            body = content if len(content) > _HEAD else bytes(content)  # a document
            self.answer.set_result(Answer(message.code, message.raw_headers, body))

    def _hand_over(self) -> None:
        """Have aiohttp read the answer."""
        self._give_back()
        self._ours.set_response_params(**self._parameters)
        self._ours.start_timeout()
        if not self.answer.done():
            self.answer.set_result(None)
        self._ours.data_received(bytes(self._head[: self._filled]))

    def _give_back(self) -> None:
        """Let aiohttp have the connection; it is of no more use if not all was sent."""
        self._rest()
        if not self._sending.done or self._transport.get_write_buffer_size():
            self._ours.force_close()
        self._transport.set_protocol(self._ours)

    # Time ------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """From here on the peer may not be silent for long."""
        self._rest(sending=False)
        timeout = self._parameters["read_timeout"]
        if timeout and not self.answer.done():
            self._heard = self._loop.time()
            self._timer = self._loop.call_later(timeout, self._check)

    def _check(self) -> None:
        left = self._heard + self._parameters["read_timeout"] - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._check)
        else:
            self._fail(aiohttp.SocketTimeoutError("Timeout on reading data from socket"))

    def _rest(self, *, sending: bool = True) -> None:
        """Wait for nothing, and send nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if sending:
            self._sending.stop()

    def _fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
