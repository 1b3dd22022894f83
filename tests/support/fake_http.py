"""A small HTTP server of the tests' own: real sockets, and full say over what they do."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Self

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as it came."""

    method: str
    path: str
    headers: Headers
    body: bytes
    connection: Connection


@dataclass(slots=True, eq=False)
class Connection:
    """One connection from a client."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def answer(self, status: int, body: bytes = b"", headers: Headers | None = None) -> None:
        self.writer.write(head(status, len(body), headers or {}) + body)
        await self.writer.drain()

    def reset(self) -> None:
        """Break off with RST, as a crashed peer or a firewall does."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def until_gone(self) -> None:
        """Wait until the client has dropped the connection."""
        with suppress(ConnectionError):
            while await self.reader.read(1024):
                pass


def head(status: int, length: int, headers: Headers) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"content-length: {length}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@dataclass(eq=False)
class FakeServer:
    """Serves on a free port of the loopback; subclasses answer in ``serve``.

    Attributes:
        tls: what it shows its clients to be this machine; None speaks plain http.
        connections: that are open.
        accepted: how many there were; of TLS, those that came about.
    """

    tls: ssl.SSLContext | None = None
    connections: set[Connection] = field(default_factory=set)
    accepted: int = 0
    host: str = "127.0.0.1"
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._accept, self.host, 0, backlog=4096, ssl=self.tls
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{port}" if self.tls is None else f"https://localhost:{port}"

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the server has seen something."""
        async with self._news:
            await self._news.wait_for(condition)

    async def tell(self) -> None:
        """Wake those who wait in ``until``."""
        async with self._news:
            self._news.notify_all()

    async def serve(self, request: Request) -> None:
        raise NotImplementedError

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = Connection(reader, writer)
        self.connections.add(connection)
        self.accepted += 1
        await self.tell()
        try:
            while (request := await _read(connection)) is not None:
                await self.serve(request)
                if writer.is_closing():
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client is gone, or the test is over
        finally:
            self._tasks.discard(task)
            self.connections.discard(connection)
            writer.close()
            with suppress(RuntimeError, asyncio.CancelledError):
                await self.tell()


async def _read(connection: Connection) -> Request | None:
    try:
        text = (await connection.reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = text.rstrip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await connection.reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, path, headers, body, connection)
