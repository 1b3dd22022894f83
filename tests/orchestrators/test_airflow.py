"""The operators in a real Airflow, all of its processes; servers of the tests' own."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import pytest

from tests.orchestrators.real_airflow import Airflow
from tests.support.fake_ecs import FakeEcs
from tests.support.fake_lambda import FakeLambda, failing, returning
from tests.support.store import store

pytestmark = pytest.mark.timeout(300)


@pytest.mark.smoke
async def test_dag_with_all_four(
    real: Airflow, ecs: FakeEcs, functions: FakeLambda, moto_url: str
) -> None:
    functions.functions["report"] = returning(b'{"rows": 7}')
    ecs.log = ["one line of the container"]
    async with store(moto_url, "moto") as s3:
        inbox, outbox = await s3.bucket(), await s3.bucket()
        await s3.fill(inbox, {f"src/{number}.txt": b"hello" for number in range(40)})
        conf = {
            "s3": moto_url,
            "ecs": ecs.url,
            "lambda": functions.url,
            "inbox": inbox,
            "outbox": outbox,
        }
        run = await real.run("night", conf)
        await run.until("deferred", task="watch")
        await s3.put(inbox, "ready/go.flg")
        await ecs.until(lambda: ecs.calls["DescribeTasks"] > 0)
        for arn in ecs.tasks:
            ecs.end(arn, 0)
        assert await run.until("success", "failed") == "success"
        assert len(await s3.keys(outbox)) == 40
        assert await s3.keys(inbox) == ["ready/go.flg"]
    watched, hauled = await run.xcom("watch"), await run.xcom("haul")
    called, loaded = await run.xcom("call"), await run.xcom("load")
    assert (watched["found"], hauled["found"], hauled["size"]) == (1, 40, 200)
    assert hauled["destinations"][0]["destination"] == f"s3://{outbox}/incoming/night/"
    assert hauled["action"]["objects"] == 40
    assert called["payload"] == {"rows": 7}
    assert (loaded["exit_code"], loaded["log_lines"]) == (0, 1)
    for report in (watched, hauled, called, loaded):
        assert len(json.dumps(report)) < 1000
        assert ".txt" not in json.dumps(report)
    assert json.loads(functions.invocations[0].body) == {"run": run.id}
    assert ecs.overrides[0][0]["command"] == ["load", run.id]
    log = await run.log("load")
    assert "one line of the container" in log
    log = await run.log("call")
    assert "rows" not in log
    assert "sEcReTkEy" not in log


@pytest.mark.parametrize("state", ["failed", "success", "cleared"])
async def test_killed_task_stops_the_fargate_task(real: Airflow, ecs: FakeEcs, state: str) -> None:
    run = await real.run("fargate", {"ecs": ecs.url})
    await run.until("deferred", task="load")
    await ecs.until(lambda: ecs.calls["DescribeTasks"] > 0)
    (first,) = ecs.tasks
    if state == "cleared":
        await run.clear("load")
    else:
        await run.set("load", state)
    await ecs.until(lambda: first in ecs.stopped)
    if state != "cleared":
        assert list(ecs.tasks) == [first]
        assert ecs.stopped == [first]
        return
    # The next try has a task of its own, which goes on.
    await ecs.until(lambda: len(ecs.tasks) == 2)
    second = next(arn for arn in ecs.tasks if arn != first)
    ecs.end(second, 0)
    assert await run.until("success", "failed") == "success"
    assert ecs.stopped == [first]


async def test_fargate_task_out_of_time_is_a_failure_and_stopped(
    real: Airflow, ecs: FakeEcs
) -> None:
    run = await real.run("fargate_timeout", {"ecs": ecs.url})
    assert await run.until("success", "failed") == "failed"
    assert ecs.stopped == list(ecs.tasks)
    assert "was not done within" in await run.log("load")


async def test_task_given_up_by_airflow_is_stopped_by_the_worker(
    real: Airflow, ecs: FakeEcs
) -> None:
    run = await real.run("given_up", {"ecs": ecs.url})
    await ecs.until(lambda: ecs.calls["DescribeTasks"] > 0)
    await asyncio.to_thread(real.stop, "triggerer", signal.SIGKILL)
    try:
        await ecs.until(lambda: ecs.stopped == list(ecs.tasks))
        assert await run.until("success", "failed") == "failed"
    finally:
        real.start("triggerer")


async def test_function_that_fails_fails_the_task(real: Airflow, functions: FakeLambda) -> None:
    functions.functions["report"] = failing({"errorType": "KeyError", "errorMessage": "day"})
    run = await real.run("lambda", {"lambda": functions.url})
    assert await run.until("success", "failed") == "failed"
    assert len(functions.invocations) == 3  # two retries, as the task has it
    assert (await run.task("call"))["try_number"] == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_restarted_triggerer_goes_on_with_what_runs(
    real: Airflow, ecs: FakeEcs, number: signal.Signals
) -> None:
    run = await real.run("fargate", {"ecs": ecs.url})
    await ecs.until(lambda: ecs.calls["DescribeTasks"] > 0)
    await asyncio.to_thread(real.stop, "triggerer", number)
    looks = ecs.calls["DescribeTasks"]
    real.start("triggerer")
    await ecs.until(lambda: ecs.calls["DescribeTasks"] > looks)
    (arn,) = ecs.tasks
    ecs.end(arn, 0)
    assert await run.until("success", "failed") == "success"
    assert ecs.calls["RunTask"] == 1
    assert ecs.stopped == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_another_triggerer_takes_over_what_runs(
    real: Airflow, ecs: FakeEcs, functions: FakeLambda, number: signal.Signals
) -> None:
    """Nothing is started twice by it, and nothing is lost."""
    functions.functions["report"] = functions.holding()
    run = await real.run("fargate", {"ecs": ecs.url})
    called = await real.run("lambda", {"lambda": functions.url})
    await ecs.until(lambda: ecs.calls["DescribeTasks"] > 0)
    await functions.until(lambda: len(functions.invocations) == 1)
    another = f"another, for {number.name}"
    real.start("triggerer", called=another)
    try:
        await real.until(lambda: "Starting the triggerer" in real.log(another), another)
        await asyncio.to_thread(real.stop, "triggerer", number)
        looks = ecs.calls["DescribeTasks"]
        async with asyncio.timeout(120):
            await ecs.until(lambda: ecs.calls["DescribeTasks"] > looks)
        (arn,) = ecs.tasks
        ecs.end(arn, 0)
        assert await run.until("success", "failed") == "success"
        assert (ecs.calls["RunTask"], ecs.stopped) == (1, [])
        # Whether a plain function ran is not known: it is not called again.
        assert await called.until("success", "failed") == "failed"
        assert len(functions.invocations) == 1
        assert "OutcomeUnknownError" in await called.log("call")
    finally:
        if "triggerer" not in real.processes:  # it failed before that one was ended
            real.start("triggerer")
        await asyncio.to_thread(real.stop, another)


async def test_restarted_triggerer_calls_no_function_twice(
    real: Airflow, functions: FakeLambda
) -> None:
    functions.functions["report"] = functions.holding()
    run = await real.run("lambda", {"lambda": functions.url})
    await functions.until(lambda: len(functions.invocations) == 1)
    await asyncio.to_thread(real.stop, "triggerer", signal.SIGKILL)
    real.start("triggerer")
    assert await run.until("success", "failed") == "failed"
    assert len(functions.invocations) == 1
    assert "OutcomeUnknownError" in await run.log("call")


async def test_keys_come_from_a_connection(real: Airflow, ecs: FakeEcs) -> None:
    connection = {
        "connection_id": "night",
        "conn_type": "aws",
        "login": "AKIDEXAMPLE",
        "password": "sEcReTkEy",
        "extra": json.dumps({"region_name": "eu-west-1", "endpoint_url": ecs.url}),
    }
    await real.ask("POST", "/api/v2/connections", connection)
    run = await real.run("connected", {"connection": "night"})
    await ecs.until(lambda: ecs.calls["DescribeTasks"] > 0)
    await run.set("load", "failed")
    await ecs.until(lambda: ecs.stopped == list(ecs.tasks))


async def test_connection_that_is_not_there_fails_the_task(real: Airflow) -> None:
    run = await real.run("connected", {"connection": "nowhere"})
    assert await run.until("success", "failed") == "failed"


async def test_mapped_tasks_share_the_looks(real: Airflow, ecs: FakeEcs) -> None:
    run = await real.run("many", {"ecs": ecs.url})
    await ecs.until(lambda: len(ecs.tasks) == 20)
    await ecs.until(lambda: max(ecs.asked, default=0) > 1)
    for arn in ecs.tasks:
        ecs.end(arn, 0)
    assert await run.until("success", "failed", within=240) == "success"


async def test_wrong_definition_fails_at_once(real: Airflow, functions: FakeLambda) -> None:
    run = await real.run("lambda", {"lambda": functions.url, "function": "no such name!"})
    assert await run.until("success", "failed") == "failed"
    assert functions.invocations == []
    assert (await run.task("call"))["try_number"] == 1
    log: Any = await run.log("call")
    assert "functionArn" in log
