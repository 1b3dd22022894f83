"""Under Open Task Framework: its own task handlers, validators and loader, on aiohaul."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from anyio import to_thread
from botocore.exceptions import ClientError
from opentaskpy.config.loader import ConfigLoader
from opentaskpy.config.schemas import validate_execution_json, validate_transfer_json
from opentaskpy.taskhandlers.batch import Batch
from opentaskpy.taskhandlers.execution import Execution
from opentaskpy.taskhandlers.transfer import Transfer

from aiohaul import blocking
from fake_ecs import FakeEcs
from fake_http import FakeServer
from fake_lambda import FakeLambda
from gateway import Gateway
from opentaskpy import exceptions
from opentaskpy.addons.aws.remotehandlers.s3 import S3Execution, S3Transfer
from opentaskpy.plugins.lookup.aws import secrets_manager, ssm
from opentaskpy.variablecaching.aws import vc_secretsmanager, vc_ssm
from servers import KEY, REGION, SECRET
from store import Store

HANDLERS = "opentaskpy.addons.aws.remotehandlers"
LambdaExecution = import_module(f"{HANDLERS}.lambda").LambdaExecution


@pytest.fixture(autouse=True)
def otf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OTF_NO_LOG", "1")
    monkeypatch.setenv("OTF_STAGING_DIR", str(tmp_path / "staging"))


@pytest.fixture
def in_moto(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": moto_url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": REGION,
    }.items():
        monkeypatch.setenv(name, value)


def source(s3: Store, bucket: str, **more: Any) -> dict[str, Any]:
    start = {"bucket": bucket, "directory": "src", "fileRegex": r".*\.txt"}
    return {**start, "protocol": s3.protocol(), **more}


def to(s3: Store, bucket: str, **more: Any) -> dict[str, Any]:
    return {"bucket": bucket, "directory": "in", "protocol": s3.protocol(), **more}


def transfer(first: dict[str, Any], *rest: dict[str, Any]) -> dict[str, Any]:
    definition: dict[str, Any] = {"type": "transfer", "source": first}
    return {**definition, "destination": list(rest)} if rest else definition


async def carried_out(definition: dict[str, Any]) -> bool:
    """Validated and run as task-run does it."""
    if definition["type"] == "transfer":
        assert validate_transfer_json(definition)
        task: Any = Transfer(None, "a-transfer", definition)
    else:
        assert validate_execution_json(definition)
        task = Execution(None, "an-execution", definition)
    done: bool = await to_thread.run_sync(task.run)
    return done


async def test_s3_to_two_buckets_with_flag_acl_and_delete(moto_s3: Store) -> None:
    one, two, three = [await moto_s3.bucket() for _ in range(3)]
    await moto_s3.fill(one, {"src/a.txt": b"a", "src/b.txt": b"bb", "src/c.log": b"c"})
    await moto_s3.put(one, "src/deeper/d.txt", b"d")
    assert await carried_out(
        transfer(
            source(moto_s3, one, postCopyAction={"action": "delete"}),
            to(moto_s3, two, flag={"fullPath": "in/done.flg"}),
            to(moto_s3, three, directory="", rename={"pattern": "^", "sub": "x-"}),
        )
    )
    assert await moto_s3.contents(two) == {"in/a.txt": b"a", "in/b.txt": b"bb", "in/done.flg": b""}
    assert await moto_s3.keys(three) == ["x-a.txt", "x-b.txt"]
    assert await moto_s3.keys(one) == ["src/c.log", "src/deeper/d.txt"]
    for bucket, key in [(two, "in/a.txt"), (two, "in/done.flg"), (three, "x-b.txt")]:
        assert await moto_s3.has_owner_acl(bucket, key)


async def test_proxy_and_move_to_another_bucket(moto_s3: Store) -> None:
    one, two, archive = [await moto_s3.bucket() for _ in range(3)]
    await moto_s3.fill(one, {"src/a.txt": b"a", "src/.hidden.txt": b"h"})
    action = {"action": "move", "destination": f"s3://{archive}/old/"}
    assert await carried_out(
        transfer(
            source(moto_s3, one, postCopyAction=action),
            to(moto_s3, two, transferType="proxy"),
        )
    )
    assert await moto_s3.contents(two) == {"in/a.txt": b"a", "in/.hidden.txt": b"h"}
    assert await moto_s3.keys(archive) == ["old/.hidden.txt", "old/a.txt"]
    assert await moto_s3.keys(one) == []


async def test_s3_to_local_and_back(moto_s3: Store, tmp_path: Path) -> None:
    one, two = [await moto_s3.bucket() for _ in range(2)]
    await moto_s3.put(one, "src/a.txt", b"a")
    here = {"directory": str(tmp_path), "protocol": {"name": "local"}}
    assert await carried_out(transfer(source(moto_s3, one), dict(here)))
    assert (tmp_path / "a.txt").read_bytes() == b"a"
    assert await carried_out(transfer({**here, "fileRegex": "a"}, to(moto_s3, two)))
    assert await moto_s3.contents(two) == {"in/a.txt": b"a"}


async def test_a_watch_without_a_regex_of_its_source(moto_s3: Store) -> None:
    one, two = [await moto_s3.bucket() for _ in range(2)]
    await moto_s3.put(one, "src/a.txt", b"a")
    await moto_s3.put(one, "watched/b.txt", b"b")
    given = {
        "bucket": one,
        "fileWatch": {"timeout": 5, "directory": "watched", "fileRegex": "b"},
        "protocol": moto_s3.protocol(),
    }
    assert await carried_out(transfer(given, to(moto_s3, two)))
    assert await moto_s3.keys(two) == ["in/b.txt"]


async def test_a_log_watch_reads_what_is_new(proxied: tuple[Gateway, Store]) -> None:
    way, s3 = proxied
    ranges: list[str] = []
    way.noting = lambda request: ranges.extend(request.headers.getall("Range", []))
    bucket = await s3.bucket()
    await s3.put(bucket, "logs/app.log", b"done\nbegun\n")
    watch = {"log": "app.log", "directory": "logs", "contentRegex": "^done$", "tail": True}
    handler = S3Transfer(source(s3, bucket, logWatch=watch, task_id="t"))
    assert await to_thread.run_sync(handler.init_logwatch) == 0
    assert await to_thread.run_sync(handler.do_logwatch) == 1
    await s3.put(bucket, "logs/app.log", b"done\nbegun\ndo")
    assert await to_thread.run_sync(handler.do_logwatch) == 1
    await s3.put(bucket, "logs/app.log", b"done\nbegun\ndone\n")
    assert await to_thread.run_sync(handler.do_logwatch) == 0
    await s3.put(bucket, "logs/app.log", b"done")
    assert await to_thread.run_sync(handler.do_logwatch) == 0
    assert ranges == ["bytes=11-12", "bytes=13-15", "bytes=0-3"]


async def test_a_transfer_after_a_log_watch(moto_s3: Store) -> None:
    one, two = [await moto_s3.bucket() for _ in range(2)]
    await moto_s3.fill(one, {"src/a.txt": b"a", "app.log": b"all is well\n"})
    watch = {"log": "app.log", "directory": "", "contentRegex": "is well"}
    assert await carried_out(transfer(source(moto_s3, one, logWatch=watch), to(moto_s3, two)))
    assert await moto_s3.keys(two) == ["in/a.txt"]
    with pytest.raises(exceptions.LogWatchInitError):
        await carried_out(transfer(source(moto_s3, one, logWatch={**watch, "log": "no"})))


async def test_what_changed_after_the_listing_is_not_deleted(moto_s3: Store) -> None:
    one = await moto_s3.bucket()
    await moto_s3.put(one, "src/a.txt", b"a")
    given = source(moto_s3, one, postCopyAction={"action": "delete"}, task_id="t")
    handler = S3Transfer(given)
    found = await to_thread.run_sync(handler.list_files, "src", ".*")
    assert found["src/a.txt"]["size"] == 1
    assert abs(found["src/a.txt"]["modified_time"] - time.time()) < 60
    await moto_s3.put(one, "src/a.txt", b"new")
    assert await to_thread.run_sync(handler.handle_post_copy_action, found) == 1
    assert await moto_s3.keys(one) == ["src/a.txt"]
    handler.tidy()
    handler.tidy()


async def test_two_sources_of_one_name_are_not_copied(moto_s3: Store) -> None:
    one, two = [await moto_s3.bucket() for _ in range(2)]
    await moto_s3.fill(one, {"a/x.txt": b"1", "b/x.txt": b"2"})
    with pytest.raises(exceptions.RemoteTransferError):
        await carried_out(transfer(source(moto_s3, one, directory=""), to(moto_s3, two)))
    assert await moto_s3.keys(two) == []


async def test_a_bucket_that_is_not_there_is_a_client_error(moto_s3: Store) -> None:
    with pytest.raises(ClientError, match="NoSuchBucket"):
        await carried_out(transfer(source(moto_s3, f"no-{uuid4().hex}")))


@pytest.mark.parametrize("name", ["S3Execution", "S3Transfer"])
async def test_touch(moto_s3: Store, name: str) -> None:
    bucket = await moto_s3.bucket()
    definition = {
        "type": "execution",
        "bucket": bucket,
        "key": "flags/f.flg",
        "protocol": moto_s3.protocol(name=f"{HANDLERS}.s3.{name}"),
    }
    assert await carried_out(definition)
    assert await moto_s3.contents(bucket) == {"flags/f.flg": b""}
    assert await moto_s3.has_owner_acl(bucket, "flags/f.flg")


def call_of(server: FakeServer, function: str) -> dict[str, Any]:
    return {
        "type": "execution",
        "functionArn": function,
        "invocationType": "RequestResponse",
        "protocol": {
            "name": f"{HANDLERS}.lambda.LambdaExecution",
            "access_key_id": KEY,
            "secret_access_key": SECRET,
            "region_name": REGION,
            "endpoint_url": server.url,
        },
    }


async def test_kill_ends_execute_within_a_second() -> None:
    async with FakeLambda() as server:
        server.functions["work"] = server.holding()
        handler = LambdaExecution({**call_of(server, "work"), "task_id": "t"})
        ended: list[tuple[bool, float]] = []
        thread = threading.Thread(
            target=lambda: ended.append((handler.execute(), time.monotonic()))
        )
        thread.start()
        await server.until(lambda: len(server.invocations) == 1)
        killed = time.monotonic()
        handler.kill()
        await to_thread.run_sync(thread.join, 5)
        assert ended[0][0] is False
        assert ended[0][1] - killed < 1
        handler.kill()
        assert await to_thread.run_sync(handler.execute) is False
        assert len(server.invocations) == 1


async def test_kill_before_execute() -> None:
    async with FakeLambda() as server:
        handler = LambdaExecution({**call_of(server, "work"), "task_id": "t"})
        handler.kill()
        assert await to_thread.run_sync(handler.execute) is False
        assert server.invocations == []


async def test_kill_stops_a_fargate_task() -> None:
    async with FakeEcs() as server:
        handler = import_module(f"{HANDLERS}.ecsfargate").FargateTaskExecution(
            {
                "type": "execution",
                "clusterName": "batch",
                "taskFamily": "work",
                "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
                "protocol": {
                    **call_of(server, "")["protocol"],
                    "name": f"{HANDLERS}.ecsfargate.FargateTaskExecution",
                },
                "task_id": "t",
            }
        )
        ended: list[bool] = []
        thread = threading.Thread(target=lambda: ended.append(handler.execute()))
        thread.start()
        await server.until(lambda: server.calls["DescribeTasks"] > 0)
        killed = time.monotonic()
        handler.kill()
        await to_thread.run_sync(thread.join, 5)
        assert time.monotonic() - killed < 1
        assert ended == [False]
        assert server.stopped == list(server.tasks)


async def test_a_transfer_that_is_killed(proxied: tuple[Gateway, Store]) -> None:
    way, s3 = proxied
    one, two = [await s3.bucket() for _ in range(2)]
    await s3.put(one, "src/a.txt", b"a")
    held = way.rule("^COPY", hold=True)
    here, there = (S3Transfer({**side, "task_id": "t"}) for side in (source(s3, one), to(s3, two)))
    found = await to_thread.run_sync(here.list_files)
    ended: list[int] = []
    thread = threading.Thread(
        target=lambda: ended.append(here.transfer_files(found, {}, dest_remote_handler=there))
    )
    thread.start()
    await held.reached.wait()
    here.kill()
    await to_thread.run_sync(thread.join, 1)
    assert ended == [1]
    assert await s3.keys(two) == []


def command(*arguments: str, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("task-run")), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environ},
    )


@pytest.mark.usefixtures("in_moto")
async def test_task_run_from_a_folder_with_variables_and_lookups(
    moto_s3: Store, tmp_path: Path
) -> None:
    one, two = [await moto_s3.bucket() for _ in range(2)]
    await moto_s3.put(one, "src/a.txt", b"a")
    kept = name()
    await to_thread.run_sync(lambda: vc_ssm.run(name=kept, value=two))
    (tmp_path / "variables.json.j2").write_text(
        json.dumps({"INBOX": one, "OUT": f"{{{{ lookup('aws.ssm', name='{kept}') }}}}"})
    )
    protocol = {"name": f"{HANDLERS}.s3.S3Transfer"}
    definition = transfer(
        {"bucket": "{{ INBOX }}", "directory": "src", "fileRegex": ".*", "protocol": protocol},
        {"bucket": "{{ OUT }}", "protocol": protocol, "flag": {"fullPath": "done"}},
    )
    (tmp_path / "haul.json.j2").write_text(json.dumps(definition))
    done = await to_thread.run_sync(
        lambda: command("-t", "haul", "-c", str(tmp_path), environ={"OTF_NO_LOG": "1"})
    )
    assert done.returncode == 0, done.stderr
    assert await moto_s3.contents(two) == {"a.txt": b"a", "done": b""}
    assert f"s3://{one}/src/a.txt is at s3://{two}/a.txt, verified" in done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr


async def test_a_function_that_is_not_there_is_a_failure() -> None:
    async with FakeLambda() as server:
        assert not await carried_out(call_of(server, "nowhere"))


def test_a_call_without_a_function_is_refused() -> None:
    with pytest.raises(exceptions.InvalidConfigError):
        LambdaExecution({"type": "execution", "protocol": {"name": "x"}, "task_id": "t"})


async def test_a_batch_ends_a_call_at_its_timeout(tmp_path: Path) -> None:
    async with FakeLambda() as server:
        server.functions["work"] = server.holding()
        (tmp_path / "call.json").write_text(json.dumps(call_of(server, "work")))
        (tmp_path / "variables.json").write_text("{}")
        batch = {"type": "batch", "tasks": [{"order_id": 1, "task_id": "call", "timeout": 2}]}
        loader = await to_thread.run_sync(ConfigLoader, str(tmp_path))
        begun = time.monotonic()
        assert not await to_thread.run_sync(Batch(None, "a-batch", batch, loader).run)
        assert time.monotonic() - begun < 15  # OTF itself looks every five seconds


async def test_a_process_whose_batch_was_killed_waits_for_nothing(tmp_path: Path) -> None:
    async with FakeLambda() as server:
        server.functions["work"] = server.holding()
        (tmp_path / "call.json").write_text(json.dumps(call_of(server, "work")))
        (tmp_path / "variables.json").write_text("{}")
        tasks = [
            {"order_id": 1, "task_id": "call", "timeout": 2},
            {"order_id": 2, "task_id": "call", "dependencies": [1]},
        ]
        (tmp_path / "batch.json").write_text(json.dumps({"type": "batch", "tasks": tasks}))
        begun = time.monotonic()
        done = await to_thread.run_sync(
            lambda: command("-t", "batch", "-c", str(tmp_path), environ={"OTF_NO_LOG": "1"})
        )
        assert time.monotonic() - begun < 25
        assert done.returncode != 0
        assert len(server.invocations) == 1
        assert "Unclosed" not in done.stdout + done.stderr
        assert "Fatal" not in done.stderr
        assert SECRET not in done.stdout + done.stderr


def test_handlers_share_everything_that_costs(in_moto: None) -> None:  # noqa: ARG001
    before = threading.active_count()
    spec = {"type": "execution", "bucket": "b", "key": "k", "protocol": {"name": "x"}}
    handlers = [S3Execution({**spec, "task_id": f"t{number}"}) for number in range(100)]
    assert threading.active_count() <= before
    for handler in handlers:
        handler.tidy()


@pytest.mark.parametrize("wrong", [{"bukket": "b"}, {"encryption": {"sign": True}}])
def test_otf_refuses_what_the_contract_refuses(wrong: dict[str, Any]) -> None:
    protocol = {"name": f"{HANDLERS}.s3.S3Transfer"}
    given = {"bucket": "b", "fileRegex": "x", "protocol": protocol}
    assert validate_transfer_json(transfer(given, {"bucket": "c", "protocol": protocol}))
    assert not validate_transfer_json(transfer({**given, **wrong}))


def test_otf_accepts_encryption_and_many_kinds_of_destinations() -> None:
    protocol = {"name": f"{HANDLERS}.s3.S3Transfer", "disableBucketOwnerControlACL": True}
    definition = transfer(
        {"bucket": "b", "fileRegex": "x", "protocol": dict(protocol)},
        {"bucket": "c", "protocol": dict(protocol), "flag": {"fullPath": "f"}},
        {"bucket": "d", "protocol": dict(protocol), "encryption": {"encrypt": True}},
        {"directory": "/tmp/x", "protocol": {"name": "local"}},  # noqa: S108
    )
    assert validate_transfer_json(definition)
    # OTF reads these two from the very object that the handler got.
    side = {**definition["destination"][0], "task_id": "t"}
    S3Transfer(side)
    assert side["directory"] == ""
    assert side["flags"] == {"fullPath": "f"}


def name() -> str:
    return f"/test/{uuid4().hex}"


@pytest.mark.usefixtures("in_moto")
def test_a_parameter_is_kept_and_looked_up(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1)
    kept = name()
    vc_ssm.run(name=kept, value='hush "quoted"\nline')
    assert ssm.run(name=kept) == 'hush \\"quoted\\"\\\\nline'
    assert "hush" not in caplog.text


@pytest.mark.usefixtures("in_moto")
def test_a_secret_is_kept_and_looked_up(
    moto_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(1)
    kept = name()
    _create_secret(moto_url, kept, "first")
    vc_secretsmanager.run(name=kept, value='{"a": {"b": ["hush", "x"]}}')
    caplog.set_level(logging.WARNING)
    vc_secretsmanager.run(name=kept, value="too soon", min_cache_age="60")
    assert "Not updating secret because secret last updated at" in caplog.text
    assert secrets_manager.run(name=kept, value="a.b[1]") == "x"
    assert secrets_manager.run(name=kept, value="a.b") == "hush"
    assert "list of length 2" in caplog.text
    assert secrets_manager.run(name=kept, value="a") == "LOOKUP_FAILED"
    assert secrets_manager.run(name=kept, value="c") == "LOOKUP_FAILED"
    monkeypatch.setenv("OTF_AWS_SECRETS_LOOKUP_FAILED_IS_ERROR", "1")
    with pytest.raises(exceptions.LookupPluginError, match="dict"):
        secrets_manager.run(name=kept, value="a")
    vc_secretsmanager.run(name=kept, value="hush, not JSON")
    with pytest.raises(json.JSONDecodeError) as caught:
        secrets_manager.run(name=kept, value="a")
    assert "hush" not in str(caught.value) + caught.value.doc + caplog.text


def _create_secret(url: str, kept: str, value: str) -> None:
    import boto3  # noqa: PLC0415  # moto brings it; only this test wants it

    client = boto3.client(
        "secretsmanager",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
    )
    client.create_secret(Name=kept, SecretString=value)
    client.close()


@pytest.mark.usefixtures("in_moto")
@pytest.mark.parametrize(
    ("run", "said"),
    [
        (ssm.run, "SSM parameter lookup failed but continuing anyway"),
        (secrets_manager.run, "Secrets Manager lookup failed but continuing anyway"),
    ],
)
def test_a_lookup_that_fails(
    run: Callable[..., Any],
    said: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing = name()
    assert run(name=missing) == "LOOKUP_FAILED"
    assert said in caplog.text
    monkeypatch.setenv("OTF_AWS_SECRETS_LOOKUP_FAILED_IS_ERROR", "1")
    with pytest.raises(ClientError):
        run(name=missing)
    with pytest.raises(exceptions.LookupPluginError, match="Missing kwarg: 'name'"):
        run()


@pytest.mark.parametrize("given", [{}, {"name": "n"}, {"value": "v"}])
def test_keeping_needs_name_and_value(given: dict[str, str]) -> None:
    for cache in (vc_ssm, vc_secretsmanager):
        with pytest.raises(exceptions.CachingPluginError):
            cache.run(**given)


@pytest.mark.usefixtures("in_moto")
def test_a_template_looks_up_with_keys_of_its_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = name()
    vc_ssm.run(name=kept, value="found")
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(variable)
    (tmp_path / "variables.json.j2").write_text(
        json.dumps(
            {
                "AWS_ACCESS_KEY_ID": KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET,
                "AWS_REGION": REGION,
                "it": f"{{{{ lookup('aws.ssm', name='{kept}') }}}}",
            }
        )
    )
    loader = ConfigLoader(str(tmp_path))
    loader._load_global_variables()
    loader._resolve_templated_variables()
    assert loader.get_global_variables()["it"] == "found"


def test_one_loop_for_all_of_it() -> None:
    assert blocking._the_home().thread.daemon
