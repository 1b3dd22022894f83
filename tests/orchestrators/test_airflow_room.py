"""The parts of the operators and triggers, without Airflow's processes around them."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSensorTimeout,
    TaskDeferred,
)
from airflow.sdk.execution_time import task_runner

import aiohaul
from aiohaul.airflow import (
    FargateTrigger,
    FileWatchSensor,
    FileWatchTrigger,
    LambdaOperator,
    LambdaTrigger,
    TransferOperator,
    TransferTrigger,
)
from aiohaul.airflow.attempts import Attempt
from aiohaul.airflow.connection import connection_settings, settings_from
from aiohaul.airflow.operators import checked_definition, report_or_raise
from aiohaul.airflow.session_pool import _shared, shared_session
from aiohaul.airflow.timing import Clock
from aiohaul.airflow.triggers import HaulTrigger
from aiohaul.airflow.xcom import MAX_PAYLOAD, failed, short_report
from aiohaul.report import DestinationReport, Failure, InvocationReport, TransferReport
from aiohaul.results import Invocation
from tests.orchestrators.supervisor import Supervisor
from tests.support.fake_ecs import FakeEcs
from tests.support.fake_lambda import FakeLambda, failing, returning

TOKEN = "0123456789abcdef0123456789abcdef"
ATTEMPT: dict[str, Any] = {
    "dag_id": "d",
    "run_id": "r",
    "task_id": "t",
    "map_index": -1,
    "token": TOKEN,
}
CLOCK = {"begun": 0.0, "limit": None}
HANDLERS = "opentaskpy.addons.aws.remotehandlers"


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sEcReTkEy")


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    made = Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", made, raising=False)
    Attempt(**ATTEMPT).save_first_checkpoint()
    return made


def protocol(name: str, url: str) -> dict[str, Any]:
    return {
        "name": f"{HANDLERS}.{name}",
        "region_name": "eu-west-1",
        "endpoint_url": url,
    }


def fargate(url: str, **more: Any) -> FargateTrigger:
    definition = {
        "type": "execution",
        "clusterName": "batch",
        "taskFamily": "work",
        "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
        "protocol": protocol("ecsfargate.FargateTaskExecution", url),
        **more,
    }
    made = FargateTrigger(definition, ATTEMPT, CLOCK)
    made.trigger_id = 1  # as a triggerer does
    return made


def function(url: str, *, durable: bool = False) -> LambdaTrigger:
    definition = {
        "type": "execution",
        "functionArn": "report",
        "invocationType": "RequestResponse",
        "protocol": protocol("lambda.LambdaExecution", url),
    }
    made = LambdaTrigger(definition, ATTEMPT, CLOCK, durable=durable)
    made.trigger_id = 1
    return made


async def outcome(trigger: Any) -> Any:
    return (await anext(trigger.run())).payload


# The Session


async def test_triggers_of_one_loop_and_settings_share_a_session() -> None:
    settings = aiohaul.Settings(region="eu-west-1")
    async with shared_session(settings) as one, shared_session(settings) as two:
        assert one is two
        async with shared_session(aiohaul.Settings(region="us-east-1")) as other:
            assert other is not one
    assert not _shared[asyncio.get_running_loop()]


async def test_session_ends_with_the_last_one_even_if_that_is_cancelled() -> None:
    settings = aiohaul.Settings(region="eu-west-1")
    inside = asyncio.Event()

    async def use() -> None:
        async with shared_session(settings):
            inside.set()
            await asyncio.Event().wait()

    async with shared_session(settings) as session:
        user = asyncio.create_task(use())
        await inside.wait()
    user.cancel()
    with pytest.raises(asyncio.CancelledError):
        await user
    with pytest.raises(aiohaul.SessionError, match="is closed"):
        await session.s3().find("bucket")


# Being started twice, and being killed


async def test_fargate_task_is_gone_on_with(supervisor: Supervisor) -> None:
    async with FakeEcs() as ecs:
        first = asyncio.create_task(outcome(fargate(ecs.url)))
        await ecs.until(lambda: ecs.calls["DescribeTasks"] > 0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        (arn,) = ecs.tasks
        assert supervisor.xcom == {"try": TOKEN, "begun": True, "started": arn}
        ecs.end(arn, 0)
        event = await outcome(fargate(ecs.url))
    assert (event["ok"], event["report"]["task"]) == (True, arn)
    assert (ecs.calls["RunTask"], ecs.stopped) == (1, [])


async def test_another_triggerer_goes_on_with_what_looks_killed(supervisor: Supervisor) -> None:
    async with FakeEcs() as ecs:
        trigger = fargate(ecs.url)
        run = asyncio.create_task(outcome(trigger))
        await ecs.until(lambda: ecs.calls["DescribeTasks"] > 0)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        await trigger.on_kill()
        assert ecs.stopped == []
        # The next try of the task is deferred by now: this one was killed after all.
        supervisor.xcom = {"try": "another", "begun": False, "started": None}
        await trigger.on_kill()
        assert ecs.stopped == list(ecs.tasks)


async def test_fargate_task_of_a_dag_test_is_stopped_when_that_is_interrupted(
    supervisor: Supervisor,
) -> None:
    async with FakeEcs() as ecs:
        trigger = fargate(ecs.url)
        trigger.trigger_id = None
        run = asyncio.create_task(outcome(trigger))
        await ecs.until(lambda: ecs.calls["DescribeTasks"] > 0)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert ecs.stopped == list(ecs.tasks)
    assert supervisor.xcom["started"] == ecs.stopped[0]


@pytest.mark.usefixtures("supervisor")
async def test_function_is_not_called_again() -> None:
    async with FakeLambda(functions={"report": returning(b"1")}) as server:
        first, second = [await outcome(function(server.url)) for _ in range(2)]
        assert len(server.invocations) == 1
    assert (first["ok"], second["ok"]) == (True, False)
    with pytest.raises(AirflowFailException, match="was not called again"):
        report_or_raise(second)


async def test_durable_function_is_started_by_name_and_stopped_on_kill(
    supervisor: Supervisor,
) -> None:
    arn = (
        "arn:aws:lambda:eu-west-1:000000000000:function:report:1"
        f"/durable-execution/{TOKEN}/0123456789abcdef"
    )
    async with FakeLambda() as server:
        server.functions["report"] = returning(
            status=202, headers={"x-amz-durable-execution-arn": arn}
        )
        server.states[arn] = [{"Status": "RUNNING"}]
        trigger = function(server.url, durable=True)
        run = asyncio.create_task(outcome(trigger))
        await server.until(lambda: server.looks > 0)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert server.stopped == []
        supervisor.state = "failed"
        await trigger.on_kill()
        assert server.stopped == [arn]
        server.states[arn] = [{"Status": "SUCCEEDED", "Result": '{"rows": 7}'}]
        event = await outcome(function(server.url, durable=True))
    names = {each.headers["x-amz-durable-execution-name"] for each in server.invocations}
    assert names == {TOKEN}
    assert event["report"]["payload"] == {"rows": 7}


# What is stored and told


@pytest.mark.parametrize("kind", [TransferTrigger, FileWatchTrigger, FargateTrigger, LambdaTrigger])
def test_trigger_is_made_again_from_what_it_stores(kind: Any) -> None:
    made = kind({"type": "execution", "secret": "sEcReTkEy"}, ATTEMPT, CLOCK, "aws_default")
    name, arguments = made.serialize()
    again = kind(**json.loads(json.dumps(arguments)))
    assert again.serialize() == (name, arguments)
    assert name == f"aiohaul.airflow.triggers.{kind.__name__}"
    assert "sEcReTkEy" not in repr(made)


def test_failures_are_counted_and_the_first_are_told() -> None:
    failures = tuple(Failure(f"s3://in/{number}", "x" * 5000, "E") for number in range(10_000))
    report = TransferReport(
        found=10_000,
        size=1,
        destinations=(DestinationReport("s3://out/", 0, 0, failures, None, 1.0),),
    )
    event = failed(aiohaul.TransferError("it failed", report))
    assert event["report"]["failed"] == 10_000
    assert len(json.dumps(event)) < 10_000
    with pytest.raises(AirflowException, match="TransferError: it failed"):
        report_or_raise(event)


@pytest.mark.parametrize(("size", "whole"), [(10, True), (MAX_PAYLOAD, False)])
def test_large_answers_of_functions_are_left_out(size: int, whole: bool) -> None:
    report = InvocationReport("f", "RequestResponse", 200, "x" * size, "log", None, None, 1.0)
    answer = short_report(report)
    assert (answer["payload"] is not None) == whole
    assert answer["payload_size"] == size + 2


def test_answer_to_a_secret_payload_is_left_out() -> None:
    report = InvocationReport("f", "RequestResponse", 200, "x", "x", None, None, 1.0, secret=True)
    assert short_report(report)["payload"] is None


def test_event_of_a_function_that_failed_has_its_report() -> None:
    invocation = Invocation(
        function="f",
        status=200,
        payload={"errorMessage": "no"},
        log_tail="END",
        function_error="Handled",
        version=None,
        request_id=None,
        seconds=1.0,
    )
    event = failed(aiohaul.FunctionError("f failed", invocation))
    assert (event["report"]["ok"], event["report"]["payload"]) == (False, {"errorMessage": "no"})


def test_time_is_counted_from_the_first_start() -> None:
    clock = Clock.of(100.0, 50.0, None, 30.0)
    assert clock.limit == 30.0
    assert (clock.remaining(110.0), clock.remaining(110.0, 15.0), clock.remaining(200.0)) == (
        20.0,
        5.0,
        0.0,
    )
    definition = {"source": {"bucket": "b", "fileWatch": {"timeout": 60, "sleepTime": 1}}}
    assert clock.with_remaining_time(definition, 120.0)["source"]["fileWatch"] == {
        "timeout": 40.0,
        "sleepTime": 1,
    }
    assert definition["source"]["fileWatch"]["timeout"] == 60  # type: ignore[index]


@pytest.mark.parametrize("wrong", [[], {"type": "transfer"}, {"type": "batch", "tasks": []}])
def test_wrong_definition_is_not_tried_again(wrong: Any) -> None:
    with pytest.raises(AirflowFailException):
        checked_definition(wrong)


SECRETS = ["secret_access_key", "session_token", "assume_role_external_id"]


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("value", ["sEcReTkEy", "{{ var.value.key }}"])
def test_keys_in_a_definition_are_refused_before_airflow_stores_them(name: str, value: str) -> None:
    """When the DAG is read, after the templates are rendered, and where a trigger is made."""
    s3 = {"name": f"{HANDLERS}.s3.S3Transfer"}
    with_keys = s3 | {name: value}
    source = {"bucket": "in", "fileRegex": "x", "protocol": s3}
    for where, definition in (
        ("source", {"type": "transfer", "source": source | {"protocol": with_keys}}),
        (
            "destination[0]",
            {
                "type": "transfer",
                "source": source,
                "destination": [{"bucket": "out", "protocol": with_keys}],
            },
        ),
    ):
        for made in (
            lambda d=definition: TransferOperator(task_id="t", definition=d),
            lambda d=definition: TransferTrigger(d, ATTEMPT, CLOCK),
        ):
            with pytest.raises(aiohaul.DefinitionError, match=r"aws_conn_id") as refused:
                made()
            assert refused.value.path == f"{where}.protocol.{name}"
            assert value not in str(refused.value)
        with pytest.raises(AirflowFailException, match="aws_conn_id"):
            checked_definition(definition)
    with pytest.raises(aiohaul.DefinitionError, match="aws_conn_id"):
        FileWatchSensor(task_id="t", bucket="b", file_regex="x", protocol={name: value})


def test_definition_that_a_template_gives_is_checked_before_a_trigger_is_made() -> None:
    operator = TransferOperator(task_id="t", definition="{{ var.json.definition }}")  # type: ignore[arg-type]
    operator.definition = {
        "type": "execution",
        "bucket": "b",
        "key": "k",
        "protocol": {
            "name": f"{HANDLERS}.s3.S3Execution",
            "access_key_id": "a",
            "secret_access_key": "sEcReTkEy",
        },
    }
    with pytest.raises(AirflowFailException, match=r"protocol\.secret_access_key: .*aws_conn_id"):
        operator.execute({})


def test_watch_that_times_out_is_a_timeout_of_the_sensor() -> None:
    sensor = FileWatchSensor(task_id="t", bucket="b", file_regex="x", timeout=5)
    event = {"ok": False, "kind": "WatchTimeoutError", "error": "nothing", "report": None}
    with pytest.raises(AirflowSensorTimeout, match="nothing"):
        sensor.execute_complete({}, event)
    aiohaul.validate(sensor.definition())


# Connections


@pytest.mark.usefixtures("supervisor")
@pytest.mark.parametrize(
    ("payload", "sent"), [('{"day": "2026-01-31"}', {"day": "2026-01-31"}), ("day", "day")]
)
def test_payload_that_tojson_wrote_is_an_object(payload: str, sent: Any) -> None:
    definition = {
        "type": "execution",
        "functionArn": "report",
        "payload": payload,
        "protocol": protocol("lambda.LambdaExecution", "http://127.0.0.1:1"),
    }
    operator = LambdaOperator(task_id="t", definition=definition)
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, id=UUID(TOKEN))
    with pytest.raises(TaskDeferred) as e:
        operator.execute({"ti": ti})
    trigger = e.value.trigger
    assert isinstance(trigger, LambdaTrigger)
    assert trigger.definition["payload"] == sent


@pytest.mark.usefixtures("supervisor")
async def test_what_a_failed_function_gave_is_in_the_log_of_the_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = _lines_of(monkeypatch)
    async with FakeLambda(
        functions={"report": failing({"errorMessage": "no"}, log="END")}
    ) as server:
        event = await outcome(function(server.url))
    assert (event["ok"], event["report"]["ok"]) == (False, False)
    assert 'payload: {"errorMessage": "no"}' in lines
    assert "END" in lines


@pytest.mark.usefixtures("supervisor")
async def test_log_problem_is_in_the_log_of_the_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = _lines_of(monkeypatch)
    async with FakeEcs(log_group="/ecs/other", status="STOPPED") as server:
        trigger = fargate(server.url, cloudwatchLogGroupName="/ecs/work")
        running = asyncio.ensure_future(outcome(trigger))
        await server.until(lambda: len(server.tasks) == 1)
        server.end(next(iter(server.tasks)), 0)
        assert (await running)["ok"] is True
    assert len([line for line in lines if "but to /ecs/other" in line]) == 1


def _lines_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of the triggers' own log."""
    lines: list[str] = []

    class Log:
        def __getattr__(self, level: str) -> Any:
            return lambda message, *values: lines.append(message % values)

    monkeypatch.setattr(HaulTrigger, "log", Log())
    return lines


async def test_missing_default_connection_is_the_environment(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def missing(conn_id: str) -> None:
        raise AirflowNotFoundException(conn_id)

    monkeypatch.setattr("airflow.sdk.BaseHook.aget_connection", missing)
    assert await connection_settings("aws_default") == aiohaul.Settings()
    assert "the connection aws_default does not exist" in caplog.text
    with pytest.raises(AirflowNotFoundException):
        await connection_settings("aws_other")


def test_connection_gives_keys_role_and_endpoint() -> None:
    extra = {
        "region_name": "eu-west-1",
        "endpoint_url": "http://127.0.0.1:1",
        "role_arn": "arn:aws:iam::111122223333:role/in",
        "assume_role_kwargs": {"ExternalId": "x", "DurationSeconds": 900},
    }
    settings = settings_from("aws", "AKIDEXAMPLE", "sEcReTkEy", extra)
    assert (settings.access_key_id, settings.secret_access_key) == ("AKIDEXAMPLE", "sEcReTkEy")
    assert (settings.region, settings.role_duration) == ("eu-west-1", 900)
    assert settings.role_external_id == "x"
    assert settings.endpoint_url == "http://127.0.0.1:1"


@pytest.mark.parametrize("name", ["profile_name", "session_kwargs", "config_kwargs"])
def test_connection_that_says_more_is_refused(name: str) -> None:
    with pytest.raises(aiohaul.SettingsError, match=name):
        settings_from("aws", None, None, {name: "x"})
