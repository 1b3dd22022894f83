"""What do thousands of watches cost, and how soon do they see what appears?

    pip install aiohaul boto3 matplotlib
    python benchmarks/watches/bench_watches.py

10,000 watches of aiohaul on one loop look into 1,000 prefixes, ten with different regexes into
each; beside them ``list_objects_v2`` of boto3 in threads, one for each watch, with one client.
All look every 5 seconds, at a server in another process where one object a second appears in each
prefix that is watched. Whoever looks every 5 seconds sees an object 2.5 seconds (median) and 4.95
seconds (99th percentile) after it appeared, if looking itself took no time.

Each way has a process of its own. Memory is what is resident in it, and what the watches added to
that; CPU is that process's, of one core. Then one watch looks again and again at a prefix of
200,000 objects: how long does the loop stop at most during each look, and how long while nothing
looks? Prints tables, and draws ``watches.png`` beside this file.
"""

# a script, whose output is its purpose

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohaul

KEYS: dict[str, Any] = {"access_key_id": "testing", "secret_access_key": "testing-secret"}
REGION = "eu-west-1"
HERE = Path(__file__).parent
#: Seconds between two looks, and seconds that are measured.
INTERVAL = 5.0
SECONDS = 8.0
#: Watches of one prefix; each sees the names that end in its own digit.
SHARING = 10
#: Objects that appear in each prefix, each second.
RATE = 1.0
#: Looks at the large prefix that are measured, after one that is not: as Python comes, and again
#: after gc.freeze(), which spares what is loaded by then from every later garbage collection.
LOOKS = 3

Seen = Callable[[str], None]


@dataclass
class Measured:
    """What one way has shown.

    Attributes:
        watches: how many watched.
        resident: bytes that were resident in the end.
        added: bytes of these that the watches added.
        cpu: share of one core.
        requests: listings a second.
        ready: seconds until every watch had looked for the first time.
        appeared: objects that appeared.
        delays: seconds from an object's appearance to its being seen.
        stop: the longest stop of the loop in seconds; 0 where there is none.
    """

    watches: int
    resident: int
    added: int
    cpu: float
    requests: float
    ready: float
    appeared: int
    delays: list[float]
    stop: float = 0.0


def place(number: int) -> tuple[str, str]:
    """Directory and regex of a watch."""
    return f"p{number // SHARING:04}", rf"\d*{number % SHARING}$"


def resident() -> int:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def ask(url: str, what: str) -> dict[str, int]:
    """Ask the server for something other than a listing."""
    with urllib.request.urlopen(f"{url}/-/{what}", timeout=30) as answer:  # noqa: S310  # its own
        counts: dict[str, int] = json.load(answer)
    return counts


class Course:
    """The course of one measurement: the same for every way."""

    def __init__(self, url: str, watches: int) -> None:
        self._url = url
        self._watches = watches
        self._delays: list[float] = []
        self._before = resident()
        self._begun = time.perf_counter()

    def seen(self, name: str) -> None:
        """A watch has seen an object for the first time."""
        self._delays.append((time.monotonic_ns() - int(name)) / 1e9)

    def steps(self) -> Iterator[float]:
        """Seconds to wait, again and again; at the end, ``measured`` has it all."""
        ready = time.perf_counter() - self._begun
        yield INTERVAL  # from now on the looks are spread over the interval
        prefixes = -(-self._watches // SHARING)
        listed = ask(self._url, "counts")["listed"]
        rate = prefixes * RATE
        ask(self._url, f"put?prefixes={prefixes}&rate={rate}&seconds={SECONDS}")
        wall, cpu = time.perf_counter(), time.process_time()
        yield SECONDS
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        counts = ask(self._url, "counts")
        for _ in range(20):  # what appeared last is seen last
            if len(self._delays) >= counts["appeared"]:
                break
            yield INTERVAL / 10
            counts["appeared"] = ask(self._url, "counts")["appeared"]
        self.measured = Measured(
            self._watches,
            resident(),
            resident() - self._before,
            cpu / wall,
            (counts["listed"] - listed) / wall,
            ready,
            counts["appeared"],
            self._delays,
        )


class Monitor:
    """The longest time that the event loop did not give a task its turn."""

    def __init__(self, pause: float) -> None:
        self.longest = 0.0
        self._pause = pause

    async def run(self) -> None:
        """Watch the loop until cancelled."""
        last = time.perf_counter()
        while True:
            await asyncio.sleep(self._pause)
            now = time.perf_counter()
            self.longest = max(self.longest, now - last - self._pause)
            last = now


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


async def large(url: str) -> dict[str, Any]:
    """The longest stops of the loop while one watch looks at many objects, and while none does."""
    stops: list[float] = []
    taken: list[float] = []
    monitor = Monitor(0.001)
    begun = time.perf_counter()
    done = asyncio.Event()

    def looked(_: aiohaul.Event) -> None:
        nonlocal begun
        stops.append(monitor.longest)
        taken.append(time.perf_counter() - begun)
        monitor.longest, begun = 0.0, time.perf_counter()
        if len(stops) == LOOKS + 1:
            gc.freeze()
        if len(stops) > 2 * LOOKS:
            done.set()

    ticking = asyncio.create_task(monitor.run())
    async with aiohaul.Session(region=REGION, endpoint_url=url, **KEYS) as session:
        s3 = session.s3()
        await s3.find("bucket", "warm")
        before = resident()
        watch = s3.watch("bucket", "large", interval=0.001, existing=False, on_progress=looked)
        step = asyncio.ensure_future(anext(watch))
        await done.wait()
        added = resident() - before
        step.cancel()
        await asyncio.wait([step])
    idle = []
    for _ in range(LOOKS):
        monitor.longest = 0.0
        await asyncio.sleep(1)
        idle.append(monitor.longest)
    ticking.cancel()
    return {
        "looking": stops[1 : LOOKS + 1],
        "frozen": stops[LOOKS + 1 :],
        "idle": idle,
        "taken": taken[1:],
        "added": added,
    }


def child(way: str, url: str, watches: int) -> Any:
    """What one process measures."""
    if way == "large":
        return asyncio.run(large(url))
    if way == "boto3":
        return asdict(by_boto3(url, watches))
    return asdict(asyncio.run(by_aiohaul(url, watches)))


@contextmanager
def server() -> Iterator[str]:
    """A server that knows nothing yet."""
    command = [sys.executable, str(HERE / "server.py")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"  # type: ignore[union-attr]
        finally:
            process.kill()


def measured(way: str, watches: int = 0) -> Any:
    """What a process of its own measures, against a server of its own."""
    with server() as url:
        command = [sys.executable, __file__, "--way", way, "--watches", str(watches), "--url", url]
        environment = {**os.environ, "AWS_EC2_METADATA_DISABLED": "true"}
        done = subprocess.run(
            command, stdout=subprocess.PIPE, check=True, env=environment, timeout=120
        )
    return json.loads(done.stdout)


def percentile(values: list[float], share: float) -> float:
    """The value below which this share of them lies."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def table(results: dict[str, Measured]) -> str:
    """The results as text."""
    heads = "resident  added/watch  CPU, of a core  requests/s  first looks  median    99%"
    lines = [f"{'':22}{heads}  seen of appeared"]
    for name, each in results.items():
        median = statistics.median(each.delays)
        lines.append(
            f"{name:22}{each.resident / 1e6:5.0f} MB{each.added / each.watches / 1e3:10.1f} kB"
            f"{each.cpu:16.0%}{each.requests:12.0f}{each.ready:11.1f} s{median:6.2f} s"
            f"{percentile(each.delays, 0.99):5.2f} s  {len(each.delays):6} of {each.appeared}"
        )
    stop = max(each.stop for each in results.values())
    lines.append(f"Longest stop of aiohaul's loop with all of its watches: {stop * 1000:.1f} ms")
    return "\n".join(lines)


def large_table(result: dict[str, Any]) -> str:
    """The results of the large prefix as text."""

    def cells(values: list[float]) -> str:
        return " ".join(f"{value * 1000:7.1f}" for value in values)

    seconds, added = statistics.median(result["taken"]), result["added"] / 1e6
    return "\n".join(
        [
            f"200,000 objects: a look takes {seconds:.1f} s, and the watch {added:.0f} MB",
            f"longest stop during each look, ms  {cells(result['looking'])}",
            f"the same after gc.freeze(), ms     {cells(result['frozen'])}",
            f"the same while nothing looks, ms   {cells(result['idle'])}",
        ]
    )


def plot(results: dict[str, Measured], result: dict[str, Any], path: Path) -> None:
    """Draw the results."""
    import matplotlib as mpl  # noqa: PLC0415  # only drawing needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    colors = ["#2a6f97", "#a9a9a9", "#bc6c25"]
    figure, (memory, cpu, delays, stops) = plt.subplots(
        1, 4, figsize=(15, 3.6), layout="constrained"
    )
    names = list(results)
    for axis, title, values in (
        (memory, "MB resident", [each.resident / 1e6 for each in results.values()]),
        (cpu, "CPU, % of a core", [each.cpu * 100 for each in results.values()]),
    ):
        axis.bar_label(axis.barh(names, values, color=colors), fmt="%.0f", padding=3)
        axis.set(title=title, xlim=(0, max(values) * 1.2))
        axis.invert_yaxis()
    cpu.set_yticklabels([])
    for color, (name, each) in zip(colors, results.items(), strict=False):
        shares = [number / len(each.delays) for number in range(len(each.delays))]
        delays.plot(sorted(each.delays), shares, color=color, label=name)
    delays.plot([0, INTERVAL], [0, 1], color="black", linestyle=":", label="no time to look")
    delays.set(title="seen after", xlabel="s", ylabel="share of the objects")
    delays.legend(fontsize=7)
    for color, state in zip(reversed(colors), ("looking", "frozen", "idle"), strict=True):
        values = [value * 1000 for value in result[state]]
        stops.plot(range(1, len(values) + 1), values, "o-", color=color, label=state)
    stops.set(title="longest stop, 200,000 objects", xlabel="look", ylabel="ms", ylim=(0, None))
    stops.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print and draw."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--watches", type=int, default=10_000, help="of aiohaul")
    arguments.add_argument("--threads", type=int, nargs="+", default=[200, 1000], help="of boto3")
    arguments.add_argument("--way", help=argparse.SUPPRESS)
    arguments.add_argument("--url", help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.way:
        print(json.dumps(child(chosen.way, chosen.url, chosen.watches)))
        return
    ways = [("aiohaul", chosen.watches), *(("boto3", count) for count in chosen.threads)]
    results = {f"{way}, {count:,}": Measured(**measured(way, count)) for way, count in ways}
    load = os.getloadavg()[0]
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {load:.1f}")
    print(table(results))
    result = measured("large")
    print(large_table(result))
    plot(results, result, HERE / "watches.png")


if __name__ == "__main__":
    main()
