"""Transfers with ``recursive``: files of subdirectories keep their paths."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import aiohaul
from aiohaul.s3.local import list_files
from aiohaul.storage.directories import directory_id, make_directories
from aiohaul.tasks.definition import parse
from tests.support.definitions import local, run, source, to, transfer
from tests.support.gateway import Gateway
from tests.support.store import Store

TREE = {"a.csv": b"1", "y/b.csv": b"22", "y/z/a.csv": b"333", "x.txt": b"4"}
CSV = {name: data for name, data in TREE.items() if name.endswith(".csv")}
REGEX = r".*\.csv"


def below(prefix: str, objects: Mapping[str, bytes]) -> dict[str, bytes]:
    return {f"{prefix}{name}": data for name, data in objects.items()}


def fill(directory: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)


def tree(directory: Path) -> dict[str, bytes]:
    return {
        each.relative_to(directory).as_posix(): each.read_bytes()
        for each in directory.rglob("*")
        if each.is_file()
    }


@pytest.mark.parametrize("kind", ["push", "proxy"])
async def test_objects_keep_their_paths_in_buckets_and_directories(
    s3: Store, tmp_path: Path, kind: str
) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {**below("src/", TREE), "srcx/c.csv": b"", "d.csv": b""})
    report = await run(
        transfer(
            source(s3, inbox, recursive=True, fileRegex=REGEX),
            to(s3, out, directory="in", transferType=kind, flags={"fullPath": "f"}),
            local(tmp_path / "in", createDirectoryIfNotExists=True),
        )
    )
    assert await s3.contents(out) == {**below("in/", CSV), "f": b""}
    assert tree(tmp_path / "in") == CSV
    assert [each.objects for each in report.destinations] == [3, 3]


async def test_files_keep_their_paths_and_are_deleted(s3: Store, tmp_path: Path) -> None:
    out = await s3.bucket()
    fill(tmp_path / "src", TREE)
    given = {"fileRegex": REGEX, "recursive": True, "postCopyAction": {"action": "delete"}}
    await run(
        transfer(
            local(tmp_path / "src", **given),
            to(s3, out, rename={"pattern": "^", "sub": "new-"}),
            local(tmp_path / "out", createDirectoryIfNotExists=True),
        )
    )
    assert await s3.contents(out) == {
        "new-a.csv": b"1",
        "y/new-b.csv": b"22",
        "y/z/new-a.csv": b"333",
    }
    assert tree(tmp_path / "out") == CSV
    assert tree(tmp_path / "src") == {"x.txt": b"4"}


async def test_whole_bucket_keeps_whole_keys(s3: Store) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, TREE)
    await run(transfer(source(s3, inbox, directory="", recursive=True), to(s3, out)))
    assert await s3.contents(out) == TREE


@pytest.mark.parametrize("action", ["move", "rename"])
async def test_moved_objects_keep_their_paths(s3: Store, action: str) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, below("src/", CSV))
    given: dict[str, Any] = {"action": action, "destination": "done/"}
    if action == "rename":
        given |= {"pattern": "csv$", "sub": "old"}
    await run(transfer(source(s3, inbox, recursive=True, postCopyAction=given), to(s3, out)))
    moved = {name.replace("csv", "old") if action == "rename" else name: CSV[name] for name in CSV}
    assert await s3.contents(inbox) == below("done/", moved)
    assert await s3.contents(out) == CSV


async def test_moved_files_keep_their_paths(tmp_path: Path) -> None:
    fill(tmp_path / "src", CSV)
    (tmp_path / "done").mkdir()
    action = {"action": "move", "destination": f"{tmp_path}/done"}
    given = {"fileRegex": ".*", "recursive": True, "postCopyAction": action}
    report = await run({"type": "transfer", "source": local(tmp_path / "src", **given)})
    assert tree(tmp_path / "done") == CSV
    assert tree(tmp_path / "src") == {}
    assert report.action == aiohaul.ActionReport("move", 3, ())


async def test_watch_waits_for_a_file_of_a_subdirectory(s3: Store) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    watch = {"timeout": 30, "sleepTime": 0.05}
    polled = asyncio.Event()
    task = asyncio.ensure_future(
        run(
            transfer(source(s3, inbox, recursive=True, fileWatch=watch), to(s3, out)),
            on_progress=lambda _: polled.set(),
        )
    )
    await polled.wait()
    await s3.put(inbox, "src/y/a", b"1")
    await task
    assert await s3.contents(out) == {"y/a": b"1"}


async def test_watch_only_and_the_library_return_the_paths(s3: Store) -> None:
    inbox = await s3.bucket()
    await s3.fill(inbox, below("src/", CSV))
    async with aiohaul.Session() as session:
        handler = session.s3(aiohaul.Settings.from_protocol(s3.protocol()))
        found = await handler.find(inbox, "src", recursive=True)
        waited = await handler.wait_for(inbox, "src", timeout=0, recursive=True)
        flat = await handler.find(inbox, "src")
    assert [each.folder for each in found] == ["", "y/", "y/z/"]
    assert [each.folder for each in waited] == ["", "y/", "y/z/"]
    assert waited == found
    assert [(each.name, each.folder) for each in flat] == [("a.csv", "")]


async def test_journal_copies_only_what_is_missing(
    proxied: tuple[Gateway, Store], tmp_path: Path
) -> None:
    gateway, s3 = proxied
    inbox = await s3.bucket()
    await s3.fill(inbox, below("src/", CSV))
    action = {"action": "delete"}
    given = transfer(
        source(s3, inbox, recursive=True, postCopyAction=action),
        local(tmp_path / "out", createDirectoryIfNotExists=True),
    )
    rule = gateway.rule("GET .*/src/y/b.csv", status=403, times=100)
    with pytest.raises(aiohaul.TransferError):
        await run(given, journal=tmp_path / "journal")
    rule.times = 0
    report = await run(given, journal=tmp_path / "journal")
    assert report.destinations[0].already_there == 2
    assert tree(tmp_path / "out") == CSV
    assert await s3.keys(inbox) == []


async def test_one_name_in_two_folders_is_no_collision_and_one_key_is(s3: Store) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {"src/y/a": b"1", "src/y/b": b"2"})
    with pytest.raises(aiohaul.CollisionError, match="would both be written to"):
        await run(
            transfer(
                source(s3, inbox, recursive=True),
                to(s3, out, rename={"pattern": "[ab]", "sub": "c"}),
            )
        )
    assert await s3.keys(out) == []


async def test_file_that_would_be_a_directory_is_refused(moto_s3: Store, tmp_path: Path) -> None:
    s3 = moto_s3
    inbox = await s3.bucket()
    await s3.fill(inbox, {"src/y": b"1", "src/y/b": b"2"})
    with pytest.raises(aiohaul.CollisionError, match="needs a directory of this name"):
        await run(transfer(source(s3, inbox, recursive=True), local(tmp_path)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["..", ".", "y/..", "y/"])
async def test_no_copy_leaves_its_directory(moto_s3: Store, tmp_path: Path, folder: str) -> None:
    s3 = moto_s3
    inbox = await s3.bucket()
    await s3.put(inbox, f"src/{folder}/escaped", b"1")
    (tmp_path / "out").mkdir()
    with pytest.raises(aiohaul.PlanError, match="not a valid name of a directory"):
        await run(transfer(source(s3, inbox, recursive=True), local(tmp_path / "out")))
    assert tree(tmp_path) == {}


async def test_link_in_the_place_of_a_subdirectory_gets_no_file(s3: Store, tmp_path: Path) -> None:
    inbox = await s3.bucket()
    await s3.fill(inbox, below("src/", CSV))
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "y").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(aiohaul.TransferError, match="is a link or a file"):
        await run(transfer(source(s3, inbox, recursive=True), local(tmp_path / "out")))
    assert tree(tmp_path / "elsewhere") == {}


def test_subdirectories_of_a_directory_that_was_replaced_are_not_made(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "other").mkdir()
    seen = directory_id(tmp_path / "other")
    with pytest.raises(OSError, match="replaced the directory"):
        make_directories(tmp_path / "out", seen, ["y/"])
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("follow", [True, False])
async def test_links_in_a_local_source(tmp_path: Path, follow: bool) -> None:
    fill(tmp_path / "src", {"a": b"1"})
    fill(tmp_path / "linked", {"b": b"2"})
    (tmp_path / "src" / "y").symlink_to(tmp_path / "linked")
    (tmp_path / "src" / "loop").symlink_to(tmp_path / "src")
    found = await list_files(
        str(tmp_path / "src"), re.compile(""), follow_links=follow, recursive=True
    )
    assert [f"{each.folder}{each.name}" for each in found] == (["a", "y/b"] if follow else ["a"])


@pytest.mark.parametrize(
    ("directory", "destination"), [("src", "src/copies"), ("", "copies"), ("src", "src/y")]
)
async def test_destination_below_the_source_is_refused(
    s3: Store, directory: str, destination: str
) -> None:
    inbox = await s3.bucket()
    await s3.fill(inbox, below("src/", CSV))
    given = source(s3, inbox, directory=directory, recursive=True)
    with pytest.raises(aiohaul.CollisionError, match="below the directory of the sources"):
        await run(transfer(given, to(s3, inbox, directory=destination)))
    action = {"action": "move", "destination": f"{destination}/"}
    with pytest.raises(aiohaul.CollisionError, match="below the directory of the sources"):
        await run({"type": "transfer", "source": {**given, "postCopyAction": action}})
    assert await s3.contents(inbox) == below("src/", CSV)


async def test_local_destination_below_the_source_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, CSV)
    given = local(tmp_path, fileRegex=".*", recursive=True)
    out = local(tmp_path / "out", createDirectoryIfNotExists=True)
    with pytest.raises(aiohaul.CollisionError, match="below the directory of the sources"):
        await run(transfer(given, out))
    assert tree(tmp_path) == CSV


def test_recursive_is_true_or_false(tmp_path: Path) -> None:
    given = transfer(local(tmp_path, fileRegex="", recursive="yes"), local(tmp_path / "x"))
    with pytest.raises(aiohaul.DefinitionError) as wrong:
        parse(given)
    assert wrong.value.path == "source.recursive"
