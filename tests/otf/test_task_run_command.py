"""Open Task Framework's own command, from a folder of definitions with variables and lookups.

Every test is a process of its own, as a scheduler starts it.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from anyio import to_thread

from opentaskpy.plugins.lookup.aws import ssm
from opentaskpy.variablecaching.aws import vc_ssm
from tests.support.fake_lambda import FakeLambda, failing, returning
from tests.support.gateway import Gateway
from tests.support.secrets_of_moto import create_secret
from tests.support.servers import KEY, REGION, SECRET
from tests.support.store import Store

pytestmark = pytest.mark.usefixtures("otf", "quick_batches", "in_moto")

S3 = {"name": "opentaskpy.addons.aws.remotehandlers.s3.S3Transfer"}
LOCAL = {"name": "local"}


@dataclass(frozen=True)
class Ended:
    code: int
    said: str


@dataclass(frozen=True)
class Folder:
    """A folder of definitions: its variables are plain, looked up, and made of each other."""

    path: Path
    inbox: str
    out: str

    def write(self, task: str, definition: dict[str, Any]) -> None:
        (self.path / f"{task}.json.j2").write_text(json.dumps(definition))

    def start(self, task: str, *arguments: str) -> Any:
        return asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("task-run")),
            *("-t", task, "-c", str(self.path), *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    async def run(self, task: str, *arguments: str) -> Ended:
        process = await self.start(task, *arguments)
        async with asyncio.timeout(60):
            said, _ = await process.communicate()
        return Ended(process.returncode, said.decode())


@pytest.fixture
async def folder(moto_s3: Store, moto_url: str, tmp_path: Path) -> Folder:
    inbox, out = [await moto_s3.bucket() for _ in range(2)]
    place = name()
    await to_thread.run_sync(lambda: vc_ssm.run(name=f"{place}/out", value=out))
    secret = json.dumps({"there": {"keys": ["sub", "not this one"], "secret": SECRET}})
    await to_thread.run_sync(create_secret, moto_url, place, secret)
    path = tmp_path / "configuration"
    path.mkdir()
    variables = {
        "INBOX": inbox,
        "OUT": lookup(f"'aws.ssm', name='{place}/out'"),
        "SUB": lookup(f"'aws.secrets_manager', name='{place}', value='there.keys'"),
        "PASSWORD": lookup(f"'aws.secrets_manager', name='{place}', value='$.there.secret'"),
        "DIRECTORY": "in/{{ SUB }}",
        "HERE": str(tmp_path / "here"),
    }
    (path / "variables.json.j2").write_text(json.dumps(variables))
    (tmp_path / "here").mkdir()
    return Folder(path, inbox, out)


def lookup(what: str) -> str:
    return f"{{{{ lookup({what}) }}}}"


def name() -> str:
    return f"/test/{uuid4().hex}"


def at_inbox(**more: Any) -> dict[str, Any]:
    return {"bucket": "{{ INBOX }}", "directory": "src", "fileRegex": r".*\.txt", **more}


def at_out(**more: Any) -> dict[str, Any]:
    return {"bucket": "{{ OUT }}", "directory": "{{ DIRECTORY }}", "protocol": S3, **more}


def transfer(source: dict[str, Any], *destination: dict[str, Any]) -> dict[str, Any]:
    definition: dict[str, Any] = {"type": "transfer", "source": {"protocol": S3, **source}}
    return {**definition, "destination": list(destination)} if destination else definition


@pytest.mark.smoke
async def test_s3_to_s3_says_one_line_for_each_object_and_no_secret(
    folder: Folder, moto_s3: Store
) -> None:
    await moto_s3.fill(folder.inbox, {"src/a.txt": b"a", "src/b.txt": b"bb", "src/c.log": b"c"})
    keys = {"access_key_id": KEY, "secret_access_key": "{{ PASSWORD }}", "region_name": REGION}
    folder.write(
        "haul",
        transfer(
            at_inbox(postCopyAction={"action": "delete"}, protocol={**S3, **keys}),
            at_out(flag={"fullPath": "in/done.flg"}),
        ),
    )
    ended = await folder.run("haul", "-v", "3")
    assert ended.code == 0, ended.said
    assert await moto_s3.contents(folder.out) == {
        "in/sub/a.txt": b"a",
        "in/sub/b.txt": b"bb",
        "in/done.flg": b"",
    }
    assert await moto_s3.keys(folder.inbox) == ["src/c.log"]
    for line in [
        (
            f"s3://{folder.inbox}/src/a.txt was copied to s3://{folder.out}/in/sub/a.txt"
            " and verified (1 bytes)"
        ),
        (
            f"s3://{folder.inbox}/src/b.txt was copied to s3://{folder.out}/in/sub/b.txt"
            " and verified (2 bytes)"
        ),
        f"the flag s3://{folder.out}/in/done.flg was written",
        f"the post-copy action delete of s3://{folder.inbox}/src/a.txt succeeded",
        f"the post-copy action delete of s3://{folder.inbox}/src/b.txt succeeded",
    ]:
        assert ended.said.count(line) == 1, ended.said
    assert "DEBUG" in ended.said
    telling = [line for line in ended.said.splitlines() if SECRET in line]
    # At this level OTF itself writes out the whole definition, with nested secrets.
    assert all("Evaluated task definition" in line for line in telling), telling


async def test_s3_to_local_and_local_to_s3(folder: Folder, moto_s3: Store, tmp_path: Path) -> None:
    await moto_s3.put(folder.inbox, "src/a.txt", b"a")
    here = {"directory": "{{ HERE }}", "protocol": LOCAL}
    folder.write("down", transfer(at_inbox(), here))
    folder.write("up", transfer({**here, "fileRegex": "a"}, at_out()))
    ended = await folder.run("down")
    assert ended.code == 0, ended.said
    assert (tmp_path / "here" / "a.txt").read_bytes() == b"a"
    ended = await folder.run("up")
    assert ended.code == 0, ended.said
    assert await moto_s3.contents(folder.out) == {"in/sub/a.txt": b"a"}
    assert await moto_s3.has_owner_acl(folder.out, "in/sub/a.txt")


async def test_an_interrupt_leaves_no_open_upload(
    folder: Folder, proxied: tuple[Gateway, Store], tmp_path: Path
) -> None:
    way, s3 = proxied
    (tmp_path / "here" / "large.bin").write_bytes(bytes(9 * 2**20))
    held = way.rule("^PUT .*partNumber", hold=True)
    here = {"directory": "{{ HERE }}", "fileRegex": ".*", "protocol": LOCAL}
    folder.write("up", transfer(here, at_out(protocol={**S3, "endpoint_url": way.url})))
    process = await folder.start("up")
    async with asyncio.timeout(60):
        await held.reached.wait()
        process.send_signal(signal.SIGINT)
        said, _ = await process.communicate()
    assert process.returncode != 0, said
    assert await s3.uploads(folder.out) == []
    assert await s3.keys(folder.out) == []


async def test_a_watch_hauls_what_comes_while_it_waits(folder: Folder, moto_s3: Store) -> None:
    watch = {"timeout": 30, "sleepTime": 1, "fileRegex": r"go\.flg"}
    folder.write("awaited", transfer(at_inbox(fileWatch=watch), at_out()))
    process = await folder.start("awaited")
    async with asyncio.timeout(60):
        while b"Sleeping" not in (line := await process.stdout.readline()):
            assert line, "it ended before it waited"
        await moto_s3.fill(folder.inbox, {"src/a.txt": b"a", "src/go.flg": b""})
        said, _ = await process.communicate()
    assert process.returncode == 0, said
    assert await moto_s3.keys(folder.out) == ["in/sub/a.txt"]


async def test_a_watch_for_what_does_not_come_fails(folder: Folder, moto_s3: Store) -> None:
    watch = {"timeout": 1, "sleepTime": 1, "watchOnly": True}
    folder.write("vain", transfer(at_inbox(fileWatch=watch)))
    ended = await folder.run("vain")
    assert ended.code == 1
    assert "No valid files found after 1 seconds" in ended.said
    await moto_s3.put(folder.inbox, "src/a.txt")
    assert (await folder.run("vain")).code == 0


async def test_a_touch(folder: Folder, moto_s3: Store) -> None:
    touch = {"type": "execution", "bucket": "{{ OUT }}", "key": "{{ DIRECTORY }}/f", "protocol": S3}
    folder.write("touch", touch)
    ended = await folder.run("touch")
    assert ended.code == 0, ended.said
    assert await moto_s3.contents(folder.out) == {"in/sub/f": b""}
    assert await moto_s3.has_owner_acl(folder.out, "in/sub/f")


def call(server: FakeLambda, function: str, kind: str = "RequestResponse") -> dict[str, Any]:
    handler = "opentaskpy.addons.aws.remotehandlers.lambda.LambdaExecution"
    return {
        "type": "execution",
        "functionArn": function,
        "invocationType": kind,
        "payload": {"to": "{{ OUT }}"},
        "protocol": {"name": handler, "endpoint_url": server.url},
    }


@pytest.mark.smoke
async def test_a_function_is_called(folder: Folder) -> None:
    async with FakeLambda() as server:
        server.functions["queued"] = returning(b"", status=202)
        server.functions["works"] = returning(b'"of no interest"')
        server.functions["raises"] = failing({"errorType": "E", "errorMessage": "it broke"})
        for function, kind, code in [
            ("queued", "Event", 0),
            ("works", "RequestResponse", 0),
            ("raises", "RequestResponse", 1),
        ]:
            folder.write(f"call-{function}", call(server, function, kind))
            ended = await folder.run(f"call-{function}")
            assert ended.code == code, ended.said
            assert function in ended.said
            assert "of no interest" not in ended.said
        assert [json.loads(each.body) for each in server.invocations] == 3 * [{"to": folder.out}]


@pytest.mark.smoke
async def test_a_batch_with_dependencies_and_a_timeout(folder: Folder, moto_s3: Store) -> None:
    await moto_s3.put(folder.inbox, "src/a.txt", b"a")
    async with FakeLambda() as server:
        server.functions["minutes"] = server.holding()
        folder.write("first", transfer(at_inbox(), at_out()))
        folder.write("second", {**transfer(at_inbox(bucket="{{ OUT }}", directory="in/sub"))})
        folder.write("held", call(server, "minutes"))
        folder.write("third", transfer(at_inbox(), at_out(directory="never")))
        tasks = [
            {"order_id": 1, "task_id": "first"},
            {"order_id": 2, "task_id": "second", "dependencies": [1]},
            {"order_id": 3, "task_id": "held", "dependencies": [2], "timeout": 2},
            {"order_id": 4, "task_id": "third", "dependencies": [3]},
        ]
        folder.write("night", {"type": "batch", "tasks": tasks})
        # That it ends at all is the point: the function is never released.
        ended = await folder.run("night")
        assert len(server.invocations) == 1
        await server.until(lambda: not server.connections)
    assert ended.code == 1
    results = re.findall(r"ORDER_ID::(\d)::TASK::(\w+)::(\w+)", ended.said)
    assert results == [
        ("1", "first", "COMPLETED"),
        ("2", "second", "COMPLETED"),
        ("3", "held", "FAILED"),
    ]
    assert "was killed" in ended.said
    assert await moto_s3.keys(folder.out) == ["in/sub/a.txt"]
    for complaint in ("Unclosed", "Fatal", "never awaited", "Traceback", SECRET):
        assert complaint not in ended.said


async def test_a_variable_is_cached(folder: Folder) -> None:
    kept = name()
    cached = {
        "variableName": "accessToken",
        "cachingPlugin": "aws.vc_ssm",
        "cacheArgs": {"name": kept},
    }
    source = {"protocol": {"name": "dummy"}, "accessToken": "old", "cacheableVariables": [cached]}
    folder.write("token", {"type": "transfer", "source": source})
    ended = await folder.run("token")
    assert ended.code == 0, ended.said
    assert f"Wrote the SSM parameter {kept}" in ended.said
    assert int(await to_thread.run_sync(lambda: ssm.run(name=kept))) > 0


async def test_a_wrong_definition_is_refused_before_any_request(
    folder: Folder, moto_s3: Store
) -> None:
    await moto_s3.put(folder.inbox, "src/a.txt", b"a")
    folder.write("wrong", transfer(at_inbox(directory="/src"), at_out()))
    ended = await folder.run("wrong")
    assert ended.code == 1
    assert "JSON format does not match schema" in ended.said
    assert await moto_s3.keys(folder.out) == []
