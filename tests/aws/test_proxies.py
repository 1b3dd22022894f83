"""Proxies: tunnels for TLS, whole URLs for plain HTTP, and what they refuse."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from aiohaul.aws.http.errors import HTTPClientError, ProxyConnectionError
from aiohaul.aws.http.proxy import Proxy
from aiohaul.aws.http.tls import tls_context
from tests.support.connections import connection_pool
from tests.support.leaks import descriptors

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"


class Server:
    """Answers each request, or, as a proxy, opens a tunnel to whoever is named."""

    def __init__(self, answer: bytes = OK, tunnel: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> None:
        self.answer = answer
        self.tunnel = tunnel
        self.heads: list[str] = []
        self.port = 0
        self.tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                self.heads.append(head)
                if not head.startswith("CONNECT "):
                    writer.write(self.answer)
                    continue
                writer.write(self.tunnel)
                if b" 200 " in self.tunnel:
                    await self._forward(head, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def _forward(
        self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        host, port = head.split()[1].split(":")
        theirs, to = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pipe(reader, to), pipe(theirs, writer))


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    except (ConnectionError, ssl.SSLError):
        pass
    finally:
        writer.close()


def server_context(certificate: Path) -> ssl.SSLContext:
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.load_cert_chain(certificate)
    return made


@pytest.mark.parametrize("of_proxy", ["http", "https"])
@pytest.mark.parametrize("of_server", ["http", "https"])
async def test_requests_go_through_the_proxy(
    certificate: Path, of_proxy: str, of_server: str
) -> None:
    theirs = server_context(certificate)
    mine = tls_context(str(certificate))
    async with (
        Server().running(theirs if of_proxy == "https" else None) as proxy,
        Server().running(theirs if of_server == "https" else None) as server,
    ):
        url = f"{of_proxy}://user:p%40ss@localhost:{proxy.port}"
        async with connection_pool(mine, proxy=Proxy(url, lambda: mine)) as made:
            for _ in range(2):
                target = f"{of_server}://localhost:{server.port}/a%20b?x=1"
                reply = await made.exchange("GET", target, {"X-Own": "1"}, b"")
                assert (reply.status, reply.body) == (200, b"body")
            assert made.idle_count == 1
    credentials = "Proxy-Authorization: Basic dXNlcjpwQHNz\r\n"
    assert all(credentials in head for head in proxy.heads)
    if of_server == "https":
        (head,) = proxy.heads
        assert head.startswith(f"CONNECT localhost:{server.port} HTTP/1.1\r\n")
        assert "X-Own" not in head
        assert len(server.heads) == 2
        assert all(each.startswith("GET /a%20b?x=1 HTTP/1.1\r\n") for each in server.heads)
        assert not any("Proxy-Authorization" in each for each in server.heads)
    else:
        first, second = proxy.heads
        assert first == second
        assert first.startswith(f"GET http://localhost:{server.port}/a%20b?x=1 HTTP/1.1\r\n")
        assert not server.heads


@pytest.mark.parametrize(
    ("tunnel", "problem", "status"),
    [
        (b"HTTP/1.1 407 Password\r\n\r\n", "status 407", 407),
        (b"HTTP/1.1 502 Bad\r\ncontent-length: 3\r\n\r\nbad", "status 502", 502),
        (b"nonsense\r\n\r\n", "status line", None),
        (b"x" * 70_000, "too long", None),
        (b"HTTP/1.1 200 OK\r\n\r\nsurplus", "bytes follow", None),
    ],
    ids=["407", "502", "nonsense", "endless", "surplus"],
)
async def test_refused_tunnel_is_said_and_nothing_is_left(
    tunnel: bytes, problem: str, status: int | None
) -> None:
    async with Server(tunnel=tunnel).running() as proxy:
        before = descriptors()
        url = f"http://user:secret@127.0.0.1:{proxy.port}"
        async with connection_pool(proxy=Proxy(url, tls_context)) as made:
            with pytest.raises(ProxyConnectionError, match=problem) as raised:
                await made.exchange("GET", "https://127.0.0.1:1/", {}, b"")
        await asyncio.sleep(0.05)
        assert descriptors() <= before + 1
    assert raised.value.status == status
    assert raised.value.never_sent
    assert "secret" not in str(raised.value)


async def test_proxy_that_is_away_is_named() -> None:
    async with connection_pool(proxy=Proxy("http://127.0.0.1:1", tls_context)) as made:
        with pytest.raises(ProxyConnectionError, match=r'"http://127\.0\.0\.1:1" \(Connection ref'):
            await made.exchange("GET", "https://host.invalid/", {}, b"")


async def test_proxy_that_is_silent_is_given_up_in_time() -> None:
    gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        gone.set()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        proxy = Proxy(f"http://127.0.0.1:{port}", tls_context)
        async with connection_pool(connect_timeout=0.2, proxy=proxy) as made:
            with pytest.raises(HTTPClientError, match="Connect timeout"):
                await made.exchange("GET", "https://127.0.0.1:1/", {}, b"")
        await gone.wait()
