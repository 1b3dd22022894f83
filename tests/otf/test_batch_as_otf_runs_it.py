"""The same folder under Open Task Framework and under aiohaul: the same tasks run, twice over."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.batches import Functions, batch, call, step
from tests.support.compute_fixtures import KEYS, REGION
from tests.support.fake_lambda import FakeLambda

pytestmark = pytest.mark.usefixtures("quick_batches")

#: A batch, those in it, and what each of its two runs calls, the task b being mended in between.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "those that wait are skipped": (
        batch(step(1, "a"), step(2, "b", 1), step(3, "c", 2), step(4, "d")),
        *({}, "abd", "bc"),
    ),
    "continue_on_fail": (
        batch(step(1, "b", continue_on_fail=True), step(2, "c", 1)),
        *({}, "bc", "b"),
    ),
    "retry_on_rerun": (
        batch(step(1, "a", retry_on_rerun=True), step(2, "b", 1), step(3, "c", 1)),
        *({}, "abc", "ab"),
    ),
    "a batch in a batch": (
        batch(step(1, "inner"), step(2, "d", 1)),
        *({"inner": batch(step(1, "a"), step(2, "b", 1), step(3, "c", 2))}, "ab", "bcd"),
    ),
}


async def run(*command: str) -> int:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(60):
        return await process.wait()


@pytest.mark.parametrize("peer", ["otf", "aiohaul"])
@pytest.mark.parametrize("name", CASES)
async def test_the_same_tasks_run_and_run_again(
    functions: FakeLambda,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    peer: str,
) -> None:
    definition, inner, first, second = CASES[name]
    folder = tmp_path / "folder"
    folder.mkdir()
    # OTF takes any file whose name ends like the task's: these names end like no other.
    tasks: dict[str, Any] = {each: call(each) for each in "abcd"}
    for task_id, task in {**tasks, **inner, "night": definition}.items():
        (folder / f"{task_id}.json").write_text(json.dumps(task))
    (folder / "variables.json").write_text("{}")
    for variable, value in {
        "AWS_ENDPOINT_URL": functions.url,
        "AWS_ACCESS_KEY_ID": KEYS["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": KEYS["secret_access_key"],
        "AWS_REGION": REGION,
        "OTF_LOG_DIRECTORY": str(tmp_path / "logs"),
    }.items():
        monkeypatch.setenv(variable, value)
    task_run = (str(Path(sys.executable).with_name("task-run")), "-t", "night", "-c", str(folder))
    ours = (
        *(sys.executable, "-m", "aiohaul", "run", str(folder / "night.json")),
        *("--state", str(tmp_path / "night.db")),
    )
    command = task_run if peer == "otf" else ours
    lambdas = Functions(functions)
    lambdas.plain("a", "c", "d")
    lambdas.broken("b")
    assert await run(*command) != 0
    assert sorted(lambdas.called) == list(first)
    functions.invocations.clear()
    lambdas.plain("b")
    assert await run(*command) == 0
    assert sorted(lambdas.called) == list(second)
