"""Under Open Task Framework: its own task handlers, validators and loader, on aiohaul."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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

import aiohaul
from aiohaul import blocking
from opentaskpy import exceptions
from opentaskpy.addons.aws.remotehandlers.s3 import S3Execution, S3Transfer
from opentaskpy.plugins.lookup.aws import secrets_manager, ssm
from opentaskpy.variablecaching.aws import vc_secretsmanager, vc_ssm
from tests.support.fake_ecs import FakeEcs
from tests.support.fake_http import FakeServer, Request
from tests.support.fake_lambda import FakeLambda, failing, returning
from tests.support.gateway import Gateway
from tests.support.secrets_of_moto import create_secret
from tests.support.servers import KEY, REGION, SECRET
from tests.support.store import Store

HANDLERS = "opentaskpy.addons.aws.remotehandlers"
LambdaExecution = import_module(f"{HANDLERS}.lambda").LambdaExecution
FargateTaskExecution = import_module(f"{HANDLERS}.ecsfargate").FargateTaskExecution

pytestmark = pytest.mark.usefixtures("otf")


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


async def test_subdirectories_keep_their_paths_where_s3_copies(moto_s3: Store) -> None:
    one, two = [await moto_s3.bucket() for _ in range(2)]
    tree = {"a.txt": b"a", "y/a.txt": b"b", "y/z/c.txt": b"c"}
    await moto_s3.fill(one, {f"src/{name}": data for name, data in tree.items()})
    given = source(
        moto_s3, one, recursive=True, postCopyAction={"action": "move", "destination": "done/"}
    )
    assert await carried_out(transfer(given, to(moto_s3, two, directory="in")))
    assert await moto_s3.contents(two) == {f"in/{name}": data for name, data in tree.items()}
    assert await moto_s3.contents(one) == {f"done/{name}": data for name, data in tree.items()}


async def test_subdirectories_do_not_go_through_the_worker(
    moto_s3: Store, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = [await moto_s3.bucket() for _ in range(2)]
    await moto_s3.put(one, "src/y/a.txt", b"a")
    given = source(moto_s3, one, recursive=True)
    with pytest.raises(exceptions.RemoteTransferError):
        await carried_out(transfer(given, to(moto_s3, two, transferType="proxy")))
    assert "run this definition with aiohaul run" in caplog.text
    assert await moto_s3.keys(two) == []


@pytest.mark.parametrize(
    "off", [{"disableBucketOwnerControlACL": True}, {"bucket_owner_full_control": False}]
)
async def test_no_acl_where_it_is_disabled(moto_s3: Store, off: dict[str, bool]) -> None:
    one, two = [await moto_s3.bucket() for _ in range(2)]
    await moto_s3.put(one, "src/a.txt", b"a")
    there = to(moto_s3, two, flags={"fullPath": "done"}, protocol=moto_s3.protocol(**off))
    assert await carried_out(transfer(source(moto_s3, one), there))
    for key in ("in/a.txt", "done"):
        assert not await moto_s3.has_owner_acl(two, key)


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
    for bucket, key in [(two, "in/a.txt"), (archive, "old/a.txt")]:
        assert await moto_s3.has_owner_acl(bucket, key)
    assert await moto_s3.keys(one) == []


@pytest.mark.smoke
async def test_s3_to_local_and_back(moto_s3: Store, tmp_path: Path) -> None:
    one, two = [await moto_s3.bucket() for _ in range(2)]
    await moto_s3.put(one, "src/a.txt", b"a")
    here = {"directory": str(tmp_path), "protocol": {"name": "local"}}
    assert await carried_out(transfer(source(moto_s3, one), dict(here)))
    assert (tmp_path / "a.txt").read_bytes() == b"a"
    assert await carried_out(transfer({**here, "fileRegex": "a"}, to(moto_s3, two)))
    assert await moto_s3.contents(two) == {"in/a.txt": b"a"}


async def test_a_source_without_a_directory_is_the_whole_bucket(
    moto_s3: Store, tmp_path: Path
) -> None:
    one, two = [await moto_s3.bucket() for _ in range(2)]
    await moto_s3.fill(one, {"a.txt": b"a", "deep/er/b.txt": b"b"})
    given = {"bucket": one, "fileRegex": ".*", "protocol": moto_s3.protocol()}
    here = {"directory": str(tmp_path), "protocol": {"name": "local"}}
    there = {"bucket": two, "protocol": moto_s3.protocol()}
    assert await carried_out(transfer({**given, "fileWatch": {"timeout": 1}}, there))
    assert await moto_s3.contents(two) == {"a.txt": b"a", "b.txt": b"b"}
    assert await carried_out(transfer(given, here))
    assert (tmp_path / "b.txt").read_bytes() == b"b"


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


async def test_a_listing_asks_for_no_object_by_itself(proxied: tuple[Gateway, Store]) -> None:
    way, s3 = proxied
    bucket = await s3.bucket()
    await s3.fill(bucket, {f"src/{number}.txt": b"x" * number for number in range(20)})
    way.log.clear()
    handler = S3Transfer(source(s3, bucket, task_id="t"))
    found = await to_thread.run_sync(handler.list_files)
    assert {key: each["size"] for key, each in found.items()} == {
        f"src/{number}.txt": number for number in range(20)
    }
    assert all(abs(each["modified_time"] - time.time()) < 60 for each in found.values())
    assert [line.partition("?")[0] for line in way.log] == [f"GET /{bucket}"]


async def test_many_threads_with_many_handlers_share_one_more_thread(moto_s3: Store) -> None:
    one, two = [await moto_s3.bucket() for _ in range(2)]
    await moto_s3.put(one, "src/a.txt", b"a")
    before = threading.active_count()
    meet = threading.Barrier(20)
    most: list[int] = []

    def haul(number: int) -> None:
        there = S3Transfer({**to(moto_s3, two, directory=f"{number}"), "task_id": "t"})
        for turn in range(5):
            here = S3Transfer(source(moto_s3, one, task_id=f"t{number}-{turn}"))
            meet.wait()
            found = here.list_files()
            most.append(threading.active_count())
            assert here.transfer_files(found, {}, dest_remote_handler=there) == 0
            here.tidy()

    def haul_in_threads() -> None:
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(haul, range(20)))

    await to_thread.run_sync(haul_in_threads)
    assert len(most) == 100
    assert max(most) <= before + 20 + 2  # the threads here, the loop's, and the one that waits
    assert await moto_s3.keys(two) == sorted(f"{number}/a.txt" for number in range(20))


# From 3.12 on Python warns of what is tested here.
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
async def test_a_handler_of_the_parent_works_in_a_forked_process(moto_s3: Store) -> None:
    bucket = await moto_s3.bucket()
    await moto_s3.put(bucket, "src/a.txt", b"a")
    handler = S3Transfer(source(moto_s3, bucket, task_id="t"))
    assert list(await to_thread.run_sync(handler.list_files)) == ["src/a.txt"]
    child = os.fork()
    if not child:  # pragma: no cover  # in a process of its own
        code = 1
        try:
            code = 0 if list(handler.list_files()) == ["src/a.txt"] else 2
        finally:
            os._exit(code)
    _, status = await to_thread.run_sync(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert list(await to_thread.run_sync(handler.list_files)) == ["src/a.txt"]


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
        server.release.set()
        assert await to_thread.run_sync(handler.execute) is True
        assert len(server.invocations) == 2


async def test_kill_before_execute() -> None:
    async with FakeLambda() as server:
        server.functions["work"] = returning()
        handler = LambdaExecution({**call_of(server, "work"), "task_id": "t"})
        handler.tidy()
        handler.kill()
        handler.tidy()
        handler.kill()
        assert await to_thread.run_sync(handler.execute) is False
        assert server.invocations == []
        assert await to_thread.run_sync(handler.execute) is True


async def test_kill_while_a_role_is_being_assumed() -> None:
    async with FakeLambda() as server:
        asked = asyncio.Event()

        async def hold(request: Request) -> None:
            asked.set()
            await request.connection.until_gone()

        server.serve = hold  # type: ignore[method-assign]
        given = call_of(server, "work")
        given["protocol"]["assume_role_arn"] = "arn:aws:iam::000000000000:role/slow"
        handler = LambdaExecution({**given, "task_id": "t"})
        ended: list[bool] = []
        thread = threading.Thread(target=lambda: ended.append(handler.execute()))
        thread.start()
        await asked.wait()
        handler.kill()
        await to_thread.run_sync(thread.join, 1)
        assert ended == [False]


async def test_kill_while_the_first_client_of_the_process_is_made() -> None:
    async with FakeLambda() as server:
        server.functions["work"] = server.holding()
        code = (
            "import json, sys, threading, time\n"
            "from importlib import import_module\n"
            f"handlers = import_module('{HANDLERS}.lambda')\n"
            "handler = handlers.LambdaExecution(json.loads(sys.argv[1]))\n"
            "ended = []\n"
            "thread = threading.Thread(target=lambda: ended.append(handler.execute()))\n"
            "thread.start()\n"
            "while not handler._calls._running:\n"
            "    pass\n"
            "killed = time.monotonic()\n"
            "handler.kill()\n"
            "thread.join()\n"
            "print(ended, time.monotonic() - killed < 1)\n"
        )
        spec = json.dumps({**call_of(server, "work"), "task_id": "t"})
        done = await to_thread.run_sync(
            lambda: subprocess.run(
                [sys.executable, "-c", code, spec],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
        )
        assert done.stdout == "[False] True\n"
        assert server.invocations == []


def task_of(server: FakeEcs) -> dict[str, Any]:
    return {
        "type": "execution",
        "clusterName": "batch",
        "taskFamily": "work",
        "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
        "cloudwatchLogGroupName": "/ecs/work",
        "protocol": {
            **call_of(server, "")["protocol"],
            "name": f"{HANDLERS}.ecsfargate.FargateTaskExecution",
        },
    }


@pytest.mark.smoke
async def test_kill_stops_a_fargate_task() -> None:
    async with FakeEcs() as server:
        handler = FargateTaskExecution({**task_of(server), "task_id": "t"})
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


async def test_what_a_killed_task_wrote_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of OTF kills what is out of time."""
    monkeypatch.setattr("aiohaul.compute.fargate._CANCELLED_LOG_TIMEOUT", 30)
    monkeypatch.setattr("aiohaul.blocking.GRACE", 30)
    async with FakeEcs(log=["it began"]) as server:
        handler = FargateTaskExecution({**task_of(server), "task_id": "t"})
        running = asyncio.create_task(to_thread.run_sync(handler.execute))
        await server.until(lambda: server.calls["DescribeTasks"] > 0)
        handler.kill()
        assert await running is False
        assert server.stopped == list(server.tasks)
    own = [each for each in caplog.records if each.name.startswith("opentaskpy")]
    assert "it began" in [each.getMessage() for each in own]


async def test_what_fargate_tasks_wrote_is_logged_however_they_ended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with FakeEcs(status="STOPPED", log=["it began", "it ended"]) as server:
        running = [asyncio.ensure_future(carried_out(task_of(server))) for _ in range(2)]
        await server.until(lambda: len(server.tasks) == 2)
        for code, arn in zip((0, 3), server.tasks, strict=True):
            server.end(arn, code)
        assert sorted(await asyncio.gather(*running)) == [False, True]
    lines = [record.getMessage() for record in caplog.records]
    assert lines.count("it began") == lines.count("it ended") == 2
    for code in (0, 3):
        assert any(f"exit code {code}" in line for line in lines)


async def test_what_a_function_gave_is_logged_when_it_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with FakeLambda() as server:
        server.functions["work"] = failing({"errorMessage": "no such day"}, log="START\nEND\n")
        assert await carried_out(call_of(server, "work")) is False
        lines = [record.getMessage() for record in caplog.records]
        assert 'payload: {"errorMessage": "no such day"}' in lines
        assert lines.index("START") < lines.index("END")
        caplog.clear()
        secret = {**call_of(server, "work"), "secretPayload": True}
        assert await carried_out(secret) is False
    assert not any("START" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("how", ["gone", "mistyped"])
async def test_log_problem_of_a_task_is_in_the_log_of_that_task(
    caplog: pytest.LogCaptureFixture, how: str
) -> None:
    async with FakeEcs(status="STOPPED") as server:
        if how == "gone":
            says = "The specified log group does not exist."
            server.errors["GetLogEvents"] = [(400, "ResourceNotFoundException", says)] * 2
        else:
            says = "main sends no log to /ecs/work, but to /ecs/other"
            server.log_group = "/ecs/other"
        running = asyncio.ensure_future(carried_out(task_of(server)))
        await server.until(lambda: len(server.tasks) == 1)
        server.end(next(iter(server.tasks)), 0)
        assert await running is True
    own = [each for each in caplog.records if each.name.startswith("opentaskpy")]
    warnings = [each.getMessage() for each in own if each.levelno == logging.WARNING]
    assert len([each for each in warnings if says in each]) == 1


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


async def test_a_function_that_is_not_there_is_a_failure() -> None:
    async with FakeLambda() as server:
        assert not await carried_out(call_of(server, "nowhere"))


def test_a_call_without_a_function_is_refused() -> None:
    with pytest.raises(exceptions.InvalidConfigError):
        LambdaExecution({"type": "execution", "protocol": {"name": "x"}, "task_id": "t"})


@pytest.mark.usefixtures("quick_batches")
async def test_a_batch_kills_a_call_at_its_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[float] = []
    back: list[tuple[float, bool]] = []
    execute, kill = LambdaExecution.execute, LambdaExecution.kill

    def noting_execute(self: Any) -> bool:
        done: bool = execute(self)
        back.append((time.monotonic(), done))
        return done

    def noting_kill(self: Any) -> None:
        killed.append(time.monotonic())
        kill(self)

    monkeypatch.setattr(LambdaExecution, "execute", noting_execute)
    monkeypatch.setattr(LambdaExecution, "kill", noting_kill)
    async with FakeLambda() as server:
        server.functions["work"] = server.holding()
        (tmp_path / "call.json").write_text(json.dumps(call_of(server, "work")))
        (tmp_path / "variables.json").write_text("{}")
        batch = {"type": "batch", "tasks": [{"order_id": 1, "task_id": "call", "timeout": 2}]}
        loader = await to_thread.run_sync(ConfigLoader, str(tmp_path))
        assert not await to_thread.run_sync(Batch(None, "a-batch", batch, loader).run)
        [(came_back, done)] = back
        assert done is False
        assert came_back - killed[0] < 1  # OTF itself looks for a timeout every five seconds
        await server.until(lambda: not server.connections)


def test_handlers_share_everything_that_costs(in_moto: None) -> None:  # noqa: ARG001
    before = threading.active_count()
    spec = {"type": "execution", "bucket": "b", "key": "k", "protocol": {"name": "x"}}
    handlers = [S3Execution({**spec, "task_id": f"t{number}"}) for number in range(100)]
    assert threading.active_count() <= before
    for handler in handlers:
        handler.tidy()


def s3_side(**more: Any) -> dict[str, Any]:
    given = {"bucket": "b", "fileRegex": "x", "protocol": {"name": f"{HANDLERS}.s3.S3Transfer"}}
    return {**given, **more}


def s3_protocol(**more: Any) -> dict[str, Any]:
    return {"protocol": {"name": f"{HANDLERS}.s3.S3Transfer", **more}}


def accepted_by_the_core(definition: dict[str, Any]) -> bool:
    try:
        aiohaul.validate(definition)
    except aiohaul.DefinitionError:
        return False
    return True


def accepted_by_otf(definition: dict[str, Any]) -> bool:
    validate = (
        validate_transfer_json if definition["type"] == "transfer" else validate_execution_json
    )
    accepted: bool = validate(json.loads(json.dumps(definition)))
    return accepted


@pytest.mark.parametrize(
    ("right", "more"),
    [
        (True, {}),
        (True, {"directory": "a/b", "error": False}),
        (False, {"directory": "/a"}),
        (False, {"directory": "a/"}),
        (False, {"bukket": "b"}),
        (False, {"bucket": 7}),
        (True, {"fileWatch": {"timeout": 1, "sleepTime": 2, "directory": "d", "watchOnly": True}}),
        (False, {"fileWatch": {"timeout": "long"}}),
        (True, {"conditionals": {"size": {"gt": 1}, "age": {"lt": 9}, "count": {"minCount": 1}}}),
        (False, {"conditionals": {"size": {}}}),
        (True, {"postCopyAction": {"action": "move", "destination": "s3://c/d/"}}),
        (False, {"postCopyAction": {"action": "move", "destination": "d"}}),
        (False, {"postCopyAction": {"action": "rename", "destination": "d/"}}),
        (True, {"postCopyAction": {"action": "none"}}),
        (False, {"postCopyAction": {"action": "burn"}}),
        (True, s3_protocol(disableBucketOwnerControlACL=True, endpoint_url="http://127.0.0.1:1")),
        (True, s3_protocol(bucket_owner_full_control=False)),
        (True, s3_protocol(assume_role_arn="arn:x", token_expiry_seconds=900)),
        (False, s3_protocol(token_expiry_seconds=900)),
        (False, s3_protocol(assume_role_arn="arn:x", token_expiry_seconds=10)),
        (False, s3_protocol(access_key_id="half")),
        (False, s3_protocol(unheard_of=True)),
    ],
)
def test_otf_and_the_core_accept_the_same_sources(right: bool, more: dict[str, Any]) -> None:
    definition = transfer(s3_side(**more))
    assert accepted_by_otf(definition) is accepted_by_the_core(definition) is right


@pytest.mark.parametrize(
    ("right", "more"),
    [
        (True, {"flag": {"fullPath": "f"}, "transferType": "proxy"}),
        (True, {"flags": {"fullPath": "f"}, "rename": {"pattern": "a", "sub": "b"}}),
        (False, {"flags": {}}),
        (False, {"rename": {"pattern": "a"}}),
        (False, {"transferType": "pull"}),
        (False, {"fileRegex": "x"}),
    ],
)
def test_otf_and_the_core_accept_the_same_destinations(right: bool, more: dict[str, Any]) -> None:
    there = {"bucket": "b", **s3_protocol(), **more}
    definition = transfer(s3_side(), there)
    assert accepted_by_otf(definition) is accepted_by_the_core(definition) is right


@pytest.mark.parametrize(
    ("right", "handler", "more"),
    [
        (True, "s3.S3Transfer", {"bucket": "b", "key": "k"}),
        (True, "s3.S3Execution", {"bucket": "b", "key": "k"}),
        (False, "s3.S3Execution", {"bucket": "b"}),
        (False, "lambda.LambdaExecution", {"bucket": "b", "key": "k"}),
        (True, "lambda.LambdaExecution", {"functionArn": "f", "payload": {"a": 1}, "timeout": 9}),
        (False, "lambda.LambdaExecution", {"functionArn": "f", "invocationType": "DryRun"}),
        (True, "lambda.LambdaExecution", {"functionArn": "f", "payload": "text"}),
        (False, "lambda.LambdaExecution", {"functionArn": "f", "clientContext": "text"}),
        (True, "lambda.LambdaExecution", {"functionArn": "f", "qualifier": "live"}),
        (
            True,
            "ecsfargate.FargateTaskExecution",
            {
                "clusterName": "c",
                "taskFamily": "t",
                "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["s"]}},
                "containerOverrides": {
                    "command": ["a"],
                    "environment": [{"name": "n", "value": "v"}],
                },
                "timeout": -1,
            },
        ),
        (False, "ecsfargate.FargateTaskExecution", {"clusterName": "c", "taskFamily": "t"}),
    ],
)
def test_otf_and_the_core_accept_the_same_executions(
    right: bool, handler: str, more: dict[str, Any]
) -> None:
    definition = {"type": "execution", "protocol": {"name": f"{HANDLERS}.{handler}"}, **more}
    assert accepted_by_otf(definition) is accepted_by_the_core(definition) is right


def test_otf_refuses_what_it_cannot_encrypt() -> None:
    assert not accepted_by_otf(transfer(s3_side(encryption={"sign": True})))


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


@pytest.mark.smoke
@pytest.mark.usefixtures("in_moto")
def test_a_parameter_is_kept_and_looked_up(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1)
    kept = name()
    vc_ssm.run(name=kept, value='hush "quoted"\nline')
    assert ssm.run(name=kept) == 'hush \\"quoted\\"\\\\nline'
    assert "hush" not in caplog.text


@pytest.mark.smoke
@pytest.mark.usefixtures("in_moto")
def test_a_secret_is_kept_and_looked_up(
    moto_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(1)
    kept = name()
    create_secret(moto_url, kept, "first")
    vc_secretsmanager.run(name=kept, value='{"a": {"b": ["hush", "x"]}, "n": 7}')
    caplog.set_level(logging.WARNING)
    vc_secretsmanager.run(name=kept, value="too soon", min_cache_age="60")
    assert "Not updating the secret" in caplog.text
    assert secrets_manager.run(name=kept, value="a.b[1]") == "x"
    assert secrets_manager.run(name=kept, value="a.b") == "hush"
    assert "list of length 2" in caplog.text
    assert secrets_manager.run(name=kept, value="a") == "LOOKUP_FAILED"
    assert secrets_manager.run(name=kept, value="c") == "LOOKUP_FAILED"
    assert secrets_manager.run(name=kept, value="a[") == "LOOKUP_FAILED"
    assert secrets_manager.run(name=kept, value="n") == 7
    monkeypatch.setenv("OTF_AWS_SECRETS_LOOKUP_FAILED_IS_ERROR", "1")
    with pytest.raises(exceptions.LookupPluginError, match="dict"):
        secrets_manager.run(name=kept, value="a")
    vc_secretsmanager.run(name=kept, value="hush, not JSON")
    with pytest.raises(json.JSONDecodeError) as caught:
        secrets_manager.run(name=kept, value="a")
    assert "hush" not in str(caught.value) + caught.value.doc + caplog.text


@pytest.mark.usefixtures("in_moto")
async def test_the_role_of_the_environment_is_for_tasks_and_not_for_lookups(
    proxied: tuple[Gateway, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    way, s3 = proxied
    bucket = await s3.bucket()
    monkeypatch.setenv("AWS_ENDPOINT_URL", way.url)
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::000000000000:role/hauler")
    signed: list[str] = []
    way.noting = lambda request: signed.extend(
        re.findall(r"/(\w+)/aws4_request", request.headers["Authorization"])
    )
    kept = name()
    await to_thread.run_sync(lambda: vc_ssm.run(name=kept, value="v"))
    assert await to_thread.run_sync(lambda: ssm.run(name=kept)) == "v"
    assert signed == ["ssm", "ssm"]
    signed.clear()
    given = {"bucket": bucket, "protocol": {"name": f"{HANDLERS}.s3.S3Transfer"}, "task_id": "t"}
    assert await to_thread.run_sync(S3Transfer(given).list_files) == {}
    assert signed == ["sts", "s3"]


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
    async def where(_: aiohaul.Session) -> int:
        return threading.get_ident()

    with ThreadPoolExecutor(4) as pool:
        loops = {call.result() for call in [pool.submit(blocking.call, where) for _ in range(8)]}
    (loop,) = [each for each in threading.enumerate() if each.ident in loops]
    assert (loop.name, loop.daemon) == ("aiohaul", True)
