"""What do thousands of watches cost, and how soon do they see what appears?

    pip install -e . --group benchmarks
    python -m benchmarks.watches.bench_watches [--watches N] [--threads N …]

10,000 watches of aiohaul on one loop look into 1,000 prefixes, ten with different regexes into
each; beside them ``list_objects_v2`` of boto3 in threads, one for each watch, with one client, and
the handlers of the addon that aiohaul replaces, each in a thread.
All look every 5 seconds, at a server in another process where one object a second appears in each
prefix that is watched. Whoever looks every 5 seconds sees an object 2.5 seconds (median) and 4.95
seconds (99th percentile) after it appeared, if looking itself took no time.

Each way has a process of its own. Memory is what is resident in it, and what the watches added to
that; CPU is that process's, of one core.
"""

# a script, whose output is its purpose

from __future__ import annotations

import asyncio
import json
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import aiohaul
from benchmarks.harness import servers
from benchmarks.harness.drawing import COLORS, canvas, save
from benchmarks.harness.loops import Monitor
from benchmarks.harness.processes import Figures, told
from benchmarks.harness.results import Result, Table, number, parser, show
from benchmarks.harness.surroundings import KEYS, REGION, ROOT
from benchmarks.otf.reference import environment, reference_python
from benchmarks.watches.course import INTERVAL, SECONDS, SHARING, Course, Measured, place

_MODULE = "benchmarks.watches.bench_watches"
ADDON = "otf-addons-aws"
Seen = Callable[[str], None]


async def by_aiohaul(url: str, watches: int) -> Measured:
    """All on one loop."""
    looked = 0
    all_looked = asyncio.Event()

    def first_look(told: list[bool]) -> Callable[[aiohaul.Event], None]:
        def tell(_: aiohaul.Event) -> None:
            nonlocal looked
            if not told:
                told.append(True)
                looked += 1
                if looked == watches:
                    all_looked.set()

        return tell

    async with aiohaul.Session(region=REGION, endpoint_url=url, **KEYS) as session:
        s3 = session.s3()
        await s3.find("bucket", "warm")
        course = Course(url, watches)
        monitor = Monitor(0.01)

        async def watch(number: int) -> None:
            directory, regex = place(number)
            async for change in s3.watch(
                "bucket",
                directory,
                regex,
                interval=INTERVAL,
                existing=False,
                on_progress=first_look([]),
            ):
                course.seen(change.object.name)

        tasks = [asyncio.create_task(watch(number)) for number in range(watches)]
        await all_looked.wait()
        tasks.append(asyncio.create_task(monitor.run()))
        steps = course.steps()
        # In a thread: asking the server must not stop the loop that is measured.
        seconds = await asyncio.to_thread(next, steps, None)
        while seconds is not None:
            await asyncio.sleep(seconds)
            seconds = await asyncio.to_thread(next, steps, None)
        course.measured.stop = monitor.longest
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    return course.measured


def by_boto3(url: str, watches: int) -> Measured:
    """A thread for each watch, and one client for all."""
    import re  # noqa: PLC0415  # what follows is only needed here

    import boto3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    client = boto3.client(
        "s3",
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id=KEYS["access_key_id"],
        aws_secret_access_key=KEYS["secret_access_key"],
        config=Config(max_pool_connections=watches),
    )
    client.list_objects_v2(Bucket="bucket", Prefix="warm/", Delimiter="/")
    course = Course(url, watches)
    over = threading.Event()
    first = threading.Semaphore(0)

    def watch(number: int) -> None:
        directory, regex = place(number)
        pattern = re.compile(regex)
        known: set[tuple[str, str]] | None = None
        due = time.monotonic()
        while not over.wait(max(due - time.monotonic(), 0)):
            answer = client.list_objects_v2(Bucket="bucket", Prefix=f"{directory}/", Delimiter="/")
            found = {(each["Key"], each["ETag"]) for each in answer["Contents"]}
            if known is None:
                first.release()
                due += INTERVAL * random.uniform(0.1, 1)  # noqa: S311  # no secret
            else:
                for key, _ in found - known:
                    name = key.rpartition("/")[2]
                    if pattern.match(name):
                        course.seen(name)
                due = max(due + INTERVAL, time.monotonic())
            known = found

    threads = [threading.Thread(target=watch, args=(number,)) for number in range(watches)]
    for thread in threads:
        thread.start()
    for _ in threads:
        first.acquire()
    for seconds in course.steps():
        time.sleep(seconds)
    over.set()
    for thread in threads:
        thread.join()
    return course.measured


def percentile(values: list[float], share: float) -> float:
    """The value below which this share of them lies."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def row(each: Measured) -> Figures:
    """What is shown of a way."""
    thousands = each.watches / 1000
    shown = {
        "MB a thousand": each.added / 1e6 / thousands,
        "% of a core a thousand": each.cpu * 100 / thousands,
        "MB resident": each.resident / 1e6,
        "% of a core": each.cpu * 100,
        "requests/s": each.requests,
        "first looks, s": each.ready,
        "seen after, median s": statistics.median(each.delays),
        "99 %, s": percentile(each.delays, 0.99),
        "not seen": each.appeared - len(each.delays),
    }
    return shown | ({"longest stop, ms": each.stop * 1000} if each.stop else {})


def measured(way: str, watches: int) -> Measured:
    """What a process of its own measures, against a server of its own."""
    with servers.module("benchmarks.watches.server") as server:
        if way != ADDON:
            return Measured(**told(_MODULE, "--way", way, server.url, str(watches)))
        command = [str(reference_python()), "-m", "benchmarks.watches.handlers"]
        done = subprocess.run(
            [*command, server.url, str(watches)],
            env=environment(server.url),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            check=True,
            timeout=300,
        )
        return Measured(**json.loads(done.stdout.splitlines()[-1]))


def draw(results: dict[str, Measured], path: Path) -> None:
    """Draw memory, CPU, and how soon what appeared was seen."""
    figure, ((memory, cpu, delays),) = canvas(1, 3, (13, 3.2))
    names, colors = list(results), COLORS[: len(results)]
    for axis, title, values in (
        (memory, "MB for a thousand", [row(each)["MB a thousand"] for each in results.values()]),
        (cpu, "% of a core for a thousand",
         [row(each)["% of a core a thousand"] for each in results.values()]),
    ):  # fmt: skip
        axis.bar_label(
            axis.barh(names, values, color=colors),
            labels=[number(each) for each in values],
            padding=3,
        )
        axis.set(title=title, xlim=(0, max(values) * 1.2))
        axis.invert_yaxis()
    cpu.set_yticklabels([])
    for color, (name, each) in zip(colors, results.items(), strict=True):
        shares = [place / len(each.delays) for place in range(len(each.delays))]
        delays.plot(sorted(each.delays), shares, color=color, label=name)
    delays.plot([0, INTERVAL], [0, 1], color="black", linestyle=":", label="no time to look")
    delays.set(title="seen after", xlabel="s", ylabel="share of the objects")
    delays.legend(fontsize=7)
    save(figure, path)


def main() -> None:
    """Measure, print and draw."""
    if sys.argv[1:2] == ["--way"]:
        way, url, watches = sys.argv[2], sys.argv[3], int(sys.argv[4])
        seen = by_boto3(url, watches) if way == "boto3" else asyncio.run(by_aiohaul(url, watches))
        print(json.dumps(asdict(seen)))
        return
    arguments = parser(__doc__, rounds=1)
    arguments.add_argument("--watches", type=int, default=10_000, help="of aiohaul")
    arguments.add_argument("--threads", type=int, nargs="+", default=[1000], help="of boto3")
    arguments.add_argument("--handlers", type=int, default=100, help="of the addon")
    chosen = arguments.parse_args()
    if chosen.quick:
        chosen.watches, chosen.threads, chosen.handlers = 500, [50], 20
    ways = [("aiohaul", chosen.watches), *(("boto3", count) for count in chosen.threads)]
    ways.append((ADDON, chosen.handlers))
    results = {f"{way}, {count:,}": measured(way, count) for way, count in ways}
    rows = {name: row(each) for name, each in results.items()}
    judged = ("MB a thousand", "% of a core a thousand")
    plain = [column for each in rows.values() for column in each if column not in judged]
    table = Table("watches", rows, plain, judged)
    how = (
        f"{SHARING} watches look into each prefix, every {INTERVAL:g} s, and an object a second"
        f" appears in each; {SECONDS:g} s of that are measured once, in a process of its own. With"
        " boto3 it is a thread for each watch, with the addon a thread and a handler."
        " What is not seen is objects that no watch reported."
    )
    found = Result("Watches", how, [table], table.losses(), plot="watches.svg")
    show(found, chosen, lambda _, path: draw(results, path))


if __name__ == "__main__":
    main()
