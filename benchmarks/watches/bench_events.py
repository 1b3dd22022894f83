"""Does a queue's watch keep up with 1,000 objects a second, and report each of them once?

    pip install -e . --group benchmarks
    python -m benchmarks.watches.bench_events [--rate N] [--seconds S]

A server in another process has so many objects a second appear, writes one in ten over half a
second later, and tells of each in a queue: one event in five twice, all of them up to a second
late and so out of order. One watch of aiohaul on one loop reads the queue; beside it 16 threads
with boto3, which receive ten messages, look at each object, and delete the messages. Both look at
every object that is told of, by HEAD, and delete what is done.

An event that is late by half a second at the median makes an object seen after 0.5 seconds, if
all else took no time. Missed is a key whose last version nobody reported; reported twice is a
version that was reported again.
"""

# a script, whose output is its purpose

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import aiohaul
from benchmarks.harness import servers
from benchmarks.harness.drawing import bars
from benchmarks.harness.processes import Figures, told
from benchmarks.harness.results import Result, Table, parser, show
from benchmarks.harness.surroundings import KEY, KEYS, REGION, SECRET, resident
from benchmarks.watches.bench_watches import percentile
from benchmarks.watches.course import ask

_MODULE = "benchmarks.watches.bench_events"
_THREADS = 16
#: Seconds within which what was said last must have been heard.
_AFTERWARDS = 10.0
CORE, MEDIAN, LATE = "% of a core", "seen after, median s", "99 %, s"
MISSED, TWICE = "missed", "reported twice"


class Course:
    """What is reported, and when."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._delays: list[float] = []
        self._reported: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def report(self, key: str, version: str) -> None:
        """A version was seen; its ETag is the moment at which it appeared."""
        delay = (time.monotonic_ns() - int(version, 16)) / 1e9
        with self._lock:
            self._reported[key, version] += 1
            if self._reported[key, version] == 1:
                self._delays.append(delay)

    def measured(self, rate: float, seconds: float) -> Figures:
        """Have objects appear, and wait until they are seen."""
        ask(self._url, f"put?rate={rate}&seconds={seconds}")
        wall, cpu = time.perf_counter(), time.process_time()
        time.sleep(seconds)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        deadline = time.perf_counter() + _AFTERWARDS
        counts: dict[str, int] = {}
        while time.perf_counter() < deadline:
            time.sleep(0.5)
            counts = ask(self._url, "counts")
            if len({key for key, _ in self._reported}) == counts["objects"] and not counts["left"]:
                break
        return {
            CORE: cpu / wall * 100,
            "MB resident": resident() / 1e6,
            MEDIAN: statistics.median(self._delays),
            LATE: percentile(self._delays, 0.99),
            "objects": counts["objects"],
            "versions": counts["versions"],
            MISSED: counts["objects"] - len({key for key, _ in self._reported}),
            TWICE: sum(times - 1 for times in self._reported.values()),
            "HEADs": counts["HEAD"],
            "messages left": counts["left"],
        }


async def by_aiohaul(url: str, rate: float, seconds: float) -> Figures:
    """One watch."""
    course = Course(url)
    async with aiohaul.Session(region=REGION, endpoint_url=url, **KEYS) as session:
        watch = session.s3().watch("bucket", "in", queue=f"{url}/0/events", existing=False)

        async def follow() -> None:
            async for change in watch:
                course.report(change.object.key, change.object.etag)

        following = asyncio.create_task(follow())
        await asyncio.sleep(1)  # it has looked, and listens
        measured = await asyncio.to_thread(course.measured, rate, seconds)
        following.cancel()
        await asyncio.wait([following])
    return measured


def by_boto3(url: str, rate: float, seconds: float) -> Figures:
    """Threads that receive, look and delete."""
    import boto3  # noqa: PLC0415  # only needed here
    from botocore.config import Config  # noqa: PLC0415  # as above

    made: dict[str, Any] = {
        "region_name": REGION,
        "endpoint_url": url,
        "aws_access_key_id": KEY,
        "aws_secret_access_key": SECRET,
        "config": Config(max_pool_connections=_THREADS),
    }
    s3, sqs, queue = boto3.client("s3", **made), boto3.client("sqs", **made), f"{url}/0/events"
    course, over = Course(url), threading.Event()

    def follow() -> None:
        while not over.is_set():
            answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            messages = answer.get("Messages", [])
            for message in messages:
                for record in json.loads(message["Body"])["Records"]:
                    key = record["s3"]["object"]["key"]
                    found = s3.head_object(Bucket="bucket", Key=key)
                    course.report(key, found["ETag"].strip('"'))
            if messages:
                entries = [
                    {"Id": str(number), "ReceiptHandle": each["ReceiptHandle"]}
                    for number, each in enumerate(messages)
                ]
                sqs.delete_message_batch(QueueUrl=queue, Entries=entries)

    threads = [threading.Thread(target=follow) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    measured = course.measured(rate, seconds)
    over.set()
    for thread in threads:
        thread.join()
    return measured


WAYS: dict[str, Callable[[str, float, float], Figures]] = {
    "aiohaul": lambda url, rate, seconds: asyncio.run(by_aiohaul(url, rate, seconds)),
    f"boto3, {_THREADS} threads": by_boto3,
}


def measured(way: str, rate: float, seconds: float) -> Figures:
    """What a process of its own measures, against a server of its own."""
    with servers.module("benchmarks.watches.events_server") as server:
        seen: Figures = told(_MODULE, "--way", way, server.url, str(rate), str(seconds))
    return seen


def main() -> None:
    """Measure, print and draw."""
    if sys.argv[1:2] == ["--way"]:
        way, url, rate, seconds = sys.argv[2:6]
        print(json.dumps(WAYS[way](url, float(rate), float(seconds))))
        return
    arguments = parser(__doc__, rounds=1)
    arguments.add_argument("--rate", type=float, default=1000, help="objects a second")
    arguments.add_argument("--seconds", type=float, default=20, help="of that")
    chosen = arguments.parse_args()
    if chosen.quick:
        chosen.rate, chosen.seconds = 100, 3
    rows = {way: measured(way, chosen.rate, chosen.seconds) for way in WAYS}
    judged = (CORE, MEDIAN, LATE, MISSED, TWICE)
    plain = [column for column in rows["aiohaul"] if column not in (CORE, MEDIAN, LATE)]
    table = Table(f"{chosen.rate:,.0f} objects a second", rows, plain, judged)
    how = (
        f"{chosen.seconds:g} s; one object in ten is written over, one event in five comes twice,"
        " and all are up to a second late, so that 0.5 s at the median is no time at all."
    )
    found = Result("Events of a queue", how, [table], table.losses(), plot="events.svg")
    show(found, chosen, bars((CORE, MEDIAN, TWICE)))


if __name__ == "__main__":
    main()
