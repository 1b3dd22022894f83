"""The command line as a user meets it: processes, exit codes, what is on the screen."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from aiohaul.cli.display import Bars, format_bytes
from aiohaul.progress import Copied, Failed, FlagWritten, Found, SourceActionDone, WatchPolled
from tests.support.commands import Ended, aiohaul, ended, start, written
from tests.support.definitions import source, to, transfer
from tests.support.gateway import Gateway
from tests.support.store import Store


@pytest.mark.smoke
async def test_run_shows_a_table_and_writes_the_report(s3: Store, tmp_path: Path) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {f"src/{n}": b"x" * 1024 for n in range(3)})
    file = written(tmp_path, transfer(source(s3, inbox), to(s3, out, flags={"fullPath": "f"})))
    done = await aiohaul("run", file, "--report", tmp_path / "report.json")
    assert done.code == 0
    assert f"s3://{out}/" in done.out
    assert "3.0 KiB" in done.out
    assert f"s3://{out}/f" in done.out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["ok"] is True
    assert report["destinations"][0]["objects"] == 3
    assert s3.protocol()["secret_access_key"] not in done.out + done.err + json.dumps(report)


async def test_partly_failed_run(s3: Store, tmp_path: Path) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", b"x")
    definition = transfer(
        source(s3, inbox, postCopyAction={"action": "delete"}), to(s3, out), to(s3, "no-bucket")
    )
    report = tmp_path / "report.json"
    done = await aiohaul("run", written(tmp_path, definition), "--report", report)
    assert done.code == 1
    assert "NoSuchBucket" in done.err
    assert [each["objects"] for each in json.loads(report.read_text())["destinations"]] == [1, 0]
    assert await s3.keys(inbox) == ["src/a"]


async def test_quiet_run_says_nothing_unless_it_fails(s3: Store, tmp_path: Path) -> None:
    inbox = await s3.bucket()
    definition: dict[str, Any] = {"type": "transfer", "source": source(s3, inbox, error=False)}
    done = await aiohaul("run", "--quiet", written(tmp_path, definition))
    assert done == Ended(0, "", "")
    definition["source"]["error"] = True
    done = await aiohaul("run", "--quiet", written(tmp_path, definition))
    assert done.code == 1
    assert "no file or object matches in" in done.err


async def test_report_of_a_run_that_fails_early_is_no_old_one(s3: Store, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text('{"ok": true}')
    definition = {"type": "transfer", "source": source(s3, "no-such-bucket")}
    done = await aiohaul("run", written(tmp_path, definition), "--report", report)
    assert done.code == 1
    told = json.loads(report.read_text())
    assert (told["ok"], told["kind"]) == (False, "BucketNotFoundError")


async def test_report_that_cannot_be_written_is_noticed_before_anything_is_done(
    s3: Store, tmp_path: Path
) -> None:
    inbox = await s3.bucket()
    await s3.put(inbox, "src/a", b"x")
    definition = {
        "type": "transfer",
        "source": source(s3, inbox, postCopyAction={"action": "delete"}),
    }
    file = written(tmp_path, definition)
    done = await aiohaul("run", file, "--report", tmp_path / "absent" / "report.json")
    assert (done.code, "there is no folder" in done.err) == (1, True)
    assert await s3.keys(inbox) == ["src/a"]


async def test_watch_that_cannot_look_says_so(tmp_path: Path) -> None:
    nowhere = Store(None, "http://127.0.0.1:9", "nobody")
    definition = {
        "type": "transfer",
        "source": source(nowhere, "inbox", fileWatch={"timeout": 1, "sleepTime": 0.1}),
    }
    done = await aiohaul("run", written(tmp_path, definition))
    assert done.code == 1
    assert "Check endpoint_url" in done.err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "expected a JSON object"),
        ('{"type": "transfer"}', "'source' is missing"),
        ('{"type": "transfer", "source": {"protocol": {"name": "ssh"}}}', "Open Task Framework"),
        ('{"type": "transfer", "source": {"protocol": {"name": "s3"}}}', "unknown protocol"),
    ],
)
async def test_wrong_definition(tmp_path: Path, text: str, says: str) -> None:
    for command in ("run", "validate"):
        done = await aiohaul(command, written(tmp_path, text))
        assert done.code == 2
        assert says in done.err


async def test_wrong_command_line(tmp_path: Path) -> None:
    done = await aiohaul("run", tmp_path / "absent.json")
    assert (done.code, "No such file" in done.err) == (2, True)
    assert (await aiohaul("fly")).code == 2
    assert (await aiohaul()).code == 2
    assert (await aiohaul("demo", "--objects", "0")).code == 2


async def test_validate_makes_no_request(tmp_path: Path) -> None:
    nowhere = Store(None, "http://127.0.0.1:9", "nobody")
    definition = transfer(source(nowhere, "a"), to(nowhere, "b"))
    done = await aiohaul("validate", written(tmp_path, definition))
    assert (done.code, done.out.endswith("valid\n")) == (0, True)


@pytest.mark.parametrize(
    ("what", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
async def test_interrupted_run_tidies_up(
    proxied: tuple[Gateway, Store], tmp_path: Path, what: signal.Signals, code: int
) -> None:
    gateway, s3 = proxied
    out = await s3.bucket()
    files = tmp_path / "in"
    files.mkdir()
    (files / "large").write_bytes(b"x" * (17 * 1024 * 1024))
    held = gateway.rule("PUT .*partNumber=2", hold=True)
    local = {"directory": str(files), "fileRegex": ".*", "protocol": {"name": "local"}}
    process = await start("run", written(tmp_path, transfer(local, to(s3, out))))
    await held.reached.wait()
    process.send_signal(what)
    done = await ended(process)
    assert (done.code, "cancelled" in done.err) == (code, True)
    assert await s3.uploads(out) == []


async def test_demo_ends_well_and_leaves_nothing() -> None:
    done = await aiohaul("demo", "--objects", "20")
    assert done.code == 0, done.err
    assert "20 objects" in done.out
    assert "move: 20 sources" in done.out
    assert done.out.count("complete.flg") == 2


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (1024**4, "1.0 TiB"),
        (1024**5, "1024.0 TiB"),
    ],
)
def test_bytes_for_people(size: int, shown: str) -> None:
    assert format_bytes(size) == shown


def test_bars_take_names_as_they_are() -> None:
    with Bars() as bars:
        bars(WatchPolled("s3://b/a[/x]", 1.0))
        bars(Found(2, 3, ("s3://b/[red]/",)))
        bars(Copied("s3://a/[/x]", "s3://b/[/x]", "s3://b/[red]/", 3))
        bars(Failed("s3://a/[/x]", "s3://b/[red]/", ValueError("[/red]")))
        bars(FlagWritten("s3://b/a[/x].flg", "s3://b/[red]/"))
        bars(SourceActionDone("move", "s3://a/[/x]"))
