"""Functions and tasks from the command line: what is sent, what is printed, what is refused."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from tests.support.commands import Ended, ended, start
from tests.support.compute_fixtures import KEYS, REGION
from tests.support.fake_ecs import FakeEcs
from tests.support.fake_http import FakeServer
from tests.support.fake_lambda import FakeLambda, failing, returning


def _environment(server: FakeServer) -> dict[str, str]:
    return {
        **os.environ,
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": KEYS["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": KEYS["secret_access_key"],
        "AWS_REGION": REGION,
    }


async def _command(server: FakeServer, *arguments: object, given: str = "") -> Ended:
    process = await start(*arguments, env=_environment(server), stdin=asyncio.subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(given.encode())
    process.stdin.close()
    return await ended(process)


@pytest.mark.parametrize(("argument", "given"), [('{"day": 1}', ""), ("-", '{"day": 1}')])
async def test_invoke_prints_what_the_function_returns(
    functions: FakeLambda, argument: str, given: str
) -> None:
    functions.functions["work"] = returning(b'{"rows": 3}')
    done = await _command(functions, "invoke", "work", argument, "--quiet", given=given)
    assert (done.code, json.loads(done.out), done.err) == (0, {"rows": 3}, "")


async def test_invoke_of_a_function_that_fails_shows_its_log(
    functions: FakeLambda, tmp_path: Path
) -> None:
    error = {"errorType": "KeyError", "errorMessage": "'day'"}
    functions.functions["work"] = failing(error, log="START\n")
    report = tmp_path / "report.json"
    done = await _command(functions, "invoke", "work", "--report", report)
    assert (done.code, done.out) == (1, "")
    assert "START" in done.err
    assert json.loads(report.read_text())["payload"] == error


async def test_invoke_refuses_what_is_not_json_before_any_request(functions: FakeLambda) -> None:
    done = await _command(functions, "invoke", "work", "tomorrow")
    assert (done.code, done.out) == (1, "")
    assert "the payload is not JSON, and nothing was sent" in done.err
    assert functions.accepted == 0


async def test_run_task_sends_its_command_and_waits_for_its_end(ecs: FakeEcs) -> None:
    ecs.containers = ("app",)
    options = ("--subnet", "subnet-1", "--container", "app", "--json", "--quiet")
    running = asyncio.create_task(
        _command(ecs, "run-task", "batch", "work", *options, "--command", "python", "-v")
    )
    await ecs.until(lambda: bool(ecs.tasks))
    (arn,) = ecs.tasks
    ecs.end(arn, 0)
    done = await running
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["ok"]
    assert ecs.overrides == [[{"name": "app", "command": ["python", "-v"]}]]


@pytest.mark.parametrize(
    ("what", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
async def test_task_that_is_interrupted_shows_its_last_lines(
    ecs: FakeEcs, tmp_path: Path, what: signal.Signals, code: int
) -> None:
    ecs.containers, ecs.log = ("app",), ["reading", "writing row 7"]
    report = tmp_path / "report.json"
    options = ("--subnet", "subnet-1", "--log-group", ecs.log_group, "--report", report)
    process = await start("run-task", "batch", "work", *options, env=_environment(ecs))
    await ecs.until(lambda: ecs.calls["DescribeTasks"] > 1)
    process.send_signal(what)
    done = await ended(process)
    assert done.code == code
    assert "writing row 7" in done.err
    assert ecs.stopped == list(ecs.tasks)
    told = json.loads(report.read_text())
    assert (told["ok"], told["error"]) == (False, "cancelled")
    assert told["logs"] == ["reading", "writing row 7"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "a Fargate task needs a network: add --subnet"),
        (("--launch-type", "EC2", "--public-ip"), "need --subnet"),
        (("--subnet", "subnet-1", "--command", "python"), "--command needs --container"),
    ],
)
async def test_run_task_refuses_what_does_not_fit_before_any_request(
    ecs: FakeEcs, options: tuple[str, ...], says: str
) -> None:
    done = await _command(ecs, "run-task", "batch", "work", *options)
    assert (done.code, done.out) == (1, "")
    assert says in done.err
    assert ecs.accepted == 0
