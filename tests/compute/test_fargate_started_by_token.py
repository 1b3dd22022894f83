"""Fargate tasks that outlive the call: started by a token, gone on with, and stopped later."""

from __future__ import annotations

import asyncio

import pytest

import aiohaul
from tests.support.fake_ecs import FakeEcs

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
async def fargate(ecs_session: aiohaul.Session) -> aiohaul.FargateHandler:
    return ecs_session.fargate(interval=0.02)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiohaul.compute.fargate._FIND_PAUSES", (0.0, 0.0, 0.0))


async def _left_running(ecs: FakeEcs, fargate: aiohaul.FargateHandler) -> str:
    """A task whose call was cancelled without stopping it."""
    run = asyncio.create_task(fargate.run("batch", "work", token=TOKEN, stop=False))
    await ecs.until(lambda: ecs.calls["DescribeTasks"] > 0)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    (arn,) = ecs.tasks
    return arn


async def test_token_is_client_token_and_started_by(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    arn = await _left_running(ecs, fargate)
    assert ecs.tokens == [TOKEN]
    assert ecs.tasks[arn]["startedBy"] == TOKEN


async def test_cancelled_call_leaves_the_task_running_if_told_to(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    arn = await _left_running(ecs, fargate)
    assert ecs.stopped == []
    assert ecs.tasks[arn]["lastStatus"] == "RUNNING"


@pytest.mark.parametrize("known", [True, False])
async def test_another_call_goes_on_with_it(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, known: bool
) -> None:
    arn = await _left_running(ecs, fargate)
    looks = ecs.calls["DescribeTasks"]
    run = asyncio.create_task(
        fargate.run("batch", "work", token=TOKEN, task=arn if known else None, stop=False)
    )
    await ecs.until(lambda: ecs.calls["DescribeTasks"] > looks)
    ecs.end(arn, 0)
    assert (await run).arn == arn
    assert len(ecs.tasks) == 1
    assert ecs.calls["RunTask"] == (1 if known else 2)


async def test_task_that_is_gone_on_with_too_late_is_stopped(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    arn = await _left_running(ecs, fargate)
    with pytest.raises(aiohaul.FargateTaskTimeoutError, match="ECS stops it"):
        await fargate.run("batch", "work", token=TOKEN, task=arn, timeout=0, stop=False)
    assert ecs.stopped == [arn]


async def test_error_stops_the_task_all_the_same(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    ecs.errors["DescribeTasks"] = [(400, "AccessDeniedException")]
    with pytest.raises(aiohaul.AccessDeniedError):
        await fargate.run("batch", "work", token=TOKEN, stop=False)
    assert ecs.stopped == list(ecs.tasks)


async def test_start_is_told_of_before_the_first_look(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    told: list[str] = []

    async def on_start(arn: str) -> None:
        assert ecs.calls["DescribeTasks"] == 0
        told.append(arn)
        ecs.end(arn, 0)

    result = await fargate.run("batch", "work", on_start=on_start)
    assert told == [result.arn]


async def test_start_that_cannot_be_told_of_leaves_no_task(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    async def on_start(_: str) -> None:
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        await fargate.run("batch", "work", on_start=on_start, stop=False)
    assert ecs.stopped == list(ecs.tasks)


@pytest.mark.parametrize("known", [True, False])
async def test_task_is_stopped_by_its_token(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, known: bool
) -> None:
    arn = await _left_running(ecs, fargate)
    assert await fargate.stop("batch", TOKEN, task=arn if known else None)
    assert ecs.stopped == [arn]
    assert ecs.calls["ListTasks"] == (0 if known else 1)


@pytest.mark.usefixtures("at_once")
async def test_nothing_to_stop_is_no_error(ecs: FakeEcs, fargate: aiohaul.FargateHandler) -> None:
    assert not await fargate.stop("batch", TOKEN)
    assert ecs.stopped == []


async def test_stop_goes_on_though_it_is_cancelled_again_and_again(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    arn = await _left_running(ecs, fargate)
    ecs.errors["StopTask"] = [(400, "ThrottlingException")] * 2
    stop = asyncio.create_task(fargate.stop("batch", TOKEN, task=arn))
    for times in (1, 2, 3):
        await ecs.until(lambda times=times: ecs.calls["StopTask"] >= times)  # type: ignore[misc]
        stop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stop
    assert ecs.stopped == [arn]


@pytest.mark.parametrize("token", ["", "a b", "x" * 65, "ä"])
async def test_token_that_ecs_would_not_take_is_refused(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, token: str
) -> None:
    with pytest.raises(aiohaul.FargateTaskStartError, match="64 letters"):
        await fargate.run("batch", "work", token=token)
    assert ecs.calls.total() == 0
