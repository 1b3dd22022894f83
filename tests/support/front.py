"""The way to a server, on which one request of a run meets its trouble.

Every request has a name that does not change from run to run, however they overtake each other:
the server, the operation, what it is for, and how often that was asked for before.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from aiohttp import web

from tests.support.strict_s3 import Call, Reply, refusal

Answer = Callable[[Call], Awaitable[Reply]]

#: What may happen to a request. "acted" means that the server did what it was asked for.
REFUSED = "connection refused"
RESET = "reset before the answer"
LOST = "answer lost, acted"
CUT = "answer cut in half, acted"
DAMAGED_ANSWER = "answer damaged, acted"
DAMAGED_REQUEST = "request damaged"
INTERNAL = "500 InternalError"
SLOW_DOWN = "503 SlowDown"
EXPIRED = "403 ExpiredToken"
FALSE_200 = "200 with an error"
SILENT = "no answer"
SILENT_ACTED = "no answer, acted"
#: It is held until the client is gone: somebody cancels, or kills, the client then.
HELD = "held"
HELD_ACTED = "held, acted"

_HOLDING = frozenset({SILENT, SILENT_ACTED, HELD, HELD_ACTED})
_ACTED = frozenset({LOST, CUT, DAMAGED_ANSWER, SILENT_ACTED, HELD_ACTED})
#: How S3 refuses.
REFUSALS: Mapping[str, Reply] = {
    INTERNAL: refusal(500, "InternalError"),
    SLOW_DOWN: refusal(503, "SlowDown"),
    EXPIRED: refusal(403, "ExpiredToken"),
    FALSE_200: replace(refusal(500, "InternalError"), status=200),
}


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """One request of a run.

    Attributes:
        name: server, operation and what it is for.
        turn: how often that was asked for before, and once more.
    """

    name: str
    turn: int

    def __str__(self) -> str:
        return f"{self.name} #{self.turn}"


@dataclass
class Trouble:
    """What happens to which request of a run.

    Attributes:
        fault: what; None lets everything pass.
        point: to which request; None is nobody's.
        for_ever: it happens to every request of that name from then on.
        seen: what came, by name.
        order: what came, in order.
        bodies: the names of those that had one.
        hits: how many met the trouble.
        reached: set at the first of them; where the server acts first, once it has.
    """

    fault: str | None = None
    point: Point | None = None
    for_ever: bool = False
    seen: Counter[str] = field(default_factory=Counter)
    order: list[Point] = field(default_factory=list)
    bodies: set[str] = field(default_factory=set)
    hits: int = 0
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    def meets(self, name: str) -> str | None:
        """Note a request, and say what happens to it."""
        self.seen[name] += 1
        self.order.append(Point(name, self.seen[name]))
        if self.point is None or self.fault is None:
            return None
        mine = name == self.point.name
        late = self.seen[self.point.name] >= self.point.turn
        if self.for_ever and self.fault in (REFUSED, EXPIRED):
            hit = late  # nothing of that server, or with those keys, passes any more
        elif self.for_ever:
            hit = mine and late
        else:
            hit = mine and self.seen[name] == self.point.turn
        self.hits += hit
        return self.fault if hit else None


class Front:
    """One address of a server.

    Args:
        name: of the server.
        answer: the server.
        naming: what a request is called; None names those of S3.
        refusals: its answers, for the faults that are answers.
    """

    def __init__(
        self,
        name: str,
        answer: Answer,
        *,
        naming: Callable[[Call], str] | None = None,
        refusals: Mapping[str, Reply] = REFUSALS,
    ) -> None:
        self.name = name
        self._naming = naming or name_of
        self._refusals = refusals
        self.trouble = Trouble()
        self.open = 0
        self._answer = answer
        self._runner: web.AppRunner | None = None
        self._site: web.SockSite | None = None
        self._listening: socket.socket | None = None
        self._idle = asyncio.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Front]:
        application = web.Application(client_max_size=2**40)
        application.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(
            application, handler_cancellation=True, shutdown_timeout=1, access_log=None
        )
        await self._runner.setup()
        try:
            await self.listen()
            yield self
        finally:
            await self._runner.cleanup()

    async def listen(self) -> None:
        """Take connections, at the same port as before."""
        if self._site is None:
            assert self._runner is not None
            self._listening = socket.create_server(("127.0.0.1", self.port))
            self.port = self._listening.getsockname()[1]
            self._site = web.SockSite(self._runner, self._listening)
            await self._site.start()

    async def _refuse(self) -> None:
        site, self._site = self._site, None
        if site is not None:
            assert self._listening is not None
            # A connection that was accepted in this turn of the loop must have its transport
            # before the server is closed: up to Python 3.12 it would else be lost, open.
            asyncio.get_running_loop().remove_reader(self._listening)
            await asyncio.sleep(0)
            await site.stop()

    async def idle(self) -> None:
        """Wait until no request is open; fails after two seconds."""
        async with asyncio.timeout(2):
            while self.open:
                self._idle.clear()
                await self._idle.wait()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.open += 1
        try:
            body = await request.read()
            headers = {name.lower(): value for name, value in request.headers.items()}
            call = Call(request.method, request.raw_path, headers, body)
            return await self._treat(request, call)
        finally:
            self.open -= 1
            self._idle.set()

    async def _treat(self, request: web.Request, call: Call) -> web.StreamResponse:
        name = f"{self.name} {self._naming(call)}"
        if call.body:
            self.trouble.bodies.add(name)
        fault = self.trouble.meets(name)
        salt = f"{name} {self.trouble.hits}"  # no damage is the same twice
        if fault == REFUSED:
            await self._refuse()
        if fault in (RESET, REFUSED):
            self.trouble.reached.set()
            return _broken_off(request)
        if fault is not None and fault in self._refusals:
            self.trouble.reached.set()
            return _response(call, self._refusals[fault])
        reply = Reply()
        if fault in _ACTED or fault is None or fault == DAMAGED_REQUEST:
            reply = await self._answer(
                _damaged_call(call, salt) if fault == DAMAGED_REQUEST else call
            )
        if fault is not None:
            self.trouble.reached.set()
        if fault in _HOLDING:
            await asyncio.Event().wait()  # until the client is gone
        if fault == LOST:
            return _broken_off(request)
        if fault == CUT:
            return await _half(request, call, reply)
        return _response(call, _damaged(reply, call, salt) if fault == DAMAGED_ANSWER else reply)


def name_of(call: Call) -> str:
    """What a request is, whatever else is under way."""
    query = call.query
    detail = [
        f"{name}={query[name]}"
        for name in ("prefix", "partNumber", "continuation-token")
        if query.get(name)
    ]
    if "range" in call.headers:
        detail.append(call.headers["range"])
    return " ".join([call.operation, call.path, *detail])


def _response(call: Call, reply: Reply) -> web.Response:
    body = None if call.method == "HEAD" else reply.body
    return web.Response(status=reply.status, headers=reply.headers, body=body)


def _broken_off(request: web.Request) -> web.Response:
    """End the connection with RST."""
    transport = request.transport
    if transport is not None:
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()


async def _half(request: web.Request, call: Call, reply: Reply) -> web.StreamResponse:
    """Send half of the answer: of its body, or where there is none, of its first line."""
    transport = request.transport
    assert transport is not None
    if not reply.body or call.method == "HEAD":
        transport.write(b"HTTP/1.1 2")
        transport.close()
        return web.Response()
    half = web.StreamResponse(
        status=reply.status, headers={**reply.headers, "Content-Length": str(len(reply.body))}
    )
    await half.prepare(request)
    await half.write(reply.body[: len(reply.body) // 2])
    transport.close()
    return half


def flipped(data: bytes, salt: str) -> bytes:
    """These bytes with another one somewhere among them."""
    at = zlib.crc32(salt.encode()) % len(data)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _damaged_call(call: Call, salt: str) -> Call:
    return replace(call, body=flipped(call.body, salt)) if call.body else call


def _damaged(reply: Reply, call: Call, salt: str) -> Reply:
    """Another byte in the body, or where there is none in the ETag."""
    if reply.body and call.method != "HEAD":
        return replace(reply, body=flipped(reply.body, salt))
    etag = reply.headers.get("etag", "")
    digit = "1" if etag[1:2] == "0" else "0"
    return (
        replace(reply, headers={**reply.headers, "etag": f'"{digit}{etag[2:]}'}) if etag else reply
    )
