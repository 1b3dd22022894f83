"""What does it cost to wait? A thousand held Lambda calls, and two hundred Fargate tasks.

    pip install -e . --group benchmarks
    python -m benchmarks.invocations.bench_held [--hold SECONDS] [--tasks SECONDS] [--calls N …]

Each way of calling runs in a process of its own against a server in another one, on 127.0.0.1;
memory is the growth of the resident set over that of one call, CPU time is the caller's alone.
The Fargate tasks are counted by what they cost ECS: its DescribeTasks.
"""

# a module, whose output is its purpose

from __future__ import annotations

import asyncio
import gc
import json
import logging
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config

import aiohaul
from benchmarks.harness import servers
from benchmarks.harness.drawing import bars
from benchmarks.harness.processes import Figures, told
from benchmarks.harness.results import Result, Table, parser, show
from benchmarks.harness.surroundings import KEYS, REGION, resident
from tests.support.fake_ecs import FakeEcs

MEMORY, CPU, OVER = "MB a thousand", "CPU s a thousand", "s over the hold"
CANCEL, LOOKS = "all cancelled in s", "DescribeTasks"
_MODULE = "benchmarks.invocations.bench_held"


# Lambda: one way, in a process of its own


async def call_aiohaul(url: str, count: int, hold: float) -> None:
    """Hold ``count`` calls on this loop, then as many again that are cancelled."""
    logging.getLogger("aiohaul").setLevel(logging.ERROR)  # each of these is a warning
    async with aiohaul.Session(region=REGION, endpoint_url=url, **KEYS) as session:
        functions = session.lambda_()
        await functions.invoke("hold", 0)
        with measured(count) as row:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(count):
                    tasks.create_task(functions.invoke("hold", hold))
        calls = [asyncio.create_task(functions.invoke("hold", hold)) for _ in range(count)]
        await asyncio.sleep(min(hold * 0.75, 10))
        begun = time.perf_counter()
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        row[CANCEL] = time.perf_counter() - begun
        print(json.dumps(row))


def call_boto3(url: str, count: int, hold: float) -> None:
    """Hold ``count`` calls, a thread each, on one client, which is the least that boto3 takes."""
    config = Config(
        max_pool_connections=count, read_timeout=hold + 60, retries={"total_max_attempts": 1}
    )
    client = boto3.client(
        "lambda",
        region_name=REGION,
        endpoint_url=url,
        config=config,
        aws_access_key_id=KEYS["access_key_id"],
        aws_secret_access_key=KEYS["secret_access_key"],
    )

    def call(seconds: float) -> None:
        client.invoke(FunctionName="hold", Payload=json.dumps(seconds))["Payload"].read()

    call(0)
    with measured(count) as row, ThreadPoolExecutor(count) as threads:
        list(threads.map(call, [hold] * count))
    print(json.dumps(row))


@contextmanager
def measured(count: int) -> Iterator[dict[str, float]]:
    """Measure a block that makes ``count`` calls: MB and seconds for a thousand of them."""
    row: dict[str, float] = {}
    gc.collect()
    before, cpu, begun = resident(), cpu_seconds(), time.perf_counter()
    over, peak = threading.Event(), [before]

    def sample() -> None:
        while not over.wait(0.2):
            peak.append(resident())

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield row
    finally:
        over.set()
        sampler.join()
        row[MEMORY] = (max(peak) - before) / count / 1000
        row[CPU] = (cpu_seconds() - cpu) * 1000 / count
        row[OVER] = time.perf_counter() - begun


def cpu_seconds() -> float:
    """Seconds of CPU that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def hold_all(counts: list[int], hold: float) -> dict[str, Figures]:
    """Measure every way, each in a fresh process, against one server."""
    rows: dict[str, Figures] = {}
    with servers.script("tests.support.fake_lambda") as server:
        for count in counts:
            for way, name in (("aiohaul", "aiohaul, one loop"), ("boto3", "boto3, a thread each")):
                row = told(_MODULE, "--way", way, server.url, str(count), str(hold))
                rows[f"{name}, {count:,}"] = {**row, OVER: row[OVER] - hold}
    return rows


# Fargate: what following costs ECS


async def follow_aiohaul(ecs: FakeEcs, count: int) -> None:
    """Follow all tasks as aiohaul does."""
    async with (
        aiohaul.Session(region=REGION, endpoint_url=ecs.url, **KEYS) as session,
        asyncio.TaskGroup() as tasks,
    ):
        for _ in range(count):
            tasks.create_task(session.fargate().run("batch", "work"))


async def follow_boto3(ecs: FakeEcs, count: int) -> None:
    """Follow all tasks with boto3's waiter, a thread each."""
    client = boto3.client(
        "ecs",
        region_name=REGION,
        endpoint_url=ecs.url,
        config=Config(max_pool_connections=count),
        aws_access_key_id=KEYS["access_key_id"],
        aws_secret_access_key=KEYS["secret_access_key"],
    )

    def follow(number: int) -> None:
        started = client.run_task(
            cluster="batch",
            taskDefinition="work",
            startedBy=str(number),
            clientToken=str(number),
            overrides={"containerOverrides": []},
        )
        arn = started["tasks"][0]["taskArn"]
        client.get_waiter("tasks_stopped").wait(cluster="batch", tasks=[arn])

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(count) as threads:
        await asyncio.gather(
            *(loop.run_in_executor(threads, follow, number) for number in range(count))
        )


async def describes(follow: Callable[[FakeEcs, int], Any], count: int, seconds: float) -> int:
    """How many DescribeTasks it takes to follow the tasks, which end after ``seconds``."""
    async with FakeEcs() as ecs:

        def end() -> None:
            for arn in ecs.tasks:
                ecs.end(arn, 0)

        asyncio.get_running_loop().call_later(seconds, end)
        await follow(ecs, count)
        return ecs.calls["DescribeTasks"]


def main() -> None:
    """Measure one way, if it is named, or all of them."""
    if sys.argv[1:2] == ["--way"]:
        way, url, count, hold = sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
        if way == "boto3":
            call_boto3(url, count, hold)
        else:
            asyncio.run(call_aiohaul(url, count, hold))
        return
    arguments = parser(__doc__, rounds=1)
    arguments.add_argument("--hold", type=float, default=10.0, help="seconds for each call")
    arguments.add_argument("--calls", type=int, nargs="+", default=[1000])
    arguments.add_argument(
        "--tasks", type=float, default=15.0, help="seconds for each Fargate task"
    )
    arguments.add_argument("--followed", type=int, default=200, help="Fargate tasks")
    chosen = arguments.parse_args()
    if chosen.quick:
        chosen.hold, chosen.calls, chosen.tasks, chosen.followed = 2.0, [50], 3.0, 20
    held = hold_all(chosen.calls, chosen.hold)
    followed = {
        name: {LOOKS: float(asyncio.run(describes(follow, chosen.followed, chosen.tasks)))}
        for name, follow in (("aiohaul", follow_aiohaul), ("boto3's waiter", follow_boto3))
    }
    calls = Table(f"calls of {chosen.hold:g} s", held, (OVER, CANCEL), (MEMORY, CPU))
    title = f"{chosen.followed} Fargate tasks of {chosen.tasks:g} s"
    tasks = Table(title, followed, compared=(LOOKS,))
    found = Result(
        "Held invocations",
        "Each way once, in a process of its own. Calls in threads cannot be cancelled.",
        [calls, tasks],
        [*calls.losses(), *tasks.losses()],
        plot="held.svg",
    )
    show(found, chosen, lambda result, path: bars((MEMORY, CPU))(_calls(result), path))


def _calls(result: Result) -> Result:
    return Result(result.question, result.how, result.tables[:1])


if __name__ == "__main__":
    main()
