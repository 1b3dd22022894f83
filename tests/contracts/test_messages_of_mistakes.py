"""What a user reads who has made a mistake: one sentence, that says what to change."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import aiohaul
from tests.support.commands import aiohaul as command
from tests.support.store import PROTOCOL, Store

HANDLERS = "opentaskpy.addons.aws.remotehandlers"
TOUCH = {
    "type": "execution",
    "bucket": "b",
    "key": "k",
    "protocol": {"name": f"{HANDLERS}.s3.S3Execution"},
}
TRANSFER = {
    "type": "transfer",
    "source": {"bucket": "in", "fileRegex": ".*", "protocol": {"name": PROTOCOL}},
    "destination": [{"bucket": "out", "protocol": {"name": PROTOCOL}}],
}
BATCH = {"type": "batch", "tasks": [{"order_id": 1, "task_id": "touch"}]}
FARGATE = {
    "type": "execution",
    "clusterName": "batch",
    "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
    "protocol": {"name": f"{HANDLERS}.ecsfargate.FargateTaskExecution"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, definition in (("touch", TOUCH), ("transfer", TRANSFER), ("night", BATCH)):
        (tmp_path / f"{name}.json").write_text(json.dumps(definition))
    return tmp_path


@pytest.fixture
def nobody(at: Any) -> Iterator[str]:
    """An address at which nobody answers: it is taken, and nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        at(url)
        yield url


def refused(definition: Any, **more: Any) -> str:
    with pytest.raises(aiohaul.DefinitionError) as problem:
        aiohaul.validate(definition, **more)
    return str(problem.value)


def test_missing_task_family_is_said_once() -> None:
    assert refused(FARGATE) == "definition: 'taskFamily' is missing"


@pytest.mark.parametrize("protocol", [{}, {"protocol": {}}])
def test_execution_without_a_protocol_is_told_which_there_are(protocol: dict[str, Any]) -> None:
    told = refused({"type": "execution", "bucket": "b", "key": "k", **protocol})
    assert told.startswith("protocol.name: is missing; expected ")
    assert {f"{HANDLERS}.lambda.LambdaExecution", f"{HANDLERS}.s3.S3Execution"} <= set(told.split())


@pytest.mark.parametrize("task_id", ["../touch", "/touch", "below/../../touch"])
def test_task_id_that_leads_out_of_the_folder_is_refused(folder: Path, task_id: str) -> None:
    batch = {"type": "batch", "tasks": [{"order_id": 1, "task_id": task_id}]}
    below = folder / "below"
    below.mkdir()
    told = refused(batch, tasks=below)
    assert told.startswith("tasks[0].task_id: ")
    assert told.endswith(f"a path below {below}; this one leads outside")


async def test_definition_with_a_byte_order_mark_is_read(folder: Path) -> None:
    file = folder / "marked.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(TOUCH).encode())
    done = await command("validate", file)
    assert (done.code, done.out, done.err) == (0, f"{file}: valid\n", "")


async def test_unknown_option_is_told_in_two_lines(folder: Path) -> None:
    done = await command("run", folder / "touch.json", "--frobnicate")
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[1:] == ["aiohaul: error: unrecognized arguments: --frobnicate"]


@pytest.mark.parametrize(
    ("option", "file", "what"),
    [("--journal", "transfer.json", "journal"), ("--state", "night.json", "state file")],
)
@pytest.mark.usefixtures("nobody")
async def test_directory_where_a_file_is_meant_is_named(
    folder: Path, option: str, file: str, what: str
) -> None:
    done = await command("run", folder / file, option, folder)
    assert done.code == 1
    said = (
        f"aiohaul: failed: the {what} {folder} cannot be used: it is a directory. Give the path of"
        " a file\n"
    )
    assert done.err == said
    assert sorted(each.name for each in folder.iterdir()) == [
        "night.json",
        "touch.json",
        "transfer.json",
    ]


@pytest.mark.parametrize(
    ("option", "file"),
    [("--report", "touch.json"), ("--report", "night.json"), ("--timeline", "night.json")],
)
async def test_place_that_is_missing_is_told_before_anything_runs(
    moto_s3: Store, at: Any, folder: Path, option: str, file: str
) -> None:
    at(moto_s3.url)
    bucket = await moto_s3.bucket()
    (folder / "touch.json").write_text(json.dumps({**TOUCH, "bucket": bucket}))
    place = folder / "missing" / "file"
    done = await command("run", folder / file, option, place)
    assert (done.code, done.out) == (1, "")
    what = option.removeprefix("--")
    missing = f"writing the {what} {place} failed: there is no folder {place.parent}. Make it"
    assert done.err == f"aiohaul: failed: {missing}\n"
    assert await moto_s3.keys(bucket) == []


@pytest.mark.parametrize("form", [(), ("--json",), ("--log-level", "warning")])
async def test_watch_says_that_the_connection_was_refused(
    nobody: str, form: tuple[str, ...]
) -> None:
    """Also where its time is up before the first look has given up."""
    done = await command("watch", "s3://inbox/src", "--timeout", "12", *form)
    assert (done.code, done.out) == (1, "")
    first, *warned, last = done.err.splitlines()
    assert first == "watching s3://inbox/src"
    assert len(warned) <= 1  # none where the machine is so busy that the first look has not ended
    for each in warned:
        assert each.startswith("listing s3://inbox/src failed, trying again: ListObjectsV2")
    for each in (*warned, last):
        assert nobody in each
        assert "Connection refused" in each
    assert last.startswith("aiohaul: failed: ")


async def test_retries_are_logged_once_where_they_are_asked_for(nobody: str) -> None:
    done = await command(
        *("watch", "s3://inbox/src", "--timeout", "3", "--log-level", "info"),
        *("--log-format", "json"),
    )
    logged = [json.loads(each) for each in done.err.splitlines() if each.startswith("{")]
    attempts = [each["attempt"] for each in logged if each["logger"] == "aiohaul.requests"]
    assert attempts
    # One look after the other has its own; none is told of twice.
    assert all(one != next_ for one, next_ in pairwise(attempts))
    assert nobody in done.err


async def test_demo_that_is_piped_is_plain_text() -> None:
    done = await command("demo", "--objects", "20")
    assert done.code == 0
    assert "\x1b" not in done.out + done.err
    assert "\r" not in done.out + done.err
    assert done.out.splitlines()[-1] == "move: 20 sources"
    first, found, *_ = done.err.splitlines()
    assert first.startswith("watching s3://demo-inbox/ready (names like go\\.flg) for at most ")
    assert re.match(r"found 20 objects \(20\.\d MiB\), copying to s3://demo-reports/", found)


async def test_validate_names_slow_regexes_of_all_tasks_of_a_batch(folder: Path) -> None:
    definition = json.loads((folder / "transfer.json").read_text())
    definition["source"]["fileRegex"] = "(a+)+$"
    (folder / "slow.json").write_text(json.dumps(definition))
    inner = [{"order_id": 1, "task_id": "slow"}, {"order_id": 2, "task_id": "touch"}]
    outer = [{"order_id": 1, "task_id": "inner"}, {"order_id": 2, "task_id": "slow"}]
    for name, tasks in (("inner", inner), ("outer", outer)):
        (folder / f"{name}.json").write_text(json.dumps({"type": "batch", "tasks": tasks}))
    done = await command("validate", folder / "outer.json")
    assert (done.code, done.out) == (0, f"{folder / 'outer.json'}: valid\n")
    (line,) = done.err.splitlines()
    assert line.startswith(f"aiohaul: {folder / 'outer.json'}: slow: source.fileRegex: ")


async def test_validate_names_regexes_that_are_not_plainly_linear(folder: Path) -> None:
    definition = json.loads((folder / "transfer.json").read_text())
    definition["source"]["fileRegex"] = "(a+)+$"
    file = folder / "slow.json"
    file.write_text(json.dumps(definition))
    done = await command("validate", file, folder / "transfer.json")
    assert (done.code, done.out) == (0, f"{file}: valid\n{folder / 'transfer.json'}: valid\n")
    said = (
        f"aiohaul: {file}: source.fileRegex: in Python's matcher, the time of the regex '(a+)+$'"
        " doubles with each character or so. A slower matcher with a bound is used for names that"
        " would take long. Simplify the regex: leave out repetitions that contain or follow a"
        " repetition of the same characters\n"
    )
    assert done.err == said
