"""An S3 endpoint that answers from memory, at next to no cost: in a process of its own.

It prints the port that it listens on. What it answers is what S3 answers, always the same: every
key with a dot is an object of 1,024 bytes with one ETag, every copy and every PUT succeeds and
leaves nothing, and a prefix whose name ends in a number, as ``in/n20/``, holds so many objects.
Pages of 1,000 keys are made when a prefix is first listed, and then only sent. ``GET /-/copied``
says how many different keys have been copied to since it was last asked.
"""

# a module beside the benchmarks, which read what it prints

from __future__ import annotations

import asyncio
import re
import sys
from urllib.parse import unquote_plus

from benchmarks.harness.listings import ETAG, entry, page

SIZE = 1024
PAGE = 1000
_XML = b"content-type: application/xml\r\n"
_COPY = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<CopyObjectResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    "<LastModified>2026-01-31T10:20:30.000Z</LastModified>"
    f"<ETag>&quot;{ETAG}&quot;</ETag></CopyObjectResult>"
).encode()
_COMMON = (
    b"x-amz-id-2: 4PqkWVxyzKaYcJZ0Qx8yTgCz0rVhY9Wn1oHqg3g6m2hD2kq9uJ5tq0o8eF6s4d3a\r\n"
    b"x-amz-request-id: 0123456789ABCDEF\r\ndate: Sat, 31 Jan 2026 10:20:30 GMT\r\n"
    b"server: AmazonS3\r\n"
)
_OBJECT = (
    "last-modified: Sat, 31 Jan 2026 10:20:30 GMT\r\n"
    f'etag: "{ETAG}"\r\naccept-ranges: bytes\r\n'
    "x-amz-server-side-encryption: AES256\r\ncontent-type: binary/octet-stream\r\n"
).encode()


def _answer(headers: bytes, body: bytes) -> bytes:
    length = b"content-length: %d\r\n\r\n" % len(body)
    return b"HTTP/1.1 200 OK\r\n" + _COMMON + headers + length + body


HEAD = b"HTTP/1.1 200 OK\r\n" + _COMMON + _OBJECT + b"content-length: %d\r\n\r\n" % SIZE
MISSING = b"HTTP/1.1 404 Not Found\r\n" + _COMMON + b"content-length: 0\r\n\r\n"
PUT = _answer(f'etag: "{ETAG}"\r\n'.encode(), b"")
COPY = _answer(_XML, _COPY)


class Listings:
    """Pages that are made once."""

    def __init__(self) -> None:
        self._pages: dict[bytes, list[bytes]] = {}

    def answer(self, head: bytes) -> bytes:
        """The page for which a request asks."""
        prefix = _asked(head, rb"[?&]prefix=([^& ]*)")
        token = _asked(head, rb"[?&]continuation-token=(\d+)")
        if prefix not in self._pages:
            self._pages[prefix] = _pages(unquote_plus(prefix.decode()))
        return self._pages[prefix][int(token or 0)]


def _asked(head: bytes, pattern: bytes) -> bytes:
    found = re.search(pattern, head)
    return found[1] if found else b""


def _pages(prefix: str) -> list[bytes]:
    found = re.search(r"(\d+)/?$", prefix)
    count = int(found[1]) if found else 0
    directory = f"{prefix.removesuffix('/')}/"
    made = []
    for start in range(0, count or 1, PAGE):
        names = range(start, min(start + PAGE, count))
        entries = "".join(entry(f"{directory}report-{number:08}.csv", SIZE) for number in names)
        after = str(start // PAGE + 1) if start + PAGE < count else ""
        made.append(_answer(_XML, page("bucket", prefix, entries, after)))
    return made


class Server(asyncio.Protocol):
    """One connection."""

    def __init__(self, listings: Listings, copied: set[bytes]) -> None:
        self._listings = listings
        self._copied = copied

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Get ready."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._data = b""
        self._told_to_go_on = False

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end]
            lower = head.lower()
            start = lower.find(b"content-length: ")
            length = int(lower[start + 16 :].split(b"\r\n", 1)[0]) if start >= 0 else 0
            if len(self._data) < end + 4 + length:
                if b"expect: 100" in lower and not self._told_to_go_on:
                    self._told_to_go_on = True
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            self._data = self._data[end + 4 + length :]
            self._told_to_go_on = False
            self._transport.write(self._reply(head, lower))

    def _reply(self, head: bytes, lower: bytes) -> bytes:
        target = head.split(b" ", 2)[1]
        if lower.startswith(b"head"):
            return HEAD if b"." in target else MISSING
        if target == b"/-/copied":
            count = len(self._copied)
            self._copied.clear()
            return _answer(b"", b"%d" % count)
        if lower.startswith(b"get"):
            return self._listings.answer(target)
        if b"x-amz-copy-source" not in lower:
            return PUT
        self._copied.add(target)
        return COPY


async def main() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    listings, copied = Listings(), set[bytes]()
    server = await loop.create_server(
        lambda: Server(listings, copied), "127.0.0.1", 0, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
