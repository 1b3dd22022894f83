"""Fargate: tasks that are followed together, judged by their exit code, and never left behind."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import anyio
import pytest

import aiohaul
from aiohaul.compute.logs import LogLine, LogStream
from aiohaul.compute.stopping import Spacing
from compute_fixtures import KEYS, REGION
from fake_ecs import FakeEcs

NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-1"], "securityGroups": ["sg-1"]}}
FARGATE_PROTOCOL = {"name": "opentaskpy.addons.aws.remotehandlers.ecsfargate.FargateTaskExecution"}
DEFINITION: dict[str, Any] = {
    "type": "execution",
    "clusterName": "batch",
    "taskFamily": "work",
    "networkConfiguration": NETWORK,
    "protocol": FARGATE_PROTOCOL,
}


@pytest.fixture
async def fargate(ecs_session: aiohaul.Session) -> aiohaul.FargateHandler:
    # The first client of a process takes a while to make.
    await ecs_session._clients.service("ecs")
    return ecs_session.fargate(interval=0.02)


@pytest.fixture(autouse=True)
def _no_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiohaul.compute.fargate._LOG_LAG", 0.0)


async def _first(ecs: FakeEcs) -> str:
    """The ARN of the first task, once it is looked at."""
    await ecs.until(lambda: ecs.calls["DescribeTasks"] > 0)
    return next(iter(ecs.tasks))


# How it ends


@pytest.mark.smoke
async def test_task_that_ends_well(ecs: FakeEcs, fargate: aiohaul.FargateHandler) -> None:
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(fargate.run("batch", "work", network=NETWORK))
        arn = await _first(ecs)
        ecs.end(arn, 0)
    result = run.result()
    assert (result.arn, result.exit_code, result.container) == (arn, 0, "main")
    assert (result.status, result.reason) == ("STOPPED", "it is done")
    assert ecs.stopped == []
    assert len(ecs.tokens[0]) == 32


async def test_exit_code_other_than_0_is_an_error_with_the_result(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    run = asyncio.create_task(fargate.run("batch", "work"))
    ecs.end(await _first(ecs), 3)
    with pytest.raises(aiohaul.TaskFailedError, match=r"exit code 3 \(main\): it is done") as e:
        await run
    assert e.value.result is not None
    assert e.value.result.exit_code == 3
    assert ecs.stopped == []


@pytest.mark.parametrize(("container", "code"), [(None, 0), ("main", 0), ("side", 9)])
async def test_named_container_is_the_one_that_counts(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, container: str | None, code: int
) -> None:
    ecs.containers = ("main", "side")
    run = asyncio.create_task(fargate.run("batch", "work", container=container))
    ecs.end(await _first(ecs), 0, 9)
    if code:
        with pytest.raises(aiohaul.TaskFailedError, match="exit code 9"):
            await run
    else:
        assert (await run).exit_code == 0


async def test_container_that_does_not_exist_stops_the_task_at_once(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    with pytest.raises(aiohaul.TaskStartError, match="no container 'mian', only main"):
        await fargate.run("batch", "work", container="mian")
    assert ecs.stopped == list(ecs.tasks)


async def test_exit_code_counts_while_the_network_is_taken_away(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    run = asyncio.create_task(fargate.run("batch", "work"))
    arn = await _first(ecs)
    ecs.end(arn, 0)
    ecs.tasks[arn]["lastStatus"] = "DEPROVISIONING"
    assert (await run).status == "DEPROVISIONING"


async def test_task_that_ends_without_an_exit_code_failed(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    run = asyncio.create_task(fargate.run("batch", "work"))
    ecs.end(await _first(ecs), None, reason="OutOfMemory")
    with pytest.raises(aiohaul.TaskFailedError, match="without an exit code: OutOfMemory"):
        await run


async def test_task_that_stops_before_it_ran(ecs: FakeEcs, fargate: aiohaul.FargateHandler) -> None:
    ecs.status = "PENDING"
    run = asyncio.create_task(fargate.run("batch", "work"))
    ecs.end(await _first(ecs), reason="CannotPullContainer", stopCode="TaskFailedToStart")
    with pytest.raises(aiohaul.TaskStartError, match="before it ran: CannotPullContainer"):
        await run


async def test_task_for_which_there_is_no_room(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    ecs.refusals = [{"reason": "RESOURCE:ENI", "detail": "none is left"}]
    with pytest.raises(aiohaul.TaskStartError, match="not started: RESOURCE:ENI: none"):
        await fargate.run("batch", "work")
    assert ecs.stopped == []


async def test_cluster_that_does_not_exist(ecs: FakeEcs, fargate: aiohaul.FargateHandler) -> None:
    ecs.errors["RunTask"] = [(400, "ClusterNotFoundException")]
    with pytest.raises(aiohaul.ClusterNotFoundError):
        await fargate.run("batch", "work")


async def test_lost_answer_to_run_task_starts_no_second_task(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    ecs.errors["RunTask"] = [(500, "ServerException")]
    run = asyncio.create_task(fargate.run("batch", "work"))
    ecs.end(await _first(ecs), 0)
    await run
    assert ecs.calls["RunTask"] == 2  # ECS knows the second by its clientToken
    assert len(ecs.tokens) == 1


# Time


async def test_task_that_is_not_done_in_time_is_stopped_and_failed(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    with pytest.raises(aiohaul.TaskTimeoutError, match=r"not done within 0.5 s.*told to stop") as e:
        await fargate.run("batch", "work", timeout=0.5)
    assert ecs.stopped == list(ecs.tasks)
    assert e.value.result is not None
    assert e.value.result.seconds >= 0.5


async def test_task_that_does_not_run_in_time_is_stopped_and_failed(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    ecs.status = "PENDING"
    with pytest.raises(aiohaul.TaskTimeoutError, match=r"not running within 0.2 s \(it was PEND"):
        await fargate.run("batch", "work", init_timeout=0.2, timeout=60)
    assert ecs.stopped == list(ecs.tasks)


async def test_task_that_runs_is_past_its_init_timeout(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(fargate.run("batch", "work", init_timeout=0.2))
        arn = await _first(ecs)
        await asyncio.sleep(0.3)
        ecs.end(arn, 0)
    assert run.result().exit_code == 0


async def test_task_that_ended_in_time_but_was_not_looked_at_is_no_timeout(
    ecs: FakeEcs, ecs_session: aiohaul.Session
) -> None:
    async with asyncio.TaskGroup() as tasks:
        fargate = ecs_session.fargate(interval=60)
        run = tasks.create_task(fargate.run("batch", "work", init_timeout=0.2, timeout=1.5))
        await ecs.until(lambda: ecs.calls["DescribeTasks"] == 1)  # it runs: past its init timeout
        ecs.end(next(iter(ecs.tasks)), 0)
    assert run.result().exit_code == 0
    assert ecs.calls["DescribeTasks"] == 2
    assert ecs.stopped == []


async def test_start_that_is_not_answered_in_time_leaves_no_task(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    ecs.hold_start = asyncio.Event()
    run = asyncio.create_task(fargate.run("batch", "work", timeout=0.5))
    await ecs.until(lambda: len(ecs.tasks) == 1)
    await asyncio.sleep(0.6)
    ecs.hold_start.set()
    with pytest.raises(aiohaul.TaskTimeoutError, match="was not done within"):
        await run
    assert ecs.stopped == list(ecs.tasks)


async def test_timeout_says_when_the_task_cannot_be_stopped(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, caplog: pytest.LogCaptureFixture
) -> None:
    ecs.errors["StopTask"] = [(400, "AccessDeniedException")]
    with pytest.raises(aiohaul.TaskTimeoutError, match="could not be stopped: stop it by hand"):
        await fargate.run("batch", "work", timeout=0.5)
    assert "stop it by hand" in caplog.text


# Cancelling


@pytest.mark.smoke
async def test_cancelled_task_is_stopped_before_the_cancellation_goes_on(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    run = asyncio.create_task(fargate.run("batch", "work"))
    arn = await _first(ecs)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert ecs.stopped == [arn]


async def test_start_cancelled_half_way_leaves_no_task(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    ecs.hold_start = asyncio.Event()
    run = asyncio.create_task(fargate.run("batch", "work"))
    await ecs.until(lambda: len(ecs.tasks) == 1)
    run.cancel()
    await asyncio.sleep(0)
    ecs.hold_start.set()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert ecs.stopped == list(ecs.tasks)


@pytest.fixture
async def crowded(ecs: FakeEcs) -> AsyncIterator[aiohaul.FargateHandler]:
    """A handler whose session has room for one request."""
    async with aiohaul.Session(
        region=REGION, endpoint_url=ecs.url, max_requests=1, **KEYS
    ) as session:
        yield session.fargate(interval=0.02)


async def test_start_cancelled_while_it_waits_for_a_slot_starts_nothing(
    ecs: FakeEcs, crowded: aiohaul.FargateHandler
) -> None:
    ecs.hold_start = asyncio.Event()
    first = asyncio.create_task(crowded.run("batch", "work"))
    await ecs.until(lambda: len(ecs.tasks) == 1)
    second = asyncio.create_task(crowded.run("batch", "work"))
    timed_out = asyncio.create_task(crowded.run("batch", "work", timeout=0.1))
    with pytest.raises(aiohaul.TaskTimeoutError, match=r"not started within 0.1 s$"):
        await timed_out
    second.cancel()
    with pytest.raises(asyncio.CancelledError), anyio.fail_after(1):
        await second
    ecs.hold_start.set()
    ecs.end(await _first(ecs), 0)
    await first
    assert ecs.calls["RunTask"] == 1


@pytest.mark.parametrize("ticks", range(12))
async def test_start_cancelled_just_when_its_turn_comes_leaves_nothing(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, caplog: pytest.LogCaptureFixture, ticks: int
) -> None:
    door = await fargate._clients.service("ecs")
    await door.call("describe_tasks", "batch", tasks=[])  # a connection is ready
    run = asyncio.create_task(fargate.run("batch", "work"))
    for _ in range(ticks):
        await asyncio.sleep(0)
    run.cancel()
    with pytest.raises(asyncio.CancelledError), anyio.fail_after(1):
        await run
    assert ecs.stopped == list(ecs.tasks)
    assert ecs.calls["ListTasks"] == 0
    assert "may have been started" not in caplog.text


async def test_start_cancelled_while_it_pauses_starts_nothing(
    ecs: FakeEcs,
    fargate: aiohaul.FargateHandler,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pausing = asyncio.Event()

    def pause(*_: object) -> float:
        pausing.set()
        return 60.0

    monkeypatch.setattr("aiohaul.aws.service.pause_before", pause)
    ecs.errors["RunTask"] = [(400, "ThrottlingException")]
    run = asyncio.create_task(fargate.run("batch", "work"))
    await pausing.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError), anyio.fail_after(1):
        await run
    assert (ecs.calls["RunTask"], ecs.calls["ListTasks"]) == (1, 0)
    assert "started" not in caplog.text


async def test_start_cancelled_before_it_has_a_connection_starts_nothing(
    ecs: FakeEcs, caplog: pytest.LogCaptureFixture
) -> None:
    url = ecs.url.replace("http:", "https:")  # the server waits for a line, the client for TLS
    async with aiohaul.Session(region=REGION, endpoint_url=url, **KEYS) as session:
        run = asyncio.create_task(session.fargate().run("batch", "work"))
        await ecs.until(lambda: ecs.accepted == 1)
        run.cancel()
        with pytest.raises(asyncio.CancelledError), anyio.fail_after(1):
            await run
    assert "started" not in caplog.text


@pytest.mark.parametrize("how", ["task", "scope"])
async def test_task_whose_start_is_never_answered_is_found_and_stopped(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("aiohaul.compute.starting.GRACE", 0.1)
    ecs.hold_start = asyncio.Event()
    scope = anyio.CancelScope()

    async def run_in_scope() -> None:
        with scope:
            await fargate.run("batch", "work")

    run = asyncio.create_task(run_in_scope())
    await ecs.until(lambda: len(ecs.tasks) == 1)
    if how == "task":
        run.cancel()
    else:
        scope.cancel()
    await asyncio.wait([run])
    assert run.cancelled() or scope.cancelled_caught
    assert ecs.stopped == list(ecs.tasks)
    ecs.hold_start.set()


@pytest.mark.parametrize("listed", [True, False])
async def test_start_whose_answers_are_lost_is_followed_if_it_can_be_found(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, monkeypatch: pytest.MonkeyPatch, listed: bool
) -> None:
    monkeypatch.setattr("aiohaul.aws.service.pause_before", lambda *_: 0.0)
    ecs.lost_starts, ecs.unlisted = 5, not listed
    run = asyncio.create_task(fargate.run("batch", "work"))
    if listed:
        ecs.end(await _first(ecs), 0)
        assert (await run).exit_code == 0
    else:
        with pytest.raises(aiohaul.OutcomeUnknownError, match=r"may have been started .*startedBy"):
            await run
    assert (ecs.calls["RunTask"], len(ecs.tasks)) == (5, 1)


async def test_two_hundred_cancelled_tasks_are_all_stopped_though_ecs_throttles(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    ecs.stops_a_second = 40.0
    runs = [asyncio.create_task(fargate.run("batch", "work")) for _ in range(200)]
    await ecs.until(lambda: sum(ecs.asked[-2:]) == 200)
    for run in runs:
        run.cancel()
    ended = await asyncio.gather(*runs, return_exceptions=True)
    assert {type(each) for each in ended} == {asyncio.CancelledError}
    assert sorted(ecs.stopped) == sorted(ecs.tasks)
    assert ecs.calls["StopTask"] < 600


async def test_stops_that_ecs_never_takes_are_given_up_together(
    ecs: FakeEcs,
    fargate: aiohaul.FargateHandler,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("aiohaul.compute.stopping._PATIENCE", 1.0)
    ecs.stops_a_second = 0.0
    runs = [asyncio.create_task(fargate.run("batch", "work")) for _ in range(60)]
    await ecs.until(lambda: ecs.asked[-1:] == [60])
    for run in runs:
        run.cancel()
    with anyio.fail_after(10):  # 60 turns would take a minute
        await asyncio.wait(runs)
    assert caplog.text.count("may still be running: stop it by hand") == 60


async def test_requests_that_are_throttled_together_slow_the_pace_once() -> None:
    pace = Spacing()
    together = [await pace.turn() for _ in range(50)]
    assert pace.gap == 0.0
    for turn in together:
        pace.slow_down(turn)
    assert pace.gap == 0.1
    pace.slow_down(await pace.turn())
    assert pace.gap == 0.2
    for _ in range(200):
        pace.speed_up()
    assert pace.gap == 0.0


async def test_task_cancelled_twice_while_it_is_stopped_is_stopped(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    ecs.errors["StopTask"] = [(400, "ThrottlingException")] * 2
    run = asyncio.create_task(fargate.run("batch", "work", timeout=0.5))
    arn = await _first(ecs)
    await ecs.until(lambda: ecs.calls["StopTask"] >= 1)
    run.cancel()
    await asyncio.sleep(0)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert ecs.stopped == [arn]


async def test_session_that_ends_stops_what_still_runs(ecs: FakeEcs) -> None:
    async with aiohaul.Session(region=REGION, endpoint_url=ecs.url, **KEYS) as session:
        run = asyncio.create_task(session.fargate(interval=0.02).run("batch", "work"))
        arn = await _first(ecs)
    with pytest.raises(aiohaul.SessionError, match="the Session ended before work in batch"):
        await run
    assert ecs.stopped == [arn]


async def test_session_that_ends_right_after_a_cancellation_stops_the_task(ecs: FakeEcs) -> None:
    async with aiohaul.Session(region=REGION, endpoint_url=ecs.url, **KEYS) as session:
        run = asyncio.create_task(session.fargate(interval=0.02).run("batch", "work"))
        arn = await _first(ecs)
        run.cancel()
    with pytest.raises((asyncio.CancelledError, aiohaul.SessionError)):
        await run
    assert ecs.stopped == [arn]


async def test_start_that_is_never_answered_says_where_to_look(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohaul.compute.starting.GRACE", 0.1)
    ecs.unlisted = True
    ecs.hold_start = asyncio.Event()
    with pytest.raises(aiohaul.TaskTimeoutError, match=r"may have been started .* startedBy is"):
        await fargate.run("batch", "work", timeout=0.5)
    ecs.hold_start.set()


async def test_task_that_cannot_be_followed_is_stopped(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    ecs.errors["DescribeTasks"] = [(400, "AccessDeniedException")]
    with pytest.raises(aiohaul.AccessDeniedError, match="Allow ecs:DescribeTasks"):
        await fargate.run("batch", "work")
    assert ecs.stopped == list(ecs.tasks)


# Following many


async def test_two_hundred_tasks_are_followed_with_two_requests_a_look(
    ecs: FakeEcs, ecs_session: aiohaul.Session
) -> None:
    fargate = ecs_session.fargate(interval=0.5)
    async with asyncio.TaskGroup() as tasks:
        runs = [tasks.create_task(fargate.run("batch", "work")) for _ in range(200)]
        await ecs.until(lambda: len(ecs.tasks) == 200 and sum(ecs.asked[-2:]) == 200)
        looks = ecs.calls["DescribeTasks"]
        for arn in ecs.tasks:
            ecs.end(arn, 0)
    assert {run.result().exit_code for run in runs} == {0}
    assert ecs.calls["DescribeTasks"] - looks <= 2
    assert max(ecs.asked) == 100
    assert ecs.calls["DescribeTasks"] < 20


async def test_batch_that_is_not_answered_holds_up_no_other(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohaul.compute.following._LOOK_TIMEOUT", 1.0)
    runs = [asyncio.create_task(fargate.run("batch", "work")) for _ in range(130)]
    await ecs.until(lambda: sum(ecs.asked[-2:]) == 130)
    (full, other) = next(iter(fargate._following._batches.values()))
    assert (len(full.followed), len(other.followed)) == (100, 30)
    of_others = set(other.followed)
    never = asyncio.Event()
    ecs.hold_look = (next(iter(full.followed)), never)
    for arn in ecs.tasks:
        ecs.end(arn, 0)
    done: set[asyncio.Task[aiohaul.TaskResult]] = set()
    with anyio.fail_after(5):
        while len(done) < 30:
            done, _ = await asyncio.wait(runs, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)
    assert {run.result().arn for run in done} == of_others
    ecs.hold_look = None  # only the look that is under way is never answered
    await asyncio.wait(runs)
    assert {run.result().exit_code for run in runs} == {0}
    never.set()


async def test_two_hundred_tasks_whose_time_is_up_together_share_a_last_look(
    ecs: FakeEcs, ecs_session: aiohaul.Session
) -> None:
    fargate = ecs_session.fargate(interval=60)
    runs = [asyncio.create_task(fargate.run("batch", "work", timeout=4)) for _ in range(200)]
    await ecs.until(lambda: len(ecs.tasks) == 200)
    ecs.end(next(iter(ecs.tasks)), 0)
    ended = await asyncio.gather(*runs, return_exceptions=True)
    assert sum(isinstance(each, aiohaul.TaskTimeoutError) for each in ended) == 199
    assert len(ecs.stopped) == 199
    assert ecs.calls["DescribeTasks"] <= 8


async def test_next_in_line_looks_when_the_one_that_looks_is_cancelled(
    ecs: FakeEcs, ecs_session: aiohaul.Session
) -> None:
    fargate = ecs_session.fargate(interval=0.05)
    async with asyncio.TaskGroup() as tasks:
        runs = [asyncio.create_task(fargate.run("batch", "work")) for _ in range(5)]
        await ecs.until(lambda: ecs.asked[-1:] == [5])
        for run in runs[:4]:
            run.cancel()
        await asyncio.wait(runs[:4])
        seen = len(ecs.asked)
        await ecs.until(lambda: len(ecs.asked) > seen + 1)
        assert ecs.asked[-1] == 1
        last = next(arn for arn in ecs.tasks if arn not in ecs.stopped)
        ecs.end(last, 0)
        assert (await runs[4]).exit_code == 0
        tasks.create_task(asyncio.sleep(0))
    assert ecs_session._following._batches == {}


async def test_throttled_looks_are_spaced_out_and_go_on(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(endpoint: object, seconds: float) -> None: ...

    monkeypatch.setattr("aiobotocore.endpoint.AioEndpoint._sleep", at_once)
    ecs.errors["DescribeTasks"] = [(400, "ThrottlingException")] * 5
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(fargate.run("batch", "work"))
        await ecs.until(lambda: len(ecs.asked) > 0)
        ecs.end(next(iter(ecs.tasks)), 0)
    assert run.result().exit_code == 0


async def test_looks_that_fail_for_too_long_end_the_following(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(endpoint: object, seconds: float) -> None: ...

    monkeypatch.setattr("aiobotocore.endpoint.AioEndpoint._sleep", at_once)
    monkeypatch.setattr("aiohaul.compute.following._PATIENCE", 0.0)
    ecs.errors["DescribeTasks"] = [(400, "ThrottlingException")] * 5
    with pytest.raises(aiohaul.ThrottledError):
        await fargate.run("batch", "work")
    assert ecs.stopped == list(ecs.tasks)


@pytest.mark.parametrize("patience", [0.0, 60.0])
async def test_task_that_ecs_does_not_know_is_given_some_time(
    ecs: FakeEcs,
    fargate: aiohaul.FargateHandler,
    monkeypatch: pytest.MonkeyPatch,
    patience: float,
) -> None:
    monkeypatch.setattr("aiohaul.compute.following._MISSING_PATIENCE", patience)
    ecs.hold_start = asyncio.Event()
    run = asyncio.create_task(fargate.run("batch", "work"))
    await ecs.until(lambda: len(ecs.tasks) == 1)
    arn, task = ecs.tasks.popitem()
    ecs.hold_start.set()
    if patience:
        await ecs.until(lambda: len(ecs.asked) > 1)
        ecs.tasks[arn] = task
        ecs.end(arn, 0)
        assert (await run).exit_code == 0
    else:
        with pytest.raises(aiohaul.TaskError, match="does not know the task"):
            await run


# Logs


async def test_log_is_read_whole_and_in_order(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    ecs.log = [f"line {number}" for number in range(250)]
    run = asyncio.create_task(fargate.run("batch", "work", log_group="/ecs/work"))
    ecs.end(await _first(ecs), 0)
    result = await run
    assert [line.message for line in result.logs] == ecs.log
    assert result.logs[0].time.isoformat() == "2025-06-15T15:06:40+00:00"
    assert result.log_problem is None
    assert "line 1" not in repr(result)


async def test_log_is_streamed_while_the_task_runs(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    heard: list[str] = []
    all_heard = asyncio.Event()

    def on_log(line: LogLine) -> None:
        heard.append(line.message)
        if heard[-1] == "second":
            all_heard.set()

    run = asyncio.create_task(fargate.run("batch", "work", log_group="/ecs/work", on_log=on_log))
    arn = await _first(ecs)
    ecs.log.append("first")
    await ecs.until(lambda: ecs.calls["GetLogEvents"] > 1)
    ecs.log.append("second")
    with anyio.fail_after(5):
        await all_heard.wait()
    ecs.log.append("last")
    ecs.end(arn, 0)
    result = await run
    assert heard == ["first", "second", "last"] == [line.message for line in result.logs]


async def test_log_that_cannot_be_read_fails_nothing(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    ecs.errors["GetLogEvents"] = [(400, "AccessDeniedException")] * 2
    run = asyncio.create_task(fargate.run("batch", "work", log_group="/ecs/work"))
    ecs.end(await _first(ecs), 0)
    result = await run
    assert result.logs == ()
    assert "Allow logs:GetLogEvents" in str(result.log_problem)


async def test_throttled_log_is_read_all_the_same(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohaul.aws.service.pause_before", lambda *_: 0.0)
    monkeypatch.setattr("aiohaul.compute.logs._THROTTLED_PAUSE", 0.01)
    ecs.log = ["line"]
    ecs.errors["GetLogEvents"] = [(400, "ThrottlingException")] * 12
    run = asyncio.create_task(fargate.run("batch", "work", log_group="/ecs/work"))
    ecs.end(await _first(ecs), 0)
    result = await run
    assert ([line.message for line in result.logs], result.log_problem) == (["line"], None)


async def test_tasks_that_end_together_share_the_question_where_their_logs_are(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    run = partial(fargate.run, "batch", "work", log_group="/ecs/work")
    async with asyncio.TaskGroup() as tasks:
        runs = [tasks.create_task(run()) for _ in range(50)]
        await ecs.until(lambda: ecs.asked[-1:] == [50])
        for arn in ecs.tasks:
            ecs.end(arn, 0)
    assert [each.result().log_problem for each in runs] == [None] * 50
    assert ecs.calls["DescribeTaskDefinition"] <= 25


async def test_log_group_that_the_container_does_not_write_to(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    run = asyncio.create_task(fargate.run("batch", "work", log_group="/ecs/other"))
    ecs.end(await _first(ecs), 0)
    assert "no log to /ecs/other" in str((await run).log_problem)


async def test_definition_that_is_none_costs_the_log_and_not_the_result(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: object) -> dict[str, Any]:
        return {"__type": "ServerException"}

    monkeypatch.setattr(FakeEcs, "_DescribeTaskDefinition", nothing)
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(
            fargate.run("batch", "work", network=NETWORK, log_group="/ecs/work")
        )
        ecs.end(await _first(ecs), 0)
    result = run.result()
    assert result.exit_code == 0
    assert "cannot be understood" in str(result.log_problem)


async def test_timed_out_task_has_its_log(ecs: FakeEcs, fargate: aiohaul.FargateHandler) -> None:
    ecs.log = ["stuck"]
    with pytest.raises(aiohaul.TaskTimeoutError) as e:
        await fargate.run("batch", "work", log_group="/ecs/work", timeout=0.5)
    assert e.value.result is not None
    assert [line.message for line in e.value.result.logs] == ["stuck"]


# Definitions


async def test_definition_runs(
    ecs: FakeEcs, ecs_session: aiohaul.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(aiohaul.Session.fargate.__kwdefaults__ or {}, "interval", 0.02)
    ecs.log = ["hello"]
    definition = DEFINITION | {
        "containerOverrides": {"command": ["echo"], "environment": [{"name": "A", "value": "B"}]},
        "containerName": "main",
        "cloudwatchLogGroupName": "/ecs/work",
        "timeout": 60,
    }
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(aiohaul.run(definition, session=ecs_session))
        ecs.end(await _first(ecs), 0)
    report = run.result()
    assert isinstance(report, aiohaul.FargateReport)
    assert (report.ok, report.exit_code, report.logs) == (True, 0, ("hello",))
    environment = [{"name": "A", "value": "B"}]
    assert ecs.overrides == [[{"name": "default", "command": ["echo"], "environment": environment}]]
    json.dumps(report.as_dict())


async def test_cancelled_definition_stops_its_task_before_its_session_ends(ecs: FakeEcs) -> None:
    protocol = FARGATE_PROTOCOL | KEYS | {"region_name": REGION, "endpoint_url": ecs.url}
    run = asyncio.create_task(aiohaul.run(DEFINITION | {"protocol": protocol}))
    await ecs.until(lambda: len(ecs.tasks) == 1)
    run.cancel()
    with pytest.raises(asyncio.CancelledError), anyio.fail_after(1):
        await run
    assert ecs.stopped == list(ecs.tasks)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"clusterName": ""}, "clusterName"),
        ({"networkConfiguration": {"awsvpcConfiguration": {}}}, "networkConfiguration.awsvpcConfi"),
        ({"containerOverrides": {"command": "echo"}}, "containerOverrides.command"),
        ({"containerOverrides": {"envronment": []}}, "containerOverrides"),
        ({"timeout": "60"}, "timeout"),
        ({"initTimeout": 0}, "initTimeout"),
        ({"cloudwatch_log_group_name": "x"}, ""),
        ({"protocol": FARGATE_PROTOCOL | {"max_attempts": 1}}, "protocol"),
    ],
)
def test_wrong_definition_is_refused_with_its_place(change: dict[str, Any], path: str) -> None:
    aiohaul.validate(DEFINITION)
    with pytest.raises(aiohaul.DefinitionError) as e:
        aiohaul.validate(DEFINITION | change)
    assert e.value.path.startswith(path)
    assert bool(e.value.path) == bool(path)


def test_values_of_the_environment_are_in_no_refusal() -> None:
    overrides = {"environment": [{"name": "PASSWORD", "value": ["hunter2"]}]}
    with pytest.raises(aiohaul.DefinitionError) as e:
        aiohaul.validate(DEFINITION | {"containerOverrides": overrides})
    assert "hunter2" not in str(e.value)


# The same on a server that others wrote


async def _listed(client: Any, status: str) -> list[str]:
    answer = await client.list_tasks(cluster="batch", desiredStatus=status)
    arns: list[str] = answer["taskArns"]
    return arns


async def _running(client: Any) -> str:
    """The ARN of the one task that runs, once there is one."""
    with anyio.fail_after(10):
        while not (arns := await _listed(client, "RUNNING")):  # noqa: ASYNC110  # moto tells nobody
            await asyncio.sleep(0.02)
    return arns[0]


async def test_cancelled_task_is_stopped_on_moto(
    moto_ecs: Any, moto_session: aiohaul.Session
) -> None:
    run = asyncio.create_task(moto_session.fargate(interval=0.05).run("batch", "work"))
    arn = await _running(moto_ecs)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    described = await moto_ecs.describe_tasks(cluster="batch", tasks=[arn])
    assert [task["lastStatus"] for task in described["tasks"]] == ["STOPPED"]
    assert await _listed(moto_ecs, "RUNNING") == []
    assert "aiohaul" in described["tasks"][0]["stoppedReason"]


async def test_log_on_moto_is_read_page_by_page_and_further(
    moto_logs: Any, moto_session: aiohaul.Session
) -> None:
    where = {"logGroupName": "/ecs/work", "logStreamName": "ecs/main/1"}
    door = await moto_session._clients.service("logs")
    stream = LogStream(door, "/ecs/work", "ecs/main/1", None)
    await stream.read_on()
    assert "ResourceNotFoundException" in str(stream.problem)
    await moto_logs.create_log_group(logGroupName="/ecs/work")
    await moto_logs.create_log_stream(**where)
    now = int(time.time() * 1000) - 20_000
    wanted: list[str] = []
    for batch in range(2):
        lines = [f"line {number}" for number in range(batch * 10_500, (batch + 1) * 10_500)]
        for start in range(0, len(lines), 3_500):
            events = [
                {"timestamp": now + len(wanted) + number, "message": line}
                for number, line in enumerate(lines[start : start + 3_500])
            ]
            await moto_logs.put_log_events(**where, logEvents=events)
            wanted += lines[start : start + 3_500]
        await stream.read_on()
        assert [line.message for line in stream.lines] == wanted[-10_000:]
    assert stream.problem is None


async def test_task_that_is_stopped_by_others_on_moto_has_ended(
    moto_ecs: Any, moto_session: aiohaul.Session
) -> None:
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(moto_session.fargate(interval=0.05).run("batch", "work"))
        arn = await _running(moto_ecs)
        await moto_ecs.stop_task(cluster="batch", task=arn, reason="enough")
    assert run.result().reason == "enough"
    assert run.result().exit_code == 0  # moto's containers always end so
