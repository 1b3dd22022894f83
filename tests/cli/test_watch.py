"""`aiohaul watch` as a user meets it: what is shown where, and how it ends."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from aiohaul import Change, S3Object, WatchPolled
from aiohaul.cli.display import Lines
from aiohaul.cli.display_watch import ChangeJsonLines, ChangeLines, ChangeTable, change_display
from aiohaul.cli.main import main
from tests.support.commands import aiohaul, ended, start
from tests.support.compute_fixtures import _client
from tests.support.gateway import Gateway
from tests.support.servers import REGION
from tests.support.store import Store

#: Looks often, and ends by itself should a test not end it.
FAST = ("--interval", "0.1", "--timeout", "60")
NOTHING: tuple[str, ...] = ()


async def line(process: asyncio.subprocess.Process) -> str:
    """The next line of what it shows."""
    assert process.stdout is not None
    async with asyncio.timeout(30):
        return (await process.stdout.readline()).decode()


async def stopped(process: asyncio.subprocess.Process, what: signal.Signals) -> tuple[int, str]:
    process.send_signal(what)
    done = await ended(process)
    return done.code, done.err


def change(key: str, size: int = 1536, **more: Any) -> Change:
    when = datetime(2026, 1, 31, 10, 20, 30, tzinfo=UTC)
    return Change(more.get("kind", "appeared"), S3Object("b", key, size, "e", when))


@pytest.mark.smoke
async def test_lines_of_json_tell_what_appears_and_changes(moto_s3: Store, at: Any) -> None:
    at(moto_s3.url)
    bucket = await moto_s3.bucket()
    etag = await moto_s3.put(bucket, "src/a.csv", b"one")
    await moto_s3.put(bucket, "src/a.txt", b"no csv")
    await moto_s3.put(bucket, "other/a.csv", b"elsewhere")
    process = await start("watch", f"s3://{bucket}/src", "--regex", r".*\.csv", "--json", *FAST)
    first = json.loads(await line(process))
    assert datetime.fromisoformat(first.pop("last_modified")).tzinfo is not None
    assert first == {
        "kind": "appeared",
        "bucket": bucket,
        "key": "src/a.csv",
        "size": 3,
        "etag": etag,
        "storage_class": "STANDARD",
    }
    await moto_s3.put(bucket, "src/a.csv", b"two two")
    second = json.loads(await line(process))
    assert (second["kind"], second["key"], second["size"]) == ("changed", "src/a.csv", 7)
    await moto_s3.put(bucket, "src/b.csv", b"")
    third = json.loads(await line(process))
    assert (third["kind"], third["key"]) == ("appeared", "src/b.csv")
    await stopped(process, signal.SIGTERM)


async def test_pipe_gets_plain_lines(moto_s3: Store, at: Any) -> None:
    at(moto_s3.url)
    bucket = await moto_s3.bucket()
    await moto_s3.put(bucket, "src/a", b"x" * 1536)
    done = await aiohaul("watch", f"s3://{bucket}/src/", "--timeout", "6")
    assert done.code == 0
    assert "appeared" in done.out
    assert "1.5 KiB" in done.out
    assert done.out.endswith(f"s3://{bucket}/src/a\n")
    assert done.err == f"watching s3://{bucket}/src\n"


async def test_whole_bucket_is_watched_at_all_depths(moto_s3: Store, at: Any) -> None:
    at(moto_s3.url)
    bucket = await moto_s3.bucket()
    await moto_s3.put(bucket, "a/b/c", b"")
    process = await start("watch", f"s3://{bucket}", "--json", *FAST)
    assert json.loads(await line(process))["key"] == "a/b/c"
    await stopped(process, signal.SIGTERM)


async def test_terminal_gets_a_table(moto_s3: Store, at: Any) -> None:
    at(moto_s3.url)
    bucket = await moto_s3.bucket()
    await moto_s3.put(bucket, "src/[red]a", b"x" * 1536)
    master, slave = os.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aiohaul", "watch", f"s3://{bucket}/src", *FAST),
        stdout=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
    )
    os.close(slave)
    seen = b""
    with os.fdopen(master, "rb", buffering=0) as terminal:
        while b"[red]a" not in seen:
            seen += await asyncio.to_thread(terminal.read, 4096)
        process.send_signal(signal.SIGINT)
        code = await process.wait()
    assert code == 130
    assert b"1 appeared" in seen
    assert b"last modified" in seen


async def test_nothing_seen_until_the_timeout_is_a_failure(moto_s3: Store, at: Any) -> None:
    at(moto_s3.url)
    bucket = await moto_s3.bucket()
    done = await aiohaul("watch", f"s3://{bucket}/src", "--timeout", "4", "--json")
    assert (done.code, done.out) == (1, "")
    assert f"no objects in s3://{bucket}/src within 4 s" in done.err


async def test_what_is_there_already_can_be_left_out(
    proxied: tuple[Gateway, Store], at: Any
) -> None:
    gateway, s3 = proxied
    at(s3.url)
    bucket = await s3.bucket()
    await s3.put(bucket, "src/old", b"")
    gateway.rule("GET .*list-type=2", times=1)  # the first look passes, the second one waits
    second = gateway.rule("GET .*list-type=2", hold=True)
    process = await start("watch", f"s3://{bucket}/src", "--new", "--json", *FAST)
    await second.reached.wait()
    await s3.put(bucket, "src/new", b"")
    second.go.set()
    assert json.loads(await line(process))["key"] == "src/new"
    await stopped(process, signal.SIGTERM)


async def test_queue_is_quicker_than_the_interval(moto: str, at: Any, moto_s3: Store) -> None:
    at(moto)
    bucket = await moto_s3.bucket()
    async with _client("sqs", moto) as sqs:
        url = (await sqs.create_queue(QueueName=bucket))["QueueUrl"]
        arn = f"arn:aws:sqs:{REGION}:123456789012:{bucket}"
        await moto_s3.client.put_bucket_notification_configuration(
            Bucket=bucket,
            NotificationConfiguration={
                "QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]
            },
        )
        queue = ("--queue", url, "--interval", "3600", "--timeout", "60", "--json")
        await moto_s3.put(bucket, "src/old", b"")
        process = await start("watch", f"s3://{bucket}/src", *queue)
        assert json.loads(await line(process))["key"] == "src/old"
        await moto_s3.put(bucket, "src/new", b"")
        assert json.loads(await line(process))["key"] == "src/new"
        await stopped(process, signal.SIGTERM)


@pytest.mark.parametrize(
    ("what", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
async def test_interrupted_watch_ends_though_a_look_hangs(
    proxied: tuple[Gateway, Store], at: Any, what: signal.Signals, code: int
) -> None:
    gateway, s3 = proxied
    at(s3.url)
    bucket = await s3.bucket()
    held = gateway.rule("GET .*list-type=2", hold=True)
    process = await start("watch", f"s3://{bucket}/src", *FAST)
    await held.reached.wait()
    ended_with, said = await stopped(process, what)
    assert (ended_with, "cancelled" in said) == (code, True)


async def test_bucket_that_is_not_there(moto_s3: Store, at: Any) -> None:
    at(moto_s3.url)
    done = await aiohaul("watch", "s3://no-such-bucket/src", *FAST)
    assert (done.code, "NoSuchBucket" in done.err) == (1, True)


async def test_endpoint_that_does_not_answer(at: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        at(f"http://127.0.0.1:{silent.getsockname()[1]}")
        done = await aiohaul("watch", "s3://b/src", "--timeout", "1")
    assert (done.code, done.out) == (1, "")
    assert "listing s3://b/src did not finish within 1 s: check the endpoint" in done.err


async def test_last_look_that_failed_is_told_at_the_end(
    proxied: tuple[Gateway, Store], at: Any
) -> None:
    gateway, s3 = proxied
    at(s3.url)
    bucket = await s3.bucket()
    gateway.rule("GET .*list-type=2", status=500)
    process = await start("watch", f"s3://{bucket}/src", "--interval", "0.1", "--timeout", "12")
    done = await ended(process)
    assert done.code == 1
    assert f"listing s3://{bucket}/src failed, trying again: " in done.err
    assert "aiohaul: failed: " in done.err
    assert "InternalError" in done.err


def test_failure_is_said_once_for_each_reason(capsys: pytest.CaptureFixture[str]) -> None:
    with ChangeLines("s3://b/src", StringIO()) as shown:
        for reason in ("throttled", "throttled", "no answer", "throttled"):
            shown.on_progress(WatchPolled("s3://b/src", math.inf, ValueError(reason)))
        shown.on_progress(WatchPolled("s3://b/src", math.inf))
    assert shown.failure is None
    assert capsys.readouterr().err.splitlines() == [
        "watching s3://b/src",
        "listing s3://b/src failed, trying again: throttled",
        "listing s3://b/src failed, trying again: no answer",
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("b/src",), "'b/src' must have the form s3://bucket/directory"),
        (("s3:///src",), "'s3:///src' must have the form s3://bucket/directory"),
        (("https://b/src",), "must have the form s3://bucket/directory"),
        (("s3://b//src",), "Leave out the '/' at the start and end"),
        (("s3://b/src", "--regex", "["), "'[' is not a valid regex: unterminated character set"),
        (("s3://b/src", "--timeout", "0"), "must be a positive number of seconds"),
        (("s3://b/src", "--interval", "nan"), "must be a positive number of seconds"),
        (NOTHING, "s3://bucket/directory"),
    ],
)
def test_wrong_command_line(
    arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["watch", *arguments])
    assert left.value.code == 2
    assert says in capsys.readouterr().err


async def test_reader_that_has_seen_enough(moto_s3: Store, at: Any, tmp_path: Path) -> None:
    at(moto_s3.url)
    bucket = await moto_s3.bucket()
    await moto_s3.put(bucket, "src/a", b"")
    reading, writing = os.pipe()
    with (tmp_path / "said").open("w") as said:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "aiohaul", "watch", f"s3://{bucket}/src", *FAST),
            stdout=writing,
            stderr=said,
        )
    os.close(writing)
    assert await asyncio.to_thread(os.read, reading, 4096)
    os.close(reading)
    await moto_s3.put(bucket, "src/b", b"")
    assert await process.wait() == 0
    assert (tmp_path / "said").read_text() == f"watching s3://{bucket}/src\n"


@contextmanager
def rich_missing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        for name in [name for name in sys.modules if name.split(".")[0] == "rich"]:
            patched.delitem(sys.modules, name)
        patched.setitem(sys.modules, "rich", None)
        yield


def test_terminal_without_rich_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", terminal)
    assert type(change_display("s3://b/src", as_json=False)) is ChangeTable
    assert type(change_display("s3://b/src", as_json=True)) is ChangeJsonLines
    with rich_missing(monkeypatch):
        assert type(change_display("s3://b/src", as_json=False)) is ChangeLines


def test_key_cannot_move_the_cursor_or_feign_a_line() -> None:
    stream = StringIO()
    with ChangeLines("s3://b/src", stream) as shown:
        shown(change("src/\x1b[2Ja\nfeigned\r\u202e"))
    assert stream.getvalue().count("\n") == 1
    assert r"src/\x1b[2Ja\nfeigned\r\u202e" in stream.getvalue()


def test_table_says_what_fails_and_then_works_again() -> None:
    stream = StringIO()
    where = "s3://b/a[/x]"
    with ChangeTable(where, stream) as shown:
        shown.on_progress(WatchPolled(where, math.inf, ValueError("[/red] \x1b[2J")))
        shown._view.refresh()
        assert isinstance(shown.failure, ValueError)
        assert r"[/red] \x1b[2J" in str(shown._table().caption)
        shown(change("a[/x]/[red]"))
        shown(change("a[/x]/later", kind="changed"))
    assert shown.failure is None
    drawn = stream.getvalue()
    assert "watching s3://b/a[/x]" in drawn
    assert "1 appeared, 1 changed" in drawn
    assert drawn.index("a[/x]/later") < drawn.index("a[/x]/[red]")


def test_table_keeps_the_latest_of_many() -> None:
    with ChangeTable("s3://b/src", StringIO()) as shown:
        for number in range(1000):
            shown(change(f"src/{number}"))
    table = shown._table()
    assert table.row_count == 100
    assert str(table.caption) == "1000 appeared"


def test_lines_of_a_watch_without_an_end() -> None:
    stream = StringIO()
    Lines(stream)(WatchPolled("s3://b/src", math.inf))
    assert stream.getvalue() == "watching s3://b/src\n"
