"""S3 and a queue of its events in memory, where objects appear: in a process of its own.

It prints the port that it listens on. ``GET /-/put?rate=R&seconds=S`` has R objects a second
appear below ``in/``; one in ten is written over by another version a little later. S3 tells of
each in the queue ``/0/events``: one event in five twice, and all of them up to a second late, which
mixes up their order. The name of an object is the moment at which it appeared first, in
nanoseconds of the machine's monotonic clock, and its ETag the moment of this version.
``GET /-/counts`` says what was written and what was asked.
"""

# a script beside its benchmark, which reads what it prints

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from benchmarks.harness.listings import page

_TWICE, _OVERWRITTEN = 0.2, 0.1
#: Seconds by which an event is late at most, and after which an object is written over.
_LATE, _AFTER = 1.0, 0.5
_TOLD = "Sat, 31 Jan 2026 10:20:30 GMT"


@dataclass
class State:
    """What is there.

    Attributes:
        versions: the ETag of each key.
        waiting: messages that may be received, by receipt.
        flying: those that were received; they do not come again within a benchmark.
        counts: objects and versions that were written, and requests by their kind.
        news: set whenever there is a message.
    """

    versions: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)
    flying: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    numbers: Any = field(default_factory=count)

    def write(self, key: str) -> None:
        """Write a version of an object, and have the queue told."""
        version = f"{time.monotonic_ns():032x}"
        self.counts["objects"] += key not in self.versions
        self.counts["versions"] += 1
        self.versions[key] = version
        thing = {"key": key, "size": 1024, "eTag": version, "sequencer": f"{version[16:]}"}
        record = {
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": "bucket"}, "object": thing},
        }
        message = json.dumps({"Records": [record]})
        for _ in range(1 + (random.random() < _TWICE)):  # noqa: S311  # no secret
            late = random.uniform(0, _LATE)  # noqa: S311  # no secret
            asyncio.get_running_loop().call_later(late, self._tell, message)

    def _tell(self, message: str) -> None:
        self.waiting[str(next(self.numbers))] = message
        self.news.set()

    async def put(self, rate: float, seconds: float) -> None:
        """Have objects appear."""
        start = time.monotonic()
        for number in range(int(rate * seconds)):
            pause = start + number / rate - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
            key = f"in/{time.monotonic_ns()}"
            self.write(key)
            if random.random() < _OVERWRITTEN:  # noqa: S311  # no secret
                asyncio.get_running_loop().call_later(_AFTER, self.write, key)

    async def receive(self, given: dict[str, Any]) -> dict[str, Any]:
        """ReceiveMessage."""
        if not self.waiting:
            self.news.clear()
            try:
                async with asyncio.timeout(given.get("WaitTimeSeconds", 0)):
                    await self.news.wait()
            except TimeoutError:
                return {}
        receipts = list(islice(self.waiting, given["MaxNumberOfMessages"]))
        self.flying.update(receipts)
        return {
            "Messages": [
                {"MessageId": each, "ReceiptHandle": each, "Body": self.waiting.pop(each)}
                for each in receipts
            ]
        }

    def delete(self, given: dict[str, Any]) -> dict[str, Any]:
        """DeleteMessageBatch."""
        for each in given["Entries"]:
            self.flying.discard(each["ReceiptHandle"])
        return {"Successful": [{"Id": each["Id"]} for each in given["Entries"]], "Failed": []}

    def told(self) -> dict[str, Any]:
        """What there is to count."""
        return {**self.counts, "left": len(self.waiting) + len(self.flying)}


async def answer(state: State, line: str, headers: dict[str, str], body: bytes) -> bytes:
    """The answer to a request."""
    method, target, _ = line.split(" ")
    url = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    if url.path == "/-/put":
        asking = state.put(float(query["rate"]), float(query["seconds"]))
        TASKS.append(asyncio.ensure_future(asking))
    if url.path.startswith("/-/"):
        return _reply(json.dumps(state.told()).encode())
    operation = headers.get("x-amz-target", method).rpartition(".")[2]
    state.counts[operation] += 1
    if operation == "ReceiveMessage":
        return _reply(json.dumps(await state.receive(json.loads(body))).encode())
    if operation == "DeleteMessageBatch":
        return _reply(json.dumps(state.delete(json.loads(body))).encode())
    if operation == "HEAD":
        version = state.versions.get(unquote(url.path).removeprefix("/bucket/"))
        if version is None:
            return b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
        head = f'etag: "{version}"\r\nlast-modified: {_TOLD}\r\ncontent-length: 1024'
        return f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode()
    return _reply(page("bucket", query.get("prefix", ""), ""))


def _reply(body: bytes) -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


#: What makes objects appear, until all ends.
TASKS: list[asyncio.Future[None]] = []


async def serve(state: State, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            pairs = (line.partition(": ") for line in head[1:] if line)
            headers = {name.lower(): value for name, _, value in pairs}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            writer.write(await answer(state, head[0], headers, body))
    except (ConnectionError, asyncio.IncompleteReadError):
        writer.close()


async def main() -> None:
    """Serve until standard input ends."""
    state = State()
    server = await asyncio.start_server(
        lambda reader, writer: serve(state, reader, writer), "127.0.0.1", 0, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
