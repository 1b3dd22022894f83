"""The Connection class, which writes a request and reads the whole response."""

from __future__ import annotations

import asyncio
from typing import NamedTuple, cast

from aiohaul.aws.http.body_limit import BodyTooLargeError, check_body_size
from aiohaul.aws.http.body_sender import BodySender
from aiohaul.aws.http.errors import ConnectionClosedError, ReadTimeoutError, reason_of
from aiohaul.aws.http.framing import HEAD_LIMIT, Chunks, Head, MalformedAnswerError, read_head
from aiohaul.aws.http.payload import Bytes
from aiohaul.aws.http.read_buffer import read_buffer
from aiohaul.aws.http.sockets import IdleCheck, abort

#: The maximum size in bytes of a body that is written together with the head.
_INLINE_BODY = 64 * 1024
#: The number of bytes of a larger body that are written to the transport at a time.
_WRITE_SIZE = 256 * 1024
#: Bodies at least this large wait for 100-continue, but only 1 s, because some servers never send
#: 100-continue.
_CONTINUE_THRESHOLD = 2**20
_CONTINUE_TIMEOUT = 1.0
#: The number of bytes that are read at a time, until this many have arrived at once.
_READ_SIZE = 16 * 1024
#: The first size in bytes of the buffer for a body of known length. A full buffer is doubled.
_BUFFER_SIZE = 2**20
#: The statuses of interim responses other than 100-continue and 101.
_OTHER_INTERIM = frozenset(range(102, 200))
_SWITCHING = 101
#: The maximum number of interim responses before the response. Each one counts as activity.
_MAX_INTERIM = 8
_FINAL = 200
_END_OF_HEAD = b"\r\n\r\n"


class Reply(NamedTuple):
    """A complete response.

    Attributes:
        status: the HTTP status.
        headers: the headers, with names in lower case.
        body: the whole body.
    """

    status: int
    headers: dict[str, str]
    body: Bytes


class _Exchange:
    """A request in flight, and the received part of the response."""

    __slots__ = (
        "answer", "answered", "bodiless", "body_received", "buffer", "chunks", "continued",
        "expected_size", "head", "interim_count", "length", "max_size", "received", "sender",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        expected_size: int,
        max_size: int | None,
        *,
        bodiless: bool,
    ) -> None:
        self.answer: asyncio.Future[Reply] = loop.create_future()
        #: done when the server responds with 100-continue
        self.continued: asyncio.Future[None] | None = None
        #: True if bytes of a response have arrived
        self.answered = False
        self.bodiless = bodiless
        self.interim_count = 0
        self.expected_size = expected_size
        self.max_size = max_size
        self.sender: BodySender | None = None
        self.head: Head | None = None
        #: the received bytes of the head, then of a body of unknown length
        self.received = bytearray()
        #: the buffer for a body of known length, and one byte more, to detect surplus bytes
        self.buffer = bytearray()
        self.length = 0
        self.body_received = 0
        self.chunks: Chunks | None = None


class Connection(asyncio.BufferedProtocol):
    """An HTTP connection: the protocol of a transport of asyncio.

    Args:
        timeout: the seconds without received bytes after which a request fails; None waits forever.

    Attributes:
        is_open: True if the connection may be used for another request.
        idle_since: the time of the event loop when the last bytes arrived.
    """

    _transport: asyncio.Transport
    _check: IdleCheck

    def __init__(self, timeout: float | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout = self._default_timeout = timeout
        self._timer: asyncio.TimerHandle | None = None
        self._read_buffer = read_buffer(self._loop)[:_READ_SIZE]
        self._exchange: _Exchange | None = None
        self._can_write: asyncio.Future[None] | None = None
        self.is_open = False
        self.idle_since = self._active = self._loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport of the connection, which is open and ready for a request."""
        self._transport = cast("asyncio.Transport", transport)
        self._check = IdleCheck(self._transport)
        self.is_open = True

    async def is_usable(self) -> bool:
        """Return True if the connection is open, and no bytes arrived after the last response."""
        return self.is_open and await self._check.is_quiet() and self.is_open

    async def exchange(
        self,
        head: bytes,
        body: Bytes,
        *,
        bodiless: bool = False,
        expected_size: int = 0,
        max_size: int | None = None,
        timeout: float | None = None,  # between two reads, not of the call
    ) -> Reply:
        """Send a request, and read the whole response.

        If the request fails or is cancelled, the connection is closed at once.

        Args:
            head: the head of the request, with the empty line at the end. ``Expect: 100-continue``
                is added for a large body.
            body: the body of the request.
            bodiless: True if the response has no body (HEAD).
            expected_size: the size in bytes of the requested range. The buffer for a response of
                this size is allocated at once.
            max_size: the maximum size in bytes of the body of a success; None without a maximum.
            timeout: the seconds without received bytes after which this request fails; None is the
                connection's own.

        Raises:
            HTTPClientError: the request failed.
        """
        if not self.is_open:
            self.close()
            raise ConnectionClosedError("the server closed it")
        exchange = self._exchange = _Exchange(
            self._loop, expected_size, max_size, bodiless=bodiless
        )
        self._set_timeout(self._default_timeout if timeout is None else timeout)
        self._active = self._loop.time()
        if self._timer is None and self._timeout is not None:
            self._timer = self._loop.call_later(self._timeout, self._check_timeout)
        try:
            if len(body) <= _INLINE_BODY:
                self._transport.write(head + body)
            else:
                await self._write(exchange, head, body)
            reply = await exchange.answer
        except BaseException:
            self._exchange = None
            exchange.answer.cancel()
            self.close()
            raise
        # Not earlier, because the buffer cannot be resized while asyncio reads into it.
        del exchange.buffer[exchange.length :]
        return reply

    async def _write(self, exchange: _Exchange, head: bytes, body: Bytes) -> None:
        """Write a large body as fast as the server accepts it, until the server responds."""
        if len(body) >= _CONTINUE_THRESHOLD:
            exchange.continued = self._loop.create_future()
            self._transport.write(head[:-2] + b"Expect: 100-continue\r\n\r\n")
            await asyncio.wait(
                (exchange.continued, exchange.answer),
                timeout=_CONTINUE_TIMEOUT,
                return_when=asyncio.FIRST_COMPLETED,
            )
        else:
            self._transport.write(head)
        if exchange.head is not None or exchange.answer.done():  # refused without the body
            self.is_open = False
            return
        self._active = self._loop.time()
        sender = exchange.sender = BodySender(self._transport, body, self._mark_active)
        try:
            if sender.start():
                await asyncio.wait(
                    (sender.ended, exchange.answer), return_when=asyncio.FIRST_COMPLETED
                )
                if sender.failure is not None:
                    raise sender.failure
            else:
                await self._write_to_transport(exchange, sender)
            if not sender.complete:
                self.is_open = False  # the server still expects the rest
        finally:
            exchange.sender = None
            sender.stop()

    async def _write_to_transport(self, exchange: _Exchange, sender: BodySender) -> None:
        """Write a body to the transport as fast as it drains, until the server responds."""
        while not (sender.ended.done() or exchange.answer.done()):
            if self._can_write is not None:
                await asyncio.wait(
                    (self._can_write, exchange.answer), return_when=asyncio.FIRST_COMPLETED
                )
            else:
                self._mark_active()
                self._transport.write(sender.remaining[:_WRITE_SIZE])
                sender.remaining = sender.remaining[_WRITE_SIZE:]
                if not sender.remaining:
                    sender.complete = True
                    return

    def _set_timeout(self, timeout: float | None) -> None:
        if timeout != self._timeout and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timeout = timeout

    def _mark_active(self) -> None:
        self._active = self._loop.time()

    def close(self) -> None:
        """Close the connection at once, and discard unsent bytes."""
        self.is_open = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # Not close(), which would first send buffered bytes, and with TLS wait for the server.
        abort(self._transport)

    def _check_timeout(self) -> None:
        """Fail the request if no bytes arrived for the timeout, else check again later."""
        self._timer = None
        exchange = self._exchange
        if exchange is None or self._timeout is None:
            return
        try:
            remaining = self._active + self._timeout - self._loop.time()
            if remaining > 0:
                self._timer = self._loop.call_later(remaining, self._check_timeout)
                return
            error: Exception = ReadTimeoutError()
        except Exception as failure:  # noqa: BLE001  # raised to the waiting request instead
            error = failure
        self._fail(exchange, error)

    # Called by asyncio -------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's signature
        """Return the buffer for the next bytes."""
        exchange = self._exchange
        if exchange is None or not exchange.buffer:
            return self._read_buffer
        buffer = exchange.buffer
        if exchange.body_received == len(buffer):
            buffer.extend(bytes(min(len(buffer), exchange.length + 1 - exchange.body_received)))
        return memoryview(buffer)[exchange.body_received :]

    def buffer_updated(self, nbytes: int) -> None:
        """Process the received bytes."""
        exchange = self._exchange
        if exchange is None:  # no request is in flight
            self.close()
            return
        self._active = self._loop.time()
        exchange.answered = True
        if exchange.buffer:
            exchange.body_received += nbytes
            if exchange.body_received >= exchange.length:
                self.is_open = self.is_open and exchange.body_received == exchange.length
                self._finish(exchange, exchange.buffer)
            return
        data = bytes(self._read_buffer[:nbytes])
        if nbytes == _READ_SIZE:
            self._read_buffer = read_buffer(self._loop)
        try:
            self._read(exchange, data)
        except MalformedAnswerError as error:
            self._fail(
                exchange, ConnectionClosedError(f"malformed response: {error}", answered=True)
            )
        except BodyTooLargeError as error:
            self._fail(exchange, error)

    def eof_received(self) -> bool:
        """Close the connection, because the server will send no more responses."""
        self.close()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Complete or fail the request in flight."""
        exchange = self._exchange
        if exchange is not None:
            head = exchange.head
            if not exchange.answered:
                self._fail(exchange, _lost(exc))
            elif exc is None and head is not None and head.length is None and not head.chunked:
                self._finish(exchange, exchange.received)
            else:
                self._fail(
                    exchange, ConnectionClosedError("the response is incomplete", answered=True)
                )
        self.close()
        if self._can_write is not None and not self._can_write.done():
            self._can_write.set_result(None)

    def pause_writing(self) -> None:
        """Stop writing, because the write buffer is full."""
        self._can_write = self._loop.create_future()

    def resume_writing(self) -> None:
        """Continue writing, because the write buffer has drained."""
        if self._can_write is not None and not self._can_write.done():
            self._can_write.set_result(None)
        self._can_write = None

    # Answers -------------------------------------------------------------------------------

    def _read(self, exchange: _Exchange, data: bytes) -> None:
        while exchange.head is None:
            if exchange.received:
                data = bytes(exchange.received) + data
            end = data.find(_END_OF_HEAD)
            if end < 0:
                if len(data) > HEAD_LIMIT:
                    raise MalformedAnswerError("its head is too long")
                exchange.received = bytearray(data)
                return
            exchange.received = bytearray()
            head = read_head(data[:end], bodiless=exchange.bodiless)
            data = data[end + len(_END_OF_HEAD) :]
            if head.status == _SWITCHING:
                raise MalformedAnswerError("it switches protocols")
            if head.status < _FINAL:
                exchange.interim_count += 1
                if exchange.interim_count > _MAX_INTERIM:
                    raise MalformedAnswerError("it has too many interim responses")
            else:
                exchange.head = head
                if exchange.sender is not None:  # the server responds before the end of the body
                    exchange.sender.stop()
            continued = exchange.continued
            if continued and not continued.done() and head.status not in _OTHER_INTERIM:
                continued.set_result(None)
        self._read_body(exchange, exchange.head, data)

    def _read_body(self, exchange: _Exchange, head: Head, data: bytes) -> None:
        length = head.length
        if length is not None and len(data) >= length:
            self.is_open = self.is_open and len(data) == length
            self._finish(exchange, data[:length])
        elif head.chunked:
            self._read_chunks(exchange, head, data)
        elif length is None:
            exchange.received += data
            check_body_size(head.status, len(exchange.received), exchange.max_size)
        else:
            check_body_size(head.status, length, exchange.max_size)
            exchange.length = length
            exchange.buffer = bytearray(min(length, max(exchange.expected_size, _BUFFER_SIZE)) + 1)
            exchange.body_received = len(data)
            exchange.buffer[: exchange.body_received] = data

    def _read_chunks(self, exchange: _Exchange, head: Head, data: bytes) -> None:
        chunks = exchange.chunks
        if chunks is None:
            chunks = exchange.chunks = Chunks()
        chunks.feed(data)
        check_body_size(head.status, chunks.size, exchange.max_size)
        if chunks.ended:
            self.is_open = self.is_open and not chunks.has_trailing_data
            self._finish(exchange, chunks.body)

    def _finish(self, exchange: _Exchange, body: Bytes) -> None:
        """Set the complete response as the result of the exchange."""
        head = exchange.head
        if head is None:
            raise AssertionError("an answer without a head")
        self._exchange = None
        self.idle_since = self._active
        self.is_open = self.is_open and head.keep_alive
        if not exchange.answer.done():
            exchange.answer.set_result(Reply(head.status, head.headers, body))

    def _fail(self, exchange: _Exchange, error: Exception) -> None:
        """Fail the request, and close the connection."""
        self._exchange = None
        if not exchange.answer.done():
            exchange.answer.set_exception(error)
        self.close()


def _lost(error: Exception | None) -> Exception:
    """Return the error of a request whose connection was lost before any byte of a response."""
    match error:
        case None:
            return ConnectionClosedError()
        case OSError():  # ssl.SSLError is one
            return ConnectionClosedError(reason_of(error), error.errno or 0)
        case _:
            return ConnectionClosedError(f"{type(error).__name__}: {error}")
