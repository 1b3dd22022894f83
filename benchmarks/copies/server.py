"""An S3 endpoint that keeps nothing and checks nothing, in a process of its own.

    python server.py SIZE RATES

Every object that is read has SIZE bytes, all of them zero, sent by sendfile(2). What is written is
counted for each bucket, with the marks of its chunks if it comes in such, and forgotten. RATES is
a JSON object: bytes a second that go out of, or into, the buckets that are no faster. It prints the
port that it listens on and, when its standard input ends, what it had read for each bucket by when
(seconds on the clock that all processes share), as JSON.
"""

# a script beside its benchmark, which reads what it prints

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import BinaryIO
from urllib.parse import parse_qs, urlsplit

_ETAG = '"0123456789abcdef0123456789abcdef-1"'
_TOLD = {"ETag": _ETAG, "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
_CHECKSUM = re.compile(r"(?i)^x-amz-checksum-(crc32c?|crc64nvme): *(\S+)\r?$", re.MULTILINE)
_BLOCK = 64 * 1024 * 1024
#: Bytes read, or sent, at once: of most buckets, and of those that have a rate.
_READ, _READ_SLOWLY = 256 * 1024, 16 * 1024
#: Bytes that the system may hold for a bucket that has a rate, for each connection.
_HELD = 64 * 1024
#: What ends a body in chunks, and is nowhere in those of this server's objects.
_LAST_CHUNK = b"\r\n0\r\n\r\n"
_EVERY = 0.1


class Rate:
    """So many bytes a second, for all connections together."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free_at = 0.0

    def seconds_for(self, size: int) -> float:
        """Enter that ``size`` bytes were read: seconds until more may be."""
        now = time.monotonic()
        self._free_at = max(self._free_at, now) + size / self._rate
        return self._free_at - now


@dataclass
class State:
    """What all connections share."""

    size: int
    rates: dict[str, Rate]
    zeros: BinaryIO
    read: Counter[str] = field(default_factory=Counter)
    uploads: int = 0


class Connection(asyncio.BufferedProtocol):
    """One connection: heads are collected, bodies pass."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray(_READ)
        self._view = memoryview(self._buffer)
        self._head = b""
        self._body_left = 0
        #: the last bytes of a body in chunks, as far as it has come
        self._chunks: bytes | None = None
        self._bucket = ""
        self._rate: Rate | None = None
        self._answer: bytes | None = None
        self._sending: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Get ready."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Send no more."""
        if self._sending is not None:
            self._sending.cancel()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Where the next bytes go, over those before."""
        slowly = self._body_left and self._rate is not None
        return self._view[: _READ_SLOWLY if slowly else _READ]

    def buffer_updated(self, nbytes: int) -> None:
        """Take what has come: a piece of a body, of a head, or the end of one and more."""
        start = 0
        if not self._body_left:
            self._head += self._view[:nbytes]
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            start = nbytes - (len(self._head) - end - 4)
            head, self._head = self._head[:end].decode("latin-1"), b""
            self._begin(head)
        if self._chunks is not None:
            last = bytes(self._view[max(start, nbytes - len(_LAST_CHUNK)) : nbytes])
            self._chunks = (self._chunks + last)[-len(_LAST_CHUNK) :]
            self._body_left = nbytes - start + (self._chunks != _LAST_CHUNK)
        self._pass(nbytes - start)

    def _begin(self, head: str) -> None:
        length = re.search(r"(?i)\r\ncontent-length: *(\d+)", head)
        self._body_left = int(length[1]) if length else 0
        self._chunks = b"" if re.search(r"(?i)\r\ntransfer-encoding: *chunked", head) else None
        method, target, _ = head.split(" ", 2)
        path, query = (
            urlsplit(target).path,
            parse_qs(urlsplit(target).query, keep_blank_values=True),
        )
        self._bucket = path.split("/")[1]
        self._rate = self._state.rates.get(self._bucket)
        if self._rate is not None and method == "PUT":
            found: socket.socket = self._transport.get_extra_info("socket")
            found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _HELD)
        if re.search(r"(?i)\r\nexpect: *100", head):
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._answer = None
        if method == "GET":
            self._sending = self._loop.create_task(self._send(head))
        else:
            self._answer = self._reply(method, query, head)

    def _pass(self, size: int) -> None:
        """Forget ``size`` bytes of a body, and answer behind the last one."""
        self._body_left -= size
        self._state.read[self._bucket] += size
        if size and self._rate is not None:
            self._transport.pause_reading()
            self._loop.call_later(self._rate.seconds_for(size), self._go_on)
        elif not self._body_left:
            self._end()

    def _go_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()
        if not self._body_left:
            self._end()

    def _end(self) -> None:
        if self._answer is not None:
            self._transport.write(self._answer)
            self._answer = None

    def _reply(self, method: str, query: dict[str, list[str]], head: str) -> bytes:
        """What S3 answers to everything but GET."""
        told = _CHECKSUM.search(head)
        if method == "HEAD":
            return _head(200, self._state.size, **_TOLD)
        if method == "DELETE":
            return _head(204, 0)
        if "uploads" in query:
            self._state.uploads += 1
            names = ("x-amz-checksum-algorithm", "x-amz-checksum-type")
            asked = {name: re.search(rf"(?i)\r\n{name}: *(\S+)", head) for name in names}
            more = {name: found[1] for name, found in asked.items() if found}
            text = f"<UploadId>upload-{self._state.uploads}</UploadId>"
            return _xml("InitiateMultipartUploadResult", text, **more)
        if method == "POST":
            text = f"<ETag>{_ETAG}</ETag>"
            if told:
                name = f"Checksum{told[1].upper()}"
                text += f"<{name}>{told[2]}</{name}>"
            return _xml("CompleteMultipartUploadResult", text)
        return _head(200, 0, ETag=_ETAG, **({f"x-amz-checksum-{told[1]}": told[2]} if told else {}))

    async def _send(self, head: str) -> None:
        """Send what a GET asks for."""
        found = re.search(r"(?i)\r\nrange: *bytes=(\d+)-(\d+)", head)
        left, told = self._state.size, _TOLD
        if found:
            left = int(found[2]) - int(found[1]) + 1
            told = {"Content-Range": f"bytes {found[1]}-{found[2]}/{self._state.size}", **_TOLD}
        self._transport.write(_head(206 if found else 200, left, **told))
        while left:
            size = min(left, _BLOCK if self._rate is None else _READ_SLOWLY)
            await self._loop.sendfile(self._transport, self._state.zeros, 0, size)
            left -= size
            if self._rate is not None:
                await asyncio.sleep(self._rate.seconds_for(size))


def _head(status: int, length: int, **headers: str) -> bytes:
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} x\r\nContent-Length: {length}\r\n{more}\r\n".encode()


def _xml(name: str, inside: str, **headers: str) -> bytes:
    body = f'<{name} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inside}</{name}>'
    return _head(200, len(body), **{"Content-Type": "application/xml"}, **headers) + body.encode()


async def main() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    with os.fdopen(os.memfd_create("zeros"), "w+b") as zeros:
        zeros.truncate(_BLOCK)
        rates = {bucket: Rate(rate) for bucket, rate in json.loads(sys.argv[2]).items()}
        state = State(int(sys.argv[1]), rates, zeros)
        server = await loop.create_server(lambda: Connection(state), "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        curve: list[tuple[float, dict[str, int]]] = []

        async def sample() -> None:
            while True:
                curve.append((time.monotonic(), dict(state.read)))
                await asyncio.sleep(_EVERY)

        sampling = loop.create_task(sample())
        await loop.run_in_executor(None, sys.stdin.read)
        sampling.cancel()
        curve.append((time.monotonic(), dict(state.read)))
        print(json.dumps(curve), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
