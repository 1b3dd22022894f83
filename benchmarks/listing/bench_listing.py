"""What does listing 200,000 keys cost, and how long does the event loop stand still for it?

    pip install -e . --group benchmarks
    python -m benchmarks.listing.bench_listing [--keys N] [--rounds N]

The endpoint sends pages of 1,000 keys that it has in memory, as S3 writes them, from a process of
its own: a server that first had to look into a directory would be what is measured. Each way is a
process of its own, that lists once to get ready, then lists all keys and counts them: its CPU, all
threads, is told for 1,000 keys. s5cmd is a program: its CPU is that of ``s5cmd ls`` of all keys,
less that of ``s5cmd ls`` of one page. Then all keys are listed twice more while something else on
the loop wants its turn all the time: the longest time between two of its turns is the longest stop,
once with all objects counted, and once with all of them kept in a list, as one that copies them
would (beside it that of a second in which nothing is listed, for the machine has other things to do
as well).
"""

# a module, whose output is its purpose

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from benchmarks.harness import servers, surroundings
from benchmarks.harness.drawing import bars
from benchmarks.harness.loops import Monitor
from benchmarks.harness.processes import CPU, PEAK, SECONDS, Figures, cost, told
from benchmarks.harness.profiled import profile
from benchmarks.harness.results import Result, Table, aim, parser, show
from benchmarks.harness.rounds import in_turns, medians
from benchmarks.harness.surroundings import KEYS, REGION

EACH = "ms CPU for 1,000 keys"
STOP = "longest stop, ms"
KEPT = "with all kept, ms"
IDLE = "without listing, ms"
WHOLE = "whole process, s CPU"
#: What the aims are, in milliseconds.
CPU_AIM, STOP_AIM = 5.0, 10.0
_MODULE = "benchmarks.listing.bench_listing"

#: Lists all keys below a prefix.
Lists = Callable[[str], AsyncIterator[Any]]


@asynccontextmanager
async def aiohaul(url: str) -> AsyncIterator[Lists]:
    """This library."""
    from aiohaul import Session  # noqa: PLC0415  # each way imports only its own

    async with Session(region=REGION, endpoint_url=url, **KEYS) as session:
        s3 = session.s3()

        yield lambda prefix: s3.list("bucket", prefix)


@asynccontextmanager
async def aiobotocore(url: str) -> AsyncIterator[Lists]:
    """The paginator of aiobotocore as it comes."""
    from aiobotocore.session import AioSession  # noqa: PLC0415  # as above

    async with AioSession().create_client("s3", region_name=REGION, endpoint_url=url) as client:

        async def everything(prefix: str) -> AsyncIterator[Any]:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix=prefix)
            async for page in pages:
                for each in page["Contents"]:
                    yield each

        yield everything


@asynccontextmanager
async def obstore(url: str) -> AsyncIterator[Lists]:
    """obstore, in Rust, with threads of its own."""
    import obstore as library  # noqa: PLC0415  # as above
    from obstore.store import S3Store  # noqa: PLC0415  # as above

    store = S3Store(
        "bucket",
        region=REGION,
        endpoint=url,
        client_options={"allow_http": True},
        virtual_hosted_style_request=False,
        **KEYS,
    )

    async def everything(prefix: str) -> AsyncIterator[Any]:
        async for chunk in library.list(store, prefix, chunk_size=1000):
            for each in chunk:
                yield each

    yield everything


WAYS = {"aiohaul": aiohaul, "aiobotocore": aiobotocore, "obstore": obstore}


async def child(way: str, url: str, keys: int) -> Figures:
    """One way, in this process."""
    async with WAYS[way](url) as everything:
        for _ in range(2):  # aiohaul's first listing is botocore's own
            await _kept(everything("n1000/"))
        # What others have allocated and freed by then is no business of these figures.
        gc.collect()
        begun, cpu = time.perf_counter(), time.process_time()
        found = await _kept(everything(f"n{keys}/"))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - begun
        if len(found) != keys:
            raise SystemExit(f"{way} found {len(found)} keys")
        whole, peak = time.process_time(), _peak()
        del found
        gc.collect()
        stop = await _stop(_counted(everything(f"n{keys}/")))
        kept = await _stop(_kept(everything(f"n{keys}/")))
        idle = await _stop(asyncio.sleep(1))
    return {
        EACH: cpu * 1000 / (keys / 1000),
        SECONDS: wall,
        STOP: stop * 1000,
        KEPT: kept * 1000,
        IDLE: idle * 1000,
        WHOLE: whole,
        PEAK: peak,
    }


async def _kept(objects: AsyncIterator[Any]) -> list[Any]:
    return [each async for each in objects]


async def _counted(objects: AsyncIterator[Any]) -> int:
    count = 0
    async for _ in objects:
        count += 1
    return count


async def _stop(work: Awaitable[Any]) -> float:
    monitor = Monitor()
    watching = asyncio.ensure_future(monitor.run())
    await work
    watching.cancel()
    return monitor.longest


def _peak() -> float:
    import resource  # noqa: PLC0415  # of a child alone

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def s5cmd(url: str, keys: int) -> Figures:
    """The program, less what it costs to start it and list one page."""
    command = [surroundings.s5cmd(), "--endpoint-url", url, "ls"]
    one = cost([[*command, "s3://bucket/n1000/*"]])
    whole = cost([[*command, f"s3://bucket/n{keys}/*"]])
    return {
        EACH: (whole[CPU] - one[CPU]) * 1000 / (keys / 1000 - 1),
        SECONDS: whole[SECONDS],
        WHOLE: whole[CPU],
        PEAK: whole[PEAK],
    }


def measure(chosen: argparse.Namespace) -> Result:
    """Every way, in turns."""
    with servers.module("benchmarks.harness.endpoint") as server:
        ways: dict[str, Callable[[], Figures]] = {
            way: partial(told, _MODULE, "--way", way, server.url, str(chosen.keys)) for way in WAYS
        }
        ways["s5cmd ls"] = lambda: s5cmd(server.url, chosen.keys)
        rows = medians(in_turns(ways, chosen.rounds, fewer={"aiobotocore": 1}, warm_up=False))
        profiles = {}
        if chosen.profile:
            shares = profile(_MODULE, "--list", server.url, str(chosen.keys))
            profiles[f"aiohaul's CPU, {chosen.keys:,} keys, its start included"] = shares
    table = Table(
        f"{chosen.keys:,} keys", rows, (STOP, KEPT, IDLE), (EACH, SECONDS, STOP, WHOLE, PEAK)
    )
    ours = rows["aiohaul"]
    how = (
        f"Pages of 1,000 keys from memory, {chosen.rounds} rounds (aiobotocore: 1), medians,"
        " ratios to aiohaul."
        " The objects are kept in a list, but for the longest stop, where they are counted; with"
        " all kept it is a full collection of Python's garbage, which looks at each of them."
        " The whole process is the imports, the client and the first listing of all keys."
    )
    sentences = [aim(EACH, ours[EACH], CPU_AIM), aim(STOP, ours[STOP], STOP_AIM), *table.losses()]
    return Result("Listing", how, [table], sentences, profiles, "listing.svg")


async def _list(url: str, keys: int) -> None:
    async with aiohaul(url) as everything:
        await _kept(everything(f"n{keys}/"))


def main() -> None:
    """Measure, print and draw."""
    if sys.argv[1:2] == ["--way"]:
        print(json.dumps(asyncio.run(child(sys.argv[2], sys.argv[3], int(sys.argv[4])))))
        return
    if sys.argv[1:2] == ["--list"]:
        asyncio.run(_list(sys.argv[2], int(sys.argv[3])))
        return
    arguments = parser(__doc__, rounds=3)
    arguments.add_argument("--keys", type=int, default=200_000)
    chosen = arguments.parse_args()
    if chosen.quick:
        chosen.keys, chosen.rounds = 10_000, 1
    show(measure(chosen), chosen, bars((EACH, STOP, WHOLE, PEAK)))


if __name__ == "__main__":
    main()
