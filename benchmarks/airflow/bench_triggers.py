"""What does a deferred task cost the triggerer? A thousand triggers on one event loop.

The triggers run as Airflow's triggerer runs them: each in a task with a greenback portal, on the
loop of one process, against a server in another one, on 127.0.0.1. Memory is the growth of the
resident set; beside it what as many tasks cost that only sleep. CPU time is the caller's alone. The
Amazon provider's own trigger stands beside, where it is installed. Linux only.

    python benchmarks/airflow/bench_triggers.py [--count 1000] [--seconds 60]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # the tests' servers serve here as well

from airflow.sdk.execution_time import task_runner

from aiohaul.airflow import FargateTrigger, LambdaTrigger
from tests.support.fake_ecs import FakeEcs
from tests.support.fake_lambda import FakeLambda

HANDLERS = "opentaskpy.addons.aws.remotehandlers"
WAYS = ("fargate", "lambda", "provider")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Supervisor:
    """Airflow's side, which answers at once: what it does with its database is not measured."""

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}

    async def asend(self, message: Any) -> Any:
        """Take an XCom, or give it."""
        if message.type == "SetXCom":
            self.xcoms[message.task_id] = message.value
            return None
        return type("Answer", (), {"value": self.xcoms.get(message.task_id)})


def made(way: str, url: str, number: int) -> Any:
    """A trigger, as the triggerer makes it."""
    task = f"t{number}"
    attempt: dict[str, Any] = {
        "dag_id": "d",
        "run_id": "r",
        "task_id": task,
        "map_index": -1,
        "token": f"{number:032x}",
    }
    task_runner.SUPERVISOR_COMMS.xcoms[task] = {
        "try": attempt["token"],
        "begun": False,
        "started": None,
    }
    keys = {
        "access_key_id": "AKIDEXAMPLE",
        "secret_access_key": "invented",
        "region_name": "eu-west-1",
        "endpoint_url": url,
    }
    clock = {"begun": time.time(), "limit": None}
    if way == "lambda":
        definition = {
            "type": "execution",
            "functionArn": "hold",
            "invocationType": "RequestResponse",
            "protocol": {"name": f"{HANDLERS}.lambda.LambdaExecution", **keys},
        }
        return LambdaTrigger(definition, attempt, clock)
    definition = {
        "type": "execution",
        "clusterName": "batch",
        "taskFamily": "work",
        "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
        "protocol": {"name": f"{HANDLERS}.ecsfargate.FargateTaskExecution", **keys},
    }
    trigger = FargateTrigger(definition, attempt, clock)
    trigger.trigger_id = number + 1
    return trigger


async def provider(url: str) -> Callable[[int], Any]:
    """The Amazon provider's trigger for tasks that run already, looked at every five seconds."""
    from airflow.providers.amazon.aws.triggers.ecs import TaskDoneTrigger  # noqa: PLC0415
    from airflow.sdk import Connection  # noqa: PLC0415

    connection = Connection(
        conn_id="bench",
        conn_type="aws",
        login="AKIDEXAMPLE",
        password="invented",  # noqa: S106  # as it says
        extra=json.dumps({"region_name": "eu-west-1", "endpoint_url": url}),
    )
    os.environ["AIRFLOW_CONN_BENCH"] = connection.get_uri()
    trigger = made("fargate", url, 0)
    run = asyncio.create_task(waited(trigger))
    while not (arn := task_runner.SUPERVISOR_COMMS.xcoms["t0"]["started"]):  # noqa: ASYNC110  # once
        await asyncio.sleep(0.1)
    run.cancel()
    await asyncio.wait({run})
    return lambda _: TaskDoneTrigger("batch", arn, 5, 10_000, "bench", "eu-west-1")


async def waited(trigger: Any) -> None:
    """Run a trigger as the triggerer does."""
    import greenback  # noqa: PLC0415  # Airflow's own

    await greenback.ensure_portal()
    async for event in trigger.run():
        print(event, event.payload, file=sys.stderr)


async def idle(_: Any) -> None:
    """A task that costs what any deferred one does."""
    import greenback  # noqa: PLC0415  # Airflow's own

    await greenback.ensure_portal()
    await asyncio.Event().wait()


async def measured(way: str, url: str, count: int, seconds: float) -> dict[str, Any]:
    """Start the triggers, let them wait, and cancel them."""
    task_runner.SUPERVISOR_COMMS = Supervisor()
    make: Callable[[int], Any] = lambda number: made(way, url, number)  # noqa: E731  # or another
    if way == "provider":
        make = await provider(url)
    await alone([make(count)], waited, 6)  # what the first one in a process costs
    base = await alone([None] * count, idle, 2)
    return await alone([make(number) for number in range(count)], waited, seconds) | {
        "way": way,
        "idle": base["memory"],
    }


async def alone(
    triggers: list[Any], run: Callable[[Any], Awaitable[None]], seconds: float
) -> dict[str, Any]:
    """What it costs to start these, and to have them for a while."""
    gc.collect()
    before, cpu = resident(), time.process_time()
    tasks = [asyncio.ensure_future(run(each)) for each in triggers]
    await asyncio.sleep(seconds / 2)  # they are under way by then
    started, memory = time.process_time(), resident()
    await asyncio.sleep(seconds / 2)
    waiting = time.process_time() - started
    ended = sum(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    begun = time.perf_counter()
    await asyncio.wait(tasks)
    return {
        "count": len(tasks),
        "memory": (memory - before) / len(tasks),
        "start": (started - cpu) / len(tasks),
        "wait": waiting / len(tasks) / (seconds / 2) * 60,
        "cancel": time.perf_counter() - begun,
        "ended": ended,
    }


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


async def serve() -> None:
    """Serve tasks that run for ever, and functions that never answer."""
    async with FakeEcs() as ecs, FakeLambda() as functions:
        functions.functions["hold"] = functions.holding()
        print(json.dumps({"ecs": ecs.url, "lambda": functions.url}), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        print(json.dumps(ecs.calls), flush=True)


def main() -> None:
    """Measure each way in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--way", choices=(*WAYS, "serve"))
    parser.add_argument("--url")
    given = parser.parse_args()
    if given.way == "serve":
        asyncio.run(serve())
    elif given.way:
        row = asyncio.run(measured(given.way, given.url, given.count, given.seconds))
        print(json.dumps(row))
    else:
        compare(given.count, given.seconds)


def compare(count: int, seconds: float) -> None:
    """Print a row for each way."""
    print("way        triggers  KiB each  (idle)  ms to start  ms a minute  s to cancel  requests")
    for way in WAYS:
        command = [sys.executable, __file__]
        with subprocess.Popen(
            [*command, "--way", "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdin and server.stdout  # noqa: PT018  # both are pipes
            urls = json.loads(server.stdout.readline())
            url = urls["lambda" if way == "lambda" else "ecs"]
            options = ("--way", way, "--url", url, "--count", str(count))
            done = subprocess.run(
                [*command, *options, "--seconds", str(seconds)],
                stdout=subprocess.PIPE,
                text=True,
                check=False,
            )
            server.stdin.close()
            calls = json.loads(server.stdout.readline())
        if done.returncode:
            print(f"{way:10} not measured")
            continue
        row = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{way:10} {row['count']:8} {row['memory'] / 1024:9.1f} {row['idle'] / 1024:7.1f}"
            f" {row['start'] * 1000:12.2f} {row['wait'] * 1000:12.2f} {row['cancel']:12.2f}"
            f"  {calls.get('DescribeTasks', 0)} DescribeTasks"
            + (f", {row['ended']} ended" if row["ended"] else "")
        )


if __name__ == "__main__":
    main()
