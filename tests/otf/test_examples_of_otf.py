"""The examples that users of the framework start from, as they are written there.

Most of them are one side of a transfer: only the other side and the type are added here. They
name neither endpoint nor credentials: those come from the environment, as in production.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import aiohaul
from tests.support.servers import KEY, REGION, SECRET
from tests.support.store import Store

WATCH_ONLY = r"""
"source": {
  "bucket": "test-bucket",
  "fileWatch": {
    "timeout": 15,
    "directory": "src",
    "fileRegex": ".*\\.txt"
  },
  "protocol": {
    "name": "opentaskpy.addons.aws.remotehandlers.s3.S3Transfer"
  }
}
"""
DOWNLOAD = r"""
"source": {
  "bucket": "some-bucket",
  "directory": "src",
  "fileRegex": ".*\\.txt",
  "protocol": {
    "name": "opentaskpy.addons.aws.remotehandlers.s3.S3Transfer"
  }
}
"""
UPLOAD = """
"destination": [
    {
        "bucket": "some-bucket",
        "directory": "dest",
        "protocol": {
          "name": "opentaskpy.addons.aws.remotehandlers.s3.S3Transfer"
        }
    }
]
"""
UPLOAD_WITH_FLAG = """
"destination": [
    {
        "bucket": "some-bucket",
        "directory": "dest",
        "flag": {
          "fullPath": "dest/some_fin.flg"
        },
        "protocol": {
          "name": "opentaskpy.addons.aws.remotehandlers.s3.S3Transfer"
        }
    }
]
"""
TOUCH = """
{
  "type": "execution",
  "bucket": "test-bucket",
  "key": "test_key.flg",
  "protocol": {
    "name": "opentaskpy.addons.aws.remotehandlers.s3.S3Transfer"
  }
}
"""


@pytest.fixture
async def example_buckets(s3: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    for name in ("test-bucket", "some-bucket"):
        if name not in [b["Name"] for b in (await s3.client.list_buckets())["Buckets"]]:
            await s3.bucket(name)
        for key in await s3.keys(name):
            await s3.client.delete_object(Bucket=name, Key=key)
        await s3.put(name, "src/a.txt", b"one")
        await s3.put(name, "src/b.log", b"two")
    return s3


def transfer(*sides: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(f'{{"type": "transfer", {",".join(sides)}}}')
    return made


def from_local(directory: Path) -> str:
    side = {"directory": str(directory), "fileRegex": ".*", "protocol": {"name": "local"}}
    return f'"source": {json.dumps(side)}'


def to_local(directory: Path) -> str:
    side = {"directory": str(directory), "protocol": {"name": "local"}}
    return f'"destination": {json.dumps([side])}'


async def run_in_process(definition: dict[str, Any], _: Path) -> None:
    await aiohaul.run(definition)


async def run_by_command(definition: dict[str, Any], directory: Path) -> None:
    file = directory / "definition.json"
    file.write_text(json.dumps(definition))
    command = [sys.executable, "-m", "aiohaul", "run", str(file)]
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0


async def run_by_task_run(definition: dict[str, Any], directory: Path) -> None:
    """Open Task Framework's own command."""
    folder = directory / "configuration"
    folder.mkdir()
    (folder / "variables.json").write_text("{}")
    (folder / "task.json").write_text(json.dumps(definition))
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("task-run")),
        *("-t", "task", "-c", str(folder)),
        env={**os.environ, "OTF_NO_LOG": "1"},
    )
    assert await process.wait() == 0


ways = pytest.mark.parametrize("run", [run_in_process, run_by_command, run_by_task_run])


@ways
async def test_file_watch_only(example_buckets: Store, run: Any, tmp_path: Path) -> None:
    await run(transfer(WATCH_ONLY), tmp_path)
    assert await example_buckets.keys("test-bucket") == ["src/a.txt", "src/b.log"]


@ways
async def test_file_watch_whose_files_are_hauled(
    example_buckets: Store, run: Any, tmp_path: Path
) -> None:
    await run(transfer(WATCH_ONLY, UPLOAD), tmp_path)
    keys = await example_buckets.keys("some-bucket")
    assert keys == ["dest/a.txt", "src/a.txt", "src/b.log"]


@ways
async def test_download(example_buckets: Store, run: Any, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    await run(transfer(DOWNLOAD, to_local(target)), tmp_path)
    assert {file.name: file.read_bytes() for file in target.iterdir()} == {"a.txt": b"one"}
    assert await example_buckets.keys("some-bucket") == ["src/a.txt", "src/b.log"]


@ways
async def test_download_without_destination_checks_that_files_are_there(
    example_buckets: Store, run: Any, tmp_path: Path
) -> None:
    await run(transfer(DOWNLOAD), tmp_path)
    assert await example_buckets.keys("some-bucket") == ["src/a.txt", "src/b.log"]


@ways
async def test_upload(example_buckets: Store, run: Any, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "up.txt").write_bytes(b"up")
    await run(transfer(from_local(source), UPLOAD), tmp_path)
    assert await example_buckets.get("some-bucket", "dest/up.txt") == b"up"


@ways
async def test_upload_with_flag(example_buckets: Store, run: Any, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "up.txt").write_bytes(b"up")
    await run(transfer(from_local(source), UPLOAD_WITH_FLAG), tmp_path)
    contents = await example_buckets.contents("some-bucket")
    assert contents["dest/some_fin.flg"] == b""
    assert contents["dest/up.txt"] == b"up"


@ways
async def test_touch(example_buckets: Store, run: Any, tmp_path: Path) -> None:
    await run(json.loads(TOUCH), tmp_path)
    assert await example_buckets.get("test-bucket", "test_key.flg") == b""
