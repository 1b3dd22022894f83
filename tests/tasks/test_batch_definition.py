"""What is refused before anything runs, where tasks are found, and what OTF accepts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentaskpy.config.schemas import validate_batch_json

import aiohaul
from aiohaul.tasks.graph import find_cycle
from tests.support.batches import batch, call, calls, done, step

TASKS = {**calls("a", "b"), "wrong": call("a", invocationType="text")}


def deep(depth: int) -> dict[str, dict[str, Any]]:
    """Batches in batches."""
    made = {f"b{n}": batch(step(1, f"b{n + 1}")) for n in range(depth)}
    return {**made, f"b{depth}": call("a")}


@pytest.mark.parametrize(
    ("definition", "tasks", "path", "says"),
    [
        (batch(step(1, "a", 2), step(2, "b", 1)), TASKS, "tasks[0].dependencies", "a cycle"),
        (batch(step(1, "a", 9)), TASKS, "tasks[0].dependencies[0]", "no task with order_id 9"),
        (batch(step(1, "a"), step(1, "b")), TASKS, "tasks[1].order_id", "already"),
        (
            batch(step(1, "a"), step(2, "c")),
            TASKS,
            "tasks[1].task_id",
            "'c' cannot be run: there is no definition of this task",
        ),
        (
            batch(step(1, "a"), step(2, "wrong")),
            TASKS,
            "tasks[1].task_id",
            "'wrong'.*invocationType: ",
        ),
        (batch(step(1, "x")), {"x": 7}, "tasks[0].task_id", "expected a JSON object"),
        (batch(step(1, "a", timeout=0)), TASKS, "tasks[0].timeout", "0 is not a number of sec"),
        (batch(step(1, "a", dependency=[1])), TASKS, "tasks[0]", "did you mean 'dependencies'"),
        (batch({"task_id": "a"}), TASKS, "tasks[0]", "'order_id' is missing"),
        (batch({"order_id": "1", "task_id": "a"}), TASKS, "tasks[0].order_id", "whole number"),
        ({"type": "batch"}, TASKS, "", "'tasks' is missing"),
        ({"type": "batch", "tasks": {}}, TASKS, "tasks", "an object is not a list of tasks"),
        (batch(step(1, "a", task="x")), TASKS, "tasks[0]", "unknown key 'task'"),
        (
            batch(step(4, "inner")),
            {**TASKS, "inner": batch(step(1, "a"), step(2, "wrong"))},
            "tasks[0].task_id",
            r"'inner' cannot be run: tasks\[1\]\.task_id: the task 'wrong' cannot be run: invoc",
        ),
        (
            batch(step(1, "x")),
            {"x": batch(step(1, "y")), "y": batch(step(1, "x"))},
            "tasks[0].task_id",
            "the batch contains itself: x runs y runs x",
        ),
        (batch(step(1, "b0")), deep(25), "tasks[0].task_id", "more than 20 levels deep"),
        (
            batch(step(1, "b0")),
            {
                **{f"b{n}": batch(*[step(i, f"b{n + 1}") for i in range(9)]) for n in range(9)},
                "b9": call("a"),
            },
            "tasks[0].task_id",
            "100,000 are allowed",
        ),
    ],
)
async def test_wrong_batch_is_refused_before_any_request(
    definition: Any, tasks: Any, path: str, says: str
) -> None:
    # There is neither a region nor a key: a request would fail by another error.
    with pytest.raises(aiohaul.DefinitionError, match=says) as caught:
        await aiohaul.run(definition, tasks=tasks)
    assert caught.value.path == path
    with pytest.raises(aiohaul.DefinitionError, match=says):
        aiohaul.validate(definition, tasks=tasks)


async def test_batch_without_its_tasks() -> None:
    definition = batch(step(1, "a"))
    aiohaul.validate(definition)
    with pytest.raises(aiohaul.DefinitionError, match="there is no definition of this task"):
        await aiohaul.run(definition)
    with pytest.raises(aiohaul.DefinitionError, match="a cycle"):
        aiohaul.validate(batch(step(1, "a", 1)))


def test_transfers_of_a_framework_are_refused_as_such() -> None:
    ssh = {"type": "transfer", "source": {"protocol": {"name": "ssh"}}}
    with pytest.raises(aiohaul.UnsupportedError, match="only Open Task Framework supports"):
        aiohaul.validate(batch(step(1, "copy")), tasks={"copy": ssh})


# Folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.json", "load/orders.json", "load/daily-orders.json", "x/same.json"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(call("work")))
    (tmp_path / "y").mkdir()
    (tmp_path / "y/same.json").write_text("{}")
    (tmp_path / "filled.json.j2").write_text("{}")
    (tmp_path / "template.json").write_text('{"type": "execution", "timeout": {{ X }} }')
    (tmp_path / "text.json").write_text('{"type": "{{ X }}"}')
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "binary.json").write_bytes(b"\xff")
    (tmp_path / ".hidden.json").write_text(json.dumps(call("work")))
    return tmp_path


@pytest.mark.parametrize("task_id", ["a", "orders", "load/orders", "daily-orders", "x/same"])
def test_task_is_found_at_any_depth_by_its_whole_name(folder: Path, task_id: str) -> None:
    aiohaul.validate(batch(step(1, task_id)), tasks=folder)


@pytest.mark.parametrize(
    ("task_id", "says"),
    [
        ("rders", r"no rders\.json .*did you mean load/daily-orders\.json, load/orders\.json\?"),
        ("nothing", r"there is no nothing\.json in"),
        ("", r"there is no \.json in"),
        ("..", "leads outside"),
        ("../a", "leads outside"),
        (".hidden", "there is no"),
        ("same", r"several files of that name: x/same\.json, y/same\.json"),
        ("broken", "is not JSON"),
        ("binary", "is not JSON"),
    ],
)
def test_task_that_is_not_there_or_not_readable(folder: Path, task_id: str, says: str) -> None:
    with pytest.raises(aiohaul.DefinitionError, match=says) as caught:
        aiohaul.validate(batch(step(1, task_id)), tasks=folder)
    assert not isinstance(caught.value, aiohaul.UnsupportedError)
    assert caught.value.path == "tasks[0].task_id"


@pytest.mark.parametrize("task_id", ["filled", "template", "text"])
def test_template_is_left_to_the_framework(folder: Path, task_id: str) -> None:
    with pytest.raises(aiohaul.UnsupportedError, match="template"):
        aiohaul.validate(batch(step(1, task_id)), tasks=folder)


def test_file_is_read_once_however_often_it_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    original = Path.read_text

    def counting(self: Path, *arguments: Any, **more: Any) -> str:
        if self.name == "orders.json":
            read.append(self)
        return original(self, *arguments, **more)

    monkeypatch.setattr(Path, "read_text", counting)
    aiohaul.validate(batch(*[step(n, "orders") for n in range(50)]), tasks=folder)
    assert len(read) == 1


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(aiohaul.DefinitionError, match="does not exist"):
        aiohaul.validate(batch(), tasks=tmp_path / "absent")


# What OTF accepts

_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
_NUMBERS = st.integers(-2, 8) | st.sampled_from([1.0, 2.0, 1.5, True])
_TASK = st.fixed_dictionaries(
    {"order_id": _NUMBERS, "task_id": st.sampled_from(["a", "b"])},
    optional={
        "dependencies": st.lists(_NUMBERS, max_size=3),
        "timeout": st.integers(-1, 10**6) | _ANYTHING,
        "continue_on_fail": st.booleans() | _ANYTHING,
        "retry_on_rerun": st.booleans() | _ANYTHING,
    },
)
_BATCH = st.fixed_dictionaries(
    {"type": st.just("batch"), "tasks": st.lists(_TASK, max_size=5)},
    optional={"variables": _ANYTHING, "description": st.text(), "comment": _ANYTHING},
)


def _runs(tasks: list[dict[str, Any]]) -> bool:
    """Whether the graph of a batch can be run at all."""
    edges = {each["order_id"]: each.get("dependencies", []) for each in tasks}
    whole = all(other in edges for waits in edges.values() for other in waits)
    return whole and len(edges) == len(tasks) and not find_cycle(edges)


@given(_BATCH)
def test_what_the_framework_accepts_is_accepted(definition: dict[str, Any]) -> None:
    if "{{" in str(definition) or "{%" in str(definition) or "\\x00" in repr(definition):
        return
    try:
        aiohaul.validate(definition, tasks=TASKS)
    except aiohaul.DefinitionError:
        ours = False
    else:
        ours = True
    if validate_batch_json(definition):
        assert ours == _runs(definition["tasks"])


async def test_whole_numbers_may_be_written_with_a_point() -> None:
    report = await done(batch({"order_id": 1.0, "task_id": "empty"}), tasks={"empty": batch()})
    assert report.tasks[0].order_id == 1
    assert isinstance(report.tasks[0].order_id, int)
