"""Batches: what starts when, what ends how, and what is left of those that are cancelled."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

import aiohaul
from tests.support.batches import Functions, Heard, batch, call, calls, done, failed, states, step
from tests.support.compute_fixtures import KEYS, REGION
from tests.support.definitions import FARGATE, source, to, transfer
from tests.support.fake_ecs import FakeEcs
from tests.support.fake_lambda import FakeLambda, resetting
from tests.support.store import Store

#: Seconds in which nothing that is ready can remain unstarted.
A_WHILE = 0.1


@pytest.fixture
def lambdas(functions: FakeLambda) -> Functions:
    return Functions(functions)


# What starts when


async def test_each_task_starts_the_moment_it_is_ready(
    lambdas: Functions, lambda_session: aiohaul.Session
) -> None:
    lambdas.held("a", "b", "c", "d", "e")
    definition = batch(
        step(1, "a"), step(2, "b", 1), step(3, "c", 1), step(4, "d", 2, 3), step(5, "e")
    )
    heard = Heard()
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(
            done(definition, tasks=calls(*"abcde"), session=lambda_session, on_progress=heard)
        )
        await lambdas.until_called("a", "e")
        assert sorted(lambdas.called) == ["a", "e"]
        lambdas.end("a")
        await lambdas.until_called("b", "c")  # together, though "e" still runs
        lambdas.end("c")
        await heard.until_ended([(3,)])
        await asyncio.sleep(A_WHILE)
        assert "d" not in lambdas.called  # "b" is not done
        lambdas.end("b")
        await lambdas.until_called("d")
        lambdas.end("d")
        lambdas.end("e")
    report = run.result()
    assert report.ok
    assert states(report) == dict.fromkeys(range(1, 6), "succeeded")
    assert sorted(lambdas.called) == list("abcde")
    assert [each.dependencies for each in report.tasks] == [(), (1,), (1,), (2, 3), ()]


async def test_events_tell_of_each_task_in_order(
    lambdas: Functions, lambda_session: aiohaul.Session
) -> None:
    lambdas.plain("a", "b")
    heard = Heard()
    report = await done(
        batch(step(2, "b", 1), step(1, "a")),
        tasks=calls("a", "b"),
        session=lambda_session,
        on_progress=heard,
    )
    assert [type(each).__name__ for each in heard] == [
        *("BatchStarted", "TaskStarted", "TaskEnded", "TaskStarted", "TaskEnded", "BatchEnded")
    ]
    assert heard[0] == aiohaul.BatchStarted(
        (
            aiohaul.PlannedTask((1,), "a", (), "execution"),
            aiohaul.PlannedTask((2,), "b", ((1,),), "execution"),
        )
    )
    assert heard[1] == aiohaul.TaskStarted((1,), "a")
    assert heard.report == report


async def test_a_batch_of_nothing_succeeds() -> None:
    report = await done(batch(), tasks={})
    assert (report.ok, report.tasks) == (True, ())


async def test_a_thousand_tasks(lambdas: Functions, lambda_session: aiohaul.Session) -> None:
    lambdas.plain("work")
    wide = [step(n, "work", *([n - 100] if n > 100 else [])) for n in range(1, 901)]
    long = [step(n, "work", n - 1) for n in range(901, 1001)]
    report = await done(batch(*wide, *long), tasks=calls("work"), session=lambda_session)
    assert set(states(report).values()) == {"succeeded"}
    assert len(lambdas.called) == 1000
    start = {
        each.order_id: each.started or datetime.max.replace(tzinfo=UTC) for each in report.tasks
    }
    for each in report.tasks:
        assert all(start[before] <= start[each.order_id] for before in each.dependencies)


# What is left of those that fail


async def test_those_that_wait_for_a_failed_task_are_skipped_and_others_go_on(
    lambdas: Functions, lambda_session: aiohaul.Session
) -> None:
    lambdas.broken("a")
    lambdas.plain("b", "c", "d", "e")
    definition = batch(
        step(1, "a"), step(2, "b", 1), step(3, "c", 2), step(4, "d"), step(5, "e", 4)
    )
    with pytest.raises(aiohaul.BatchError) as caught:
        await aiohaul.run(definition, tasks=calls(*"abcde"), session=lambda_session)
    report = caught.value.report
    assert states(report) == {
        1: "failed",
        2: "skipped",
        3: "skipped",
        4: "succeeded",
        5: "succeeded",
    }
    first, second, third, *_ = report.tasks
    assert first.failure is not None
    assert first.failure.kind == "FunctionError"
    assert "no a today" in first.failure.error
    assert second.reason == third.reason == "it depends on 1 (a), which failed"
    assert (second.started, second.seconds) == (None, 0.0)
    assert sorted(lambdas.called) == ["a", "d", "e"]
    assert str(caught.value).startswith("5 tasks: 1 failed, 2 skipped. 1 (a) failed: ")


async def test_continue_on_fail_lets_the_next_start_and_fails_the_batch(
    lambdas: Functions, lambda_session: aiohaul.Session
) -> None:
    lambdas.broken("a")
    lambdas.plain("b")
    definition = batch(step(1, "a", continue_on_fail=True), step(2, "b", 1))
    report = await failed(definition, tasks=calls("a", "b"), session=lambda_session)
    assert states(report) == {1: "failed", 2: "succeeded"}
    assert not report.ok


async def test_task_that_waits_for_two_is_skipped_for_the_one_that_failed(
    lambdas: Functions, lambda_session: aiohaul.Session
) -> None:
    lambdas.broken("a")
    lambdas.held("b")
    lambdas.plain("c")
    heard = Heard()
    definition = batch(step(1, "a"), step(2, "b"), step(3, "c", 1, 2))
    run = asyncio.create_task(
        failed(definition, tasks=calls("a", "b", "c"), session=lambda_session, on_progress=heard)
    )
    await heard.until_ended([(3,)])  # known at once, while "b" still runs
    lambdas.end("b")
    assert states(await run) == {1: "failed", 2: "succeeded", 3: "skipped"}


async def test_error_of_any_kind_fails_its_task_alone(
    lambdas: Functions, lambda_session: aiohaul.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    lambdas.plain("b")
    monkeypatch.setattr("aiohaul.tasks.execution.run_touch", _buggy)
    touch = {"type": "execution", "bucket": "b", "key": "k", "protocol": {"name": S3_EXECUTION}}
    report = await failed(
        batch(step(1, "touch"), step(2, "b")),
        tasks={"touch": touch, **calls("b")},
        session=lambda_session,
    )
    assert states(report) == {1: "failed", 2: "succeeded"}
    assert report.tasks[0].failure is not None
    assert report.tasks[0].failure.kind == "ZeroDivisionError"


S3_EXECUTION = "opentaskpy.addons.aws.remotehandlers.s3.S3Execution"


async def _buggy(*_: Any) -> None:
    raise ZeroDivisionError


async def test_transfer_that_fails_in_part_leaves_its_report(moto_s3: Store) -> None:
    inbox, out = await moto_s3.bucket(), await moto_s3.bucket()
    await moto_s3.put(inbox, "src/a", b"x")
    copy = transfer(source(moto_s3, inbox), to(moto_s3, out), to(moto_s3, "no-such-bucket"))
    report = await failed(batch(step(1, "copy")), tasks={"copy": copy})
    inner = report.tasks[0].report
    assert isinstance(inner, aiohaul.TransferReport)
    assert [each.objects for each in inner.destinations] == [1, 0]
    told = json.loads(json.dumps(report.as_dict()))
    assert told["tasks"][0]["report"]["destinations"][0]["objects"] == 1
    assert told["tasks"][0]["failure"]["kind"] == "TransferError"


async def test_journal_is_that_of_the_transfers(moto_s3: Store, tmp_path: Path) -> None:
    inbox, out = await moto_s3.bucket(), await moto_s3.bucket()
    await moto_s3.fill(inbox, {f"src/{n}": b"x" for n in range(3)})
    late = f"{out}-late"
    copy = transfer(source(moto_s3, inbox), to(moto_s3, out), to(moto_s3, late))
    around: dict[str, Any] = {"tasks": {"copy": copy}, "journal": tmp_path / "copies.db"}
    await failed(batch(step(1, "copy")), **around)
    await moto_s3.bucket(late)
    report = (await done(batch(step(1, "copy")), **around)).tasks[0].report
    assert isinstance(report, aiohaul.TransferReport)
    assert [each.already_there for each in report.destinations] == [3, 0]
    assert len(await moto_s3.keys(late)) == 3


# Time


async def test_task_that_is_not_done_in_time_is_cancelled(
    lambdas: Functions, lambda_session: aiohaul.Session
) -> None:
    lambdas.held("a", "d")
    lambdas.plain("b", "c")
    definition = batch(step(1, "a", timeout=0.3), step(2, "b", 1), step(3, "c"), step(4, "d", 3))
    heard = Heard()
    run = asyncio.create_task(
        failed(definition, tasks=calls(*"abcd"), session=lambda_session, on_progress=heard)
    )
    await heard.until_ended([(1,), (2,), (3,)])
    await lambdas.server.until(lambda: len(lambdas.server.connections) == 1)  # that of "d"
    lambdas.end("d")
    report = await run
    assert states(report) == {1: "timed out", 2: "skipped", 3: "succeeded", 4: "succeeded"}
    first, second, *_ = report.tasks
    assert first.failure is not None
    assert first.failure.kind == "BatchTimeoutError"
    assert "0.3 s" in first.failure.error
    assert second.reason == "it depends on 1 (a), which timed out"
    assert first.seconds >= 0.3


async def test_timeout_counts_from_the_start_of_the_task(
    lambdas: Functions, lambda_session: aiohaul.Session
) -> None:
    lambdas.held("a")
    lambdas.plain("b")
    definition = batch(step(1, "a"), step(2, "b", 1, timeout=30))
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(done(definition, tasks=calls("a", "b"), session=lambda_session))
        await lambdas.until_called("a")
        lambdas.end("a")
    report = run.result()
    assert report.tasks[1].started is not None
    assert report.tasks[0].started is not None
    assert report.tasks[1].started > report.tasks[0].started


async def test_timeout_of_a_fargate_task_stops_it(
    ecs: FakeEcs, ecs_session: aiohaul.Session
) -> None:
    heard = Heard()
    definition = batch(step(1, "load", timeout=1, continue_on_fail=True), step(2, "then", 1))
    run = asyncio.create_task(
        failed(
            definition,
            tasks={"load": FARGATE, "then": FARGATE},
            session=ecs_session,
            on_progress=heard,
        )
    )
    await heard.until_ended([(1,)])
    assert ecs.stopped == list(ecs.tasks)
    await ecs.until(lambda: len(ecs.tasks) == 2)
    ecs.end(list(ecs.tasks)[1], 0)
    assert states(await run) == {1: "timed out", 2: "succeeded"}
    assert len(ecs.stopped) == 1


# Batches in batches


async def test_batch_in_a_batch(lambdas: Functions, lambda_session: aiohaul.Session) -> None:
    lambdas.plain("a", "b", "c")
    heard = Heard()
    report = await done(
        batch(step(1, "a"), step(2, "inner", 1), step(3, "c", 2)),
        tasks={**calls("a", "b", "c"), "inner": batch(step(1, "b"), step(7, "c", 1))},
        session=lambda_session,
        on_progress=heard,
    )
    assert lambdas.called == ["a", "b", "c", "c"]
    inner = report.tasks[1].report
    assert isinstance(inner, aiohaul.BatchReport)
    assert states(inner) == {1: "succeeded", 7: "succeeded"}
    places = [(1,), (2,), (2, 1), (2, 7), (3,)]
    assert [order for order, _ in report.all_tasks()] == places
    assert isinstance(heard[0], aiohaul.BatchStarted)
    assert [each.order for each in heard[0].tasks] == places
    assert heard[0].tasks[3].dependencies == ((2, 1),)
    assert set(heard.ends()) == set(places)
    assert sum(isinstance(each, aiohaul.BatchStarted) for each in heard) == 1
    json.dumps(report.as_dict())


async def test_timeout_of_a_batch_in_a_batch_tells_what_its_tasks_were(
    lambdas: Functions, lambda_session: aiohaul.Session
) -> None:
    lambdas.plain("a", "c")
    lambdas.held("b")
    report = await failed(
        batch(step(1, "inner", timeout=3), step(2, "c")),
        tasks={
            **calls("a", "b", "c"),
            "inner": batch(step(1, "a"), step(2, "b", 1), step(3, "c", 2)),
        },
        session=lambda_session,
    )
    assert states(report) == {1: "timed out", 2: "succeeded"}
    inner = report.tasks[0].report
    assert isinstance(inner, aiohaul.BatchReport)
    assert states(inner) == {1: "succeeded", 2: "cancelled", 3: "skipped"}
    assert inner.tasks[2].reason == "the batch was cancelled"


async def test_failure_in_a_batch_in_a_batch_fails_it(
    lambdas: Functions, lambda_session: aiohaul.Session
) -> None:
    lambdas.broken("a")
    report = await failed(
        batch(step(1, "inner"), step(2, "a", 1)),
        tasks={**calls("a"), "inner": batch(step(1, "a"))},
        session=lambda_session,
    )
    assert states(report) == {1: "failed", 2: "skipped"}
    failure = report.tasks[0].failure
    assert failure is not None
    assert (failure.kind, "1 (a) failed" in failure.error) == ("BatchError", True)


# Cancellation


@pytest.mark.smoke
async def test_cancelled_batch_ends_at_once_and_tells_what_each_task_was(
    lambdas: Functions, lambda_session: aiohaul.Session
) -> None:
    lambdas.plain("a")
    lambdas.held("b", "c")
    heard = Heard()
    definition = batch(
        step(1, "a"), step(2, "b", 1), step(3, "inner"), step(4, "a", 2), step(5, "a", 3)
    )
    run = asyncio.create_task(
        aiohaul.run(
            definition,
            tasks={**calls("a", "b", "c"), "inner": batch(step(1, "c"), step(2, "a", 1))},
            session=lambda_session,
            on_progress=heard,
        )
    )
    await lambdas.until_called("b", "c")
    run.cancel()
    with pytest.raises(asyncio.CancelledError), anyio.fail_after(1):
        await run
    assert states(heard.report) == {
        1: "succeeded",
        2: "cancelled",
        3: "cancelled",
        4: "skipped",
        5: "skipped",
    }
    inner = heard.report.tasks[2].report
    assert isinstance(inner, aiohaul.BatchReport)
    assert states(inner) == {1: "cancelled", 2: "skipped"}
    assert heard.ends()[3, 2] == "skipped"
    await lambdas.until_dropped()
    assert lambdas.called.count("a") == 1


async def test_session_is_usable_after_a_cancelled_batch(
    lambdas: Functions, lambda_session: aiohaul.Session
) -> None:
    lambdas.held("a")
    lambdas.plain("b")
    tasks = calls("a", "b")
    run = asyncio.create_task(
        aiohaul.run(batch(*[step(n, "a") for n in range(50)]), tasks=tasks, session=lambda_session)
    )
    await lambdas.server.until(lambda: len(lambdas.called) == 50)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert (await done(batch(step(1, "b")), tasks=tasks, session=lambda_session)).ok


async def test_cancelled_batch_stops_its_fargate_tasks(
    ecs: FakeEcs, ecs_session: aiohaul.Session
) -> None:
    run = asyncio.create_task(
        aiohaul.run(
            batch(*[step(n, "load") for n in range(20)]),
            tasks={"load": FARGATE},
            session=ecs_session,
        )
    )
    await ecs.until(lambda: len(ecs.tasks) == 20)
    run.cancel()
    with pytest.raises(asyncio.CancelledError), anyio.fail_after(1):
        await run
    assert sorted(ecs.stopped) == sorted(ecs.tasks)


async def test_scope_around_a_batch_may_cancel_it(
    lambdas: Functions, lambda_session: aiohaul.Session
) -> None:
    lambdas.held("a")
    heard = Heard()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:

            async def cancel() -> None:
                await lambdas.until_called("a")
                scope.cancel()

            tasks.start_soon(cancel)
            await aiohaul.run(
                batch(step(1, "a")), tasks=calls("a"), session=lambda_session, on_progress=heard
            )
    assert scope.cancelled_caught
    assert states(heard.report) == {1: "cancelled"}


# Callbacks


@pytest.mark.parametrize("kind", [aiohaul.BatchStarted, aiohaul.TaskStarted, aiohaul.TaskEnded])
@pytest.mark.parametrize("inner", [False, True])
async def test_what_a_callback_raises_is_raised_as_it_is_and_cancels_the_rest(
    lambdas: Functions, lambda_session: aiohaul.Session, kind: type, inner: bool
) -> None:
    lambdas.held("a")
    lambdas.plain("b")
    tasks = {**calls("a", "b"), "inner": batch(step(2, "b", timeout=20))}

    def refuse(event: aiohaul.Event) -> None:
        place = (2, 2) if inner and kind is not aiohaul.BatchStarted else (2,)
        if isinstance(event, kind) and getattr(event, "order", place) == place:
            raise KeyError("the application's own")

    definition = batch(step(1, "a"), step(2, "inner" if inner else "b"))
    with pytest.raises(KeyError, match="the application's own"):
        await aiohaul.run(definition, tasks=tasks, session=lambda_session, on_progress=refuse)
    await lambdas.server.until(lambda: len(lambdas.server.connections) <= 1)


async def test_callback_that_raises_at_the_end_of_a_cancelled_batch_does_not_stop_that(
    lambdas: Functions, lambda_session: aiohaul.Session
) -> None:
    lambdas.held("a")

    def refuse(event: aiohaul.Event) -> None:
        if isinstance(event, aiohaul.TaskEnded | aiohaul.BatchEnded):
            raise KeyError("too late")

    run = asyncio.create_task(
        aiohaul.run(
            batch(step(1, "a")), tasks=calls("a"), session=lambda_session, on_progress=refuse
        )
    )
    await lambdas.until_called("a")
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run


# All kinds of tasks


@pytest.mark.smoke
async def test_batch_of_every_kind_from_a_folder(
    functions: FakeLambda, ecs: FakeEcs, moto_s3: Store, tmp_path: Path
) -> None:
    lambdas = Functions(functions)
    lambdas.plain("report")
    inbox, out = await moto_s3.bucket(), await moto_s3.bucket()
    await moto_s3.fill(inbox, {f"src/{n}": b"x" for n in range(3)})
    keys = {**KEYS, "region_name": REGION}
    touch = {"bucket": out, "key": "ready.flg", "protocol": moto_s3.protocol()}
    definitions: dict[str, dict[str, Any]] = {
        "copy": transfer(source(moto_s3, inbox), to(moto_s3, out, directory="in")),
        "ready": {"type": "execution", **touch},
        "report": call(
            "report", protocol={**_protocol(call("")), **keys, "endpoint_url": functions.url}
        ),
        "load": FARGATE | {"protocol": {**_protocol(FARGATE), **keys, "endpoint_url": ecs.url}},
    }
    for name, definition in definitions.items():
        file = tmp_path / "tasks" / f"{name}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(definition))
    heard = Heard()
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(
            done(
                batch(
                    step(1, "copy"), step(2, "ready", 1), step(3, "report", 2), step(4, "load", 3)
                ),
                tasks=tmp_path,
                on_progress=heard,
            )
        )
        await ecs.until(lambda: ecs.calls["DescribeTasks"] > 0)
        assert lambdas.called == ["report"]
        ecs.end(next(iter(ecs.tasks)), 0)
    kinds = [type(each.report).__name__ for each in run.result().tasks]
    assert kinds == ["TransferReport", "TouchReport", "InvocationReport", "FargateReport"]
    assert await moto_s3.keys(out) == ["in/0", "in/1", "in/2", "ready.flg"]
    told = [each for each in heard if isinstance(each, aiohaul.TaskProgress)]
    assert {(each.order, each.task_id) for each in told} == {((1,), "copy")}
    assert sum(isinstance(each.event, aiohaul.Copied) for each in told) == 3


def _protocol(definition: dict[str, Any]) -> dict[str, Any]:
    protocol: dict[str, Any] = definition["protocol"]
    return protocol


async def test_outcome_that_is_not_known_fails_the_task(
    lambdas: Functions, lambda_session: aiohaul.Session
) -> None:
    lambdas.server.functions["a"] = resetting
    report = await failed(batch(step(1, "a")), tasks=calls("a"), session=lambda_session)
    failure = report.tasks[0].failure
    assert failure is not None
    assert failure.kind == "OutcomeUnknownError"
    assert len(lambdas.called) == 1


async def test_payload_of_a_function_is_in_no_repr(
    lambdas: Functions, lambda_session: aiohaul.Session
) -> None:
    lambdas.plain("a")
    tasks = {"a": call("a", payload={"key": "sEcReT"})}
    report = await done(batch(step(1, "a")), tasks=tasks, session=lambda_session)
    assert "sEcReT" not in repr(report)
