"""How long does the event loop stand still for large amounts, and for the first use?

    pip install -e . --group benchmarks
    python -m benchmarks.loop.bench_heartbeat [--rounds N] [CASE …]

Each case is a process of its own, in which something else on the loop wants its turn all the time:
the longest CPU time of the loop's thread between two of its turns is the longest stretch. The CPU
of the whole process, all threads, and the seconds are those of another process, in which nothing
else wants a turn. The servers answer from memory, in processes of their own.
"""

# a module, whose output is its purpose

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import servers
from benchmarks.harness.drawing import bars
from benchmarks.harness.loops import Monitor
from benchmarks.harness.processes import Figures, told
from benchmarks.harness.results import Result, Table, aim, parser, show
from benchmarks.harness.rounds import in_turns, medians
from benchmarks.harness.surroundings import KEYS, REGION

STRETCH = "longest stretch, ms"
TOTAL = "CPU, s"
WALL = "seconds"
#: What the aims are, in milliseconds.
AIM, FIRST_AIM = 20.0, 50.0
_MODULE = "benchmarks.loop.bench_heartbeat"
_PROTOCOL = "opentaskpy.addons.aws.remotehandlers.s3.S3Transfer"

#: Gets ready, and gives what is to be measured.
Case = Callable[[Any, str, int, Path], Awaitable[Callable[[], Awaitable[Any]]]]


async def find(session: Any, _: str, scale: int, __: Path) -> Callable[[], Awaitable[Any]]:
    """A million keys, all of them found."""
    s3 = session.s3()
    return lambda: s3.find("bucket", f"n{1_000_000 // scale}", r".*\.csv")


async def find_some(session: Any, _: str, scale: int, __: Path) -> Callable[[], Awaitable[Any]]:
    """200,000 keys, looked at by age and size."""
    from aiohaul import Conditions  # noqa: PLC0415  # aiohaul is imported where it is measured

    s3 = session.s3()
    conditions = Conditions(size_gt=1, age_gt=1.0)
    return lambda: s3.find("bucket", f"n{200_000 // scale}", r".*\.csv", conditions=conditions)


async def watch(session: Any, _: str, scale: int, __: Path) -> Callable[[], Awaitable[Any]]:
    """A watch that hands over 20,000 changes."""
    changes = 20_000 // scale

    async def work() -> None:
        count = 0
        async for _ in session.s3().watch("bucket", f"n{changes}"):
            count += 1
            if count == changes:
                return

    return work


async def definition(_: Any, url: str, scale: int, __: Path) -> Callable[[], Awaitable[Any]]:
    """The definition of a transfer to 1,000 destinations, a quarter of a megabyte."""
    import aiohaul  # noqa: PLC0415  # as above

    protocol = {"name": _PROTOCOL, "endpoint_url": url, "region_name": REGION, **KEYS}
    transfer = {
        "type": "transfer",
        "source": {
            "bucket": "bucket",
            "directory": "n0",
            "fileRegex": ".*",
            "error": False,
            "protocol": protocol,
        },
        "destination": [
            {"bucket": f"bucket-{number:04}", "directory": "incoming", "protocol": protocol}
            for number in range(1000 // scale)
        ],
    }

    async def work() -> None:
        with suppress(aiohaul.NothingFoundError):
            await aiohaul.run(transfer)

    return work


async def copies(session: Any, _: str, scale: int, __: Path) -> Callable[[], Awaitable[Any]]:
    """2,000 copies by S3."""
    from aiohaul import Destination  # noqa: PLC0415  # as above

    s3 = session.s3()
    found = await s3.find("bucket", f"n{2_000 // scale}")
    return lambda: s3.copy(found, [Destination(bucket="out", directory="in")])


async def files(session: Any, _: str, scale: int, scratch: Path) -> Callable[[], Awaitable[Any]]:
    """50,000 local files, found and copied to another directory."""
    import aiohaul  # noqa: PLC0415  # as above

    inbox, out = scratch / "inbox", scratch / "out"
    inbox.mkdir()
    local = {"name": "local"}
    transfer = {
        "type": "transfer",
        "source": {"directory": str(inbox), "fileRegex": ".*", "protocol": local},
        "destination": [
            {"directory": str(out), "createDirectoryIfNotExists": True, "protocol": local}
        ],
    }
    (inbox / "first.csv").touch()
    await aiohaul.run(transfer, session=session)  # the first use is a case of its own
    for number in range(50_000 // scale):
        (inbox / f"report-{number:05}.csv").touch()
    return lambda: aiohaul.run(transfer, session=session)


async def files_frozen(
    session: Any, url: str, scale: int, scratch: Path
) -> Callable[[], Awaitable[Any]]:
    """The same in an application that has told Python's collector to skip what there is."""
    work = await files(session, url, scale, scratch)
    gc.collect()
    gc.freeze()
    return work


async def first(_: Any, url: str, __: int, ___: Path) -> Callable[[], Awaitable[Any]]:
    """The first listing of a process that has imported aiohaul."""
    from aiohaul import Session  # noqa: PLC0415  # as above

    async def work() -> None:
        async with Session(region=REGION, endpoint_url=url, **KEYS) as session:
            await session.s3().find("bucket", "n1")

    return work


CASES: dict[str, Case] = {
    "find of 1,000,000 keys": find,
    "find of 200,000 with conditions": find_some,
    "watch of 20,000 changes": watch,
    "run() with 1,000 destinations": definition,
    "2,000 copies by S3": copies,
    "50,000 local files": files,
    "50,000 local files, after gc.freeze()": files_frozen,
}
FIRST: dict[str, Case] = {"first use": first}


async def child(case: str, url: str, scale: int, *, watched: bool) -> Figures:
    """One case, in this process."""
    measured = _stretch if watched else _total
    with tempfile.TemporaryDirectory() as scratch:
        if case in FIRST:
            return await measured(await first(None, url, scale, Path(scratch)))
        from aiohaul import Session  # noqa: PLC0415  # what comes first is a case of its own

        async with Session(region=REGION, endpoint_url=url, **KEYS) as session:
            for _ in range(2):  # aiohaul's first listing is botocore's own
                await session.s3().find("bucket", "n1")
            return await measured(await CASES[case](session, url, scale, Path(scratch)))


async def _stretch(work: Callable[[], Awaitable[Any]]) -> Figures:
    gc.collect()
    monitor = Monitor()
    watching = asyncio.ensure_future(monitor.run())
    await asyncio.sleep(0)
    monitor.stop()
    await work()
    _, stretch = monitor.stop()
    watching.cancel()
    return {STRETCH: stretch * 1000}


async def _total(work: Callable[[], Awaitable[Any]]) -> Figures:
    gc.collect()
    begun, cpu = time.perf_counter(), time.process_time()
    await work()
    return {TOTAL: time.process_time() - cpu, WALL: time.perf_counter() - begun}


def _once(case: str, url: str, scale: int) -> Figures:
    figures: Figures = {}
    for way in ("--watched", "--alone"):
        figures |= told(_MODULE, way, case, url, str(scale))
    return figures


def measure(chosen: argparse.Namespace) -> Result:
    """Every case, in turns."""
    names = [each for each in {**CASES, **FIRST} if not chosen.case or each in chosen.case]
    with servers.module("benchmarks.harness.endpoint") as server:
        ways: dict[str, Callable[[], Figures]] = {
            name: partial(_once, name, server.url, chosen.scale) for name in names
        }
        rows = medians(in_turns(ways, chosen.rounds, warm_up=False))
    table = Table("The event loop", rows, (STRETCH, TOTAL, WALL))
    sentences = [
        f"{name}: {aim(STRETCH, row[STRETCH], FIRST_AIM if name in FIRST else AIM)}"
        for name, row in rows.items()
    ]
    how = (
        f"CPU of the loop's thread between two turns of a task that always wants one, at most; the"
        f" rest without that task; {chosen.rounds} rounds, medians."
    )
    return Result("Heartbeat", how, [table], sentences, {}, "heartbeat.svg")


def main() -> None:
    """Measure, print and draw."""
    if sys.argv[1:2] in (["--watched"], ["--alone"]):
        way, case, url, scale = sys.argv[1:5]
        work = child(case, url, int(scale), watched=way == "--watched")
        print(json.dumps(asyncio.run(work)))
        return
    arguments = parser(__doc__, rounds=3)
    arguments.add_argument("case", nargs="*", metavar="CASE")
    arguments.add_argument("--scale", type=int, default=1, help="divide every amount by this")
    chosen = arguments.parse_args()
    if chosen.quick:
        chosen.scale, chosen.rounds = 50, 1
    show(measure(chosen), chosen, bars((STRETCH,)))


if __name__ == "__main__":
    main()
