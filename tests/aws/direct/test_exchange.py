"""Requests and answers of the direct way, to the byte: on sockets, and against other parsers."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import botocore.exceptions
import h11
import pytest
from botocore.awsrequest import AWSPreparedRequest
from hypothesis import given
from hypothesis import strategies as st

import aiohaul
from aiohaul.aws.botocore_errors import http_error_as_botocore
from aiohaul.aws.http.connection import Connection, Reply
from aiohaul.aws.http.errors import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ReadTimeoutError,
    SSLError,
)
from aiohaul.aws.http.framing import Chunks, MalformedAnswerError, read_head
from aiohaul.aws.http.pool import ConnectionPool
from aiohaul.aws.transport import Transport
from tests.support.connections import connection_pool
from tests.support.fake_http import FakeServer, Request
from tests.support.leaks import descriptors as open_files

MIB = 2**20
OK = b"HTTP/1.1 200 OK\r\nX-Name: value\r\ncontent-length: 4\r\n\r\nbody"


@dataclass(frozen=True)
class Ends:
    """How the two ends of a connection encrypt."""

    server: ssl.SSLContext | None = None
    client: ssl.SSLContext | None = None


@pytest.fixture(params=["plain", "tls"])
def ends(request: pytest.FixtureRequest, certificate: Path) -> Ends:
    if request.param == "plain":
        return Ends()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate)
    return Ends(server, ssl.create_default_context(cafile=certificate))


def connections(
    ends: Ends = Ends(), **options: float
) -> AbstractAsyncContextManager[ConnectionPool]:
    return connection_pool(ends.client, **options)  # type: ignore[arg-type]  # seconds


@pytest.fixture(autouse=True)
async def unexpected() -> AsyncIterator[list[dict[str, Any]]]:
    """What asyncio has to tell of callbacks that failed: nothing."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    yield told
    gc.collect(1)  # what the test has made
    await asyncio.sleep(0)
    assert not told


@dataclass(eq=False)
class Saying(FakeServer):
    """Answers with these bytes, piece by piece, and keeps what it was sent."""

    answer: list[bytes] = field(default_factory=lambda: [OK])
    requests: list[Request] = field(default_factory=list)
    closes: bool = False

    async def serve(self, request: Request) -> None:
        self.requests.append(request)
        for piece in self.answer:
            request.connection.writer.write(piece)
            await request.connection.writer.drain()
            await asyncio.sleep(0.001)  # a packet of its own, mostly
        if self.closes:
            request.connection.writer.close()


# What is sent ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "body"),
    [("GET", b""), ("HEAD", b""), ("PUT", b""), ("PUT", b"some"), ("PUT", b"more" * 50_000)],
)
async def test_request_is_the_one_that_aiohttp_would_send(method: str, body: bytes) -> None:
    headers = {"X-One": "1", "User-Agent": "a b/c", "Authorization": "AWS4 x, y"}
    answer = OK.removesuffix(b"body") if method == "HEAD" else OK
    async with (
        Saying(answer=[answer]) as server,
        aiohttp.ClientSession(skip_auto_headers={"content-type"}, auto_decompress=False) as session,
        connections() as made,
    ):
        url = f"{server.url}/a%20b/x?x=1&y"
        mine = await made.exchange(method, url, headers, body)
        encoding = {"Accept-Encoding": "identity"}
        async with session.request(
            method, url, headers=headers | encoding, data=body or None
        ) as response:
            theirs = response.status, await response.read()
        made.close()
    assert (mine.status, mine.body) == theirs
    assert mine.headers == {"x-name": "value", "content-length": "4"}
    sent, expected = server.requests
    assert (sent.method, sent.path, sent.body) == (method, expected.path, body)
    assert {**sent.headers} == {**expected.headers}


async def test_header_cannot_smuggle_in_another() -> None:
    async with Saying() as server, connections() as made:
        for name, value in (("X-One", "1\r\nX-Two: 2"), ("X-One", "1\n"), ("X-One", "ä")):
            with pytest.raises(ValueError, match="header"):
                await made.exchange("GET", f"{server.url}/k", {name: value}, b"")
        with pytest.raises(ValueError, match="URL"):
            await made.exchange("GET", f"{server.url}/k HTTP/1.1", {}, b"")
    assert not server.requests


@dataclass(eq=False)
class Talking(FakeServer):
    """Has a connection talked to as a test wants it."""

    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] | None = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        assert self.talk is not None
        self._tasks.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self.talk(reader, writer)
        self._tasks.discard(task)
        writer.transport.abort()


async def test_large_body_that_is_not_wanted_is_not_sent(ends: Ends) -> None:
    received = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        told = await reader.readuntil(b"\r\n\r\n")
        assert b"Expect: 100-continue" in told
        writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        received += len(await reader.read())  # the connection is of no use any more

    async with Talking(tls=ends.server, talk=refuse) as server, connections(ends) as made:
        reply = await made.exchange("PUT", f"{server.url}/k", {}, b"x" * (2 * MIB))
        assert reply.status == 403
        assert not made._idle
    assert received == 0


@pytest.mark.parametrize("says", [True, False], ids=["wanted", "server that never says"])
async def test_large_body_arrives(says: bool) -> None:
    body = bytes(range(256)) * (4 * MIB // 256)

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            if says:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            assert await reader.readexactly(len(body)) == body
            writer.write(OK)
        await reader.read()

    async with Talking(talk=take) as server, connections() as made:
        for _ in range(2):
            assert (await made.exchange("PUT", f"{server.url}/k", {}, body)).body == b"body"


async def test_answer_in_the_midst_of_a_body_ends_its_sending(ends: Ends) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await reader.readexactly(100_000)
        writer.write(b"HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\n\r\n")
        await gone.wait()

    gone = asyncio.Event()
    async with Talking(tls=ends.server, talk=refuse) as server, connections(ends) as made:
        # More than the buffers of two sockets hold: it could not be sent whole.
        reply = await made.exchange("PUT", f"{server.url}/k", {}, bytes(64 * MIB))
        assert reply.status == 503
        assert not made._idle
        gone.set()


async def test_cancelled_request_leaves_nothing_to_be_sent(ends: Ends) -> None:
    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await reader.readexactly(1)
        begun.set()
        await cancelled.wait()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(64 * MIB - 1)
        received.set()

    received, begun, cancelled = asyncio.Event(), asyncio.Event(), asyncio.Event()
    async with Talking(tls=ends.server, talk=stall) as server, connections(ends) as made:
        exchange = made.exchange("PUT", f"{server.url}/k", {}, bytes(64 * MIB))
        task = asyncio.ensure_future(exchange)
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        cancelled.set()
        async with asyncio.timeout(5):
            await received.wait()


async def test_body_that_is_not_taken_does_not_hold_up_the_end_of_the_session(ends: Ends) -> None:
    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await reader.readexactly(1)
        begun.set()
        await gone.wait()

    begun, gone = asyncio.Event(), asyncio.Event()
    async with Talking(tls=ends.server, talk=stall) as server, asyncio.timeout(5):
        async with connections(ends) as made:
            exchange = made.exchange("PUT", f"{server.url}/k", {}, bytes(64 * MIB))
            task = asyncio.ensure_future(exchange)
            await begun.wait()
        with pytest.raises(HTTPClientError):
            await task


async def test_server_that_ends_its_side_in_a_body_is_given_up_at_once(ends: Ends) -> None:
    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await reader.readexactly(1)
        raw = writer.get_extra_info("socket")
        raw.shutdown(socket.SHUT_WR)
        await gone.wait()

    gone = asyncio.Event()
    async with Talking(tls=ends.server, talk=leave) as server, connections(ends) as made:
        with pytest.raises(ConnectionClosedError):
            async with asyncio.timeout(5):
                await made.exchange("PUT", f"{server.url}/k", {}, bytes(64 * MIB))
        gone.set()


async def test_cancelled_while_its_upload_fails_leaves_no_error_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"nonsense\r\n\r\n")
        await reader.read()

    def fail(self: Connection, *arguments: Any) -> None:
        failed(self, *arguments)
        task.cancel()

    failed = Connection._fail
    monkeypatch.setattr(Connection, "_fail", fail)
    async with Talking(talk=nonsense) as server, connections() as made:
        task = asyncio.ensure_future(made.exchange("PUT", f"{server.url}/k", {}, bytes(MIB)))
        with suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()


async def test_cancelled_when_its_answer_comes_keeps_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def finish(self: Connection, *arguments: Any) -> None:
        finished(self, *arguments)
        task.cancel()

    finished = Connection._finish
    monkeypatch.setattr(Connection, "_finish", finish)
    async with Saying() as server, connections() as made:
        task = asyncio.ensure_future(made.exchange("GET", f"{server.url}/k", {}, b""))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert made.idle_count == 0
        async with asyncio.timeout(5):
            await server.until(lambda: not server.connections)


# What is answered ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\nconnection: x\r\ncontent-length: 0\r\n\r\n",
         False),
        # Somebody on the way may have read these otherwise.
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
         False),
    ],
)  # fmt: skip
async def test_connection_is_used_again_unless_the_answer_says_otherwise(
    answer: bytes, kept: bool
) -> None:
    async with Saying(answer=[answer]) as server, connections() as made:
        for _ in range(2):
            reply = await made.exchange("PUT", f"{server.url}/k", {}, b"")
            assert (reply.status // 100, reply.body) == (2, b"")
    first, second = (each.connection for each in server.requests)
    assert (first is second) == kept


LARGE = b"0123456789abcdef" * (MIB // 16)


@pytest.mark.parametrize(
    ("head", "pieces"),
    [
        (b"content-length: %d\r\n" % len(LARGE), [LARGE]),
        (b"content-length: %d\r\n" % len(LARGE), [LARGE[:5], LARGE[5:-1], LARGE[-1:]]),
        (b"transfer-encoding: chunked\r\n",
         [b"%x\r\n%b\r\n" % (len(LARGE), LARGE), b"0\r\nx: y\r\n\r\n"]),
        (b"Transfer-Encoding: Chunked\r\n",
         [b"5;a=b\r\n", LARGE[:5], b"\r\n", b"%X\r\n%b\r" % (len(LARGE) - 5, LARGE[5:]), b"\n0",
          b"\r\n\r", b"\n"]),
        (b"", [LARGE[:100], LARGE[100:]]),
    ],
    ids=["length", "in pieces", "one chunk", "chunks in pieces", "until it is closed"],
)  # fmt: skip
async def test_large_answer_is_read_whole(head: bytes, pieces: list[bytes]) -> None:
    answer = [b"HTTP/1.1 2", b"00 OK\r\n" + head + b"\r", b"\n", *pieces]
    async with Saying(answer=answer, closes=not head) as server, connections() as made:
        for _ in range(2):
            reply = await made.exchange("GET", f"{server.url}/k", {}, b"")
            assert reply.body == LARGE
    assert server.accepted == (1 if head else 2)


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"0" * 9000,
        b"HTTP/1.1 200 OK\r\nx: y\r\n folded\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: y\nz\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno header\r\ncontent-length: 0\r\n\r\n",
        b'HTTP/1.1 200 OK\r\n{"x": 1}\r\ncontent-length: 0\r\n\r\n',
        b"HTTP/1.1 200 OK\r\nx\0y: 1\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx\ry: 1\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nnämé: 1\r\ncontent-length: 0\r\n\r\n".encode(),
        b"HTTP/1.1 102 Processing\r\n\r\n" * 9 + b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: \xff\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000,
        b"HTTP/1.1 500 Oh\r\ncontent-length: 9999999\r\n\r\n",
        b"HTTP/1.1 500 Oh\r\ntransfer-encoding: chunked\r\n\r\n" + b"200000\r\n" + bytes(2 * MIB),
    ],
)
async def test_what_is_no_answer_is_none_and_its_connection_closed(answer: bytes) -> None:
    async with Saying(answer=[answer]) as server, connections() as made:
        with pytest.raises(ConnectionClosedError):
            await made.exchange("GET", f"{server.url}/k", {}, b"")
        assert not made._idle
        await server.until(lambda: not server.connections)


async def test_closed_session_sends_nothing() -> None:
    async with Saying() as server:
        async with connections() as made:
            pass
        with pytest.raises(aiohaul.SessionError):
            await made.exchange("GET", f"{server.url}/k", {}, b"")
    assert not server.requests


@dataclass(eq=False)
class Faulty(FakeServer):
    how: str = ""

    async def serve(self, request: Request) -> None:
        match self.how:
            case "reset":
                request.connection.reset()
            case "closed":
                request.connection.writer.close()
            case "cut":
                request.connection.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
                await request.connection.writer.drain()
                request.connection.writer.close()
            case "silent":
                await request.connection.until_gone()


@pytest.mark.parametrize(
    ("how", "kind", "never_sent"),
    [
        ("reset", ConnectionClosedError, False),
        ("closed", ConnectionClosedError, False),
        ("cut", ConnectionClosedError, False),
        ("silent", ReadTimeoutError, False),
        ("away", EndpointConnectionError, True),
    ],
)
async def test_fault_of_the_network_has_its_own_error(
    how: str, kind: type[HTTPClientError], never_sent: bool
) -> None:
    async with Faulty(how=how) as server:
        url = server.url + "/key?X-Amz-Signature=secret"
        if how == "away":
            async with Faulty() as gone:
                url = gone.url + "/"
        async with connections(connect_timeout=5, read_timeout=0.2) as made:
            with pytest.raises(HTTPClientError) as raised:
                await made.exchange("GET", url, {}, b"")
    assert type(raised.value) is kind
    assert raised.value.never_sent is never_sent
    assert raised.value.url == url
    assert url.split("/")[2] in str(raised.value)
    assert "secret" not in str(raised.value)
    theirs = http_error_as_botocore(raised.value)
    assert type(theirs) is getattr(botocore.exceptions, kind.__name__)


async def test_server_without_tls_is_named_as_such() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()

    async with Talking(talk=refuse) as server, connections() as made:
        with pytest.raises(SSLError) as raised:
            await made.exchange("GET", server.url.replace("http:", "https:") + "/", {}, b"")
    assert raised.value.never_sent
    assert not raised.value.untrusted


async def test_server_that_does_not_accept_is_given_up_in_time() -> None:
    with socket.socket() as full, ExitStack() as taken:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        for _ in range(4):  # more than the kernel keeps for it
            one = taken.enter_context(socket.socket())
            one.settimeout(0)
            one.connect_ex(address)
        async with connections(connect_timeout=0.2) as made:
            with pytest.raises(ConnectTimeoutError) as raised:
                await made.exchange("GET", f"http://127.0.0.1:{address[1]}/", {}, b"")
    assert raised.value.never_sent


async def test_server_that_does_not_shake_hands_is_given_up_in_time() -> None:
    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with Talking(talk=silent) as server, connections(connect_timeout=0.2) as made:
        with pytest.raises(ConnectTimeoutError):
            await made.exchange("GET", server.url.replace("http:", "https:") + "/", {}, b"")
        async with asyncio.timeout(5):
            await server.until(lambda: not server.connections)


async def test_cancelled_while_it_connects_leaves_no_connection_behind(ends: Ends) -> None:
    async with Saying(tls=ends.server) as server:
        before = open_files()
        for turns in range(12):
            async with connections(ends) as made:
                task = asyncio.ensure_future(made.exchange("GET", f"{server.url}/k", {}, b""))
                for _ in range(turns):
                    await asyncio.sleep(0.0005)
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        async with asyncio.timeout(5):
            await server.until(lambda: not server.connections)
        assert open_files() <= before


async def test_body_that_is_not_taken_is_given_up_in_time(ends: Ends) -> None:
    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await gone.wait()

    gone = asyncio.Event()
    async with (
        Talking(tls=ends.server, talk=stall) as server,
        connections(ends, read_timeout=0.2) as made,
    ):
        with pytest.raises(ReadTimeoutError):
            await made.exchange("PUT", f"{server.url}/k", {}, bytes(64 * MIB))
        gone.set()


async def test_answer_that_is_slow_but_not_silent_is_waited_for() -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for index in range(len(OK)):
            writer.write(OK[index : index + 1])
            await asyncio.sleep(0.01)
        await reader.read()

    async with (
        Talking(talk=trickle) as server,
        connections(read_timeout=0.3) as made,
    ):
        assert (await made.exchange("GET", f"{server.url}/k", {}, b"")).body == b"body"


# Connections --------------------------------------------------------------------------------


async def test_answer_that_nobody_asked_for_is_not_the_next_requests(ends: Ends) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await answered.wait()
        answered.clear()
        writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        assert not await reader.read()
        closed.set()
        writer.close()

    answered, closed = asyncio.Event(), asyncio.Event()
    async with Talking(tls=ends.server, talk=serve) as server, connections(ends) as made:
        url = f"{server.url}/k"
        assert (await made.exchange("GET", url, {}, b"")).status == 200
        answered.set()
        async with asyncio.timeout(5):
            await closed.wait()
        assert (await made.exchange("GET", url, {}, b"")).status == 200
        answered.set()


async def test_connections_that_nobody_uses_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiohaul.aws.http.pool.KEEPALIVE_EXPIRY", 0.1)
    async with Saying() as server, connections() as made:
        url = f"{server.url}/k"
        await asyncio.gather(*(made.exchange("GET", url, {}, b"") for _ in range(5)))
        assert server.accepted == 5
        async with asyncio.timeout(5):
            await server.until(lambda: not server.connections)
        assert not made._idle
        assert (await made.exchange("GET", url, {}, b"")).status == 200


async def test_no_more_connections_are_kept_than_the_session_allows() -> None:
    async with Saying() as one, Saying() as other, connection_pool(max_idle=3) as made:
        for server in (one, other):
            url = f"{server.url}/k"
            await asyncio.gather(*(made.exchange("GET", url, {}, b"") for _ in range(3)))
        await one.until(lambda: not one.connections)
        assert len(other.connections) == 3


async def test_end_of_the_session_closes_what_is_under_way() -> None:
    async with Faulty(how="silent") as server:
        async with connections() as made:
            task = asyncio.ensure_future(made.exchange("GET", f"{server.url}/k", {}, b""))
            await server.until(lambda: bool(server.connections))
            await asyncio.sleep(0)
        with pytest.raises(HTTPClientError):
            await task
        async with asyncio.timeout(5):
            await server.until(lambda: not server.connections)
        with pytest.raises(aiohaul.SessionError):
            await made.exchange("GET", f"{server.url}/k", {}, b"")
    gc.collect()


async def test_server_that_has_said_goodbye_gets_no_request() -> None:
    async with Saying() as server, connections() as made:
        await made.exchange("GET", f"{server.url}/k", {}, b"")
        ((connection,),) = made._idle.values()
        connection.eof_received()  # the transport closes itself in the loop's next turn
        assert (await made.exchange("GET", f"{server.url}/k", {}, b"")).status == 200
    assert server.accepted == 2


async def test_connection_that_was_idle_for_long_is_not_used() -> None:
    async with Saying() as server, connections() as made:
        await made.exchange("GET", f"{server.url}/k", {}, b"")
        ((connection,),) = made._idle.values()
        connection.idle_since -= 16  # between two looks for old ones
        await made.exchange("GET", f"{server.url}/k", {}, b"")
        assert made.idle_count == 1
    assert server.accepted == 2


async def test_bytes_behind_a_large_body_end_its_connection(ends: Ends) -> None:
    size = 100_000
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + bytes(size) + b"HTTP"
    async with Saying(tls=ends.server, answer=[answer]) as server, connections(ends) as made:
        reply = await made.exchange("GET", f"{server.url}/k", {}, b"")
        assert reply.body == bytes(size)
        assert made.idle_count == 0


async def test_body_takes_no_memory_before_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_body(*arguments: Any) -> None:
        body_read(*arguments)
        heads.append(arguments)
        if len(heads) == 8:
            read.set()

    heads: list[Any] = []
    body_read, read = Connection._read_body, asyncio.Event()
    monkeypatch.setattr(Connection, "_read_body", read_body)
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (64 * MIB)
    async with Saying(answer=[answer]) as server, connections() as made:
        tracemalloc.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                under_way = [
                    tasks.create_task(made.exchange("GET", f"{server.url}/k", {}, b""))
                    for _ in range(8)
                ]
                await read.wait()
                assert tracemalloc.get_traced_memory()[1] < 32 * MIB
                for task in under_way:
                    task.cancel()
        finally:
            tracemalloc.stop()


# Callbacks whose failure nobody hears -------------------------------------------------------


class BrokenError(Exception):
    """What a callback raises in these tests."""


def broken(*_: Any) -> Any:
    raise BrokenError


async def test_timer_that_fails_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Faulty(how="silent") as server, connections(read_timeout=0.01) as made:
        monkeypatch.setattr("aiohaul.aws.http.connection.ReadTimeoutError", broken)
        with pytest.raises(BrokenError):
            async with asyncio.timeout(5):
                await made.exchange("GET", f"{server.url}/k", {}, b"")


async def test_connection_that_cannot_be_ended_gives_its_place_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Saying() as server, connections() as made:
        await made.exchange("GET", f"{server.url}/k", {}, b"")
        ((connection,),) = made._idle.values()
        with monkeypatch.context() as patch:
            patch.setattr(connection, "_transport", NoAbort(connection._transport))
            with pytest.raises(BrokenError):
                made._evict(next(iter(made._idle)))
        assert made.idle_count == 0
        assert not made._idle
        async with asyncio.timeout(5):
            assert (await made.exchange("GET", f"{server.url}/k", {}, b"")).status == 200


class NoAbort:
    """A transport whose end fails, at first."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._failed = False

    def abort(self) -> None:
        self._transport.abort()
        if not self._failed:
            self._failed = True
            raise BrokenError

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


async def test_look_for_old_connections_goes_on_after_one_that_fails(
    monkeypatch: pytest.MonkeyPatch, unexpected: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr("aiohaul.aws.http.pool.KEEPALIVE_EXPIRY", 0.1)
    async with Saying() as server, connections() as made:
        url = f"{server.url}/k"
        await asyncio.gather(*(made.exchange("GET", url, {}, b"") for _ in range(3)))
        ((first, *_),) = made._idle.values()
        monkeypatch.setattr(first, "_transport", NoAbort(first._transport))
        async with asyncio.timeout(5):
            await server.until(lambda: not server.connections)
    assert [type(each["exception"]) for each in unexpected] == [BrokenError]
    unexpected.clear()


async def read_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take what comes, and answer nothing."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    while await reader.read(MIB):
        pass


async def test_body_that_cannot_be_sent_leaves_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def went_on(_: Connection) -> None:
        calls.append(None)
        if len(calls) > 1:  # the first is the caller's own
            raise BrokenError

    calls: list[None] = []
    monkeypatch.setattr(Connection, "_mark_active", went_on)
    async with Talking(talk=read_late) as server, connections() as made:
        with pytest.raises(BrokenError):
            async with asyncio.timeout(5):
                await made.exchange("PUT", f"{server.url}/k", {}, bytes(64 * MIB))


async def test_body_is_sent_where_no_descriptor_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: Any) -> socket.socket:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("aiohaul.aws.http.body_sender.socket.fromfd", none_left)
    async with Saying() as server, connections() as made:
        body = bytes(3 * MIB)
        assert (await made.exchange("PUT", f"{server.url}/k", {}, body)).status == 200
        assert server.requests[0].body == body


async def test_addresses_of_ipv6_are_reached() -> None:
    async with Saying(host="::1") as server, connections() as made:
        host = server.url.removeprefix("http://")
        assert host.startswith("[::1]:")
        assert (await made.exchange("GET", f"{server.url}/k", {}, b"")).status == 200
        assert (await made.exchange("GET", f"{server.url}/k", {}, b"")).status == 200
    assert {each.headers["host"] for each in server.requests} == {host}
    assert server.accepted == 1


# Other parsers -------------------------------------------------------------------------------

names = st.text("abcXYZ-09_", min_size=1, max_size=12).map(lambda name: "x-" + name)
values = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)
bodies = st.binary(max_size=200)


def by_h11(data: bytes) -> tuple[int, dict[str, str], bytes]:
    """What another parser makes of an answer."""
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(data)
    parser.receive_data(b"")
    answer = parser.next_event()
    assert isinstance(answer, h11.Response)
    body = bytearray()
    while isinstance(event := parser.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return answer.status_code, headers, bytes(body)


@given(
    st.sampled_from([200, 206, 404, 503]),
    st.dictionaries(names, values, max_size=5),
    st.lists(bodies, max_size=4),
    st.booleans(),
    st.lists(st.integers(1, 60), max_size=30),
)
def test_answers_are_what_another_parser_makes_of_them(
    status: int, headers: dict[str, str], pieces: list[bytes], chunked: bool, cuts: list[int]
) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    body = b"".join(pieces)
    if chunked:
        lines += "transfer-encoding: chunked\r\n"
        sent = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces if each)
        sent += b"0\r\n\r\n"
    else:
        lines += f"content-length: {len(body)}\r\n"
        sent = body
    data = f"HTTP/1.1 {status} Any\r\n{lines}\r\n".encode() + sent
    expected = by_h11(data)
    end = data.index(b"\r\n\r\n")
    head = read_head(data[:end], bodiless=False)
    rest = data[end + 4 :]
    if chunked:
        read = Chunks()
        for cut in cuts:
            read.feed(rest[:cut])
            rest = rest[cut:]
        read.feed(rest)
        assert read.ended
        assert not read.has_trailing_data
        rest = read.body
    assert (head.status, head.headers, rest) == expected
    assert Reply(head.status, head.headers, rest).body == body
    assert head.length == (None if chunked else len(body))


@given(st.binary(max_size=300))
def test_nothing_else_is_raised_for_any_bytes(data: bytes) -> None:
    for read in (lambda: read_head(data, bodiless=False), lambda: Chunks().feed(data)):
        with suppress(MalformedAnswerError):
            read()


async def test_client_and_fast_path_share_their_connections() -> None:
    transport = Transport(timeout=(5, 5))
    async with Saying() as server:
        request = AWSPreparedRequest("GET", f"{server.url}/k", {}, None, stream_output=False)
        assert (await transport.send(request)).status_code == 200
        await transport.pool().exchange("GET", f"{server.url}/k", {}, b"")
        transport.end()
    assert server.accepted == 1


async def test_document_without_end_is_refused_unread_for_the_client_too() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 3000000000\r\n\r\n{"
    transport = Transport(timeout=(5, 5))
    async with Saying(answer=[answer]) as server:
        request = AWSPreparedRequest("POST", f"{server.url}/", {}, b"{}", stream_output=False)
        with pytest.raises(botocore.exceptions.ConnectionClosedError) as raised:
            await transport.send(request)
        transport.end()
    assert "33,554,432 bytes" in str(raised.value.kwargs["error"])
