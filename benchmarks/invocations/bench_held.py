"""What does it cost to wait? A thousand held Lambda calls, and two hundred Fargate tasks.

Each way of calling runs in a process of its own against a server in another one, on 127.0.0.1;
memory is the growth of the resident set over that of one call, CPU time is the caller's alone.
The Fargate tasks are counted by what they cost ECS: its DescribeTasks. Linux only.

    python benchmarks/invocations/bench_held.py [--hold 70] [--tasks 30] [--plot held.png]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[2] / "tests"
sys.path.insert(0, str(TESTS))  # its servers serve here as well

import boto3  # noqa: E402
from botocore.config import Config  # noqa: E402

import aiohaul  # noqa: E402
from fake_ecs import FakeEcs  # noqa: E402

REGION = "eu-west-1"
KEYS: dict[str, Any] = {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "invented"}
FOLLOWED = 200
#: What is measured: a name, a function below, how many calls.
WAYS = (
    ("aiohaul, one loop", "aiohaul", 1000),
    ("aiohaul, one loop", "aiohaul", 200),
    ("boto3, a thread each", "boto3", 1000),
    ("boto3, a thread each", "boto3", 200),
)

Row = Mapping[str, Any]


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
        row["cancel"] = time.perf_counter() - begun
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
    """Measure a block that makes ``count`` calls: KB for each, and seconds."""
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
        row["kb"] = (max(peak) - before) / count / 1024
        row["cpu"] = (cpu_seconds() - cpu) * 1000 / count
        row["wall"] = time.perf_counter() - begun


def resident() -> int:
    """Bytes of this process that are in memory."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds() -> float:
    """Seconds of CPU that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def hold_all(hold: float) -> list[Row]:
    """Measure every way, each in a fresh process, against one server."""
    rows: list[Row] = []
    with subprocess.Popen(
        [sys.executable, str(TESTS / "fake_lambda.py")], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            for name, way, count in WAYS:
                command = [sys.executable, __file__, "--way", way, "--count", str(count)]
                done = subprocess.run(
                    [*command, "--hold", str(hold), "--url", url],
                    stdout=subprocess.PIPE,
                    check=True,
                    text=True,
                )
                rows.append({"name": name, "count": count, **json.loads(done.stdout)})
        finally:
            server.kill()
    return rows


# Fargate: what following costs ECS


async def follow_aiohaul(ecs: FakeEcs) -> None:
    """Follow all tasks as aiohaul does."""
    async with (
        aiohaul.Session(region=REGION, endpoint_url=ecs.url, **KEYS) as session,
        asyncio.TaskGroup() as tasks,
    ):
        for _ in range(FOLLOWED):
            tasks.create_task(session.fargate().run("batch", "work"))


async def follow_boto3(ecs: FakeEcs) -> None:
    """Follow all tasks with boto3's waiter, a thread each."""
    client = boto3.client(
        "ecs",
        region_name=REGION,
        endpoint_url=ecs.url,
        config=Config(max_pool_connections=FOLLOWED),
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
    with ThreadPoolExecutor(FOLLOWED) as threads:
        await asyncio.gather(
            *(loop.run_in_executor(threads, follow, number) for number in range(FOLLOWED))
        )


async def describes(follow: Callable[[FakeEcs], Any], seconds: float) -> int:
    """How many DescribeTasks it takes to follow the tasks, which end after ``seconds``."""
    async with FakeEcs() as ecs:

        def end() -> None:
            for arn in ecs.tasks:
                ecs.end(arn, 0)

        asyncio.get_running_loop().call_later(seconds, end)
        await follow(ecs)
        return ecs.calls["DescribeTasks"]


# What is shown


def table(held: list[Row], hold: float, followed: Mapping[str, int], seconds: float) -> str:
    """Everything that was measured, as one table."""
    told = "calls | KB a call | CPU s per 1,000 | s over the hold | all cancelled in s"
    lines = [f"| held {hold:g} s each | {told} |", "|---|---|---|---|---|---|"]
    for row in held:
        cancel = f"{row['cancel']:.2f}" if "cancel" in row else "cannot be"
        lines.append(
            f"| {row['name']} | {row['count']:,} | {row['kb']:.0f} | {row['cpu']:.1f}"
            f" | {row['wall'] - hold:.1f} | {cancel} |"
        )
    for name, count in followed.items():
        lines.append(
            f"| {name}: {FOLLOWED} Fargate tasks of {seconds:g} s | | | | | {count:,}"
            " DescribeTasks |"
        )
    return "\n".join(lines)


def plot(held: list[Row], followed: Mapping[str, int], path: Path) -> None:
    """Draw memory, CPU and requests side by side."""
    import matplotlib as mpl  # noqa: PLC0415  # the table needs none

    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  # after the choice of what draws

    figure, (memory, cpu, looks) = plt.subplots(1, 3, figsize=(12, 3.5), layout="constrained")
    names = [f"{row['name']}\n{row['count']:,}" for row in held]
    for axes, key, title in ((memory, "kb", "KB per held call"), (cpu, "cpu", "CPU s per 1,000")):
        axes.barh(names, [row[key] for row in held])
        axes.set_title(title)
        axes.invert_yaxis()
    cpu.set_yticklabels([])
    looks.barh(list(followed), list(followed.values()))
    looks.set_title(f"DescribeTasks for {FOLLOWED} tasks")
    looks.invert_yaxis()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure one way, if it is named, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hold", type=float, default=20.0, help="seconds for each call")
    parser.add_argument("--tasks", type=float, default=30.0, help="seconds for each Fargate task")
    parser.add_argument("--plot", type=Path, default=Path("held.png"), help="where the plot goes")
    parser.add_argument("--way", choices=("aiohaul", "boto3"), help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way == "aiohaul":
        asyncio.run(call_aiohaul(given.url, given.count, given.hold))
    elif given.way == "boto3":
        call_boto3(given.url, given.count, given.hold)
    else:
        held = hold_all(given.hold)
        followed = {
            "aiohaul": asyncio.run(describes(follow_aiohaul, given.tasks)),
            "boto3's waiter": asyncio.run(describes(follow_boto3, given.tasks)),
        }
        print(table(held, given.hold, followed, given.tasks))
        plot(held, followed, given.plot)


if __name__ == "__main__":
    main()
