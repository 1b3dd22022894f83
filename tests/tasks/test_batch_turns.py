"""How many tasks of a batch run at once, and what those do that wait their turn."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import count
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import aiohaul
from aiohaul.tasks.limiter import Permit, TaskLimiter
from tests.support.batches import Functions, Heard, batch, call, calls, done, failed, states, step
from tests.support.compute_fixtures import KEYS, REGION
from tests.support.definitions import FARGATE
from tests.support.fake_ecs import FakeEcs
from tests.support.fake_lambda import FakeLambda


@pytest.fixture
def lambdas(functions: FakeLambda) -> Functions:
    return Functions(functions)


def queued(heard: Heard) -> list[tuple[int, ...]]:
    return [each.order for each in heard if isinstance(each, aiohaul.TaskQueued)]


def started(heard: Heard) -> list[tuple[int, ...]]:
    return [each.order for each in heard if isinstance(each, aiohaul.TaskStarted)]


async def test_more_than_may_run_at_once_wait_their_turn(
    lambdas: Functions, lambda_session: aiohaul.Session
) -> None:
    lambdas.held(*"abcde")
    heard = Heard()
    definition = batch(*[step(n, name) for n, name in enumerate("abcde", start=1)])
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(
            done(
                definition,
                tasks=calls(*"abcde"),
                session=lambda_session,
                on_progress=heard,
                max_concurrency=2,
            )
        )
        await lambdas.until_called("a", "b")
        assert queued(heard) == [(3,), (4,), (5,)]
        assert started(heard) == [(1,), (2,)]
        lambdas.end("b")
        await lambdas.until_called("c")  # though "a" still runs
        assert started(heard) == [(1,), (2,), (3,)]
        for name in "acde":
            lambdas.end(name)
    assert lambdas.called == list("abcde") or lambdas.called == list("bacde")
    assert lambdas.server.most == 2
    report = run.result()
    assert [each.queued > 0 for each in report.tasks] == [False, False, True, True, True]
    assert report.as_dict()["tasks"][4]["queued"] == report.tasks[4].queued


async def test_there_is_a_bound_though_none_was_asked_for(
    lambdas: Functions, lambda_session: aiohaul.Session
) -> None:
    lambdas.held("a")
    heard = Heard()
    definition = batch(*[step(n, "a") for n in range(300)])
    run = asyncio.create_task(
        done(definition, tasks=calls("a"), session=lambda_session, on_progress=heard)
    )
    await lambdas.server.until(lambda: len(lambdas.called) == 256)
    assert len(queued(heard)) == 44
    lambdas.end("a")
    assert (await run).ok
    assert (len(lambdas.called), lambdas.server.most) == (300, 256)


async def test_timeout_does_not_run_before_the_turn_has_come(
    lambdas: Functions, lambda_session: aiohaul.Session
) -> None:
    lambdas.held("a")
    lambdas.plain("b")
    tasks = {**calls("a", "b"), "inner": batch(step(1, "b"))}
    definition = batch(step(1, "a"), step(2, "b", timeout=0.5), step(3, "inner", timeout=0.5))
    run = asyncio.create_task(
        done(definition, tasks=tasks, session=lambda_session, max_concurrency=1)
    )
    await lambdas.until_called("a")
    await asyncio.sleep(1.0)  # longer than those may take
    lambdas.end("a")
    report = await run
    assert states(report) == {1: "succeeded", 2: "succeeded", 3: "succeeded"}
    assert report.tasks[1].queued > report.tasks[1].seconds
    assert report.tasks[2].queued > report.tasks[2].seconds


def nested(depth: int) -> dict[str, Any]:
    """Batches in batches, each of which has tasks before, beside and behind the inner one."""
    tasks: dict[str, Any] = calls("a")
    for level in range(depth):
        below = f"batch-{level - 1}" if level else "a"
        tasks[f"batch-{level}"] = batch(
            step(1, "a"), step(2, below, 1), step(3, below), step(4, "a"), step(5, "a", 2, 3)
        )
    return tasks


@pytest.mark.parametrize("max_concurrency", [1, 2, 3])
async def test_batches_in_batches_do_not_wait_for_the_turns_that_they_hold(
    lambdas: Functions, lambda_session: aiohaul.Session, max_concurrency: int
) -> None:
    lambdas.plain("a")
    tasks = nested(4)
    with anyio.fail_after(30):
        report = await done(
            tasks["batch-3"], tasks=tasks, session=lambda_session, max_concurrency=max_concurrency
        )
    assert report.ok
    whole = sum(not isinstance(each.report, aiohaul.BatchReport) for _, each in report.all_tasks())
    assert len(lambdas.called) == whole == 61
    assert lambdas.server.most <= max_concurrency


async def test_batch_in_a_batch_that_has_started_comes_first(
    lambdas: Functions, lambda_session: aiohaul.Session
) -> None:
    lambdas.plain(*"abc")
    await done(
        batch(step(1, "inner", timeout=20), step(2, "c"), step(3, "c")),
        tasks={**calls(*"abc"), "inner": batch(step(1, "a"), step(2, "b", 1))},
        session=lambda_session,
        max_concurrency=1,
    )
    assert lambdas.called == ["a", "b", "c", "c"]


async def test_batch_in_a_batch_that_is_not_done_in_time_gives_its_turns_back(
    lambdas: Functions, lambda_session: aiohaul.Session
) -> None:
    lambdas.held("a")
    lambdas.plain("b", "c")
    inner = batch(step(1, "a"), step(2, "a"), step(3, "b"), step(4, "b", 3))
    report = await failed(
        batch(step(1, "inner", timeout=0.5), step(2, "c"), step(3, "c", 2), step(4, "c")),
        tasks={**calls(*"abc"), "inner": inner},
        session=lambda_session,
        max_concurrency=1,
    )
    assert states(report) == {1: "timed out", 2: "succeeded", 3: "succeeded", 4: "succeeded"}
    within = report.tasks[0].report
    assert isinstance(within, aiohaul.BatchReport)
    assert states(within) == {1: "cancelled", 2: "skipped", 3: "skipped", 4: "skipped"}
    assert lambdas.called.count("c") == 3


async def test_cancelled_batch_starts_nothing_of_what_waits_its_turn(
    ecs: FakeEcs, ecs_session: aiohaul.Session
) -> None:
    heard = Heard()
    run = asyncio.create_task(
        aiohaul.run(
            batch(*[step(n, "inner") for n in range(6)]),
            tasks={"load": FARGATE, "inner": batch(*[step(n, "load") for n in range(10)])},
            session=ecs_session,
            on_progress=heard,
            max_concurrency=4,
        )
    )
    await ecs.until(lambda: len(ecs.tasks) == 4)
    run.cancel()
    with pytest.raises(asyncio.CancelledError), anyio.fail_after(1):
        await run
    assert len(ecs.tasks) == 4
    assert sorted(ecs.stopped) == sorted(ecs.tasks)
    assert list(states(heard.report).values()) == ["cancelled"] * 4 + ["skipped"] * 2
    assert queued(heard)[:2] == [(4,), (5,)]
    first = heard.report.tasks[0].report
    assert isinstance(first, aiohaul.BatchReport)
    assert list(states(first).values()) == ["cancelled"] + ["skipped"] * 9


async def test_failed_task_gives_its_turn_back(
    lambdas: Functions, lambda_session: aiohaul.Session
) -> None:
    lambdas.broken("a")
    lambdas.plain("b")
    report = await failed(
        batch(step(1, "a"), step(2, "a"), step(3, "b", 1), step(4, "b")),
        tasks=calls("a", "b"),
        session=lambda_session,
        max_concurrency=1,
    )
    assert states(report) == {1: "failed", 2: "failed", 3: "skipped", 4: "succeeded"}


async def test_callback_that_refuses_a_queued_task_ends_the_batch(
    lambdas: Functions, lambda_session: aiohaul.Session
) -> None:
    lambdas.held("a")

    def refuse(event: aiohaul.Event) -> None:
        if isinstance(event, aiohaul.TaskQueued):
            raise KeyError(event.order)

    with pytest.raises(KeyError):
        await aiohaul.run(
            batch(step(1, "a"), step(2, "a")),
            tasks=calls("a"),
            session=lambda_session,
            on_progress=refuse,
            max_concurrency=1,
        )
    await lambdas.until_dropped()


async def test_bound_that_is_none_is_refused() -> None:
    with pytest.raises(aiohaul.SettingsError, match="at least 1, not 0"):
        await aiohaul.run(batch(), tasks={}, max_concurrency=0)
    with pytest.raises(aiohaul.DefinitionError, match="max_concurrency is only for batches"):
        await aiohaul.run(call("a"), max_concurrency=3)


async def test_waiting_costs_no_task_of_the_event_loop(lambdas: Functions) -> None:
    lambdas.held("a")
    counts: list[int] = []

    def look(event: aiohaul.Event) -> None:
        if isinstance(event, aiohaul.TaskStarted):
            counts.append(len(asyncio.all_tasks()))

    async with (
        aiohaul.Session(region=REGION, endpoint_url=lambdas.server.url, **KEYS) as session,
        asyncio.TaskGroup() as tasks,
    ):
        lambdas.end("a")
        tasks.create_task(
            done(
                batch(*[step(n, "a") for n in range(500)]),
                tasks=calls("a"),
                session=session,
                on_progress=look,
                max_concurrency=5,
            )
        )
    assert len(counts) == 500
    assert max(counts) < 100


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.lists(st.integers(0, 3), min_size=1, max_size=3), st.booleans())),
)
def test_permits_are_granted_by_priority_and_none_lies_idle(
    total: int, steps: list[tuple[list[int], bool]]
) -> None:
    limiter = TaskLimiter(total)
    numbers = count()
    permits: list[Permit] = []
    granted: list[tuple[int, ...]] = []
    for path, ends_one in steps:
        priority = (*path, next(numbers))
        permits.append(limiter.request(priority, partial(granted.append, priority)))
        held = [each for each in permits if each.held]
        if ends_one and held:
            queued = [each.priority for each in permits if not each.held and not each.closed]
            held[0].release()
            held[0].release()  # again, it does nothing
            if queued:
                assert granted[-1] == min(queued)
        held = [each for each in permits if each.held]
        queued = [each.priority for each in permits if not each.held and not each.closed]
        assert len(held) <= total
        assert not queued or len(held) == total
    for each in permits:
        each.cancel()
    for each in permits:
        each.release()
    assert len(granted) == len(set(granted))
    last = [limiter.request((number,), lambda: None) for number in range(total + 1)]
    assert [each.held for each in last] == [True] * total + [False]
