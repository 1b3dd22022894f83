"""A server of listings that are in memory, where objects appear: in a process of its own.

It prints the port that it listens on. ``GET /-/put?prefixes=N&rate=R&seconds=S`` has R objects a
second appear in N prefixes in turn. The name of such an object is the moment at which it
appeared, in nanoseconds of the machine's monotonic clock. ``GET /-/counts`` says how many
listings were asked for, and how many objects have appeared.
"""

# a script beside its benchmark, which reads what it prints

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import defaultdict
from urllib.parse import parse_qs, urlsplit

from benchmarks.harness.listings import entry, page

#: Objects that are in each prefix from the start, and in the large one.
FEW = 20
MANY = 200_000
_PAGE = 1000
LARGE = "large/"
_HEAD = (
    b"HTTP/1.1 200 OK\r\nlast-modified: Sat, 31 Jan 2026 10:20:30 GMT\r\n"
    b'etag: "0123456789abcdef0123456789abcdef"\r\ncontent-length: 1024\r\n\r\n'
)
#: Bytes of each object.
SIZE = 1024


class Objects:
    """What is there."""

    def __init__(self) -> None:
        self.listed = 0
        self.appeared = 0
        self._entries: defaultdict[str, list[str]] = defaultdict(list)
        self._large: list[bytes] = []

    def listing(self, prefix: str, token: str) -> bytes:
        """A page of a listing."""
        self.listed += 1
        prefix = prefix if prefix.endswith("/") else f"{prefix}/"  # as the addon asks
        if prefix == LARGE:
            return self._large_pages()[int(token or 0)]
        entries = self._entries[prefix]
        if not entries:
            entries.extend(entry(f"{prefix}{number}", SIZE) for number in range(FEW))
        return page("b", prefix, "".join(entries))

    def _large_pages(self) -> list[bytes]:
        if not self._large:
            pages = MANY // _PAGE
            for number in range(pages):
                names = range(number * _PAGE, (number + 1) * _PAGE)
                entries = "".join(entry(f"{LARGE}report-{name:08}.csv", SIZE) for name in names)
                after = str(number + 1) if number + 1 < pages else ""
                self._large.append(page("b", LARGE, entries, after))
        return self._large

    async def put(self, prefixes: int, rate: float, seconds: float) -> None:
        """Have objects appear."""
        start = time.monotonic()
        for number in range(int(rate * seconds)):
            pause = start + number / rate - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
            prefix = f"p{number % prefixes:04}/"
            self._entries[prefix].append(entry(f"{prefix}{time.monotonic_ns()}", SIZE))
            self.appeared += 1


class Server(asyncio.Protocol):
    """One connection."""

    def __init__(self, objects: Objects, tasks: asyncio.TaskGroup) -> None:
        self._objects = objects
        self._tasks = tasks
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Get ready."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete; none has a body."""
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            method, target, _ = self._data[:end].decode().split(" ", 2)
            self._data = self._data[end + 4 :]
            if method == "HEAD":  # the addon looks at each object
                self._transport.write(_HEAD)
                continue
            body = self._answer(target)
            head = (
                f"HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\ncontent-length: {len(body)}"
            )
            self._transport.write(f"{head}\r\n\r\n".encode() + body)

    def _answer(self, target: str) -> bytes:
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/-/put":
            self._tasks.create_task(
                self._objects.put(
                    int(query["prefixes"]), float(query["rate"]), float(query["seconds"])
                )
            )
        if url.path.startswith("/-/"):
            counts = {"listed": self._objects.listed, "appeared": self._objects.appeared}
            return json.dumps(counts).encode()
        return self._objects.listing(query["prefix"], query.get("continuation-token", ""))


async def main() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    objects = Objects()
    async with asyncio.TaskGroup() as tasks:
        server = await loop.create_server(lambda: Server(objects, tasks), "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await loop.run_in_executor(None, sys.stdin.read)
        server.close()


if __name__ == "__main__":
    asyncio.run(main())
