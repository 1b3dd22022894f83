"""What does one S3 request cost in CPU, by ways to send it?

    pip install -e . --group benchmarks
    python -m benchmarks.requests.bench_requests [--rounds N]

HEAD, server-side COPY, PUT of 1 KB and LIST of 1,000 keys, against a server in another process
that answers from memory. CPU is this process's, all threads, for each request; medians of rounds
in which the ways take turns. The longest stop is the longest time that the event loop did not get
a turn while pages were listed.
"""

# a script, whose output is its purpose

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

import aiohaul
from aiohaul.aws.direct.signing import Keys, Scope, Signer, timestamp_now
from benchmarks.harness import servers
from benchmarks.harness.drawing import bars
from benchmarks.harness.loops import Monitor
from benchmarks.harness.results import Result, Table, parser, show
from benchmarks.harness.surroundings import KEYS, REGION

BODY = b"x" * 1024
#: Requests in flight.
WIDTH = 32
#: Requests of one way in one round.
REQUESTS = {"HEAD": 400, "COPY": 400, "PUT 1 KB": 400, "LIST 1,000": 12}
KEY = "incoming/2026/01/31/report-000001.csv"
#: What the endpoint has 1,000 objects below.
PREFIX = "n1000/"
STOP = "longest stop, ms"

Send = Callable[[], Awaitable[Any]]
Way = dict[str, Send]


@asynccontextmanager
async def ours(url: str, *, direct: bool) -> AsyncIterator[Way]:
    """This library: the retries, slots and translated errors of every request included."""
    made = aiohaul.Session(region=REGION, endpoint_url=url, direct=direct, **KEYS)
    async with made as session:
        service = await session._clients.service("s3")  # noqa: SLF001  # below the handlers
        at = {"Bucket": "bucket", "Key": KEY}
        source = {"CopySource": {"Bucket": "source", "Key": KEY}, "CopySourceIfMatch": '"e"'}
        acl = {"ACL": "bucket-owner-full-control"}
        yield {
            "HEAD": lambda: service.call("head_object", KEY, **at),
            "COPY": lambda: service.call("copy_object", KEY, **at, **source, **acl),
            "PUT 1 KB": lambda: service.call("put_object", KEY, **at, **acl, Body=BODY),
            "LIST 1,000": lambda: service.call(
                "list_objects_v2", KEY, Bucket="bucket", Prefix=PREFIX
            ),
        }


@asynccontextmanager
async def aiobotocore(url: str) -> AsyncIterator[Way]:
    """The client of aiobotocore as it comes."""
    async with AioSession().create_client(
        "s3",
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id=KEYS["access_key_id"],
        aws_secret_access_key=KEYS["secret_access_key"],
        config=AioConfig(max_pool_connections=WIDTH + 1),
    ) as client:
        at = {"Bucket": "bucket", "Key": KEY}
        source = {"CopySource": {"Bucket": "source", "Key": KEY}, "CopySourceIfMatch": '"e"'}
        acl = {"ACL": "bucket-owner-full-control"}
        yield {
            "HEAD": lambda: client.head_object(**at),
            "COPY": lambda: client.copy_object(**at, **source, **acl),
            "PUT 1 KB": lambda: client.put_object(**at, **acl, Body=BODY),
            "LIST 1,000": lambda: client.list_objects_v2(Bucket="bucket", Prefix=PREFIX),
        }


@asynccontextmanager
async def raw(url: str) -> AsyncIterator[Way]:
    """The session of aiohttp and a signature: no retries, no errors, no answers read."""
    signer = Signer(Scope(REGION, "s3"))
    keys = Keys(KEYS["access_key_id"], KEYS["secret_access_key"])
    host = url.removeprefix("http://")
    path = f"/bucket/{quote(KEY, safe='/~')}"

    async with aiohttp.ClientSession(skip_auto_headers={"Content-Type"}) as session:

        async def send(
            method: str, path: str, query: str = "", body: bytes = b"", **headers: str
        ) -> bytes:
            payload, timestamp = sha256(body).hexdigest(), timestamp_now()
            signed = {name.replace("_", "-"): value for name, value in headers.items()}
            signed |= {"x-amz-date": timestamp, "x-amz-content-sha256": payload}
            signed["Authorization"] = signer.authorization(
                method,
                path,
                query,
                signed,
                host=host,
                payload=payload,
                timestamp=timestamp,
                keys=keys,
            )
            target = f"{url}{path}?{query}" if query else url + path
            async with session.request(method, target, headers=signed, data=body) as answer:
                return await answer.read()

        async def listing() -> list[tuple[str | None, ...]]:
            page = await send("GET", "/bucket", "list-type=2&prefix=n1000%2F")
            root = ET.fromstring(page)  # noqa: S314  # the benchmark's own server
            return [tuple(each.text for each in entry) for entry in root if len(entry)]

        yield {
            "HEAD": lambda: send("HEAD", path),
            "COPY": lambda: send("PUT", path, x_amz_copy_source=f"source/{KEY}"),
            "PUT 1 KB": lambda: send("PUT", path, body=BODY),
            "LIST 1,000": listing,
        }


@asynccontextmanager
async def obstore(url: str) -> AsyncIterator[Way]:
    """obstore, in Rust, with threads of its own."""
    import obstore as library  # noqa: PLC0415  # may be missing
    from obstore.store import S3Store  # noqa: PLC0415

    store = S3Store(
        "bucket",
        region=REGION,
        endpoint=url,
        client_options={"allow_http": True},
        virtual_hosted_style_request=False,
        **KEYS,
    )

    async def listing() -> int:
        return sum([len(page) async for page in library.list(store, PREFIX, chunk_size=1000)])

    yield {
        "HEAD": lambda: library.head_async(store, KEY),
        "COPY": lambda: library.copy_async(store, KEY, KEY + "2"),
        "PUT 1 KB": lambda: library.put_async(store, KEY, BODY, use_multipart=False),
        "LIST 1,000": listing,
    }


async def cpu(send: Send, count: int) -> float:
    """Milliseconds of CPU for each of ``count`` requests, some of them at a time."""
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            await send()

    before = time.process_time()
    await asyncio.gather(*(work() for _ in range(WIDTH)))
    return (time.process_time() - before) / count * 1000


async def longest_stop(send: Send, count: int) -> float:
    """The longest time, in milliseconds, between two turns of something else on the loop."""
    monitor = Monitor()
    ticking = asyncio.create_task(monitor.run())
    for _ in range(count):
        await send()
    ticking.cancel()
    return monitor.longest * 1000


async def measure(url: str, rounds: int) -> dict[str, dict[str, float]]:
    """Way -> operation -> milliseconds of CPU, and the longest stop of the loop."""
    makers: dict[str, Any] = {
        "aiohaul, direct": ours(url, direct=True),
        "aiohaul, by the client": ours(url, direct=False),
        "aiobotocore": aiobotocore(url),
        "raw aiohttp + SigV4": raw(url),
        "obstore": obstore(url),
    }
    async with AsyncExitStack() as stack:
        ways: dict[str, Way] = {}
        for name, maker in makers.items():
            try:
                ways[name] = await stack.enter_async_context(maker)
            except ImportError:
                print(f"{name} is not installed: left out")
        taken: dict[str, dict[str, list[float]]] = {
            name: {operation: [] for operation in REQUESTS} for name in ways
        }
        stops: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(rounds + 1):
            for operation, count in REQUESTS.items():
                for name, way in ways.items():
                    spent = await cpu(way[operation], count)
                    if turn:  # the first one warms up
                        taken[name][operation].append(spent)
            for name, way in ways.items():
                stops[name].append(await longest_stop(way["LIST 1,000"], 3))
    return {
        name: {operation: statistics.median(spent) for operation, spent in each.items()}
        | {STOP: statistics.median(stops[name][1:])}
        for name, each in taken.items()
    }


def found(chosen: argparse.Namespace) -> Result:
    """Everything that was measured."""
    with servers.module("benchmarks.harness.endpoint") as server:
        rows = asyncio.run(measure(server.url, chosen.rounds))
    how = (
        f"Milliseconds of this process's CPU for each request, {WIDTH} at a time, medians of"
        f" {chosen.rounds} rounds, ratios to aiohaul; the stop is the loop's during listings."
    )
    table = Table("ms of CPU", rows, (STOP,), tuple(REQUESTS), ("raw aiohttp + SigV4",))
    return Result("One request", how, [table], table.losses(), plot="requests.svg")


def main() -> None:
    """Measure, print and draw."""
    chosen = parser(__doc__, rounds=3).parse_args()
    if chosen.quick:
        chosen.rounds = 1
    show(found(chosen), chosen, bars(tuple(REQUESTS), log=True))


if __name__ == "__main__":
    main()
