"""Fargate: tasks that are followed together, judged by their exit code, and never left behind."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import anyio
import pytest

import aiohaul
from aiohaul.compute.logs import LogStream
from aiohaul.compute.task_stopper import RequestPacer
from aiohaul.results import LogLine
from tests.support.compute_fixtures import KEYS, REGION
from tests.support.definitions import FARGATE as DEFINITION
from tests.support.definitions import FARGATE_PROTOCOL, NETWORK
from tests.support.fake_ecs import FakeEcs
from tests.support.fake_http import Request


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
    with pytest.raises(
        aiohaul.FargateTaskFailedError, match=r"exit code 3 \(main\): it is done"
    ) as e:
        await run
    assert e.value.result is not None
    assert e.value.result.exit_code == 3
    assert ecs.stopped == []


@pytest.mark.parametrize(("container", "code"), [("main", 0), ("side", 9)])
async def test_named_container_is_the_one_that_counts(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, container: str, code: int
) -> None:
    ecs.containers = ("main", "side")
    run = asyncio.create_task(fargate.run("batch", "work", container=container))
    ecs.end(await _first(ecs), 0, 9)
    if code:
        with pytest.raises(aiohaul.FargateTaskFailedError, match="exit code 9"):
            await run
    else:
        assert (await run).exit_code == 0


async def test_container_that_does_not_exist_stops_the_task_at_once(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    with pytest.raises(aiohaul.FargateTaskStartError, match="no container 'mian', only main"):
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
    with pytest.raises(aiohaul.FargateTaskFailedError, match="without an exit code: OutOfMemory"):
        await run


async def test_task_that_stops_before_it_ran(ecs: FakeEcs, fargate: aiohaul.FargateHandler) -> None:
    ecs.status = "PENDING"
    run = asyncio.create_task(fargate.run("batch", "work"))
    ecs.end(await _first(ecs), reason="CannotPullContainer", stopCode="TaskFailedToStart")
    with pytest.raises(aiohaul.FargateTaskStartError, match="before it ran: CannotPullContainer"):
        await run


async def test_task_for_which_there_is_no_room(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    ecs.refusals = [{"reason": "RESOURCE:ENI", "detail": "none is left"}]
    with pytest.raises(aiohaul.FargateTaskStartError, match="not started: RESOURCE:ENI: none"):
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
    with pytest.raises(
        aiohaul.FargateTaskTimeoutError, match=r"not done within 0.5 s.*ECS stops it"
    ) as e:
        await fargate.run("batch", "work", timeout=0.5)
    assert ecs.stopped == list(ecs.tasks)
    assert e.value.result is not None
    assert e.value.result.seconds >= 0.5


async def test_task_that_does_not_run_in_time_is_stopped_and_failed(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    ecs.status = "PENDING"
    with pytest.raises(
        aiohaul.FargateTaskTimeoutError, match=r"not running within 0.2 s \(it was PEND"
    ):
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


async def test_task_that_ended_in_time_but_was_not_polled_is_no_timeout(
    ecs: FakeEcs, ecs_session: aiohaul.Session
) -> None:
    async with asyncio.TaskGroup() as tasks:
        fargate = ecs_session.fargate(interval=60)
        run = tasks.create_task(fargate.run("batch", "work", init_timeout=0.2, timeout=1.5))
        await ecs.until(lambda: len(ecs.tasks) == 1)
        ecs.end(next(iter(ecs.tasks)), 0)
    assert run.result().exit_code == 0
    assert ecs.calls["DescribeTasks"] == 1
    assert ecs.stopped == []


async def test_time_in_provisioning_does_not_count(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    ecs.status = "PROVISIONING"
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(fargate.run("batch", "work", init_timeout=0.5))
        arn = await _first(ecs)
        await asyncio.sleep(0.7)
        ecs.tasks[arn]["lastStatus"] = "PENDING"
        await asyncio.sleep(0.2)
        ecs.tasks[arn]["lastStatus"] = "ACTIVATING"
        await asyncio.sleep(0.7)
        ecs.end(arn, 0)
    assert run.result().exit_code == 0
    assert ecs.stopped == []


@pytest.mark.parametrize("given", [True, False])
async def test_image_that_is_pulled_is_ended_by_a_given_init_timeout_alone(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, monkeypatch: pytest.MonkeyPatch, given: bool
) -> None:
    monkeypatch.setattr("aiohaul.compute.task_run.INIT_TIMEOUT", 0.4)
    ecs.status = "PENDING"
    run = asyncio.create_task(
        fargate.run("batch", "work", init_timeout=0.4 if given else None, timeout=20)
    )
    arn = await _first(ecs)
    ecs.tasks[arn]["pullStartedAt"] = 1750000000
    await asyncio.wait([run], timeout=1.0)
    assert run.done() == given
    if not given:
        ecs.tasks[arn]["pullStoppedAt"] = 1750000001
    # Once the image is there, the default counts again.
    with pytest.raises(aiohaul.FargateTaskTimeoutError, match="not running within"):
        await run
    assert ecs.stopped == [arn]


# Which container counts


SIDECAR = {"log_router": {"firelensConfiguration": {"type": "fluentbit"}}}


async def _ended(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, *codes: int | None, **given: Any
) -> aiohaul.TaskResult:
    run = asyncio.create_task(fargate.run("batch", "work", **given))
    ecs.end(await _first(ecs), *codes)
    return await run


async def test_sidecar_that_ends_well_does_not_hide_a_container_that_failed(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    ecs.containers, ecs.definitions = ("log_router", "app"), SIDECAR
    with pytest.raises(aiohaul.FargateTaskFailedError, match=r"exit code 1 \(app\)"):
        await _ended(ecs, fargate, 0, 1)


async def test_sidecar_that_ecs_has_ended_does_not_fail_a_container_that_ended_well(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    ecs.containers, ecs.definitions = ("log_router", "app"), SIDECAR
    assert (await _ended(ecs, fargate, 143, 0, log_group="/ecs/work")).container == "app"


@pytest.mark.parametrize(
    "given", [{"container": "b"}, {"overrides": {"name": "b", "command": ["x"]}}]
)
async def test_container_that_is_named_or_overridden_counts_without_the_definition(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, given: dict[str, Any]
) -> None:
    ecs.containers = ("a", "b")
    assert (await _ended(ecs, fargate, 1, 0, **given)).container == "b"
    assert ecs.calls["DescribeTaskDefinition"] == 0


async def test_container_that_is_not_essential_does_not_count(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    ecs.containers, ecs.definitions = ("init", "app"), {"init": {"essential": False}}
    assert (await _ended(ecs, fargate, 1, 0)).container == "app"


@pytest.mark.parametrize(
    ("codes", "counts"),
    [((0, 0), None), ((0, 137), None), ((143, 0), None), ((0, 2), "b"), ((3, 0), "a"),
     ((0, None), "b"), ((137, 143), "a")],
)  # fmt: skip
async def test_of_many_essential_containers_each_may_fail_the_run(
    ecs: FakeEcs,
    fargate: aiohaul.FargateHandler,
    caplog: pytest.LogCaptureFixture,
    codes: tuple[int | None, int | None],
    counts: str | None,
) -> None:
    ecs.containers = ("a", "b")
    if counts is None:
        assert (await _ended(ecs, fargate, *codes)).exit_code == 0
    else:
        with pytest.raises(aiohaul.FargateTaskFailedError) as e:
            await _ended(ecs, fargate, *codes)
        assert e.value.result is not None
        assert e.value.result.container == counts
    (warning,) = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert "a, b" in warning


async def test_first_container_counts_where_the_definition_may_not_be_read(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, caplog: pytest.LogCaptureFixture
) -> None:
    ecs.containers = ("a", "b")
    ecs.errors["DescribeTaskDefinition"] = [(400, "AccessDeniedException")]
    assert (await _ended(ecs, fargate, 0, 1)).container == "a"
    assert "the exit code of its first container, a, counts" in caplog.text


# What ECS has no room for


SHORTAGES = ["RESOURCE:ENI", "RESOURCE:MEMORY", "AGENT", "Capacity is unavailable at this time"]


@pytest.mark.parametrize("reason", SHORTAGES)
async def test_task_without_capacity_may_be_started_later(
    ecs: FakeEcs,
    fargate: aiohaul.FargateHandler,
    monkeypatch: pytest.MonkeyPatch,
    reason: str,
) -> None:
    monkeypatch.setattr("aiohaul.compute.task_starter.backoff_delay", lambda *_: 0.0)
    ecs.shortages = [{"reason": reason}] * 3
    with pytest.raises(aiohaul.FargateTaskStartError, match=reason) as e:
        await fargate.run("batch", "work")
    assert e.value.retryable
    result = await _ended(ecs, fargate, 0, retry_start=True, token="night")
    assert result.exit_code == 0
    assert ecs.calls["RunTask"] == 4
    assert len(set(ecs.tokens)) == 4  # ECS repeats its answer to a token that it knows
    assert [each["startedBy"] for each in ecs.requests[1:]] == ["night"] * 3


async def test_shortage_that_is_an_exception_may_be_started_later(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    says = "Capacity is unavailable at this time. Please try again later"
    ecs.errors["RunTask"] = [(400, "ClientException", says)]
    with pytest.raises(aiohaul.FargateTaskStartError, match="Capacity is unavail") as e:
        await fargate.run("batch", "work")
    assert e.value.retryable


async def test_start_is_not_tried_again_beyond_the_init_timeout_or_for_other_reasons(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    ecs.refusals = [{"reason": "AGENT"}]
    with pytest.raises(aiohaul.FargateTaskStartError), anyio.fail_after(5):
        await fargate.run("batch", "work", retry_start=True, init_timeout=0.5)
    before = ecs.calls["RunTask"]
    ecs.refusals = [{"reason": "ATTRIBUTE"}]
    with pytest.raises(aiohaul.FargateTaskStartError) as e:
        await fargate.run("batch", "work", retry_start=True)
    assert (e.value.retryable, ecs.calls["RunTask"]) == (False, before + 1)


async def test_call_that_is_cancelled_between_two_starts_ends_at_once(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohaul.compute.task_starter.backoff_delay", lambda *_: 30.0)
    ecs.refusals = [{"reason": "AGENT"}]
    run = asyncio.create_task(fargate.run("batch", "work", retry_start=True))
    await ecs.until(lambda: ecs.calls["RunTask"] == 1)
    await asyncio.sleep(0.1)
    run.cancel()
    with pytest.raises(asyncio.CancelledError), anyio.fail_after(1):
        await run
    assert (ecs.tasks, ecs.calls["RunTask"], ecs.stopped) == ({}, 1, [])


async def test_start_that_is_tried_again_ends_with_the_timeout(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohaul.compute.task_starter.backoff_delay", lambda *_: 30.0)
    ecs.refusals = [{"reason": "AGENT"}]
    with pytest.raises(aiohaul.FargateTaskTimeoutError, match="not started within"):
        await fargate.run("batch", "work", retry_start=True, timeout=0.5)


async def test_task_that_an_earlier_call_started_is_not_started_again(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    first = asyncio.create_task(fargate.run("batch", "work", token="night", stop=False))
    arn = await _first(ecs)
    first.cancel()
    await asyncio.wait([first])
    run = asyncio.create_task(fargate.run("batch", "work", token="night", retry_start=True))
    await ecs.until(lambda: ecs.calls["ListTasks"] == 1)
    ecs.end(arn, 0)
    assert (await run).arn == arn
    assert ecs.calls["RunTask"] == 1


# Further parameters of RunTask


RUN_TASK: dict[str, Any] = {
    "capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 1}],
    "platformVersion": "1.4.0",
    "tags": [{"key": "night", "value": "1"}],
    "propagateTags": "TASK_DEFINITION",
    "overrides": {
        "cpu": "512",
        "memory": "1024",
        "ephemeralStorage": {"sizeInGiB": 30},
        "taskRoleArn": "arn:aws:iam::000000000000:role/task",
        "executionRoleArn": "arn:aws:iam::000000000000:role/execution",
    },
}


async def test_further_parameters_are_sent_as_they_are(
    ecs: FakeEcs, ecs_session: aiohaul.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(aiohaul.Session.fargate.__kwdefaults__ or {}, "interval", 0.02)
    containers = [{"name": "a", "command": ["x"]}, {"name": "b", "cpu": 1}]
    ecs.containers = ("a", "b")
    definition = DEFINITION | {"runTask": RUN_TASK, "containerOverrides": containers}
    run = asyncio.create_task(aiohaul.run(definition, session=ecs_session))
    ecs.end(await _first(ecs), 0, 0)
    await run
    (sent,) = ecs.requests
    overrides = RUN_TASK["overrides"] | {"containerOverrides": containers}
    assert sent.items() >= (RUN_TASK | {"overrides": overrides}).items()
    assert "launchType" not in sent


@pytest.mark.parametrize("launch", ["EC2", "EXTERNAL", None])
async def test_launch_type_is_fargate_unless_the_caller_says_another(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, launch: str | None
) -> None:
    more = {"launchType": launch} if launch else None
    await _ended(ecs, fargate, 0, run_task=more)
    assert ecs.requests[0]["launchType"] == (launch or "FARGATE")
    assert "networkConfiguration" not in ecs.requests[0]


@pytest.mark.parametrize(
    ("run_task", "says"),
    [
        ({"platfromVersion": "1"}, 'runTask: Unknown parameter in input: "platfromVersion"'),
        ({"tags": "night=1"}, "runTask: Invalid type for parameter tags"),
        ({"overrides": {"cpu": 512}}, "runTask: Invalid type for parameter overrides.cpu"),
        ({"count": 2}, "runTask.count: "),
        ({"cluster": "other"}, "runTask.cluster: is not allowed here: use clusterName"),
        ({"overrides": {"containerOverrides": []}}, "runTask.overrides.containerOverrides: "),
        ([], "runTask: a list is not an object"),
    ],
)
def test_wrong_further_parameters_are_refused_before_any_request(run_task: Any, says: str) -> None:
    with pytest.raises(aiohaul.DefinitionError) as e:
        aiohaul.validate(DEFINITION | {"runTask": run_task})
    assert str(e.value).startswith(says)


def test_network_may_be_missing_for_other_launch_types_alone() -> None:
    without = {key: value for key, value in DEFINITION.items() if key != "networkConfiguration"}
    aiohaul.validate(without | {"runTask": {"launchType": "EC2"}})
    with pytest.raises(aiohaul.DefinitionError, match="'networkConfiguration' is missing"):
        aiohaul.validate(without)


async def test_reserved_parameters_of_a_call_are_refused(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    with pytest.raises(aiohaul.FargateTaskStartError, match="startedBy is set by the call"):
        await fargate.run("batch", "work", run_task={"startedBy": "me"})
    assert ecs.calls["RunTask"] == 0


async def test_start_that_is_not_answered_in_time_leaves_no_task(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    ecs.hold_start = asyncio.Event()
    run = asyncio.create_task(fargate.run("batch", "work", timeout=0.5))
    await ecs.until(lambda: len(ecs.tasks) == 1)
    await asyncio.sleep(0.6)
    ecs.hold_start.set()
    with pytest.raises(aiohaul.FargateTaskTimeoutError, match="was not done within"):
        await run
    assert ecs.stopped == list(ecs.tasks)


async def test_timeout_says_when_the_task_cannot_be_stopped(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, caplog: pytest.LogCaptureFixture
) -> None:
    ecs.errors["StopTask"] = [(400, "AccessDeniedException")]
    with pytest.raises(
        aiohaul.FargateTaskTimeoutError, match="could not be stopped: stop it by hand"
    ):
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
    with pytest.raises(aiohaul.FargateTaskTimeoutError, match=r"not started within 0.1 s$"):
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

    monkeypatch.setattr("aiohaul.aws.service.backoff_delay", pause)
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
    monkeypatch.setattr("aiohaul.compute.task_starter.GRACE", 0.1)
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
    monkeypatch.setattr("aiohaul.aws.service.backoff_delay", lambda *_: 0.0)
    ecs.lost_starts, ecs.unlisted = 5, not listed
    run = asyncio.create_task(fargate.run("batch", "work"))
    if listed:
        ecs.end(await _first(ecs), 0)
        assert (await run).exit_code == 0
    else:
        with pytest.raises(
            aiohaul.OutcomeUnknownError, match=r"may have been started: .*startedBy"
        ):
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
    monkeypatch.setattr("aiohaul.compute.task_stopper._GIVE_UP_AFTER", 1.0)
    ecs.stops_a_second = 0.0
    runs = [asyncio.create_task(fargate.run("batch", "work")) for _ in range(60)]
    await ecs.until(lambda: ecs.asked[-1:] == [60])
    for run in runs:
        run.cancel()
    with anyio.fail_after(10):  # 60 turns would take a minute
        await asyncio.wait(runs)
    assert caplog.text.count("may still be running: stop it by hand") == 60


async def test_requests_that_are_throttled_together_slow_the_pace_once() -> None:
    pace = RequestPacer()
    together = [await pace.wait() for _ in range(50)]
    assert pace.gap == 0.0
    for turn in together:
        pace.slow_down(turn)
    assert pace.gap == 0.1
    pace.slow_down(await pace.wait())
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
    with pytest.raises(aiohaul.SessionError, match="the Session was closed before work in batch"):
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
    monkeypatch.setattr("aiohaul.compute.task_starter.GRACE", 0.1)
    ecs.unlisted = True
    ecs.hold_start = asyncio.Event()
    with pytest.raises(
        aiohaul.FargateTaskTimeoutError, match=r"may have been started: .* startedBy is"
    ):
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
    monkeypatch.setattr("aiohaul.compute.task_poller._POLL_TIMEOUT", 1.0)
    runs = [asyncio.create_task(fargate.run("batch", "work")) for _ in range(130)]
    await ecs.until(lambda: sum(ecs.asked[-2:]) == 130)
    (full, other) = next(iter(fargate._poller._batches.values()))
    assert (len(full.tracked), len(other.tracked)) == (100, 30)
    of_others = set(other.tracked)
    never = asyncio.Event()
    ecs.hold_look = (next(iter(full.tracked)), never)
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
    assert sum(isinstance(each, aiohaul.FargateTaskTimeoutError) for each in ended) == 199
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
    assert ecs_session._poller._batches == {}


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
    monkeypatch.setattr("aiohaul.compute.task_poller._FAILURE_TIMEOUT", 0.0)
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
    monkeypatch.setattr("aiohaul.compute.task_poller._MISSING_TIMEOUT", patience)
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
        with pytest.raises(aiohaul.FargateTaskError, match="does not know the task"):
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
    monkeypatch.setattr("aiohaul.aws.service.backoff_delay", lambda *_: 0.0)
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
    assert "the response is malformed" in str(result.log_problem)


async def test_stream_that_does_not_exist_yet_is_no_warning(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, caplog: pytest.LogCaptureFixture
) -> None:
    says = "The specified log stream does not exist."
    ecs.errors["GetLogEvents"] = [(400, "ResourceNotFoundException", says)] * 9
    result = await _ended(ecs, fargate, 0, log_group="/ecs/work")
    assert says in str(result.log_problem)
    assert says not in caplog.text


async def test_timed_out_task_has_its_log(ecs: FakeEcs, fargate: aiohaul.FargateHandler) -> None:
    ecs.log = ["stuck"]
    with pytest.raises(aiohaul.FargateTaskTimeoutError) as e:
        await fargate.run("batch", "work", log_group="/ecs/work", timeout=0.5)
    assert e.value.result is not None
    assert [line.message for line in e.value.result.logs] == ["stuck"]


async def test_cancelled_task_hands_on_what_it_wrote_last(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohaul.compute.fargate._CANCELLED_LOG_TIMEOUT", 30)
    ecs.log = [f"line {number}" for number in range(250)]
    known: list[aiohaul.TaskResult] = []
    run = asyncio.create_task(
        fargate.run("batch", "work", log_group="/ecs/work", on_cancelled=known.append)
    )
    arn = await _first(ecs)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    (result,) = known
    assert (result.arn, result.exit_code) == (arn, None)
    assert [line.message for line in result.logs] == ecs.log[-100:]
    assert (ecs.stopped, ecs.calls["GetLogEvents"]) == ([arn], 1)


async def test_cancelled_task_hands_on_what_was_not_streamed_yet(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohaul.compute.fargate._CANCELLED_LOG_TIMEOUT", 30)
    heard: list[str] = []
    known: list[aiohaul.TaskResult] = []
    first_heard = asyncio.Event()

    def on_log(line: LogLine) -> None:
        heard.append(line.message)
        first_heard.set()

    ecs.log = ["first"]
    run = asyncio.create_task(
        fargate.run(
            *("batch", "work"),
            log_group="/ecs/work",
            on_log=on_log,
            on_cancelled=known.append,
        )
    )
    with anyio.fail_after(30):
        await first_heard.wait()
    ecs.log.append("last")
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert heard == ["first", "last"] == [line.message for line in known[0].logs]


async def test_cancelled_task_is_stopped_though_its_log_does_not_come(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler, caplog: pytest.LogCaptureFixture
) -> None:
    serve = ecs.serve

    async def silent(request: Request) -> None:
        if request.headers["x-amz-target"].endswith("GetLogEvents"):
            await request.connection.until_gone()
        else:
            await serve(request)

    ecs.serve = silent  # type: ignore[method-assign]
    known: list[aiohaul.TaskResult] = []
    run = asyncio.create_task(
        fargate.run("batch", "work", log_group="/ecs/work", on_cancelled=known.append)
    )
    arn = await _first(ecs)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert (ecs.stopped, known[0].arn, known[0].logs) == ([arn], arn, ())
    assert "was not read to its end within 0.7 s" in caplog.text


async def test_cancelled_call_that_leaves_its_task_running_says_nothing_of_it(
    ecs: FakeEcs, fargate: aiohaul.FargateHandler
) -> None:
    known: list[aiohaul.TaskResult] = []
    run = asyncio.create_task(fargate.run("batch", "work", stop=False, on_cancelled=known.append))
    await _first(ecs)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert (ecs.stopped, known) == ([], [])


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
        ({"containerOverrides": [{"name": "a"}, {"envronment": []}]}, "containerOverrides[1]"),
        ({"retryStart": 1}, "retryStart"),
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


async def test_further_parameters_on_moto(moto_ecs: Any, moto_session: aiohaul.Session) -> None:
    tags = [{"key": "night", "value": "1"}]
    more = {"tags": tags, "overrides": {"cpu": "512", "memory": "1024"}}
    async with asyncio.TaskGroup() as tasks:
        fargate = moto_session.fargate(interval=0.05)
        run = tasks.create_task(fargate.run("batch", "work", run_task=more))
        arn = await _running(moto_ecs)
        await moto_ecs.stop_task(cluster="batch", task=arn, reason="enough")
    assert run.result().exit_code == 0
    described = await moto_ecs.describe_tasks(cluster="batch", tasks=[arn], include=["TAGS"])
    (task,) = described["tasks"]
    assert (task["tags"], task["launchType"]) == (tags, "FARGATE")
    assert task["overrides"]["cpu"] == "512"


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
