"""What an earlier run of a batch left must not make a later one do nothing."""

from __future__ import annotations

import asyncio
import math
import signal
import sqlite3
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aiohaul
from aiohaul.tasks.batch_definition import Batch, parse_any
from aiohaul.tasks.batch_state import all_succeeded, restart_reason
from tests.support.batches import Functions, batch, calls, done, failed, folder, states, step
from tests.support.commands import aiohaul as command
from tests.support.fake_lambda import FakeLambda

INNER = batch(step(1, "b"))
NIGHT = batch(step(1, "a"), step(2, "inner", 1), step(3, "c", 2))
TASKS = {**calls("a", "b", "c"), "inner": INNER}

#: Kills itself before or after the write of that number.
VICTIM = """
import asyncio, json, os, pathlib, signal, sys
import aiohaul
from aiohaul.storage import database
from aiohaul.tasks import batch_state

folder, state, number, when = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
write_all, written = database.write_all, -1  # the tables are no write

def counted(connection, statements):
    global written
    written += 1
    if written == number and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    write_all(connection, statements)
    if written == number:
        os.kill(os.getpid(), signal.SIGKILL)

database.write_all = batch_state.write_all = counted
definition = json.loads((folder / "night.json").read_text())
asyncio.run(aiohaul.run(definition, tasks=folder, state=pathlib.Path(state)))
"""


@pytest.fixture
def lambdas(functions: FakeLambda) -> Functions:
    made = Functions(functions)
    made.plain("a", "b", "c")
    return made


@pytest.fixture
def around(lambda_session: aiohaul.Session, tmp_path: Path) -> dict[str, Any]:
    return {"tasks": TASKS, "session": lambda_session, "state": tmp_path / "night.db"}


async def killed(place: Path, state: Path, number: int, when: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", VICTIM, str(place), str(state), str(number), when)
    )
    assert await process.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("number", "when", "left"),
    [
        (0, "before", "abc"),  # the tables
        (0, "after", "abc"),
        (1, "before", "abc"),  # the begin
        (1, "after", "abc"),
        (2, "before", "abc"),  # "a"
        (2, "after", "bc"),
        (3, "before", "bc"),  # "b", in the batch within
        (3, "after", "c"),
        (4, "before", "c"),  # the batch within
        (4, "after", "c"),
        (5, "before", "c"),  # "c": all have succeeded
        (5, "after", "abc"),
        (6, "before", "abc"),  # and that is forgotten
        (6, "after", "abc"),
    ],
)
async def test_run_that_was_killed_at_a_write_is_gone_on_with_or_done_again(
    lambdas: Functions, tmp_path: Path, number: int, when: str, left: str
) -> None:
    folder(tmp_path, lambdas.server.url, NIGHT, {"inner": INNER})
    state = tmp_path / "state.db"
    await killed(tmp_path, state, number, when)
    before = len(lambdas.called)
    await done(NIGHT, tasks=tmp_path, state=state)
    assert "".join(lambdas.called[before:]) == left
    await done(NIGHT, tasks=tmp_path, state=state)  # the next night
    assert "".join(lambdas.called[before:]) == f"{left}abc"


async def test_batch_whose_only_batch_had_succeeded_is_done_again(
    lambdas: Functions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Killed between the last task of the batch within and that batch."""
    definition = batch(step(1, "inner"))
    folder(tmp_path, lambdas.server.url, definition, {"inner": INNER})
    state = tmp_path / "state.db"
    await killed(tmp_path, state, 2, "after")
    assert lambdas.called == ["b"]
    report = await done(definition, tasks=tmp_path, state=state)
    assert states(report) == {1: "succeeded"}
    assert lambdas.called == ["b", "b"]
    assert "in which every task succeeded" in caplog.text
    assert "the batch starts from the beginning" in caplog.text


async def test_operator_is_told_why_a_finished_batch_starts_from_the_top(
    lambdas: Functions, tmp_path: Path
) -> None:
    file = folder(tmp_path, lambdas.server.url, NIGHT, {"inner": INNER})
    state = tmp_path / "state.db"
    await killed(tmp_path, state, 6, "before")
    ran = await command("run", file, "--state", state)
    assert ran.code == 0
    assert f"the state file {state} records a run that started at 20" in ran.err
    assert "already done" not in ran.err


# What nobody ran again


def move_back(state: Path, earlier: timedelta) -> None:
    """Let the state have been written earlier than it was."""
    with sqlite3.connect(state) as database:
        for (at,) in database.execute("SELECT started FROM batch_run").fetchall():
            then = (datetime.fromisoformat(at) - earlier).isoformat()
            database.execute("UPDATE batch_run SET started = ? WHERE started = ?", (then, at))
    database.close()


async def test_failed_night_that_was_not_run_again_does_not_cut_the_next_one_short(
    lambdas: Functions, around: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    lambdas.broken("c")
    await failed(NIGHT, **around)
    lambdas.plain("c")
    move_back(around["state"], timedelta(hours=23))  # clocks may have been put forward
    report = await done(NIGHT, **around)
    assert states(report) == dict.fromkeys((1, 2, 3), "succeeded")
    assert "more than the 72000 s of state_age (--state-age) ago" in caplog.text
    assert "the batch starts from the beginning" in caplog.text


async def test_failed_night_is_gone_on_with_on_the_day_after_it(
    lambdas: Functions, around: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    lambdas.broken("c")
    await failed(NIGHT, **around)
    move_back(around["state"], timedelta(hours=10))
    await failed(NIGHT, **around)
    move_back(around["state"], timedelta(hours=9))
    lambdas.plain("c")
    assert states(await done(NIGHT, **around)) == {
        1: "already done",
        2: "already done",
        3: "succeeded",
    }
    assert "from the beginning" not in caplog.text


async def test_age_counts_from_the_begin_of_the_first_run(
    lambdas: Functions, around: dict[str, Any]
) -> None:
    """An operator who tried again in the evening must not cost the next night."""
    lambdas.broken("c")
    await failed(NIGHT, **around)
    move_back(around["state"], timedelta(hours=19))
    await failed(NIGHT, **around)
    move_back(around["state"], timedelta(hours=2))
    lambdas.plain("c")
    assert states(await done(NIGHT, **around)) == dict.fromkeys((1, 2, 3), "succeeded")


@pytest.mark.parametrize(
    ("age", "expected"),
    [(math.inf, "already done"), (3600.0, "succeeded"), (200_000.0, "already done")],
)
async def test_age_is_the_operators_to_say(
    lambdas: Functions, around: dict[str, Any], age: float, expected: str
) -> None:
    lambdas.broken("c")
    await failed(NIGHT, **around)
    lambdas.plain("c")
    move_back(around["state"], timedelta(hours=50))
    assert states(await done(NIGHT, **around, state_age=age))[1] == expected


@pytest.mark.parametrize("age", [0.0, -1.0, math.nan])
async def test_age_that_is_none_is_refused(around: dict[str, Any], age: float) -> None:
    with pytest.raises(aiohaul.SettingsError, match="a positive number of seconds"):
        await aiohaul.run(NIGHT, **around, state_age=age)


async def test_age_on_the_command_line(lambdas: Functions, tmp_path: Path) -> None:
    file = folder(tmp_path, lambdas.server.url, NIGHT, {"inner": INNER})
    state = tmp_path / "state.db"
    lambdas.broken("c")
    assert (await command("run", file, "--state", state)).code == 1
    move_back(state, timedelta(hours=30))
    assert (
        "1 (a) already done"
        in (await command("run", file, "--state", state, "--state-age", "inf")).err
    )
    ran = await command("run", file, "--state", state)
    assert "1 (a) started" in ran.err
    assert "the batch starts from the beginning, because the state file" in ran.err


async def test_definition_that_was_changed_back_finds_no_old_state(
    lambdas: Functions, around: dict[str, Any]
) -> None:
    """The state of a graph stays in the file while the batch has another one."""
    lambdas.broken("c")
    await failed(NIGHT, **around)
    lambdas.plain("c")
    move_back(around["state"], timedelta(days=30))
    changed = batch(step(1, "a"), step(3, "c", 1))
    assert states(await done(changed, **around)) == {1: "succeeded", 3: "succeeded"}
    assert states(await done(NIGHT, **around)) == dict.fromkeys((1, 2, 3), "succeeded")


@pytest.mark.parametrize(
    "change",
    [
        ("DROP TABLE batch_run", "CREATE TABLE begun (batch, at)", "PRAGMA user_version = 0"),
        ("PRAGMA user_version = 0",),
        ("PRAGMA user_version = 3",),
    ],
)
async def test_state_file_of_another_format_is_refused(
    lambdas: Functions, around: dict[str, Any], change: tuple[str, ...]
) -> None:
    lambdas.broken("c")
    await failed(NIGHT, **around)
    with sqlite3.connect(around["state"]) as database:
        for statement in change:
            database.execute(statement)
    database.close()
    called = len(lambdas.called)
    with pytest.raises(aiohaul.BatchStateError, match="another version of aiohaul wrote it"):
        await aiohaul.run(NIGHT, **around)
    assert len(lambdas.called) == called


@pytest.mark.parametrize(
    "values",
    [
        ("[1", "2026-01-02T03:04:05+00:00"),
        ('{"1": 2}', "2026-01-02T03:04:05+00:00"),
        ('["1"]', "2026-01-02T03:04:05+00:00"),
        ("[1]", "yesterday"),
        ("[1]", "2026-01-02T03:04:05"),
    ],
)
async def test_damaged_state_is_refused_before_anything_runs(
    lambdas: Functions, around: dict[str, Any], values: tuple[str, str]
) -> None:
    lambdas.broken("a")
    await failed(NIGHT, **around)
    with sqlite3.connect(around["state"]) as database:
        (name,) = database.execute("SELECT batch FROM batch_run").fetchone()
        database.execute("INSERT INTO succeeded VALUES (?, ?, ?)", (name, *values))
    database.close()
    with pytest.raises(aiohaul.BatchStateError, match="cannot be used"):
        await aiohaul.run(NIGHT, **around)
    assert lambdas.called == ["a"]


async def test_callback_that_fails_at_the_last_end_leaves_a_finished_batch(
    lambdas: Functions, around: dict[str, Any]
) -> None:
    def refuse(event: aiohaul.Event) -> None:
        if isinstance(event, aiohaul.TaskEnded) and event.order == (3,):
            raise KeyError

    with pytest.raises(KeyError):
        await aiohaul.run(NIGHT, **around, on_progress=refuse)
    assert states(await done(NIGHT, **around)) == dict.fromkeys((1, 2, 3), "succeeded")
    assert lambdas.called == list("abcabc")


# The decision


def whole() -> Batch:
    made = parse_any(NIGHT, TASKS)
    assert isinstance(made, Batch)
    return made


ORDERS: list[tuple[int, ...]] = [(1,), (2,), (2, 1), (3,)]
BEGUN = datetime(2026, 1, 2, 22, tzinfo=UTC)


@given(st.sets(st.sampled_from([*ORDERS, (9,), (1, 1)])))
def test_batch_is_finished_if_all_its_leaves_are(succeeded: set[tuple[int, ...]]) -> None:
    inner = (2,) in succeeded or (2, 1) in succeeded
    assert all_succeeded(whole(), succeeded) == ((1,) in succeeded and inner and (3,) in succeeded)


@given(st.sets(st.sampled_from(ORDERS)), st.floats(-1e6, 1e6), st.floats(1, 1e6))
def test_old_or_finished_states_are_not_gone_on_with(
    succeeded: set[tuple[int, ...]], seconds: float, age: float
) -> None:
    now = BEGUN + timedelta(seconds=seconds)
    why = restart_reason(whole(), succeeded, BEGUN, now, age)
    too_old = abs((now - BEGUN).total_seconds()) > age
    assert (why is None) == (not too_old and not all_succeeded(whole(), succeeded))
