"""Batches under signals, timeouts that meet cleanups, odd errors and odd folders."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import aiohaul
from aiohaul.tasks.definition_source import FolderSource
from tests.support.batches import (
    Functions,
    Heard,
    batch,
    calls,
    done,
    failed,
    folder,
    states,
    step,
    there,
)
from tests.support.commands import ended, start
from tests.support.compute_fixtures import KEYS, REGION
from tests.support.definitions import FARGATE
from tests.support.fake_ecs import FakeEcs
from tests.support.fake_lambda import FakeLambda


@dataclass(eq=False)
class SlowToStop(FakeEcs):
    """Takes a StopTask, and answers it only when that is set free."""

    hold_stop: asyncio.Event | None = None

    def _held(self, operation: str, given: Mapping[str, Any]) -> asyncio.Event | None:
        return self.hold_stop if operation == "StopTask" else super()._held(operation, given)


@pytest.fixture
async def slow() -> AsyncIterator[SlowToStop]:
    async with SlowToStop(hold_stop=asyncio.Event()) as server:
        yield server


@pytest.fixture
async def slow_session(slow: SlowToStop) -> AsyncIterator[aiohaul.Session]:
    async with aiohaul.Session(region=REGION, endpoint_url=slow.url, **KEYS) as session:
        yield session


@pytest.fixture
def lambdas(functions: FakeLambda) -> Functions:
    return Functions(functions)


# Signals


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("first", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
async def test_second_signal_does_not_cut_the_cleanup_short(
    slow: SlowToStop, tmp_path: Path, first: signal.Signals, second: signal.Signals, code: int
) -> None:
    assert slow.hold_stop is not None
    definition = batch(step(1, "inner"), step(2, "load"), step(3, "load", 1))
    more = {"load": there(FARGATE, slow.url), "inner": batch(step(1, "load"))}
    file = folder(tmp_path, slow.url, definition, more)
    report = tmp_path / "report.txt"
    process = await start("run", file, "--report", report)
    async with asyncio.timeout(60):
        await slow.until(lambda: len(slow.tasks) == 2 and slow.calls["DescribeTasks"] > 0)
        process.send_signal(first)
        await slow.until(lambda: slow.calls["StopTask"] == 2)
        for _ in range(3):  # somebody who does not like to wait
            process.send_signal(second)
            await asyncio.sleep(0.1)
        assert process.returncode is None
        slow.hold_stop.set()
        over = await ended(process)
    assert over.code == code, over.err
    assert sorted(slow.stopped) == sorted(slow.tasks)
    assert "may still be running" not in over.err
    told = json.loads(report.read_text())
    assert (told["ok"], told["error"]) == (False, "cancelled")
    assert [each["state"] for each in told["tasks"]] == ["cancelled", "cancelled", "skipped"]


# Timeouts


async def test_timeout_of_a_batch_in_a_batch_stops_what_runs_in_it(
    ecs: FakeEcs, lambdas: Functions
) -> None:
    lambdas.held("a")
    lambdas.plain("b")
    remote = {name: there(task, lambdas.server.url) for name, task in calls("a", "b").items()}
    inner = batch(step(1, "a"), step(2, "load"), step(3, "b", 1), step(4, "deeper"))
    tasks = {
        **remote,
        "load": there(FARGATE, ecs.url),
        "deeper": batch(step(1, "load", timeout=600)),
        "inner": inner,
    }
    heard = Heard()
    run = asyncio.create_task(
        failed(
            batch(step(1, "inner", timeout=2, continue_on_fail=True), step(2, "b", 1)),
            tasks=tasks,
            on_progress=heard,
        )
    )
    await ecs.until(lambda: len(ecs.tasks) == 2)
    await lambdas.until_called("a")
    report = await run
    assert states(report) == {1: "timed out", 2: "succeeded"}
    within = report.tasks[0].report
    assert isinstance(within, aiohaul.BatchReport)
    assert states(within) == {1: "cancelled", 2: "cancelled", 3: "skipped", 4: "cancelled"}
    assert sorted(ecs.stopped) == sorted(ecs.tasks)
    assert lambdas.called == ["a", "b"]
    await lambdas.until_dropped()


async def test_timeout_that_comes_in_a_cleanup_waits_for_it(
    slow: SlowToStop, slow_session: aiohaul.Session
) -> None:
    """The outer batch is out of time while the task in it, out of time too, is being stopped."""
    assert slow.hold_stop is not None
    heard = Heard()
    run = asyncio.create_task(
        failed(
            batch(step(1, "inner", timeout=2)),
            tasks={"load": FARGATE, "inner": batch(step(1, "load", timeout=1), step(2, "load", 1))},
            session=slow_session,
            on_progress=heard,
        )
    )
    await slow.until(lambda: slow.calls["StopTask"] == 1)
    await asyncio.sleep(2)  # the outer timeout passes
    assert heard.ends() == {}
    slow.hold_stop.set()
    assert states(await run) == {1: "timed out"}
    assert slow.stopped == list(slow.tasks)
    assert len(slow.tasks) == 1


async def test_task_that_ends_well_though_it_was_late_to_be_cancelled_is_not_lost(
    lambdas: Functions, lambda_session: aiohaul.Session, tmp_path: Path
) -> None:
    """With a state: what is noted as done is what was told as done."""
    lambdas.plain("a", "b")
    lambdas.held("c")
    state = tmp_path / "state.db"
    definition = batch(step(1, "a"), step(2, "b", 1), step(3, "c", 2, timeout=0.3))
    heard = Heard()
    report = await failed(
        definition, tasks=calls(*"abc"), session=lambda_session, state=state, on_progress=heard
    )
    assert states(report) == {1: "succeeded", 2: "succeeded", 3: "timed out"}
    lambdas.plain("c")
    report = await done(definition, tasks=calls(*"abc"), session=lambda_session, state=state)
    assert states(report) == {1: "already done", 2: "already done", 3: "succeeded"}


# Errors that are none of Exception's


class Leaving(BaseException):
    """What frameworks use to get out of everything."""


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("kind", [aiohaul.TaskQueued, aiohaul.TaskStarted, aiohaul.TaskEnded])
async def test_base_exception_of_a_callback_comes_out_as_it_is(
    lambdas: Functions, lambda_session: aiohaul.Session, kind: type, inner: bool
) -> None:
    lambdas.held("a")
    lambdas.plain("b")

    def leave(event: aiohaul.Event) -> None:
        if isinstance(event, kind) and "b" in getattr(event, "task_id", ""):
            raise Leaving

    tasks = {**calls("a", "b"), "inner": batch(step(1, "b"), step(2, "b"))}
    definition = batch(step(1, "a"), step(2, "inner" if inner else "b"), step(3, "b"))
    with pytest.raises(Leaving):
        await aiohaul.run(
            definition, tasks=tasks, session=lambda_session, on_progress=leave, max_concurrency=2
        )
    await lambdas.until_dropped()


# What is refused before anything runs


@pytest.mark.parametrize(
    ("tasks", "says"),
    [
        (
            {"x": batch(step(1, "y")), "y": batch(step(1, "x"))},
            "the batch contains itself: x runs y runs x",
        ),
        ({"x": batch(step(1, "x"))}, "the batch contains itself: x runs x"),
        ({"x": batch(step(1, "a"), step(1, "a"))}, "tasks[0] already has the order_id 1"),
        ({"x": batch(step(1, "a"), step(2, "absent"))}, "there is no definition of this task"),
    ],
)
async def test_fault_deep_in_the_last_batch_is_found_before_anything_runs(
    lambdas: Functions,
    lambda_session: aiohaul.Session,
    tasks: dict[str, Any],
    says: str,
) -> None:
    lambdas.plain("a")
    definition = batch(*[step(n, "a") for n in range(50)], step(99, "x"))
    with pytest.raises(aiohaul.DefinitionError) as refused:
        await aiohaul.run(definition, tasks={**calls("a"), **tasks}, session=lambda_session)
    assert says in str(refused.value)
    assert str(refused.value).startswith("tasks[50].task_id")
    assert lambdas.called == []


@pytest.mark.parametrize("kind", ["directory", "bytes", "link to nowhere"])
async def test_file_that_cannot_be_read_is_found_before_anything_runs(
    lambdas: Functions, lambda_session: aiohaul.Session, tmp_path: Path, kind: str
) -> None:
    lambdas.plain("a")
    folder(tmp_path, lambdas.server.url, batch())
    last = tmp_path / "last.json"
    if kind == "directory":
        last.mkdir()
    elif kind == "bytes":
        last.write_bytes(b"\xff\xfe{")
    else:
        last.symlink_to(tmp_path / "nowhere")
    definition = batch(*[step(n, "a") for n in range(50)], step(99, "last"))
    with pytest.raises(aiohaul.DefinitionError, match=r"tasks\[50\]\.task_id: the task 'last'"):
        await aiohaul.run(definition, tasks=tmp_path, session=lambda_session)
    assert lambdas.called == []


# Folders


def test_folder_of_thousands_of_files(tmp_path: Path) -> None:
    for number in range(50):
        place = tmp_path / f"team-{number}" / "tasks"
        place.mkdir(parents=True)
        for task in range(60):
            (place / f"task-{number}-{task}.json").write_text(f'{{"n": {task}}}')
    library = FolderSource(tmp_path)
    assert library.find("task-49-59") == {"n": 59}
    assert library.find("team-7/tasks/task-7-3") == {"n": 3}


def test_folder_with_links_to_itself_is_looked_through_once(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.json").write_text("{}")
    for name in ("current", "latest", "deep/up", "deep/top"):
        (tmp_path / name).symlink_to(tmp_path, target_is_directory=True)
    assert FolderSource(tmp_path).find("a") == {}


def test_folder_follows_links_to_other_folders(tmp_path: Path) -> None:
    shared, own = tmp_path / "shared", tmp_path / "own"
    (shared / ".hidden").mkdir(parents=True)
    own.mkdir()
    (shared / "a.json").write_text('{"of": "all"}')
    (shared / ".hidden" / "b.json").write_text("{}")
    (shared / ".c.json").write_text("{}")
    (own / "common").symlink_to(shared, target_is_directory=True)
    library = FolderSource(own)
    assert library.find("a") == library.find("common/a") == {"of": "all"}
    for name in ("b", ".c", "c"):
        with pytest.raises(aiohaul.DefinitionError):
            library.find(name)
