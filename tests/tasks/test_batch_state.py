"""Batches that are run again: what is kept, what is repeated, and who may not."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

import aiohaul
from tests.support.batches import Functions, Heard, batch, call, calls, done, failed, states, step
from tests.support.compute_fixtures import KEYS, REGION
from tests.support.fake_lambda import FakeLambda

TASKS = calls("a", "b", "c")


@pytest.fixture
def lambdas(functions: FakeLambda) -> Functions:
    made = Functions(functions)
    made.plain("a", "b", "c")
    return made


@pytest.fixture
def around(lambda_session: aiohaul.Session, tmp_path: Path) -> dict[str, Any]:
    return {"tasks": TASKS, "session": lambda_session, "state": tmp_path / "state" / "night.db"}


async def test_failed_batch_goes_on_where_it_stood(
    lambdas: Functions, around: dict[str, Any]
) -> None:
    definition = batch(step(1, "a"), step(2, "b", 1), step(3, "c", 2))
    lambdas.broken("b")
    await failed(definition, **around)
    assert lambdas.called == ["a", "b"]
    lambdas.plain("b")
    report = await done(definition, **around)
    assert lambdas.called == ["a", "b", "b", "c"]
    assert states(report) == {1: "already done", 2: "succeeded", 3: "succeeded"}
    assert (report.tasks[0].reason or "").startswith("it succeeded in an earlier run, at 20")
    assert report.tasks[0].started is None


async def test_batch_that_succeeded_starts_from_the_top(
    lambdas: Functions, around: dict[str, Any]
) -> None:
    definition = batch(step(1, "a"), step(2, "b", 1))
    lambdas.broken("b")
    await failed(definition, **around)
    lambdas.plain("b")
    await done(definition, **around)
    report = await done(definition, **around)
    assert states(report) == {1: "succeeded", 2: "succeeded"}
    assert lambdas.called == ["a", "b", "b", "a", "b"]


async def test_retry_on_rerun_runs_again_what_had_succeeded(
    lambdas: Functions, around: dict[str, Any]
) -> None:
    definition = batch(step(1, "a", retry_on_rerun=True), step(2, "b", 1), step(3, "c", 1))
    lambdas.broken("c")
    await failed(definition, **around)
    lambdas.broken("a")
    report = await failed(definition, **around)
    assert states(report) == {1: "failed", 2: "already done", 3: "skipped"}
    # What failed last is run again, also by those who do not ask for it.
    lambdas.plain("a", "c")
    definition["tasks"][0]["retry_on_rerun"] = False
    assert states(await done(definition, **around)) == {
        1: "succeeded",
        2: "already done",
        3: "succeeded",
    }


async def test_failure_that_was_passed_over_is_run_again(
    lambdas: Functions, around: dict[str, Any]
) -> None:
    definition = batch(step(1, "a", continue_on_fail=True), step(2, "b", 1))
    lambdas.broken("a")
    await failed(definition, **around)
    lambdas.plain("a")
    assert states(await done(definition, **around)) == {1: "succeeded", 2: "already done"}


async def test_timeouts_and_definitions_may_be_mended_between_two_runs(
    lambdas: Functions, around: dict[str, Any]
) -> None:
    lambdas.broken("b")
    await failed(batch(step(1, "a"), step(2, "b", 1)), **around)
    mended = {**TASKS, "b": call("c")}
    report = await done(
        batch(step(1, "a"), step(2, "b", 1, timeout=5)), **{**around, "tasks": mended}
    )
    assert states(report) == {1: "already done", 2: "succeeded"}


async def test_other_graph_is_another_batch(lambdas: Functions, around: dict[str, Any]) -> None:
    lambdas.broken("b")
    await failed(batch(step(1, "a"), step(2, "b", 1)), **around)
    lambdas.plain("b")
    report = await done(batch(step(1, "a"), step(2, "b")), **around)
    assert states(report) == {1: "succeeded", 2: "succeeded"}
    assert states(await done(batch(step(1, "a"), step(2, "b", 1)), **around))[1] == "already done"


async def test_batch_in_a_batch_goes_on_where_it_stood(
    lambdas: Functions, around: dict[str, Any]
) -> None:
    inner = batch(step(1, "a"), step(2, "b", 1))
    around["tasks"] = {**TASKS, "inner": inner}
    definition = batch(step(1, "inner"), step(2, "c", 1))
    lambdas.broken("b")
    await failed(definition, **around)
    lambdas.plain("b")
    lambdas.broken("c")
    report = await failed(definition, **around)
    assert isinstance(report.tasks[0].report, aiohaul.BatchReport)
    assert states(report.tasks[0].report) == {1: "already done", 2: "succeeded"}
    lambdas.plain("c")
    assert states(await done(definition, **around)) == {1: "already done", 2: "succeeded"}
    assert lambdas.called == ["a", "b", "b", "c", "c"]


async def test_batch_in_a_batch_that_is_to_be_retried_starts_from_its_top(
    lambdas: Functions, around: dict[str, Any]
) -> None:
    around["tasks"] = {**TASKS, "inner": batch(step(1, "a"), step(2, "b", 1))}
    definition = batch(step(1, "inner", retry_on_rerun=True), step(2, "c", 1))
    lambdas.broken("c")
    await failed(definition, **around)
    lambdas.plain("c")
    await done(definition, **around)
    assert lambdas.called == ["a", "b", "c", "a", "b", "c"]


async def test_cancelled_batch_goes_on_where_it_stood(
    lambdas: Functions, around: dict[str, Any]
) -> None:
    definition = batch(step(1, "a"), step(2, "b", 1))
    lambdas.held("b")
    run = asyncio.create_task(aiohaul.run(definition, **around))
    await lambdas.until_called("b")
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    lambdas.plain("b")
    assert states(await done(definition, **around)) == {1: "already done", 2: "succeeded"}


async def test_second_run_at_the_same_time_is_refused(
    lambdas: Functions, around: dict[str, Any]
) -> None:
    lambdas.held("a")
    definition = batch(step(1, "a"))
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(done(definition, **around))
        await lambdas.until_called("a")
        with pytest.raises(aiohaul.BatchBusyError, match="another process runs this"):
            await aiohaul.run(definition, **around)
        other = await done(batch(step(1, "b")), **around)  # another batch may share the file
        assert other.ok
        lambdas.end("a")
    assert run.result().ok
    assert lambdas.called == ["a", "b"]
    assert [file.name for file in around["state"].parent.glob("*.lock")] == []


async def test_file_that_is_no_state_is_refused_before_anything_runs(
    lambdas: Functions, around: dict[str, Any]
) -> None:
    around["state"].parent.mkdir()
    around["state"].write_text("no database " * 100)
    with pytest.raises(aiohaul.BatchStateError, match="cannot be used"):
        await aiohaul.run(batch(step(1, "a")), **around)
    assert lambdas.called == []


async def test_state_is_for_batches(tmp_path: Path) -> None:
    with pytest.raises(aiohaul.DefinitionError, match="only a batch has a state file"):
        await aiohaul.run(call("a"), state=tmp_path / "x")


async def test_killed_batch_goes_on_where_it_stood(lambdas: Functions, tmp_path: Path) -> None:
    """SIGKILL, while one task had succeeded and another was under way."""
    lambdas.held("b")
    definition = batch(step(1, "a"), step(2, "b", 1), step(3, "c", 2))
    keys = {**KEYS, "region_name": REGION, "endpoint_url": lambdas.server.url}
    for name, task in TASKS.items():
        there = {**task, "protocol": {**task["protocol"], **keys}}
        (tmp_path / f"{name}.json").write_text(json.dumps(there))
    file = tmp_path / "night.json"
    file.write_text(json.dumps(definition))
    state = tmp_path / "night.db"
    code = (
        "import aiohaul, asyncio, json, pathlib, sys\n"
        "file, state = map(pathlib.Path, sys.argv[1:])\n"
        "run = aiohaul.run(json.loads(file.read_text()), tasks=file.parent, state=state)\n"
        "asyncio.run(run)\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(file), str(state)
    )
    await lambdas.until_called("b")
    process.send_signal(signal.SIGKILL)
    await process.wait()
    await lambdas.until_dropped()
    lambdas.plain("b")
    heard = Heard()
    report = await done(definition, tasks=tmp_path, state=state, on_progress=heard)
    assert states(report) == {1: "already done", 2: "succeeded", 3: "succeeded"}
    assert lambdas.called == ["a", "b", "b", "c"]
    assert heard.ends()[1,] == "already done"
