"""Bodies of many bytes: hashed once for everybody, and carried without detours."""

from __future__ import annotations

import asyncio
import gc
import ssl
import weakref
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import pytest

import aiohaul
from aiohaul import Destination, S3Object, Settings
from aiohaul.aws.direct import requests
from aiohaul.aws.http import payload
from aiohaul.aws.http.body_limit import BodyTooLargeError
from aiohaul.aws.http.connection import Reply
from aiohaul.aws.http.errors import ConnectionClosedError, HTTPClientError, ReadTimeoutError
from aiohaul.aws.http.payload import Bytes, Payload
from aiohaul.aws.http.pool import ConnectionPool
from aiohaul.s3.streaming import part_data
from aiohaul.s3.streaming.parts import PART_SIZE
from tests.support.connections import connection_pool
from tests.support.fake_s3 import FakeS3, content, fake_s3
from tests.support.servers import KEY, REGION, SECRET

pytestmark = pytest.mark.usefixtures("direct_unless_told_otherwise")

SIZE = 3 * PART_SIZE + 100_000


class Hashed(Counter[str]):
    """Bytes of parts that were hashed, by what hashed them."""

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Count all that goes through the one function that hashes."""
        compute = payload.computed

        async def computed(function: Callable[[Bytes], Any], data: Bytes) -> Any:
            if len(data) >= 100_000:  # the others are documents
                self[getattr(function, "__name__", repr(function))] += len(data)
            return await compute(function, data)

        for module in (payload, requests, part_data):
            monkeypatch.setattr(module, "computed", computed)


@pytest.fixture(params=["http", "https"])
async def fakes(
    request: pytest.FixtureRequest, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[FakeS3]]:
    """A source and three destinations."""
    context = None
    if request.param == "https":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(fake_s3(context)) for _ in range(4)]


def settings(url: str) -> Settings:
    return Settings(access_key_id=KEY, secret_access_key=SECRET, region=REGION, endpoint_url=url)


async def haul(session: aiohaul.Session, fakes: list[FakeS3], key: str, size: int = SIZE) -> None:
    first, *rest = fakes
    first.sources[f"/in/{key}"] = size
    source = S3Object("in", key, size, "0-1", datetime(2026, 1, 1, tzinfo=UTC))
    to = [Destination(bucket="out", settings=settings(each.url)) for each in rest]
    await session.s3(settings(first.url)).copy([source], to)


async def test_every_byte_is_hashed_once_for_all_destinations(
    fakes: list[FakeS3], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with aiohaul.Session() as session:
        await haul(session, fakes, "before")  # how requests are sent is learnt
        hashed = Hashed()
        hashed.watch(monkeypatch)
        await haul(session, fakes, "a")
    name = next(name for name in hashed if name.startswith("crc"))
    # TLS and a checksum vouch for a body; without TLS it is signed, which takes its SHA-256.
    tls = fakes[0].url.startswith("https:")
    assert hashed == ({name: SIZE} if tls else {name: SIZE, "hexdigest": SIZE})
    assert {each.objects["/out/a"].crc for each in fakes[1:]} == {zlib.crc32(content(0, SIZE))}


async def test_part_that_is_sent_again_is_not_hashed_again(
    fakes: list[FakeS3], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with aiohaul.Session() as session:
        await haul(session, fakes, "before")
        hashed = Hashed()
        hashed.watch(monkeypatch)
        fakes[1].fail("PUT /out/a.*partNumber=2$", 500, "InternalError", 2)
        await haul(session, fakes, "a")
    assert fakes[1].count("PUT /out/a.*partNumber=2$") == 3
    assert set(hashed.values()) == {SIZE}


async def test_digest_that_nobody_waited_for_is_computed_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class LostError(Exception):
        pass

    async def broken(function: Any, data: bytes) -> str:  # noqa: ARG001
        raise LostError

    body = Payload(content(0, 1000))
    with monkeypatch.context() as patched:
        patched.setattr(payload, "computed", broken)
        with pytest.raises(LostError):
            await body.sha256()
    assert await body.sha256() == payload.hexdigest(content(0, 1000))


# On the connection -------------------------------------------------------------------------------

MIB = 2**20


@dataclass(eq=False)
class Answering:
    """A server that reads a request's head, and has a script for the rest."""

    script: Callable[[str, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    url: str = ""
    accepted: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/k"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.append(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                await self.script(head, reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            self.gone.set()
            writer.close()


async def exchange(
    pool: ConnectionPool, method: str, url: str, headers: dict[str, str], body: Bytes
) -> Reply:
    return await pool.exchange(method, url, headers, body)


async def get(session: ConnectionPool, url: str, size: int) -> Reply:
    return await exchange(session, "GET", url, {"Range": f"bytes=0-{size - 1}"}, b"")


def told(size: int, *more: str, status: str = "206 x") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {size}", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


BODY = content(0, 2 * MIB)
CHUNKED = b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "body", "connections"),
    [
        (told(len(BODY)) + BODY, BODY, 1),
        (b"HTTP/1.1 102 x\r\n\r\n" + told(len(BODY)) + BODY, BODY, 1),
        (told(3) + b"abc", b"abc", 1),
        (told(0), b"", 1),
        (CHUNKED, b"abcde", 1),
        (b"HTTP/1.1 204 x\r\n\r\n", b"", 1),
        (b"HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n", b"", 1),
        (told(3, "Connection: close") + b"abc", b"abc", 2),
        (told(3, "X-Long: " + "x" * 4000, "X-More: " + "x" * 4000) + b"abc", b"abc", 1),
        # What nobody asked for makes a connection useless.
        (told(3) + b"abcHTTP/1.1 200 x\r\n", b"abc", 2),
    ],
    ids=[
        "large",
        "interim",
        "short",
        "empty",
        "chunked",
        "no-content",
        "not-modified",
        "close",
        "long-head",
        "too-much",
    ],
)
async def test_answer_of_any_kind_is_read_to_its_end(
    answer: bytes, body: bytes, connections: int
) -> None:
    async def script(head: str, _: Any, writer: asyncio.StreamWriter) -> None:
        assert head.startswith("GET /k ")
        writer.write(answer)

    async with Answering(script) as server, connection_pool() as session:
        for _ in range(2):
            reply = await get(session, server.url, len(BODY))
            assert reply.body == body
        assert server.accepted == connections


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 206 x\r\nContent-Length: 3000000000\r\n\r\n",
        b"HTTP/1.1 206 x\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 206 x\r\n\r\n",
    ],
    ids=["length", "chunked", "until closed"],
)
async def test_body_that_is_longer_than_the_range_is_refused_at_once(head: bytes) -> None:
    sent = 0

    async def script(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        del reader
        writer.write(head)
        piece = bytes(64 * 1024)
        framed = b"10000\r\n" + piece + b"\r\n" if b"chunked" in head else piece
        while sent < 64 * MIB:
            writer.write(framed)
            await writer.drain()
            sent += len(piece)

    async with Answering(script) as server, connection_pool() as session:
        with pytest.raises(BodyTooLargeError, match="more than the 1,000,000 bytes"):
            await get(session, server.url, 1_000_000)
        await server.gone.wait()
    assert sent < 16 * MIB


async def test_answer_in_single_bytes_is_read() -> None:
    async def script(_: str, __: Any, writer: asyncio.StreamWriter) -> None:
        for each in told(5) + b"abcde":
            writer.write(bytes([each]))
            await asyncio.sleep(0)

    async with Answering(script) as server, connection_pool() as session:
        reply = await get(session, server.url, MIB)
    assert (reply.status, reply.body) == (206, b"abcde")
    assert reply.headers == {"content-length": "5"}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", ConnectionClosedError),
        (told(10) + b"half", ConnectionClosedError),
        (b"nonsense\r\n\r\n", HTTPClientError),
        (b"x" * 40_000, HTTPClientError),
    ],
    ids=["closed", "cut", "nonsense", "endless"],
)
async def test_answer_that_breaks_off_is_an_error(answer: bytes, kind: type[Exception]) -> None:
    async def script(_: str, __: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        raise ConnectionError

    async with Answering(script) as server, connection_pool() as session:
        with pytest.raises(kind):
            await get(session, server.url, MIB)


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_silent_server_is_given_up(method: str) -> None:
    async def script(head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if head.startswith("PUT"):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await reader.readexactly(len(BODY))
        else:
            writer.write(told(10) + b"half")

    async with Answering(script) as server, connection_pool(read_timeout=0.2) as session:
        wanted, body = ({"Range": "bytes=0-1000000"}, b"") if method == "GET" else ({}, BODY)
        with pytest.raises(ReadTimeoutError):
            await exchange(session, method, server.url, wanted, body)
        await server.gone.wait()


@pytest.mark.parametrize("asked", ["asked", "silent", "small"])
async def test_body_arrives_whole(asked: str) -> None:
    """Also at a server that never says that it wants it, and at a slow one."""
    body = bytearray(content(0, 5 * MIB) if asked != "small" else content(0, 100_000))
    received: list[bytes] = []

    async def script(head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert ("Expect: 100-continue" in head) == (asked != "small")
        if asked == "asked":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        received.append(await reader.readexactly(len(body)))
        writer.write(told(0, 'ETag: "e"', status="200 OK"))

    async with Answering(script) as server, connection_pool() as session:
        for _ in range(2):
            reply = await exchange(session, "PUT", server.url, {}, bytes(body))
            assert (reply.status, reply.headers["etag"]) == (200, '"e"')
        assert server.accepted == 1
    assert received == [body, body]


async def test_answer_that_comes_before_the_end_of_the_body_ends_it() -> None:
    body, answered = content(0, 64 * MIB), asyncio.Event()  # more than sockets hold

    async def script(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" + told(4, status="503 x") + b"slow")
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # it takes nothing more
        await answered.wait()
        raise ConnectionError

    async with Answering(script) as server, connection_pool() as session:
        async with asyncio.timeout(10):
            reply = await exchange(session, "PUT", server.url, {}, body)
        assert (reply.status, reply.body) == (503, b"slow")
        answered.set()
        assert not session.idle_count  # it is of no more use


async def test_body_is_not_sent_to_a_server_that_has_begun_to_refuse_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aiohaul.aws.http.connection._CONTINUE_TIMEOUT", 0.05)
    received = []

    async def script(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(told(4, status="403 x"))
        with suppress(TimeoutError):
            received.append(await asyncio.wait_for(reader.read(1), 0.3))
        writer.write(b"slow")

    async with Answering(script) as server, connection_pool() as session:
        reply = await exchange(session, "PUT", server.url, {}, BODY)
        assert (reply.status, reply.body) == (403, b"slow")
    assert not received


async def test_cancelled_body_leaves_neither_connection_nor_file() -> None:
    begun = asyncio.Event()

    async def script(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await reader.readexactly(100)
        begun.set()
        await reader.readexactly(2**40)

    before = open_files()
    async with Answering(script) as server:
        async with connection_pool() as session:
            sending = asyncio.ensure_future(
                exchange(session, "PUT", server.url, {}, content(0, 64 * MIB))
            )
            await begun.wait()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
        async with asyncio.timeout(1):
            await server.gone.wait()
    assert open_files() <= before + 1  # the server's own end may still be closing


async def test_body_is_kept_by_nobody_once_it_is_sent() -> None:
    async def script(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await reader.readexactly(2 * MIB)
        writer.write(told(0))

    class Watched(bytearray):
        """Bytes that a weak reference can be had of."""

    body = Watched(BODY)
    freed = weakref.ref(body)
    gc.disable()
    try:
        async with Answering(script) as server, connection_pool() as session:
            await exchange(session, "PUT", server.url, {}, body)
            del body
            assert freed() is None
    finally:
        gc.enable()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
