"""What a function or a task gave before it failed: in every report, and on the console."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import aiohaul
from aiohaul.tasks.execution import output_of, report_of
from tests.support.commands import aiohaul as command
from tests.support.commands import ended, start, started, written
from tests.support.compute_fixtures import KEYS, REGION
from tests.support.fake_ecs import FakeEcs
from tests.support.fake_http import FakeServer
from tests.support.fake_lambda import FakeLambda, failing, returning

ERROR = {"errorType": "KeyError", "errorMessage": "'day'", "stackTrace": ["line 7"]}
HANDLERS = "opentaskpy.addons.aws.remotehandlers"


def _protocol(server: FakeServer, name: str) -> dict[str, Any]:
    where = {"region_name": REGION, "endpoint_url": server.url}
    return {"name": f"{HANDLERS}.{name}", **KEYS, **where}


def _call(server: FakeServer, **more: Any) -> dict[str, Any]:
    return {
        "type": "execution",
        "functionArn": "work",
        "invocationType": "RequestResponse",
        "protocol": _protocol(server, "lambda.LambdaExecution"),
        **more,
    }


def _task(server: FakeServer) -> dict[str, Any]:
    return {
        "type": "execution",
        "clusterName": "batch",
        "taskFamily": "work",
        "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
        "cloudwatchLogGroupName": "/ecs/work",
        "protocol": _protocol(server, "ecsfargate.FargateTaskExecution"),
    }


async def test_function_that_fails_on_the_command_line(
    functions: FakeLambda, tmp_path: Path
) -> None:
    functions.functions["work"] = failing(ERROR, log="START\nno \x1b[1mday\nEND\n")
    report = tmp_path / "report.json"
    done = await command("run", written(tmp_path, _call(functions)), "--report", report)
    assert done.code == 1
    assert 'payload: {"errorType": "KeyError"' in done.err
    assert "line 7" in done.err
    lines = done.err.splitlines()
    assert lines.index("START") < lines.index("no \\x1b[1mday") < lines.index("END")
    told = json.loads(report.read_text())
    assert (told["ok"], told["kind"], told["function_error"]) == (
        False,
        "FunctionError",
        "Unhandled",
    )
    assert (told["payload"], told["log_tail"]) == (ERROR, "START\nno \x1b[1mday\nEND\n")
    assert told["request_id"] == "fake-request"


async def test_function_that_succeeds_shows_its_log_in_the_report_alone(
    functions: FakeLambda, tmp_path: Path
) -> None:
    functions.functions["work"] = returning(b'"day"', headers={"x-amz-log-result": "U1RBUlQK"})
    report = tmp_path / "report.json"
    done = await command("run", written(tmp_path, _call(functions)), "--report", report)
    assert done.code == 0
    assert "START" not in done.out + done.err
    told = json.loads(report.read_text())
    assert (told["payload"], told["log_tail"], told["function_error"]) == ("day", "START\n", None)


async def test_function_of_a_secret_payload_shows_nothing_when_it_fails(
    functions: FakeLambda, tmp_path: Path
) -> None:
    functions.functions["work"] = failing({"errorMessage": "tOp-SeCrEt"}, log="tOp-SeCrEt")
    definition = _call(functions, payload={"key": "tOp-SeCrEt"}, secretPayload=True)
    report = tmp_path / "report.json"
    done = await command("run", written(tmp_path, definition), "--report", report)
    assert done.code == 1
    assert "tOp-SeCrEt" not in done.out + done.err + report.read_text()
    assert json.loads(report.read_text())["function_error"] == "Unhandled"


async def test_task_that_fails_on_the_command_line(ecs: FakeEcs, tmp_path: Path) -> None:
    ecs.log = [f"line {number}" for number in range(60)]
    report = tmp_path / "report.json"
    process = await start("run", written(tmp_path, _task(ecs)), "--report", report)
    running = asyncio.ensure_future(ended(process))
    await ecs.until(lambda: len(ecs.tasks) == 1)
    ecs.end(next(iter(ecs.tasks)), 1, reason="Essential container in task exited")
    done = await running
    assert done.code == 1
    shown = [line for line in done.err.splitlines() if line.startswith("line ")]
    assert shown == ecs.log[-50:]
    told = json.loads(report.read_text())
    assert (told["ok"], told["exit_code"], told["container"]) == (False, 1, "main")
    assert (told["kind"], told["logs"]) == ("FargateTaskFailedError", ecs.log)
    assert told["reason"] == "Essential container in task exited"


async def test_batch_reports_what_its_failed_tasks_gave(
    functions: FakeLambda, tmp_path: Path
) -> None:
    functions.functions["work"] = failing(ERROR, log="END\n")
    (tmp_path / "load.json").write_text(json.dumps(_call(functions)))
    batch = {"type": "batch", "tasks": [{"order_id": 1, "task_id": "load"}]}
    report = tmp_path / "report.json"
    done = await command("run", written(tmp_path, batch), "--report", report)
    assert done.code == 1
    assert "1 (load): END\n" in done.err
    (told,) = json.loads(report.read_text())["tasks"]
    assert (told["report"]["ok"], told["report"]["payload"]) == (False, ERROR)
    assert told["report"]["log_tail"] == "END\n"


async def test_task_of_a_batch_that_is_out_of_time_shows_its_lines(
    ecs: FakeEcs, tmp_path: Path
) -> None:
    """On the console and in the report, whichever of the batches around it was out of time."""
    ecs.log = [f"line {number}" for number in range(250)]
    (tmp_path / "load.json").write_text(json.dumps(_task(ecs)))
    inner = {"type": "batch", "tasks": [{"order_id": 1, "task_id": "load"}]}
    (tmp_path / "inner.json").write_text(json.dumps(inner))
    batch = {
        "type": "batch",
        "tasks": [
            {"order_id": 1, "task_id": "load", "timeout": 3},
            {"order_id": 2, "task_id": "inner", "timeout": 3},
        ],
    }
    report = tmp_path / "report.json"
    patient = (
        "import sys, aiohaul.compute.fargate as fargate\n"
        "from aiohaul.__main__ import main\n"
        "fargate._CANCELLED_LOG_TIMEOUT = 30\n"
        "sys.exit(main())\n"
    )
    file = written(tmp_path, batch)
    done = await ended(
        await started(sys.executable, "-c", patient, "run", file, "--report", report)
    )
    assert done.code == 1
    assert sorted(ecs.stopped) == sorted(ecs.tasks)
    first, second = json.loads(report.read_text())["tasks"]
    (of_inner,) = second["report"]["tasks"]
    assert (first["state"], second["state"], of_inner["state"]) == (
        "timed out",
        "timed out",
        "cancelled",
    )
    for told in (first, of_inner):
        assert told["report"]["task"] in ecs.tasks
        assert (told["report"]["ok"], told["report"]["exit_code"]) == (False, None)
        assert told["report"]["logs"] == ecs.log[-100:]  # the newest page
        assert f"{told['order_id']} (load): line 249\n" in done.err


@pytest.mark.parametrize(("size", "shown"), [(2046, 2048), (5000, 2048)])
async def test_payload_is_cut_after_two_kib(
    functions: FakeLambda, lambda_session: aiohaul.Session, size: int, shown: int
) -> None:
    body = json.dumps("ä" + "x" * (size - 2), ensure_ascii=False).encode()
    functions.functions["work"] = returning(body, headers={"x-amz-function-error": "Handled"})
    with pytest.raises(aiohaul.FunctionError) as e:
        await lambda_session.lambda_().invoke("work")
    (line,) = output_of(report_of(e.value))
    assert len(line.removeprefix("payload: ").encode()) == shown


def test_errors_of_other_kinds_have_no_output() -> None:
    error = aiohaul.FargateTaskStartError("no")
    assert (output_of(report_of(error)), report_of(error)) == ([], None)


async def test_batch_reports_the_warnings_of_each_task(
    ecs: FakeEcs, ecs_session: aiohaul.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(aiohaul.Session.fargate.__kwdefaults__ or {}, "interval", 0.02)
    ecs.log_group = "/ecs/other"
    with_log = _task(ecs)
    without = {key: value for key, value in with_log.items() if not key.startswith("cloudwatch")}
    inner = {"type": "batch", "tasks": [{"order_id": 1, "task_id": "with"}]}
    batch = {
        "type": "batch",
        "tasks": [{"order_id": 1, "task_id": "without"}, {"order_id": 2, "task_id": "inner"}],
    }
    tasks = {"with": with_log, "without": without, "inner": inner}
    run = asyncio.create_task(aiohaul.run(batch, session=ecs_session, tasks=tasks))
    await ecs.until(lambda: len(ecs.tasks) == 2)
    for arn in list(ecs.tasks):
        ecs.end(arn, 0)
    report = await run
    assert isinstance(report, aiohaul.BatchReport)
    told = {order: each.warnings for order, each in report.all_tasks()}
    assert (told[1,], told[2,]) == ((), ())
    (warning,) = told[2, 1]
    assert "sends no log to /ecs/work, but to /ecs/other" in warning
    assert json.dumps(report.as_dict()).count("but to /ecs/other") == 2  # log_problem and warning


async def test_warnings_are_still_on_the_console_of_a_batch(ecs: FakeEcs, tmp_path: Path) -> None:
    ecs.log_group = "/ecs/other"
    (tmp_path / "load.json").write_text(json.dumps(_task(ecs)))
    batch = {"type": "batch", "tasks": [{"order_id": 1, "task_id": "load"}]}
    running = asyncio.ensure_future(ended(await start("run", written(tmp_path, batch))))
    await ecs.until(lambda: len(ecs.tasks) == 1)
    ecs.end(next(iter(ecs.tasks)), 0)
    done = await running
    assert (done.code, done.err.count("but to /ecs/other")) == (0, 1)
