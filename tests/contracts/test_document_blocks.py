"""Every block of the documents is executed here, as it stands, against servers on real sockets.

What needs an orchestrator is executed in tests/orchestrators, what needs a server or a worker in
tests/apps; test_documents.py sees to it that no block is left out.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import re
import signal
import socket
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.session import AioSession

import aiohaul
from tests.support.compute_fixtures import _client
from tests.support.documents import (
    World,
    environment,
    executes,
    known_sessions,
    stopped_at_the_end,
    without,
)
from tests.support.fake_ecs import FakeEcs
from tests.support.fake_lambda import FakeLambda, returning
from tests.support.markdown_files import PROJECT, with_mark
from tests.support.package import ROOT, floor
from tests.support.servers import REGION
from tests.support.servers import moto as started_moto
from tests.support.store import Store, store

pytestmark = pytest.mark.timeout(180)

PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())
ACCOUNT = "111122223333"
NIGHT = ("fetch-orders", "fetch-customers", "load", "report", "tell")


@pytest.fixture
async def moto_store(moto: str) -> AsyncIterator[Store]:
    """A store on a moto that knows nothing yet: the documents' buckets have names."""
    async with store(moto, "moto") as made:
        yield made


@pytest.fixture
def world(moto_store: Store, tmp_path: Path) -> World:
    return World(tmp_path, environment(moto_store.url), moto_store)


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        return (await process.stdout.readline()).decode()


# Two commands


def installs(command: str) -> bool:
    """True for ``pip install`` of what this project offers; the names are compared."""
    words = re.fullmatch(r"(?:\S*/)?pip (install|uninstall)((?: -q)?(?: \S+)+)", command.strip())
    if words is None:
        return False
    for word in words[2].split():
        name, _, extras = word.strip("'\"").partition("[")
        for extra in filter(None, extras.rstrip("]").split(",")):
            assert extra in PYPROJECT["project"]["optional-dependencies"], command
        assert name.split("==")[0] in {
            *("-q", ".", "aiohaul", "nox", "otf-addons-aws", "apache-airflow")
        }, command
    return True


async def carried_out(block: str, world: World) -> list[str]:
    """Run the commands of ``aiohaul``; of the others see that what they name is there."""
    outputs = []
    for command in re.split(r" && |\n", block.strip()):
        if command == "python3 -m venv .venv" or installs(command):
            continue
        if (
            nox := re.fullmatch(
                r"\.venv/bin/nox(?: -s (\w+)(?: -- (?:(tests/\S+) )?.*)?)?", command
            )
        ) is not None:
            assert nox[1] is None or nox[1] in known_sessions()
            assert nox[2] is None or (PROJECT / nox[2]).exists()
            continue
        assert command.startswith(".venv/bin/aiohaul "), f"nobody runs {command!r}"
        outputs.append((await world.shell(command.removeprefix(".venv/bin/"))).out)
    return outputs


@executes("aiohaul demo")
async def test_first_command_shows_the_demo(block: str, world: World) -> None:
    (shown,) = await carried_out(block, world)
    assert forms(shown) == forms(with_mark("300 objects, 26.4 MiB").text)


def forms(table: str) -> list[str]:
    """What is left of a table where seconds, names of temporary files and blanks do not count."""
    plain = re.sub(r"\S+/aiohaul-demo-\w+", "aiohaul-demo-x", table)
    lines = [re.sub(r"\b\d+\.\d+( s)?$", "SECONDS", each.rstrip()) for each in plain.splitlines()]
    return [" ".join(each.split()) for each in lines]


@executes("300 objects, 26.4 MiB")
async def test_demo_ends_with_what_is_shown(block: str, world: World) -> None:
    assert forms((await world.run("aiohaul", "demo")).out) == forms(block)


@executes("watching s3://demo-inbox/ready")
async def test_demo_shows_bars_at_a_terminal(block: str, world: World) -> None:
    names = re.findall(r"watching \S+ \(.*?\)|s3://demo-\w+/(?:incoming/)?(?= )", block)
    assert len(names) == 3
    said = (await world.run("script", "-qec", "aiohaul demo --objects 20", "/dev/null")).out
    assert all(name[:29] in said for name in names)
    assert "━" in block
    assert "━" in said


@executes(".venv/bin/pip install -q nox")
async def test_second_command_runs_sessions_that_exist(block: str, world: World) -> None:
    assert await carried_out(block, world) == []
    assert {"lint", "types", "tests"} <= known_sessions()


@executes("nox -s docs")
async def test_commands_of_a_contributor_are_sessions(block: str, world: World) -> None:
    assert await carried_out(block, world) == []


@executes("nox -s tests -- tests/s3/watching/test_watch.py")
async def test_tests_of_one_room_are_run_alone(block: str, world: World) -> None:
    assert await carried_out(block, world) == []


@executes("nox -s fuzz -- --seconds 60")
async def test_fuzzers_take_seconds(block: str, world: World) -> None:
    assert await carried_out(block, world) == []
    (options,) = re.findall(r"nox -s fuzz -- (.*)", block)
    campaign = PROJECT / "tests" / "fuzz" / "campaign.py"
    usage = (await world.run("python", campaign, "--help")).out
    assert set(re.findall(r"--\w+", options)) <= set(re.findall(r"--\w+", usage))


@executes("nox -s benchmarks")
async def test_benchmarks_are_a_session(block: str, world: World) -> None:
    assert await carried_out(block, world) == []


@executes('"apache-airflow==')
async def test_airflow_is_installed_as_the_extra_asks(block: str, world: World) -> None:
    assert await carried_out(block, world) == []
    (asked,) = PYPROJECT["project"]["optional-dependencies"]["airflow"]
    (named,) = re.findall(r"apache-airflow==(\d+)\.(\d+)", block)
    assert f">={'.'.join(named)}" in asked


@executes("pip uninstall otf-addons-aws")
async def test_addon_is_replaced_by_an_extra(block: str, world: World) -> None:
    assert await carried_out(block, world) == []


@executes("moto_server -H 127.0.0.1 -p 5555")
async def test_server_to_try_things_on_has_what_the_examples_expect(
    block: str, world: World
) -> None:
    port = free_port()
    there = block.replace("5555", str(port)).replace(". .venv/bin/activate", "")
    command = f"{there}\necho ready\nwait\n"
    process = await world.start("bash", "-eu", "-c", command)
    async with stopped_at_the_end(process, signal.SIGTERM):
        assert await line(process) == "ready\n"
        async with store(f"http://127.0.0.1:{port}", "moto") as made:
            assert await made.contents("inbox") == {"src/hello.txt": b"hello"}
            answer = await made.client.list_buckets()
    names = {each["Name"] for each in answer["Buckets"]}
    assert names == {"inbox", "reports", "backup", "archive", "partner"}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@executes("a task definition, or a call of an application")
async def test_events_come_in_the_order_of_the_picture(block: str, moto_store: Store) -> None:
    named = re.findall(r" {4,}([A-Z][A-Za-z]+(?:, [A-Z][A-Za-z]+)*)$", block, flags=re.MULTILINE)
    for bucket in ("inbox", "reports", "elsewhere"):
        await moto_store.bucket(bucket)
    definition = {
        "type": "transfer",
        "source": {
            "bucket": "inbox",
            "directory": "src",
            "fileRegex": ".*",
            "fileWatch": {"timeout": 60, "sleepTime": 0.1},
            "postCopyAction": {"action": "delete"},
            "protocol": moto_store.protocol(),
        },
        "destination": [
            {"bucket": "reports", "flags": {"fullPath": "f"}, "protocol": moto_store.protocol()},
            {"bucket": "nowhere-at-all", "protocol": moto_store.protocol()},
        ],
    }
    told: list[str] = []
    looked = asyncio.Event()

    def hear(event: Any) -> None:
        told.append(type(event).__name__)
        looked.set()

    async def arrive() -> None:
        await looked.wait()
        await moto_store.put("inbox", "src/a.txt", b"one")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(arrive())
        with pytest.raises(aiohaul.TransferError):
            await aiohaul.run(definition, on_progress=hear)
    definition["destination"] = definition["destination"][:1]  # type: ignore[index]
    await aiohaul.run(definition, on_progress=hear)
    order = list(dict.fromkeys(told))
    shown = [name for row in named for name in row.split(", ")]
    assert sorted(order) == sorted(shown)
    assert [told.index(row.split(", ")[0]) for row in named] == sorted(
        told.index(row.split(", ")[0]) for row in named
    )


# In an application


@executes("await s3.delete(found)")
async def test_found_objects_are_copied_and_deleted(block: str, world: World) -> None:
    await world.fill("inbox", "reports", "backup", a_txt=b"one", b_txt=b"two")
    done = await world.python(block)
    assert done.out == "s3://reports/incoming/ 2 6\ns3://backup/ 2 6\n"
    assert await world.s3.keys("inbox") == []
    flagged = ["incoming/a.txt", "incoming/b.txt", "incoming/complete.flg"]
    assert await world.s3.keys("reports") == flagged
    assert await world.s3.contents("backup") == {"a.txt": b"one", "b.txt": b"two"}


async def test_failure_of_the_first_example_is_a_sentence(world: World) -> None:
    await world.fill("inbox", a_txt=b"one")
    block = with_mark("await s3.delete(found)")
    done = await world.python(block.text, code=1)
    assert done.err.startswith("not hauled: ")
    assert "reports" in done.err
    assert await world.s3.keys("inbox") == ["src/a.txt"]


@executes('Stream("today.csv", rows())')
async def test_objects_and_a_stream_reach_three_kinds_of_places(block: str, world: World) -> None:
    await world.fill("inbox", "partner", "archive", a_txt=b"one")
    done = await world.python(block)
    assert done.out.splitlines() == [
        "s3://partner/ 2 []",
        "s3://archive/2026/ 2 []",
        "incoming/ 2 []",
    ]
    both = {"a.txt": b"one", "today.csv": b"day,amount\n"}
    assert await world.s3.contents("partner") == both
    assert {each.name: each.read_bytes() for each in (world.directory / "incoming").iterdir()} == (
        both
    )
    again = await world.python(block)  # the archive has them by now, and is not overwritten
    assert "s3://archive/2026/ 0 [" in again.out


@executes("stored = await watch.cursor()")
async def test_watch_shows_changes_and_cursors(block: str, world: World) -> None:
    await world.fill("inbox", a_csv=b"one")
    process = await world.start("python", "-u", world.file("watch.py", block))
    async with stopped_at_the_end(process, signal.SIGINT):
        assert await line(process) == "appeared s3://inbox/src/a.csv\n"
        await world.s3.put("inbox", "src/b.csv", b"two")
        assert await line(process) == "appeared s3://inbox/src/b.csv\n"
    assert json.loads((world.directory / "cursor.json").read_text())


@executes("aiohaul watch s3://inbox/src --regex")
async def test_watches_on_the_command_line(block: str, world: World) -> None:
    await world.fill("inbox", a_csv=b"one")
    regex, new, queue = block.splitlines()
    assert "a.csv" in await first_change(world, regex)
    async with stopped_at_the_end(await world.start("bash", "-c", new), signal.SIGINT) as process:
        told = asyncio.ensure_future(two_lines(process))
        for number in itertools.count():  # when the first look is over is nobody's to know
            await world.s3.put("inbox", f"src/new-{number}.csv", b"two")
            if told in (await asyncio.wait({told}, timeout=1))[0]:
                break
        first, _ = told.result()
        assert json.loads(first)["key"].startswith("src/new-")
        kept = world.directory / "changes.jsonl"
        async with asyncio.timeout(20):  # it shows lines before it keeps them
            while not kept.read_text().startswith(first):  # noqa: ASYNC110  # tee tells nobody
                await asyncio.sleep(0.01)
    async with _client("sqs", world.s3.url) as client:
        url = (await client.create_queue(QueueName="inbox-events"))["QueueUrl"]
    assert "a.csv" in await first_change(world, queue, QUEUE=url)


async def two_lines(process: asyncio.subprocess.Process) -> tuple[str, str]:
    return await line(process), await line(process)


async def first_change(world: World, command: str, **more: str) -> str:
    process = await world.start("bash", "-c", f"exec {command}", **more)
    async with stopped_at_the_end(process, signal.SIGINT):
        return await line(process)


async def partner(url: str) -> dict[str, str]:
    """Keys of the guide's account, which moto takes for another one than its own."""
    async with _client("sts", url) as client:
        answer = await client.assume_role(
            RoleArn=f"arn:aws:iam::{ACCOUNT}:role/in", RoleSessionName="guide"
        )
    return {
        "aws_access_key_id": answer["Credentials"]["AccessKeyId"],
        "aws_secret_access_key": answer["Credentials"]["SecretAccessKey"],
        "aws_session_token": answer["Credentials"]["SessionToken"],
    }


def of_the_account(service: str, url: str, keys: dict[str, str]) -> Any:
    return AioSession().create_client(service, region_name=REGION, endpoint_url=url, **keys)


@executes('"Action": "sqs:SendMessage"')
async def test_policy_of_the_queue_is_taken(block: str, moto: str) -> None:
    keys = await partner(moto)
    async with of_the_account("sqs", moto, keys) as sqs:
        made = await sqs.create_queue(QueueName="inbox-events", Attributes={"Policy": block})
        asked = {"QueueUrl": made["QueueUrl"], "AttributeNames": ["QueueArn", "Policy"]}
        kept = (await sqs.get_queue_attributes(**asked))["Attributes"]
    (statement,) = json.loads(kept["Policy"])["Statement"]
    assert statement["Resource"] == kept["QueueArn"]


@executes('"QueueConfigurations"')
async def test_notifications_lead_the_bucket_s_events_to_a_watch(
    block: str, world: World, moto: str
) -> None:
    keys = await partner(moto)
    async with of_the_account("sqs", moto, keys) as sqs, of_the_account("s3", moto, keys) as s3:
        queue = (await sqs.create_queue(QueueName="inbox-events"))["QueueUrl"]
        where = {"LocationConstraint": REGION}
        await s3.create_bucket(Bucket="inbox", CreateBucketConfiguration=where)
        await s3.put_bucket_notification_configuration(
            Bucket="inbox", NotificationConfiguration=json.loads(block)
        )
        await s3.put_object(Bucket="inbox", Key="other/a.csv", Body=b"not below the prefix")
        await s3.put_object(Bucket="inbox", Key="src/a.csv", Body=b"one")
        asked = {"QueueUrl": queue, "AttributeNames": ["ApproximateNumberOfMessages"]}
        told = (await sqs.get_queue_attributes(**asked))["Attributes"]
    assert told["ApproximateNumberOfMessages"] == "2"  # S3's own test event is the other one
    world.environment |= {name.upper(): value for name, value in keys.items()}
    change = await first_change(world, f'aiohaul watch s3://inbox/src --queue "{queue}"')
    assert "src/a.csv" in change


@executes("OutcomeUnknownError, Session")
async def test_function_and_task(block: str, world: World) -> None:
    async with (
        FakeLambda() as functions,
        FakeEcs(log=["loading"], log_group="/ecs/nightly-load") as ecs,
    ):
        functions.functions["nightly-report"] = returning(
            b'{"rows": 7}', headers={"x-amz-log-result": base64.b64encode(b"END").decode()}
        )
        world.environment |= environment(
            world.s3.url, LAMBDA=functions.url, ECS=ecs.url, CLOUDWATCH_LOGS=ecs.url
        )
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(world.python(block))
            await ecs.until(lambda: ecs.calls["DescribeTasks"] > 0)
            ecs.end(next(iter(ecs.tasks)), 0)
            await ecs.tell()
    said = running.result()
    assert said.out.splitlines() == ["{'rows': 7} END", "loading", "0"], said.err
    assert [json.loads(each.body) for each in functions.invocations] == [{"day": "2026-01-31"}]


@executes('get_by_path("/night/")')
async def test_parameters_and_secrets_are_read_and_written(block: str, world: World) -> None:
    url = world.s3.url
    async with _client("ssm", url) as ssm, _client("secretsmanager", url) as secrets:
        await ssm.put_parameter(Name="/night/limit", Value="7", Type="String")
        held = json.dumps({"user": "nightly", "password": "sEcReTvAlUe"})
        await secrets.create_secret(Name="night/database", SecretString=held)
        said = await world.python(block)
        assert said.out.splitlines() == ["7 ['/night/limit']", "['nightly']"]
        kept = (await secrets.get_secret_value(SecretId="night/database"))["SecretString"]
    assert kept == held  # it was changed a moment ago
    assert "it was changed at" in said.err


# Objects, endpoints, and what is told


@executes("conditions=Conditions(size_lt=1)")
async def test_objects_are_listed_found_and_deleted(block: str, world: World) -> None:
    await world.fill("inbox", a_txt=b"one", b_txt=b"")
    said = await world.python(block)
    assert said.out.splitlines() == ["src/a.txt 3", "src/b.txt 0", "deleted 1 []", "0"]
    assert await world.s3.keys("inbox") == ["done.flg", "src/a.txt"]


@executes('kms_key_id="alias/reports"')
async def test_objects_are_copied_with_options(block: str, world: World) -> None:
    await world.fill("inbox", "reports", a_txt=b"one")
    await world.s3.put("inbox", "src/old.txt", b"two", StorageClass="GLACIER")
    assert (await world.python(block)).out == "1 True\n"
    head = await world.s3.head("reports", "a.txt")
    assert (head["StorageClass"], head["SSEKMSKeyId"]) == ("STANDARD_IA", "alias/reports")


@executes('s3.stream("inbox", "src/large.csv")')
async def test_objects_are_read(block: str, world: World) -> None:
    await world.fill("inbox", a_txt=b"hello, world", b_txt=b"bye")
    await world.s3.put("inbox", "src/large.csv", b"a,b\n" * 2_500_000)
    said = await world.python(block)
    assert said.out.splitlines() == [
        "b'hello' 12 binary/octet-stream",
        "10000000",
        "src/missing.txt <class 'aiohaul.errors.ObjectNotFoundError'>",
        "[b'hello, world', b'bye']",
        "b'a,b\\n'",
        "b'a,b\\n'",
        "True",
    ]


@executes("if_match=written.etag")
async def test_objects_are_written(block: str, world: World) -> None:
    await world.s3.bucket("reports")
    (world.directory / "pyproject.toml").write_text("[project]")
    said = await world.python(block)
    assert said.out.splitlines() == [
        "s3://reports/day.txt 5 5d41402abc4b2a76b9719d911017c592",
        "PreconditionFailed s3://reports/day.txt",
    ]
    held = await world.s3.contents("reports")
    assert held["day.txt"] == b"hello, world"
    assert held["rows.csv"].splitlines()[-1] == b"999999"
    assert held["setup.toml"] == b"[project]"


@executes('s3.walk("inbox")')
async def test_objects_are_walked_tagged_and_deleted(block: str, world: World) -> None:
    await world.fill("inbox", a_txt=b"one", b_txt=b"")
    said = await world.python(block)
    assert said.out.splitlines() == [
        "s3://inbox/ ('src/',) []",
        "s3://inbox/src/ () ['a.txt', 'b.txt']",
        "src/a.txt True 3",
        "src/b.txt True 0",
        "{'state': 'done'}",
        "2 ()",
    ]
    assert await world.s3.keys("inbox") == []


@executes("PARTNER = Settings(")
async def test_destination_is_on_another_server(block: str, world: World) -> None:
    await world.fill("inbox", a_txt=b"one")
    with started_moto() as url:
        async with store(url, "moto") as theirs:
            await theirs.bucket("partner")
            said = await world.python(block.replace("http://127.0.0.1:5556", url))
            assert said.out == "3 ['a.txt']\n"
            assert await theirs.contents("partner") == {"a.txt": b"one"}


@executes("aiohaul.logs.JsonFormatter()")
async def test_run_tells_lines_of_json_and_a_report(block: str, world: World) -> None:
    await world.fill("inbox")
    said = await world.python(block)
    report = json.loads(said.out.splitlines()[-1])
    assert (report["ok"], report["run_id"]) == (True, "night-7")
    lines = [json.loads(each) for each in said.err.splitlines()]
    assert lines
    assert {each["run_id"] for each in lines if each["logger"] == "aiohaul.run"} == {"night-7"}


# From a task definition


@executes('"fileWatch": {"timeout": 900, "sleepTime": 5}')
async def test_transfer_runs_from_the_command_line(block: str, world: World) -> None:
    await world.fill("inbox", "reports", "archive", a_txt=b"one")
    world.file("transfer.json", block)
    await world.run("aiohaul", "validate", "transfer.json")
    await world.run("aiohaul", "run", "transfer.json", "--report", "report.json")
    assert await world.s3.keys("reports") == ["incoming/a.txt", "incoming/complete.flg"]
    assert await world.s3.keys("archive") == ["done/a.txt"]
    assert await world.s3.keys("inbox") == []
    assert (world.directory / "incoming" / "a.txt").read_bytes() == b"one"
    assert json.loads((world.directory / "report.json").read_text())["ok"] is True


@executes('"ignoreStorageClasses": ["GLACIER", "DEEP_ARCHIVE"]')
async def test_transfer_has_options(block: str, world: World) -> None:
    await world.fill("inbox", "reports", a_txt=b"one")
    await world.s3.put("inbox", "src/old.txt", b"two", StorageClass="GLACIER")
    await world.run("aiohaul", "run", world.file("options.json", block))
    head = await world.s3.head("reports", "a.txt")
    assert (head["StorageClass"], head["SSEKMSKeyId"]) == ("STANDARD_IA", "alias/reports")
    assert await world.s3.keys("reports") == ["a.txt"]


@executes('"directory": "outgoing"')
async def test_files_of_this_machine_are_renamed_on_their_way(block: str, world: World) -> None:
    await world.s3.bucket("reports")
    world.file("outgoing/in-7.csv", "one")
    world.file("outgoing/other.csv", "two")
    await world.run("aiohaul", "run", world.file("upload.json", block))
    assert await world.s3.contents("reports") == {"out-7.csv": b"one"}


@executes('"key": "ready.flg",\n  "protocol"')
async def test_touch_writes_an_empty_object(block: str, world: World) -> None:
    await world.fill("inbox")
    await world.run("aiohaul", "run", world.file("touch.json", block))
    assert await world.s3.contents("inbox") == {"ready.flg": b""}


@executes('"functionArn": "arn:aws:lambda:eu-west-1:000000000000:function:nightly-report"')
async def test_function_is_called_from_a_definition(block: str, world: World) -> None:
    async with FakeLambda() as functions:
        name = json.loads(block)["functionArn"]
        functions.functions[name] = returning(b'{"rows": 7}')
        world.environment |= environment(world.s3.url, LAMBDA=functions.url)
        await world.run("aiohaul", "run", world.file("call.json", block))
    (call,) = functions.invocations
    assert json.loads(call.body) == {"day": "2026-01-31"}
    assert call.headers["x-amz-invocation-type"] == "RequestResponse"


@executes('"containerOverrides": {"command": ["load", "--day", "2026-01-31"]}')
async def test_fargate_task_is_run_from_a_definition(block: str, world: World) -> None:
    async with FakeEcs(log=["loading"], log_group="/ecs/nightly-load") as ecs:
        world.environment |= environment(world.s3.url, ECS=ecs.url, CLOUDWATCH_LOGS=ecs.url)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(world.run("aiohaul", "run", world.file("load.json", block)))
            await ecs.until(lambda: ecs.calls["DescribeTasks"] > 0)
            ecs.end(next(iter(ecs.tasks)), 0)
    (override,) = ecs.overrides
    assert override[0]["command"] == ["load", "--day", "2026-01-31"]
    assert ecs.calls["GetLogEvents"] > 0


def night(world: World, folder: str, batch: str) -> None:
    """A batch, and its tasks beside it: each leaves an object."""
    world.file(f"{folder}/night.json", batch)
    for name in NIGHT:
        touch = {
            "type": "execution",
            "bucket": "inbox",
            "key": name,
            "protocol": {"name": "opentaskpy.addons.aws.remotehandlers.s3.S3Execution"},
        }
        world.file(f"{folder}/{name}.json", json.dumps(touch))


def the_batch() -> str:
    return with_mark('"task_id": "fetch-orders"').text


@executes('"task_id": "fetch-orders"')
async def test_batch_is_valid_with_its_tasks(block: str, world: World) -> None:
    night(world, ".", block)
    await world.fill("inbox")
    assert (await world.run("aiohaul", "validate", "night.json")).out == "night.json: valid\n"
    assert await world.s3.keys("inbox") == []


@executes("aiohaul run night.json --state")
async def test_batch_is_run_with_a_state_and_a_timeline(block: str, world: World) -> None:
    night(world, ".", the_batch())
    await world.fill("inbox")
    await world.shell(block)
    assert await world.s3.keys("inbox") == sorted(NIGHT)
    assert (world.directory / "night.svg").read_text().startswith("<svg")


@executes("except BatchError as error")
async def test_batch_is_run_by_an_application(block: str, world: World) -> None:
    night(world, "night", the_batch())
    await world.fill("inbox")
    first = await world.python(block)
    assert len(first.out.splitlines()) == len(NIGHT)
    assert await world.s3.keys("inbox") == sorted(NIGHT)
    broken = without(json.loads((world.directory / "night" / "load.json").read_text()), "bucket")
    world.file("night/load.json", json.dumps({**broken, "bucket": "there-is-none"}))
    second = await world.python(block)
    assert "load failed" in second.out
    assert "there-is-none" in second.out


# A cluster, rights, and the tree


@executes("async with Client(asynchronous=True) as client")
async def test_transfer_is_cut_for_a_cluster(block: str, world: World) -> None:
    await world.fill("inbox", "reports", a_txt=b"one", b_txt=b"two")
    definition = {
        "type": "transfer",
        "source": {
            "bucket": "inbox",
            "directory": "src",
            "fileRegex": ".*",
            "protocol": world.s3.protocol(),
        },
        "destination": [{"bucket": "reports", "protocol": world.s3.protocol()}],
    }
    world.file("transfer.json", json.dumps(definition))
    # Else it says at times that a heartbeat of a worker met the end of the cluster.
    world.environment["DASK_LOGGING__DISTRIBUTED"] = "critical"
    assert (await world.python(block)).out == "6\n"
    assert await world.s3.keys("reports") == ["a.txt", "b.txt"]


@executes('"Sid": "ListAndWatch"')
async def test_policy_of_the_features_is_taken(block: str, moto: str) -> None:
    async with _client("iam", moto) as iam:
        made = await iam.create_policy(PolicyName="night", PolicyDocument=block)
        kept = await iam.get_policy_version(PolicyArn=made["Policy"]["Arn"], VersionId="v1")
    assert kept["PolicyVersion"]["Document"] == json.loads(block)


@executes("cli/  airflow/  dask/")
def test_map_of_rooms_has_every_room_on_its_floor(block: str) -> None:
    rows = [
        re.findall(r"(\w+)/?", line[:42]) for line in block.splitlines() if not line.startswith(" ")
    ]
    named = {name for row in rows for name in row}
    rooms = {each.stem for each in ROOT.glob("[!_]*.py")} | {
        each.parent.name for each in ROOT.glob("*/__init__.py")
    }
    assert named == rooms
    floors = [[floor(name) for name in row] for row in rows]
    for above, below in itertools.pairwise(floors):
        assert min(above) >= max(below)


def test_every_room_with_a_guide_is_in_the_list_of_rooms() -> None:
    source = PROJECT / "src" / "aiohaul"  # the wheel has no guides
    text = (source / "README.md").read_text(encoding="utf-8")
    for guide in source.rglob("*.md"):
        if guide.parent != source:
            assert guide.relative_to(source).as_posix() in text
