"""Files of this machine: what is never half there, never mixed up, never deleted too early."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aiohaul
from aiohaul.s3.copying.actions import apply_to_files
from aiohaul.s3.copying.plan import Action
from aiohaul.s3.local import check_directory, list_files
from aiohaul.s3.local_writing import PartialFile, delete_file, move_file, touch_file
from aiohaul.storage.private_files import default_mode
from tests.support.definitions import local, run, source, to, transfer
from tests.support.gateway import Gateway
from tests.support.store import Store

ANY = re.compile("")
MIB = 1024 * 1024


def no_progress(_: aiohaul.Event) -> None:
    pass


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
async def test_partial_file_that_somebody_takes_is_no_copy(
    proxied: tuple[Gateway, Store], tmp_path: Path, replaced: bool
) -> None:
    gateway, s3 = proxied
    inbox = await s3.bucket()
    await s3.put(inbox, "src/a", b"x" * (20 * MIB))
    held = gateway.rule("GET .*/src/a", times=0, hold=True)
    first = gateway.rule("GET .*/src/a", times=1)
    definition = transfer(source(s3, inbox, postCopyAction={"action": "delete"}), local(tmp_path))
    task = asyncio.ensure_future(run(definition))
    await first.reached.wait()
    held.times = 1
    await held.reached.wait()
    (partial,) = tmp_path.iterdir()
    partial.unlink()
    if replaced:
        partial.write_bytes(b"y" * (20 * MIB))
    held.go.set()
    with pytest.raises(aiohaul.TransferError) as failed:
        await task
    assert failed.value.report.destinations[0].objects == 0
    assert not (tmp_path / "a").exists()
    assert await s3.keys(inbox) == ["src/a"]


async def test_partial_file_is_private_and_then_has_its_mode(tmp_path: Path) -> None:
    file = PartialFile(tmp_path / "a", 0o640)
    await file.write(b"secret", 0)
    (partial,) = tmp_path.iterdir()
    assert stat.S_IMODE(partial.stat().st_mode) == 0o600
    await file.commit(6)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    plain = PartialFile(tmp_path / "b")
    await plain.commit(0)
    (tmp_path / "c").touch()
    assert (tmp_path / "b").stat().st_mode == (tmp_path / "c").stat().st_mode


async def test_partial_files_of_others_are_not_sources(tmp_path: Path) -> None:
    file = PartialFile(tmp_path / "a")
    await file.write(b"half", 0)
    assert await list_files(str(tmp_path), ANY) == []
    await file.discard()
    assert list(tmp_path.iterdir()) == []


async def test_flag_that_is_a_directory_is_a_failure_and_leaves_nothing(
    rclone_s3: Store, tmp_path: Path
) -> None:
    inbox = await rclone_s3.bucket()
    await rclone_s3.put(inbox, "src/a", b"x")
    (tmp_path / "flag").mkdir()
    out = local(tmp_path, flags={"fullPath": str(tmp_path / "flag")})
    with pytest.raises(aiohaul.TransferError, match="Is a directory"):
        await run(transfer(source(rclone_s3, inbox), out))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "flag"]


async def test_two_names_of_one_directory_are_one_place(rclone_s3: Store, tmp_path: Path) -> None:
    s3 = rclone_s3
    inbox = await s3.bucket()
    await s3.fill(inbox, {"src/a": b"A", "src/b": b"B"})
    (tmp_path / "d").mkdir()
    (tmp_path / "link").symlink_to("d")
    definition = transfer(
        source(s3, inbox, postCopyAction={"action": "delete"}),
        local(tmp_path / "d", rename={"pattern": "a", "sub": "x"}),
        local(tmp_path / "link", rename={"pattern": "b", "sub": "x"}),
    )
    with pytest.raises(aiohaul.CollisionError):
        await run(definition)
    assert await s3.keys(inbox) == ["src/a", "src/b"]


async def test_flag_by_two_names_waits_for_both_destinations(
    rclone_s3: Store, tmp_path: Path
) -> None:
    s3 = rclone_s3
    inbox = await s3.bucket()
    await s3.put(inbox, "src/a", b"x")
    (tmp_path / "d").mkdir()
    definition = transfer(
        source(s3, inbox),
        local(tmp_path / "d", flags={"fullPath": str(tmp_path / "flag")}),
        local(tmp_path / "absent", flags={"fullPath": f"{tmp_path}/d/../flag"}),
    )
    with pytest.raises(aiohaul.TransferError):
        await run(definition)
    assert (tmp_path / "d" / "a").exists()
    assert not (tmp_path / "flag").exists()


async def test_cancelled_delete_of_many_files_stops_deleting(tmp_path: Path) -> None:
    for n in range(3000):
        (tmp_path / str(n)).touch()
    files = await list_files(str(tmp_path), ANY)
    task = asyncio.ensure_future(apply_to_files(files, Action(kind="delete"), no_progress))
    while len(list(tmp_path.iterdir())) == 3000:  # noqa: ASYNC110  # threads set no events
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    left = len(list(tmp_path.iterdir()))
    assert left > 0
    await asyncio.sleep(0.05)
    assert len(list(tmp_path.iterdir())) == left


async def test_file_that_changed_after_it_was_listed_stays(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("old")
    (tmp_path / "in" / "b").write_text("b")
    files = await list_files(str(tmp_path / "in"), ANY)
    (tmp_path / "in" / "a").write_text("newer")
    report = await apply_to_files(files, Action(kind="delete"), no_progress)
    assert [failure.kind for failure in report.failures] == ["LocalFileError"]
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["a"]


async def test_move_across_file_systems_is_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    (tmp_path / "a").chmod(0o640)
    (file,) = await list_files(str(tmp_path), ANY)
    original = os.replace

    def replace(name: str, target: str, **directories: int) -> None:
        if name == "a":
            raise OSError(errno.EXDEV, "as if on another file system")
        original(name, target, **directories)

    monkeypatch.setattr(os, "replace", replace)
    await move_file(file, tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert (tmp_path / "b").stat().st_size == 3_000_000
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o640


async def test_cancelled_move_across_file_systems_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"x" * 50_000_000)
    (file,) = await list_files(str(tmp_path), ANY)

    def across(*_: str, **__: int) -> None:
        raise OSError(errno.EXDEV, "as if on another file system")

    begun, resumed, written = threading.Event(), threading.Event(), []
    write = PartialFile._write

    def slow(self: PartialFile, data: bytes, start: int) -> None:
        begun.set()
        resumed.wait()
        written.append(start)
        write(self, data, start)

    monkeypatch.setattr(os, "replace", across)
    monkeypatch.setattr(PartialFile, "_write", slow)
    action = Action(kind="move", prefix=f"{tmp_path}/to/")
    (tmp_path / "to").mkdir()
    moving = asyncio.create_task(apply_to_files([file], action, no_progress))
    await asyncio.to_thread(begun.wait)
    moving.cancel()
    for _ in range(5):  # turns of the loop, in which the cancellation reaches the thread
        await asyncio.sleep(0)
    resumed.set()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(1):
            await moving
    assert written == [0]
    assert (tmp_path / "a").stat().st_size == 50_000_000
    assert list((tmp_path / "to").iterdir()) == []


async def test_moves_that_meet_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    files = await list_files(str(tmp_path), ANY)
    rename = aiohaul.Rename(re.compile("a|b"), "c")
    with pytest.raises(aiohaul.CollisionError):
        await apply_to_files(
            files, Action(kind="rename", prefix=f"{tmp_path}/", rename=rename), no_progress
        )
    assert len(list(tmp_path.iterdir())) == 2


async def test_odd_entries_of_a_source_directory(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "directory").mkdir()
    (tmp_path / "a.txt").touch()
    found = await list_files(str(tmp_path), re.compile(r"a|d.*"))
    assert [file.name for file in found] == ["a.txt"]
    assert await list_files(str(tmp_path), re.compile("loop")) == []
    assert await list_files(str(tmp_path / "absent"), ANY) == []
    with pytest.raises(aiohaul.LocalFileError, match="Not a directory"):
        await list_files(str(tmp_path / "a.txt"), ANY)


async def test_name_that_is_not_utf8_is_refused_before_anything_is_copied(
    rclone_s3: Store, tmp_path: Path
) -> None:
    out = await rclone_s3.bucket()
    (tmp_path / "a").touch()
    (tmp_path / os.fsdecode(b"caf\xe9")).touch()
    with pytest.raises(aiohaul.PlanError, match="UTF-8"):
        await run(transfer(local(tmp_path, fileRegex=".*"), to(rclone_s3, out)))
    assert await rclone_s3.keys(out) == []


async def test_path_that_is_too_long_is_a_failure(rclone_s3: Store, tmp_path: Path) -> None:
    inbox = await rclone_s3.bucket()
    await rclone_s3.put(inbox, "src/a", b"x")
    with pytest.raises(aiohaul.TransferError, match="too long"):
        await run(transfer(source(rclone_s3, inbox), local(tmp_path / ("d" * 300))))


@pytest.mark.parametrize("nameless", [True, False], ids=["file without a name", "umask"])
def test_mode_of_a_new_file_is_found_without_making_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nameless: bool
) -> None:
    """A process that is killed just then leaves nothing behind."""
    opened = os.open

    def watched(path: Path, flags: int, mode: int = 0o777) -> int:
        if not nameless:
            raise OSError(errno.EOPNOTSUPP, "no such files here")
        descriptor = opened(path, flags, mode)
        assert list(tmp_path.iterdir()) == []
        return descriptor

    (tmp_path / "usual").touch()
    usual = stat.S_IMODE((tmp_path / "usual").stat().st_mode)
    (tmp_path / "usual").unlink()
    monkeypatch.setattr(os, "open", watched)
    assert default_mode(tmp_path / "new") == usual


# Whatever is at the path of a source by now


def _bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


SWAPS: dict[str, Callable[[Path], object]] = {
    "FIFO": os.mkfifo,
    "socket": _bind,
    "directory": os.mkdir,
    "another file": lambda path: path.write_bytes(b"xy"),
    "a link": lambda path: path.symlink_to("/etc/hostname"),
}


@pytest.mark.parametrize("swap", SWAPS)
async def test_source_that_is_swapped_after_the_listing(tmp_path: Path, swap: str) -> None:
    """Reading a FIFO would wait for ever, deaf to a cancel."""
    path = tmp_path / "in" / "a"
    path.parent.mkdir()
    path.write_bytes(b"x")
    files = await list_files(str(path.parent), ANY)
    path.unlink()
    SWAPS[swap](path)
    out = aiohaul.LocalDestination(directory=tmp_path / "out", create=True)
    async with asyncio.timeout(10), aiohaul.Session() as session:
        with pytest.raises(aiohaul.TransferError, match=r"reading .* failed"):
            await session.s3().copy(files, [out])
    assert list(out.directory.iterdir()) == []


async def test_file_that_is_swapped_for_a_fifo_while_it_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")
    (file,) = await list_files(str(tmp_path), ANY)

    def across(source: str, _: str, **__: int) -> None:
        if source == path.name:
            path.unlink()
            os.mkfifo(path)
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "replace", across)
    async with asyncio.timeout(10):
        with pytest.raises(aiohaul.LocalFileError, match="changed"):
            await move_file(file, tmp_path / "b")


async def test_file_that_moves_to_another_file_system_loses_set_uid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, replace = tmp_path / "a", os.replace
    path.write_bytes(b"x")
    path.chmod(0o6755)
    (file,) = await list_files(str(tmp_path), ANY)

    def across(source: str, target: str, **directories: int) -> None:
        if source == path.name:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(source, target, **directories)

    monkeypatch.setattr(os, "replace", across)
    await move_file(file, tmp_path / "b")
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o755


async def test_links_in_circles_or_to_nothing_are_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "one").symlink_to("other")
    (tmp_path / "other").symlink_to("one")
    (tmp_path / "broken").symlink_to("absent")
    found = await list_files(str(tmp_path), ANY)
    assert [each.name for each in found] == ["file", "link"]
    skipped = [re.escape(str(tmp_path / name)) for name in ("broken", "circle", "one", "other")]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == len(skipped)
    for line, path in zip(lines, skipped, strict=True):
        assert re.match(f"skipped {path}, because ", line)


async def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "file" / "below")
    (tmp_path / "file").touch()
    with pytest.raises(aiohaul.LocalFileError, match=f"reading {tmp_path}/a failed"):
        await list_files(str(tmp_path), ANY)


# A directory that is swapped for a link meanwhile


def _swap(directory: Path, elsewhere: Path) -> None:
    directory.rename(directory.with_name("moved away"))
    directory.symlink_to(elsewhere)


@pytest.mark.parametrize("size", [1, 20 * MIB], ids=["before the first byte", "between two parts"])
async def test_destination_that_is_swapped_for_a_link_gets_nothing_elsewhere(
    proxied: tuple[Gateway, Store], tmp_path: Path, size: int
) -> None:
    gateway, s3 = proxied
    inbox = await s3.bucket()
    await s3.put(inbox, "src/a", b"x" * size)
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    for each in (out, elsewhere):
        each.mkdir()
    held = gateway.rule("GET .*/src/a", times=1, hold=True)
    definition = transfer(source(s3, inbox, postCopyAction={"action": "delete"}), local(out))
    task = asyncio.ensure_future(run(definition))
    await held.reached.wait()
    _swap(out, elsewhere)
    held.go.set()
    with pytest.raises(aiohaul.TransferError, match="another process replaced the directory"):
        await task
    assert list(elsewhere.iterdir()) == []
    assert await s3.keys(inbox) == ["src/a"]


async def test_partial_file_stays_in_the_directory_in_which_it_was_made(tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    for each in (out, elsewhere):
        each.mkdir()
    file = PartialFile(out / "a")
    await file.write(b"x", 0)
    (elsewhere / file.partial.name).write_bytes(b"y")
    _swap(out, elsewhere)
    with pytest.raises(aiohaul.LocalFileError, match="replaced the directory"):
        await file.commit(1)
    with pytest.raises(aiohaul.LocalFileError, match="replaced the directory"):
        await file.discard()
    assert [each.name for each in elsewhere.iterdir()] == [file.partial.name]


async def test_flag_and_move_are_refused_in_a_directory_that_was_swapped(tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    for each in (out, elsewhere):
        each.mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(b"x")
    (file,) = await list_files(str(tmp_path / "in"), ANY)
    seen = await check_directory(out, create=False)
    _swap(out, elsewhere)
    with pytest.raises(aiohaul.LocalFileError, match="replaced the directory"):
        await touch_file(out / "flag", seen)
    with pytest.raises(aiohaul.LocalFileError, match="replaced the directory"):
        await move_file(file, out / "a", seen)
    assert list(elsewhere.iterdir()) == []
    assert file.path.exists()


async def test_destination_that_is_a_link_from_the_start_is_used(
    rclone_s3: Store, tmp_path: Path
) -> None:
    inbox = await rclone_s3.bucket()
    await rclone_s3.put(inbox, "src/a", b"x")
    (tmp_path / "there").mkdir()
    (tmp_path / "out").symlink_to("there")
    await run(transfer(source(rclone_s3, inbox), local(tmp_path / "out")))
    assert (tmp_path / "there" / "a").read_bytes() == b"x"


async def test_file_whose_directory_is_gone_counts_as_deleted(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").touch()
    (file,) = await list_files(str(tmp_path / "in"), ANY)
    file.path.unlink()
    file.path.parent.rmdir()
    await delete_file(file)


# Links


@pytest.mark.parametrize("follow", [None, True, False])
async def test_links_in_a_source_directory(
    rclone_s3: Store, tmp_path: Path, follow: bool | None
) -> None:
    out = await rclone_s3.bucket()
    (tmp_path / "outside").write_bytes(b"secret")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_bytes(b"x")
    (tmp_path / "in" / "link").symlink_to("../outside")
    given: dict[str, Any] = {"fileWatch": {"timeout": 5, "sleepTime": 1}}
    if follow is not None:
        given["followLinks"] = follow
    await run(transfer(local(tmp_path / "in", fileRegex=".*", **given), to(rclone_s3, out)))
    assert await rclone_s3.keys(out) == (["file"] if follow is False else ["file", "link"])
