"""One connection: a request is written to it, and its whole answer read from it."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import aiohttp

from aiohaul.aws.bounded import TooLongError, check_length
from aiohaul.aws.direct.framing import HEAD_LIMIT, Chunks, Head, MalformedAnswerError, read_head
from aiohaul.aws.direct.payload import Bytes
from aiohaul.aws.direct.sending import Sending
from aiohaul.aws.sockets import IdleCheck

#: Bytes of a body that are written without giving the event loop a turn.
_ONE_GO = 64 * 1024
_PIECE = 256 * 1024
#: A body of this size and more waits for the server's word that it is wanted, for so many seconds:
#: there are servers that never say it.
_ASK_FIRST = 2**20
_PATIENCE = 1.0
#: Bytes that are read at once, until so many are there; then that.
_AT_ONCE = 16 * 1024
_MORE_AT_ONCE = 256 * 1024
#: The place of a body whose length is known: so much at first, and twice as much when it is full.
_PLACE = 2**20
#: Answers that only say that another one follows.
_LATER = frozenset(range(102, 200))
_SWITCHING = 101
_FINAL = 200
_END_OF_HEAD = b"\r\n\r\n"


class Reply(NamedTuple):
    """A whole answer.

    Attributes:
        status: the HTTP status.
        headers: with names in lower case.
        body: all of it.
    """

    status: int
    headers: dict[str, str]
    body: Bytes


class _Exchange:
    """A request that is under way, and what has come of its answer."""

    __slots__ = (
        "answer", "bodiless", "chunks", "going", "got", "head", "length", "place", "received",
        "room", "sending",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, room: int, *, bodiless: bool) -> None:
        self.answer: asyncio.Future[Reply] = loop.create_future()
        #: done when the server has said that it wants the body
        self.going: asyncio.Future[None] | None = None
        self.bodiless = bodiless
        self.room = room
        self.sending: Sending | None = None
        self.head: Head | None = None
        #: what has come of the head, then of a body that has no place
        self.received = bytearray()
        #: the place of a body whose length is known, and how much of it has come; there is room
        #: for a byte more, which is none of the body
        self.place = bytearray()
        self.length = 0
        self.got = 0
        self.chunks: Chunks | None = None


class Connection(asyncio.BufferedProtocol):
    """Takes over a connection that aiohttp has made.

    Args:
        made: by aiohttp's connector: in use until this is closed.
        timeout: seconds of silence until the server is given up; None waits for ever.

    Attributes:
        is_open: it can be given another request.
        idle_since: the loop's time of its last answer.
    """

    def __init__(self, made: Any, timeout: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._made = made
        #: aiohttp's own protocol: its connector waits until that has lost the connection
        self._former = made.protocol
        self._transport: asyncio.Transport = made.transport
        self._timeout = timeout
        self._timer: asyncio.TimerHandle | None = None
        self._space = memoryview(bytearray(_AT_ONCE))
        self._now: _Exchange | None = None
        self._can_write: asyncio.Future[None] | None = None
        # What aiohttp has read of it and not asked for is no part of the next answer.
        self.is_open = not (self._transport.is_closing() or self._former.should_close)
        self.idle_since = self._active = self._loop.time()
        self._check = IdleCheck(self._transport)
        self._transport.set_protocol(self)

    async def is_usable(self) -> bool:
        """True if it can be given another request: nothing has arrived since the last answer."""
        return self.is_open and await self._check.is_quiet() and self.is_open

    async def exchange(
        self, head: bytes, body: Bytes, *, bodiless: bool = False, room: int = 0
    ) -> Reply:
        """Send a request, and read its whole answer.

        Whatever ends it otherwise, the connection is closed, and nothing more is sent.

        Args:
            head: up to and with the empty line; ``Expect: 100-continue`` is added to it if need be.
            body: what follows.
            bodiless: there is no body in the answer (HEAD).
            room: bytes that are asked for: memory for as many is taken as soon as they are said
                to come.

        Raises:
            ClientError: aiohttp's, of its kind.
            OSError: the connection was lost.
        """
        if not self.is_open:
            self.close()
            raise aiohttp.ServerDisconnectedError
        now = self._now = _Exchange(self._loop, room, bodiless=bodiless)
        self._active = self._loop.time()
        if self._timer is None and self._timeout is not None:
            self._timer = self._loop.call_later(self._timeout, self._look)
        try:
            if len(body) <= _ONE_GO:
                self._transport.write(head + body)
            else:
                await self._write(now, head, body)
            reply = await now.answer
        except BaseException:
            self._now = None
            now.answer.cancel()
            self.close()
            raise
        # Not sooner: whoever reads into a place holds on to it meanwhile.
        del now.place[now.length :]
        return reply

    async def _write(self, now: _Exchange, head: bytes, body: Bytes) -> None:
        """Write a large body piece by piece, as fast as it is taken, until there is an answer."""
        if len(body) >= _ASK_FIRST:
            now.going = self._loop.create_future()
            self._transport.write(head[:-2] + b"Expect: 100-continue\r\n\r\n")
            await asyncio.wait(
                (now.going, now.answer),
                timeout=_PATIENCE,
                return_when=asyncio.FIRST_COMPLETED,
            )
        else:
            self._transport.write(head)
        if now.head is not None or now.answer.done():  # it is not wanted
            self.is_open = False
            return
        self._active = self._loop.time()
        sending = now.sending = Sending(self._transport, body, self._went_on)
        try:
            if sending.start():
                await asyncio.wait((sending.ended, now.answer), return_when=asyncio.FIRST_COMPLETED)
                if sending.failure is not None:
                    raise sending.failure
            else:
                await self._hand_on(now, sending)
            if not sending.whole:
                self.is_open = False  # the server still waits for the rest
        finally:
            now.sending = None
            sending.stop()

    async def _hand_on(self, now: _Exchange, sending: Sending) -> None:
        """Hand a body to the transport, as fast as that is rid of it, until there is an answer."""
        while not (sending.ended.done() or now.answer.done()):
            if self._can_write is not None:
                await asyncio.wait(
                    (self._can_write, now.answer), return_when=asyncio.FIRST_COMPLETED
                )
            else:
                self._went_on()
                self._transport.write(sending.left[:_PIECE])
                sending.left = sending.left[_PIECE:]
                if not sending.left:
                    sending.whole = True
                    return

    def _went_on(self) -> None:
        self._active = self._loop.time()

    def close(self) -> None:
        """Close it: what has not been sent yet of a request is not sent any more."""
        self.is_open = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # Over TLS what is not sent yet is in more buffers than the transport tells of, and a
        # transport that is closed waits for its peer to say so too.
        try:
            self._transport.abort()
        finally:
            self._made.close()  # whatever happens: others may wait for its place

    def _look(self) -> None:
        """Give the server up if it has been silent for too long, else look again later."""
        self._timer = None
        now = self._now
        if now is None or self._timeout is None:
            return
        try:
            left = self._active + self._timeout - self._loop.time()
            if left > 0:
                self._timer = self._loop.call_later(left, self._look)
                return
            error: Exception = aiohttp.SocketTimeoutError("Timeout on reading data from socket")
        except Exception as failure:  # noqa: BLE001  # nobody else hears it, and one waits
            error = failure
        self._fail(now, error)

    # What asyncio calls ------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's signature
        """Where what comes next is to be put."""
        now = self._now
        if now is None or not now.place:
            return self._space
        place = now.place
        if now.got == len(place):
            place.extend(bytes(min(len(place), now.length + 1 - now.got)))
        return memoryview(place)[now.got :]

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes have come."""
        now = self._now
        if now is None:  # nobody has asked for them
            self.close()
            return
        self._active = self._loop.time()
        if now.place:
            now.got += nbytes
            if now.got >= now.length:
                self.is_open = self.is_open and now.got == now.length
                self._finish(now, now.place)
            return
        data = bytes(self._space[:nbytes])
        if nbytes == _AT_ONCE:
            self._space = memoryview(bytearray(_MORE_AT_ONCE))
        try:
            self._read(now, data)
        except MalformedAnswerError as error:
            self._fail(now, aiohttp.ClientPayloadError(f"what came is no answer: {error}"))
        except TooLongError as error:
            self._fail(now, error)

    def eof_received(self) -> bool:
        """Nothing more will come, and nothing that is still to be sent has any use."""
        self.close()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        now = self._now
        if now is not None:
            head = now.head
            if exc is not None:
                self._fail(now, _as_aiohttp(exc))
            elif head is None:
                self._fail(now, aiohttp.ServerDisconnectedError())
            elif head.length is None and not head.chunked:
                self._finish(now, now.received)
            else:
                self._fail(now, aiohttp.ClientPayloadError("the connection was closed in a body"))
        try:
            self.close()
        finally:
            if self._can_write is not None and not self._can_write.done():
                self._can_write.set_result(None)
            self._former.connection_lost(exc)

    def pause_writing(self) -> None:
        """The server takes no more for now."""
        self._can_write = self._loop.create_future()

    def resume_writing(self) -> None:
        """It takes more again."""
        if self._can_write is not None and not self._can_write.done():
            self._can_write.set_result(None)
        self._can_write = None

    # Answers -------------------------------------------------------------------------------

    def _read(self, now: _Exchange, data: bytes) -> None:
        while now.head is None:
            if now.received:
                data = bytes(now.received) + data
            end = data.find(_END_OF_HEAD)
            if end < 0:
                if len(data) > HEAD_LIMIT:
                    raise MalformedAnswerError("its head has no end")
                now.received = bytearray(data)
                return
            now.received = bytearray()
            head = read_head(data[:end], bodiless=now.bodiless)
            data = data[end + len(_END_OF_HEAD) :]
            if head.status == _SWITCHING:
                raise MalformedAnswerError("it switches to another protocol")
            if head.status >= _FINAL:
                now.head = head
                if now.sending is not None:  # whoever answers has seen enough
                    now.sending.stop()
            if now.going is not None and not now.going.done() and head.status not in _LATER:
                now.going.set_result(None)
        self._read_body(now, now.head, data)

    def _read_body(self, now: _Exchange, head: Head, data: bytes) -> None:
        length = head.length
        if length is not None and len(data) >= length:
            self.is_open = self.is_open and len(data) == length
            self._finish(now, data[:length])
        elif head.chunked:
            self._read_chunks(now, head, data)
        elif length is None:
            now.received += data
            check_length(head.status, len(now.received))
        else:
            check_length(head.status, length)
            now.length = length
            now.place = bytearray(min(length, max(now.room, _PLACE)) + 1)
            now.got = len(data)
            now.place[: now.got] = data

    def _read_chunks(self, now: _Exchange, head: Head, data: bytes) -> None:
        chunks = now.chunks
        if chunks is None:
            chunks = now.chunks = Chunks()
        chunks.feed(data)
        check_length(head.status, chunks.size)
        if chunks.ended:
            self.is_open = self.is_open and not chunks.rest
            self._finish(now, chunks.body)

    def _finish(self, now: _Exchange, body: Bytes) -> None:
        """The answer is whole."""
        head = now.head
        if head is None:
            raise AssertionError("an answer without a head")
        self._now = None
        self.idle_since = self._active
        self.is_open = self.is_open and head.keeps
        if not now.answer.done():
            now.answer.set_result(Reply(head.status, head.headers, body))

    def _fail(self, now: _Exchange, error: Exception) -> None:
        """There will be no answer."""
        self._now = None
        if not now.answer.done():
            now.answer.set_exception(error)
        self.close()


def _as_aiohttp(error: Exception) -> Exception:
    if isinstance(error, OSError) and not isinstance(error, aiohttp.ClientError):
        return aiohttp.ClientOSError(*error.args)
    return error
