"""Each kind of work in a real Airflow, interrupted: killed, its triggerer restarted, out of time.

Fargate tasks and plain functions whose triggerer restarts are in test_airflow.py.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.orchestrators.real_airflow import Airflow
from tests.support.fake_ecs import FakeEcs
from tests.support.fake_http import FakeServer, Request
from tests.support.fake_lambda import FakeLambda, returning
from tests.support.gateway import Gateway, gateway
from tests.support.store import Store, store

pytestmark = pytest.mark.timeout(300)

LARGE = bytes(9 * 2**20)
RESTARTS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])


@dataclass(eq=False)
class SilentServer(FakeServer):
    """Answers nothing; counts the requests that are open."""

    came: int = 0
    open: int = 0

    async def serve(self, request: Request) -> None:
        self.came += 1
        self.open += 1
        await self.tell()
        try:
            await request.connection.until_gone()
        finally:
            self.open -= 1
        await self.tell()


@pytest.fixture
async def proxied(moto_url: str) -> AsyncIterator[tuple[Gateway, Store]]:
    async with gateway(moto_url) as way, store(moto_url, "moto") as s3:
        yield way, s3


@pytest.fixture
def durable(functions: FakeLambda) -> FakeLambda:
    """A durable function that runs until a test says otherwise."""

    async def started(request: Request) -> None:
        name = request.headers["x-amz-durable-execution-name"]
        function = "arn:aws:lambda:eu-west-1:000000000000:function:report:1"
        arn = f"{function}/durable-execution/{name}/0123456789abcdef"
        functions.states.setdefault(arn, [{"Status": "RUNNING"}])
        header = {"x-amz-durable-execution-arn": arn}
        await returning(status=202, headers=header)(request)

    functions.functions["report"] = started
    return functions


async def conf(way: Gateway, s3: Store, folder: Path) -> dict[str, str]:
    """Where a large object is, and where it goes."""
    inbox, outbox = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/large.bin", LARGE)
    journal = str(folder / "journal.db")
    return {"s3": way.url, "inbox": inbox, "outbox": outbox, "journal": journal}


async def restart(real: Airflow, number: signal.Signals) -> None:
    await asyncio.to_thread(real.stop, "triggerer", number)
    real.start("triggerer")


async def test_killed_transfer_leaves_no_upload(
    real: Airflow, proxied: tuple[Gateway, Store], tmp_path: Path
) -> None:
    way, s3 = proxied
    given = await conf(way, s3, tmp_path)
    held = way.rule("^PUT .*partNumber", hold=True)
    run = await real.run("transfer", given)
    await held.reached.wait()
    assert len(await s3.uploads(given["outbox"])) == 1
    await run.set("haul", "failed")
    async with asyncio.timeout(60):
        while await s3.uploads(given["outbox"]):  # noqa: ASYNC110  # S3 has no other way to tell
            await asyncio.sleep(0.2)
    assert await s3.keys(given["outbox"]) == []
    assert await s3.keys(given["inbox"]) == ["src/large.bin"]


@RESTARTS
async def test_restarted_triggerer_completes_a_transfer(
    real: Airflow, proxied: tuple[Gateway, Store], tmp_path: Path, number: signal.Signals
) -> None:
    way, s3 = proxied
    given = await conf(way, s3, tmp_path)
    held = way.rule("^PUT .*partNumber", hold=True, times=1)
    run = await real.run("transfer", given)
    await held.reached.wait()
    await restart(real, number)
    assert await run.until("success", "failed") == "success"
    assert await s3.contents(given["outbox"]) == {"incoming/large.bin": LARGE}
    assert await s3.keys(given["inbox"]) == []
    assert await s3.uploads(given["outbox"]) == []


async def test_killed_watch_ends_its_request(real: Airflow) -> None:
    async with SilentServer() as server:
        run = await real.run("watch", {"s3": server.url, "inbox": "inbox"})
        await server.until(lambda: server.open > 0)
        await run.set("watch", "failed")
        await server.until(lambda: server.open == 0)


@RESTARTS
async def test_restarted_triggerer_goes_on_with_a_watch(
    real: Airflow, proxied: tuple[Gateway, Store], number: signal.Signals
) -> None:
    way, s3 = proxied
    inbox = await s3.bucket()
    listing = f"^GET /{inbox}.*list-type"
    first = way.rule(listing, times=1)
    run = await real.run("watch", {"s3": way.url, "inbox": inbox})
    await first.reached.wait()
    await asyncio.to_thread(real.stop, "triggerer", number)
    second = way.rule(listing, times=1)
    real.start("triggerer")
    await second.reached.wait()
    await s3.put(inbox, "ready/go.flg")
    assert await run.until("success", "failed") == "success"


async def test_killed_call_drops_its_connection(real: Airflow, functions: FakeLambda) -> None:
    functions.functions["report"] = functions.holding()
    run = await real.run("lambda", {"lambda": functions.url})
    await functions.until(lambda: functions.running == 1)
    await run.set("call", "failed")
    await functions.until(lambda: functions.running == 0)
    assert len(functions.invocations) == 1


async def test_killed_durable_function_is_stopped(real: Airflow, durable: FakeLambda) -> None:
    run = await real.run("durable", {"lambda": durable.url})
    await durable.until(lambda: durable.looks > 0)
    await run.set("call", "failed")
    await durable.until(lambda: durable.stopped == list(durable.states))


@RESTARTS
async def test_restarted_triggerer_goes_on_with_a_durable_function(
    real: Airflow, durable: FakeLambda, number: signal.Signals
) -> None:
    run = await real.run("durable", {"lambda": durable.url})
    await durable.until(lambda: durable.looks > 0)
    await asyncio.to_thread(real.stop, "triggerer", number)
    looks = durable.looks
    real.start("triggerer")
    await durable.until(lambda: durable.looks > looks)
    (states,) = durable.states.values()
    states[:] = [{"Status": "SUCCEEDED", "Result": '{"rows": 7}'}]
    assert await run.until("success", "failed") == "success"
    assert (await run.xcom("call"))["payload"] == {"rows": 7}
    names = {each.headers["x-amz-durable-execution-name"] for each in durable.invocations}
    assert (len(names), durable.stopped) == (1, [])


async def test_execution_timeout_ends_each_kind_of_work(
    real: Airflow,
    ecs: FakeEcs,
    durable: FakeLambda,
    proxied: tuple[Gateway, Store],
    tmp_path: Path,
) -> None:
    way, s3 = proxied
    given = await conf(way, s3, tmp_path)
    held = way.rule("^PUT .*partNumber", hold=True)
    durable.functions["plain"] = durable.holding()
    run = await real.run(
        "limited", {**given, "ecs": ecs.url, "lambda": durable.url, "function": "report"}
    )
    await held.reached.wait()
    await ecs.until(lambda: len(ecs.tasks) == 1)
    await durable.until(lambda: durable.running == 1)
    await durable.until(lambda: durable.looks > 0)
    assert await run.until("success", "failed", within=200) == "failed"
    for task in ("load", "call", "durable", "haul"):
        assert (await run.task(task))["state"] == "failed"
    assert ecs.stopped == list(ecs.tasks)
    assert durable.running == 0
    assert durable.stopped == list(durable.states)
    assert await s3.uploads(given["outbox"]) == []
    assert await s3.keys(given["inbox"]) == ["src/large.bin"]
