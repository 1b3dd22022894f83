"""Transfers that are interrupted at any moment, and run again with their journal."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import aiohaul
from aiohaul import Destination
from aiohaul.s3.copying.actions import apply_to_objects
from aiohaul.s3.copying.plan import Action
from aiohaul.s3.handler import transfers_of
from aiohaul.s3.journal import Journal, SentPart
from aiohaul.s3.streaming.parts import PART_SIZE, Limits
from aiohaul.s3.streaming.uploads import Upload
from aiohaul.storage.database import write_all
from tests.support.definitions import local, run, source, to, transfer
from tests.support.fake_s3 import content
from tests.support.gateway import Gateway, Rule
from tests.support.store import Store

Proxied = tuple[Gateway, Store]
LARGE = content(5, 2 * PART_SIZE + 1000)
OBJECTS = {"large": LARGE, "small": b"small", "tiny": b"t"}


class Scene:
    """One transfer with all that there is: parts, the tee, a flag, a local file, and a move."""

    def __init__(self, gateway: Gateway, s3: Store, directory: Path) -> None:
        self.gateway = gateway
        self.s3 = s3
        self.target = directory / "target"
        self.journal = directory / "state" / "journal.db"
        self.file = directory / "transfer.json"
        self.buckets: list[str] = []

    async def set_up(self) -> None:
        self.target.mkdir()
        self.buckets = [await self.s3.bucket() for _ in range(4)]
        inbox, direct, proxied, archive = self.buckets
        await self.s3.fill(inbox, {f"src/{name}": data for name, data in OBJECTS.items()})
        action = {"action": "move", "destination": f"s3://{archive}/done/"}
        self.definition = transfer(
            source(self.s3, inbox, postCopyAction=action),
            to(self.s3, direct, directory="in", flags={"fullPath": "all.flg"}),
            to(self.s3, proxied, transferType="proxy"),
            local(self.target),
        )
        self.file.write_text(json.dumps(self.definition))

    async def killed_at(self, rule: Rule) -> None:
        """Run it in a process, and kill that once the rule's request has come."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "aiohaul", "run", str(self.file)),
            *("--journal", str(self.journal), "--quiet"),
            env={**os.environ, "PYTHONWARNINGS": "default"},
        )
        ended = asyncio.ensure_future(process.wait())
        reached = asyncio.ensure_future(rule.reached.wait())
        await asyncio.wait([ended, reached], return_when=asyncio.FIRST_COMPLETED)
        reached.cancel()
        assert not ended.done(), "it ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        await ended
        await self.gateway.idle()  # what was held is never answered, nor passed on
        self.gateway.rules.clear()

    async def run(self) -> aiohaul.TransferReport:
        return await run(self.definition, journal=self.journal)

    async def check_right(self) -> None:
        """Everything is where it belongs, once and whole, and nothing is left behind."""
        inbox, direct, proxied, archive = self.buckets
        s3 = self.s3
        inside = {f"in/{name}": data for name, data in OBJECTS.items()}
        assert await s3.contents(direct) == {**inside, "all.flg": b""}
        assert await s3.contents(proxied) == OBJECTS
        assert await s3.contents(archive) == {f"done/{k}": v for k, v in OBJECTS.items()}
        assert await s3.keys(inbox) == []
        assert {path.name: path.read_bytes() for path in self.target.iterdir()} == OBJECTS
        for bucket in self.buckets:
            assert await s3.uploads(bucket) == []
        assert [path.name for path in self.journal.parent.iterdir()] == [self.journal.name]
        with sqlite3.connect(self.journal) as connection:
            for table in ("run", "copied", "opened", "part"):
                (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608  # four names
                assert count == 0, table
        connection.close()


@pytest.fixture
async def scene(proxied: Proxied, tmp_path: Path) -> Scene:
    made = Scene(*proxied, tmp_path)
    await made.set_up()
    return made


#: Where the process is killed: before the server acts on a request, or after, unanswered.
POINTS = [
    "COPY .*/in/small",
    "PUT .*/small$",
    r"POST .*\?uploads",
    "PUT .*partNumber=2",
    "POST .*uploadId=",
    "PUT .*/all.flg",
    "COPY .*/done/tiny",
    r"POST .*\?delete",
]


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("point", POINTS)
async def test_killed_and_run_again_it_is_right(scene: Scene, point: str, late: bool) -> None:
    await scene.killed_at(scene.gateway.rule(point, hold=not late, late=late))
    try:
        report = await scene.run()
    except aiohaul.NothingFoundError:
        pytest.fail("what the first run had finished was not known to the second")
    assert report.ok
    await scene.check_right()


async def test_only_what_is_missing_is_copied_again(scene: Scene) -> None:
    await scene.killed_at(scene.gateway.rule("POST .*uploadId=", hold=True))
    scene.gateway.log.clear()
    report = await scene.run()
    await scene.check_right()
    assert sum(each.already_there for each in report.destinations) >= 1
    # All parts of the upload were there: it is taken up, and none is sent again.
    assert scene.gateway.count("PUT .*partNumber=") == 0
    assert scene.gateway.count(r"POST .*\?uploads") == 0


async def test_part_of_which_nobody_knows_whether_it_was_sent_is_sent_again(scene: Scene) -> None:
    await scene.killed_at(scene.gateway.rule("PUT .*partNumber=3", late=True))
    scene.gateway.log.clear()
    await scene.run()
    assert scene.gateway.count("PUT .*partNumber=3") == 1
    await scene.check_right()


async def test_failed_run_is_taken_up_where_it_failed(scene: Scene) -> None:
    scene.gateway.rule("COPY .*/in/tiny", status=403, code="AccessDenied")
    with pytest.raises(aiohaul.TransferError):
        await scene.run()
    scene.gateway.rules.clear()
    scene.gateway.log.clear()
    report = await scene.run()
    assert [each.already_there for each in report.destinations] == [2, 3, 3]
    assert scene.gateway.count("COPY .*/in/") == 1
    assert scene.gateway.count("GET .*/src/[^?]+$") == 0
    await scene.check_right()


@pytest.mark.parametrize("point", ["COPY .*/in/small", "PUT .*partNumber=2", "POST .*uploadId="])
async def test_cancelled_run_leaves_no_upload_and_is_taken_up(scene: Scene, point: str) -> None:
    held = scene.gateway.rule(point, hold=True)
    task = asyncio.ensure_future(scene.run())
    await held.reached.wait()
    task.cancel()
    async with asyncio.timeout(1):
        with pytest.raises(asyncio.CancelledError):
            await task
    for bucket in scene.buckets:
        assert await scene.s3.uploads(bucket) == []
    scene.gateway.rules.clear()
    await scene.run()
    await scene.check_right()


async def test_second_process_with_the_same_definition_is_refused(scene: Scene) -> None:
    held = scene.gateway.rule("COPY .*/in/small", hold=True)
    first = asyncio.ensure_future(scene.run())
    await held.reached.wait()
    with pytest.raises(aiohaul.JournalBusyError, match="another process runs this"):
        await scene.run()
    with pytest.raises(aiohaul.JournalBusyError):
        await aiohaul.clean(scene.definition, journal=scene.journal)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aiohaul", "run", str(scene.file)),
        *("--journal", str(scene.journal)),
        stderr=asyncio.subprocess.PIPE,
    )
    _, told = await process.communicate()
    assert process.returncode == 1
    assert b"another process runs this" in told
    held.go.set()
    await first
    await scene.check_right()


async def test_two_definitions_share_a_journal(scene: Scene, tmp_path: Path) -> None:
    s3, other = scene.s3, tmp_path / "other"
    inbox = await s3.bucket()
    await s3.put(inbox, "src/x", b"x")
    other.mkdir()
    held = scene.gateway.rule("COPY .*/in/small", hold=True)
    first = asyncio.ensure_future(scene.run())
    await held.reached.wait()
    await run(transfer(source(s3, inbox), local(other)), journal=scene.journal)
    held.go.set()
    await first
    await scene.check_right()
    assert (other / "x").read_bytes() == b"x"


async def test_copy_that_was_deleted_meanwhile_is_made_again(scene: Scene) -> None:
    await scene.killed_at(scene.gateway.rule("COPY .*/done/tiny", hold=True))
    await scene.s3.client.delete_object(Bucket=scene.buckets[1], Key="in/tiny")
    # It had been verified, and the sources were about to go: they are what the run ends with.
    report = await scene.run()
    assert report.ok


async def test_source_changed_meanwhile_is_copied_anew(scene: Scene) -> None:
    await scene.killed_at(scene.gateway.rule("PUT .*partNumber=3", hold=True))
    changed = content(9, len(LARGE))
    await scene.s3.put(scene.buckets[0], "src/large", changed)
    await scene.run()
    assert await scene.s3.get(scene.buckets[2], "large") == changed
    assert (scene.target / "large").read_bytes() == changed
    for bucket in scene.buckets:
        assert await scene.s3.uploads(bucket) == []


async def test_uploads_of_others_are_left_alone(scene: Scene) -> None:
    client, bucket = scene.s3.client, scene.buckets[2]
    await client.create_multipart_upload(Bucket=bucket, Key="large")
    await scene.killed_at(scene.gateway.rule(r"POST .*\?uploads", late=True))
    assert len(await scene.s3.uploads(bucket)) == 2
    await client.create_multipart_upload(Bucket=bucket, Key="large2")
    await scene.run()
    assert sorted(each["Key"] for each in await scene.s3.uploads(bucket)) == ["large", "large2"]


@pytest.mark.parametrize("late", [False, True])
async def test_clean_aborts_what_was_left_and_nothing_else(scene: Scene, late: bool) -> None:
    client, bucket = scene.s3.client, scene.buckets[2]
    other = await client.create_multipart_upload(Bucket=bucket, Key="other")
    point = "PUT .*partNumber=2" if not late else r"POST .*\?uploads"
    await scene.killed_at(scene.gateway.rule(point, late=late, hold=not late))
    command = ["clean", str(scene.file), "--journal", str(scene.journal)]
    told = await aiohaul_command(*command, "--list")
    assert f"s3://{bucket}/large: incomplete" in told
    assert len(await scene.s3.uploads(bucket)) == 2
    told = await aiohaul_command(*command)
    assert f"s3://{bucket}/large: cleaned" in told
    (left,) = await scene.s3.uploads(bucket)
    assert left["UploadId"] == other["UploadId"]
    assert not [path for path in scene.target.iterdir() if path.name.endswith(".part")]
    assert await aiohaul_command(*command) == ""


async def aiohaul_command(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "aiohaul", *arguments, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await process.communicate()
    assert process.returncode == 0
    return told.decode()


async def test_not_overwriting_does_not_stand_in_its_own_way(scene: Scene) -> None:
    s3, (inbox, out, *_) = scene.s3, scene.buckets
    late = scene.gateway.rule("COPY .*/a/small", late=True)

    async def copy(session: aiohaul.Session) -> aiohaul.TransferReport:
        handler = session.s3(settings(s3))
        found = await handler.find(inbox, "src")
        target = Destination(bucket=out, directory="a", overwrite=False, settings=settings(s3))
        return await handler.copy(found, [target], journal=scene.journal)

    async with aiohaul.Session() as session:
        task = asyncio.ensure_future(copy(session))
        await late.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        scene.gateway.rules.clear()
        report = await copy(session)
    assert report.ok
    assert await s3.contents(out) == {f"a/{k}": v for k, v in OBJECTS.items()}


def settings(s3: Store) -> aiohaul.Settings:
    return aiohaul.Settings.from_protocol(s3.protocol())


async def test_no_secret_is_in_the_journal(scene: Scene) -> None:
    await scene.killed_at(scene.gateway.rule("PUT .*partNumber=2", hold=True))
    secret = scene.s3.protocol()["secret_access_key"].encode()
    for path in scene.journal.parent.iterdir():
        assert secret not in path.read_bytes()


@pytest.mark.parametrize("what", ["text", "directory"])
async def test_file_that_is_no_journal_is_refused_before_anything_is_copied(
    scene: Scene, what: str
) -> None:
    scene.journal.parent.mkdir()
    if what == "text":
        scene.journal.write_text("this is not a database, and long enough to look like one" * 99)
    else:
        scene.journal.mkdir()
    with pytest.raises(aiohaul.JournalError, match="cannot be used"):
        await scene.run()
    assert not scene.gateway.log


async def test_journal_remembers_parts_and_their_checksums(tmp_path: Path) -> None:
    place = ("http://x", "b", "k")
    crc = 2**64 - 3
    async with Journal(tmp_path / "j", "t") as journal:
        entry = journal.entry("s3://a/\udcff", "v1", place)
        await entry.intended(["other"])
        await entry.opened("id", 8, "CRC64NVME")
        entry.part(1, SentPart("e1", 8, crc))
        entry.part(2, SentPart("e2", 3))
    async with Journal(tmp_path / "j", "t") as journal:
        assert journal.entry("s3://a/\udcff", "v2", place).earlier is None
        earlier = journal.entry("s3://a/\udcff", "v1", place).earlier
        assert earlier is not None
        assert (earlier.upload_id_or_path, earlier.step, earlier.algorithm) == (
            "id",
            8,
            "CRC64NVME",
        )
        assert earlier.others == {"other"}
        assert earlier.parts == {1: SentPart("e1", 8, crc), 2: SentPart("e2", 3)}
        await journal.done()
    async with Journal(tmp_path / "j", "t") as journal:
        assert not journal.opened
        assert not journal.copied


def test_definitions_differ_by_what_they_do_and_not_by_who_asks() -> None:
    from aiohaul.tasks.resume import definition_identity  # noqa: PLC0415

    def of(**protocol: Any) -> str:
        return definition_identity(
            {"type": "transfer", "source": {"bucket": "b", "protocol": protocol}}
        )

    assert of(access_key_id="a", secret_access_key="b") == of(access_key_id="c", session_token="d")
    assert of(endpoint_url="a") != of(endpoint_url="b")


async def test_destinations_of_one_name_are_told_apart(scene: Scene) -> None:
    """What one of them has is not kept at the other."""
    s3, (inbox, out, *_) = scene.s3, scene.buckets
    definition = transfer(
        source(s3, inbox, fileRegex="small", postCopyAction={"action": "delete"}),
        to(s3, out, rename={"pattern": "$", "sub": ".one"}),
        to(s3, out, rename={"pattern": "$", "sub": ".two"}),
    )
    scene.gateway.rule("COPY .*/small.two", status=403, code="AccessDenied")
    with pytest.raises(aiohaul.TransferError):
        await run(definition, journal=scene.journal)
    scene.gateway.rules.clear()
    report = await run(definition, journal=scene.journal)
    assert [each.already_there for each in report.destinations] == [1, 0]
    assert await s3.keys(out) == ["small.one", "small.two"]
    assert "src/small" not in await s3.keys(inbox)


async def test_destination_that_cannot_be_looked_at_does_not_stop_the_others(
    scene: Scene,
) -> None:
    _, direct, proxied, _ = scene.buckets
    failing = scene.gateway.rule("COPY .*/in/tiny", status=403, code="AccessDenied")
    with pytest.raises(aiohaul.TransferError):
        await scene.run()
    failing.times = 0
    scene.gateway.rule(f"GET /{proxied}.*list-type", status=403, code="AccessDenied")
    report = await scene.run()
    assert report.ok
    assert [each.already_there for each in report.destinations] == [2, 0, 3]
    assert direct
    await scene.check_right()


async def test_run_that_finds_nothing_any_more_leaves_no_upload(scene: Scene) -> None:
    await scene.killed_at(scene.gateway.rule("PUT .*partNumber=2", hold=True))
    assert await scene.s3.uploads(scene.buckets[2])
    for name in OBJECTS:
        await scene.s3.client.delete_object(Bucket=scene.buckets[0], Key=f"src/{name}")
    with pytest.raises(aiohaul.NothingFoundError):
        await scene.run()
    assert await scene.s3.uploads(scene.buckets[2]) == []
    assert not [path for path in scene.target.iterdir() if path.name.endswith(".part")]


async def test_file_written_just_before_a_kill_is_not_in_its_own_way(
    scene: Scene, tmp_path: Path
) -> None:
    s3 = scene.s3
    async with aiohaul.Session() as session:
        handler = session.s3(settings(s3))
        found = await handler.find(scene.buckets[0], "src")
        target = aiohaul.LocalDestination(directory=scene.target, overwrite=False)
        scene.gateway.rule("GET .*/src/large", status=403, code="AccessDenied")
        with pytest.raises(aiohaul.TransferError):
            await handler.copy(found, [target], journal=tmp_path / "j")
        scene.gateway.rules.clear()
        with sqlite3.connect(tmp_path / "j") as connection:
            connection.execute("DELETE FROM copied")  # as if it had been killed before that
        connection.close()
        report = await handler.copy(found, [target], journal=tmp_path / "j")
        assert report.destinations[0].already_there == 2
        (scene.target / "tiny").write_bytes(b"T")
        with pytest.raises(aiohaul.TransferError, match="exists already"):
            await handler.copy(found, [target], journal=tmp_path / "j")
    assert (scene.target / "tiny").read_bytes() == b"T"


@pytest.mark.parametrize("turns", range(1, 12))
async def test_journal_cancelled_at_any_of_its_first_turns_is_free_again(
    tmp_path: Path, turns: int
) -> None:
    async def use() -> None:
        async with Journal(tmp_path / "j", "t") as journal:
            await journal.begin()

    task = asyncio.ensure_future(use())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await use()


async def test_journal_is_not_closed_under_a_write_whose_task_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go = threading.Event(), threading.Event()
    written: list[object] = []

    def slow(connection: sqlite3.Connection, batch: list[Any]) -> None:
        started.set()
        assert go.wait(5)
        write_all(connection, batch)  # SQLite ends the process if it is closed meanwhile
        written.extend(batch)

    async def use() -> None:
        async with Journal(tmp_path / "j", "t") as journal:
            monkeypatch.setattr("aiohaul.storage.database.write_all", slow)
            await journal.begin()

    task = asyncio.ensure_future(use())
    await asyncio.to_thread(started.wait, 5)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=0.1)
    assert not done, "it ended, and the write goes on"
    go.set()
    await asyncio.wait([task])
    assert task.cancelled()
    assert len(written) == 1


async def test_what_could_not_be_written_is_written_later(tmp_path: Path) -> None:
    path = tmp_path / "j"
    async with Journal(path, "t") as journal:
        await journal.begin()
        with sqlite3.connect(path, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            journal.entry("s", "v", ("e", "b", "k")).copied("etag")
            with pytest.raises(aiohaul.JournalError, match="locked"):
                await journal.flush()
            other.execute("ROLLBACK")
        other.close()
    async with Journal(path, "t") as journal:
        assert journal.copied_to("s", "v", ("e", "b", "k")) == "etag"


@pytest.mark.parametrize("again", [True, False], ids=["taken up", "cleaned"])
async def test_upload_of_a_move_is_in_the_journal(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """As if the process had been killed: nothing is aborted when it is cancelled."""
    s3, (inbox, _, _, archive) = scene.s3, scene.buckets
    held = scene.gateway.rule("COPY .*partNumber=2", hold=True, times=1)

    async def move(handler: aiohaul.S3Handler, journal: Journal) -> aiohaul.ActionReport:
        return await apply_to_objects(
            await handler._s3(),
            await handler.find(inbox, "src", "large"),
            Action(kind="move", bucket=archive, prefix="done/"),
            width=1,
            on_progress=lambda _: None,
            limits=Limits(copy=1, copy_step=8 * 2**20),
            journal=journal,
        )

    async with aiohaul.Session() as session:
        handler = session.s3(settings(s3))
        with monkeypatch.context() as patch:
            patch.setattr(Upload, "abort", lambda _: asyncio.sleep(0))
            async with Journal(tmp_path / "j", "t") as journal:
                task = asyncio.ensure_future(move(handler, journal))
                await held.reached.wait()
                while not scene.gateway.count("COPY .*partNumber=3"):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                task.cancel()
                await asyncio.wait([task])
        assert len(await s3.uploads(archive)) == 1
        async with Journal(tmp_path / "j", "t") as journal:
            if again:
                assert not (await move(handler, journal)).failures
                assert scene.gateway.count(r"POST .*\?uploads") == 1
                assert (await s3.contents(archive)) == {"done/large": LARGE}
                assert "src/large" not in await s3.keys(inbox)
            else:
                assert len(await transfers_of(handler).clean([], journal)) == 1
        async with Journal(tmp_path / "j", "t") as journal:
            assert not journal.opened
    assert await s3.uploads(archive) == []
