"""``aiohaul copy`` and ``move``: what a hand types, and what is where afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import aiohaul, ended, start
from tests.support.store import Store

TREE = {"1.csv": b"1", "y/3.csv": b"333", "y/z/4.txt": b"4444"}


def fill(directory: Path) -> None:
    for name, data in TREE.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)


def tree(directory: Path) -> dict[str, bytes]:
    return {
        each.relative_to(directory).as_posix(): each.read_bytes()
        for each in directory.rglob("*")
        if each.is_file()
    }


def below(prefix: str) -> dict[str, bytes]:
    return {f"{prefix}{name}": data for name, data in TREE.items()}


async def test_directory_to_two_buckets(s3: Store, at: Any, tmp_path: Path) -> None:
    at(s3.url)
    one, two = await s3.bucket(), await s3.bucket()
    fill(tmp_path / "x")
    ends = [f"s3://{one}/in", "--to", f"s3://{two}/in"]
    done = await aiohaul("copy", tmp_path / "x", *ends, "--recursive", "--flag", "done")
    assert (done.code, done.err.count("wrote the flag")) == (0, 2)
    assert f"s3://{two}/in/" in done.out
    for bucket in (one, two):
        assert await s3.contents(bucket) == {**below("in/"), "in/done": b""}


async def test_object_where_there_is_one_else_the_directory(
    moto_s3: Store, at: Any, tmp_path: Path
) -> None:
    s3 = moto_s3  # rclone keeps files, and no file beside a directory of its name
    at(s3.url)
    bucket = await s3.bucket()
    await s3.fill(bucket, {"in": b"object", "in/1.csv": b"1", "in/y/2.csv": b"2"})
    for source, expected in [
        ("in", {"in": b"object"}),
        ("in/", {"1.csv": b"1"}),
        ("in/y", {"2.csv": b"2"}),
        ("in/1.csv", {"1.csv": b"1"}),
    ]:
        out = tmp_path / source.replace("/", "-")
        done = await aiohaul("copy", f"s3://{bucket}/{source}", out)
        assert (done.code, tree(out)) == (0, expected)


async def test_move_deletes_what_every_destination_has(s3: Store, at: Any, tmp_path: Path) -> None:
    at(s3.url)
    bucket, out = await s3.bucket(), await s3.bucket()
    await s3.fill(bucket, {**below("in/"), "other": b""})
    report = tmp_path / "report.json"
    done = await aiohaul(
        *("move", f"s3://{bucket}/in/", f"s3://{out}/x/", "--recursive", "--glob", "*.csv"),
        *("--quiet", "--report", report),
    )
    assert (done.code, done.out) == (0, "")
    assert sorted(await s3.keys(bucket)) == ["in/y/z/4.txt", "other"]
    assert await s3.contents(out) == {"x/1.csv": b"1", "x/y/3.csv": b"333"}
    assert json.loads(report.read_text())["action"]["objects"] == 2


async def test_move_of_local_files_stays_where_a_copy_failed(
    s3: Store, at: Any, tmp_path: Path
) -> None:
    at(s3.url)
    bucket = await s3.bucket()
    fill(tmp_path / "x")
    await s3.put(bucket, "1.csv", b"there")
    given = ("move", tmp_path / "x", f"s3://{bucket}/", "--recursive", "--no-overwrite")
    done = await aiohaul(*given)
    assert done.code == 1
    assert tree(tmp_path / "x") == TREE
    assert await s3.get(bucket, "1.csv") == b"there"
    assert (await aiohaul(*given[:-1])).code == 0
    assert tree(tmp_path / "x") == {}
    assert await s3.contents(bucket) == TREE


async def test_several_sources_and_what_collides(s3: Store, at: Any) -> None:
    at(s3.url)
    bucket, out = await s3.bucket(), await s3.bucket()
    await s3.fill(bucket, {"a/1": b"1", "b/2": b"2", "c/1": b"3"})
    given = [f"s3://{bucket}/{each}" for each in ("a", "b/2")]
    done = await aiohaul("copy", *given, f"s3://{out}/x", "--json")
    assert json.loads(done.out)["destinations"][0]["objects"] == 2
    assert await s3.contents(out) == {"x/1": b"1", "x/2": b"2"}
    done = await aiohaul("copy", *given, f"s3://{bucket}/c", f"s3://{out}/y")
    assert (done.code, "would both be written to" in done.err) == (1, True)
    assert await s3.keys(out) == ["x/1", "x/2"]


async def test_sizes_and_ages(s3: Store, at: Any, tmp_path: Path) -> None:
    at(s3.url)
    out = await s3.bucket()
    fill(tmp_path / "x")
    given = ("copy", tmp_path / "x", f"s3://{out}/", "--recursive")
    done = await aiohaul(*given, "--size-gt", "1", "--size-lt", "4", "--age-lt", "1h")
    assert done.code == 0
    assert await s3.keys(out) == ["y/3.csv"]
    done = await aiohaul(*given, "--age-gt", "1d")
    assert (done.code, "nothing to copy" in done.err) == (1, True)


async def test_standard_input_and_output(s3: Store, at: Any) -> None:
    at(s3.url)
    bucket, other = await s3.bucket(), await s3.bucket()
    ends = [f"s3://{bucket}/x/a.csv", "--to", f"s3://{other}/a.csv"]
    process = await start("copy", "-", *ends, stdin=asyncio.subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(b"typed")
    process.stdin.close()
    assert (await ended(process)).code == 0
    assert await s3.get(bucket, "x/a.csv") == await s3.get(other, "a.csv") == b"typed"
    done = await aiohaul("copy", f"s3://{bucket}/x/a.csv", "-")
    assert (done.code, done.out) == (0, "typed")


@pytest.mark.parametrize("move", [False, True])
async def test_definition_does_the_same(s3: Store, at: Any, tmp_path: Path, move: bool) -> None:
    at(s3.url)
    bucket, one, two = [await s3.bucket() for _ in range(3)]
    command = "move" if move else "copy"
    options = ["--recursive", "--regex", r".*\.csv", "--size-lt", "3", "--flag", "f"]
    seen = []
    for way in ("by hand", "by definition"):
        await s3.fill(bucket, below("in/"))
        out = tmp_path / way.replace(" ", "-")
        given = [command, f"s3://{bucket}/in", f"s3://{one}/x", "--to", out, *options]
        if way == "by hand":
            assert (await aiohaul(*given)).code == 0
        else:
            printed = await aiohaul(*given, "--as-definition")
            file = tmp_path / "definition.json"
            file.write_text(printed.out)
            assert await s3.keys(one) == []
            assert (await aiohaul("run", file)).code == 0
        seen.append((await s3.contents(bucket), await s3.contents(one), tree(out)))
        for key in await s3.keys(one):
            await s3.client.delete_object(Bucket=one, Key=key)
    assert seen[0] == seen[1]
    assert seen[0][1] == {"x/1.csv": b"1", "x/f": b""}
    assert two  # a bucket that nothing names
    assert await s3.keys(two) == []


async def test_definition_that_overwrites_nothing(s3: Store, at: Any, tmp_path: Path) -> None:
    at(s3.url)
    bucket, out = await s3.bucket(), await s3.bucket()
    await s3.fill(bucket, {"in/a": b"new"})
    await s3.fill(out, {"x/a": b"there"})
    (tmp_path / "a").write_bytes(b"there")
    ends = [f"s3://{out}/x", "--to", tmp_path]
    printed = await aiohaul(
        "copy", f"s3://{bucket}/in/", *ends, "--no-overwrite", "--as-definition"
    )
    file = tmp_path / "definition.json"
    file.write_text(printed.out)
    done = await aiohaul("run", file)
    assert (done.code, done.err.count("exists already")) == (1, 2), done.err
    assert (await s3.get(out, "x/a"), (tmp_path / "a").read_bytes()) == (b"there", b"there")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["s3://{inbox}/in", "s3://no-such-bucket-here/"], 1, "NoSuchBucket"),
        (["s3://{inbox}/in", "s3://{inbox}/in/deeper", "--recursive"], 1, "is below the directory"),
        (["s3://{inbox}/in", "s3://{out}", "--recursiv", "--flga", "x"], 2, "did you mean --flag?"),
        (["s3://{inbox}/", "s3://{out}"], 1, "is a whole bucket: add --recursive"),
        (["s3://{inbox}/none", "s3://{out}"], 1, "no file or object matches"),
        (["nowhere.csv", "s3://{out}"], 1, "there is no such file or directory"),
        (["http://x/y", "s3://{out}"], 2, "must be s3://bucket/key"),
        (["s3:/{inbox}/in", "s3://{out}"], 2, "must have the form s3://bucket/key"),
        (["s3://{inbox}/in", "s3://{out}", "--size-gt", "big"], 2, "is not a size such as"),
        (["s3://{inbox}/in", "s3://{out}", "--flag", "a/b"], 1, "is not a file name"),
        (["-", "s3://{out}/x/a"], 1, "standard input is copied alone"),
        (["s3://{inbox}/in", "-", "--recursive"], 1, "standard output takes one object"),
    ],
)
async def test_bad_input_is_refused_and_nothing_done(
    s3: Store, at: Any, arguments: list[str], code: int, told: str
) -> None:
    at(s3.url)
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {"in/a": b"1", "in/y/b": b"2"})
    done = await aiohaul("move", *(each.format(inbox=inbox, out=out) for each in arguments))
    assert (done.code, told in done.err) == (code, True), done.err
    assert await s3.keys(inbox) == ["in/a", "in/y/b"]
    assert await s3.keys(out) == []


async def test_ls_and_cat(s3: Store, at: Any) -> None:
    at(s3.url)
    bucket = await s3.bucket()
    await s3.fill(bucket, below("in/"))
    done = await aiohaul("ls", f"s3://{bucket}/in")
    assert [line.split()[-1] for line in done.out.splitlines()] == [
        f"s3://{bucket}/in/y/",
        f"s3://{bucket}/in/1.csv",
    ]
    done = await aiohaul("ls", f"s3://{bucket}", "--recursive", "--json")
    shown = [json.loads(line) for line in done.out.splitlines()]
    assert [(each["uri"], each["size"]) for each in shown] == [
        (f"s3://{bucket}/in/1.csv", 1),
        (f"s3://{bucket}/in/y/3.csv", 3),
        (f"s3://{bucket}/in/y/z/4.txt", 4),
    ]
    done = await aiohaul("cat", f"s3://{bucket}/in/1.csv", f"s3://{bucket}/in/y/3.csv")
    assert (done.code, done.out) == (0, "1333")
    done = await aiohaul("ls", f"s3://{bucket}/none")
    assert (done.code, "there is no object" in done.err) == (1, True)
    done = await aiohaul("cat", f"s3://{bucket}/in/")
    assert (done.code, "is a directory" in done.err) == (1, True)


async def test_rm_deletes_what_is_named_and_nothing_else(s3: Store, at: Any) -> None:
    at(s3.url)
    bucket = await s3.bucket()
    await s3.fill(bucket, {**below("in/"), "a": b"", "b": b""})
    done = await aiohaul("rm", f"s3://{bucket}/in", f"s3://{bucket}/a", "--yes")
    assert (done.code, done.out) == (0, "deleted 2 objects\n")
    assert await s3.keys(bucket) == ["b", "in/y/3.csv", "in/y/z/4.txt"]
    done = await aiohaul("rm", f"s3://{bucket}/in/", "--recursive", "--yes", "--json")
    assert json.loads(done.out)["objects"] == 2
    assert await s3.keys(bucket) == ["b"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["{bucket}/in"], "add --yes"),
        (["{bucket}", "--yes", "--recursive"], "add --whole-bucket"),
        (["{bucket}/in", "s3://{bucket}/none", "--yes"], "there is no object at"),
    ],
)
async def test_rm_refuses_before_anything_is_deleted(
    s3: Store, at: Any, arguments: list[str], told: str
) -> None:
    at(s3.url)
    bucket = await s3.bucket()
    await s3.fill(bucket, below("in/"))
    first, *rest = (each.format(bucket=bucket) for each in arguments)
    command = ("rm", f"s3://{first}", *rest)
    done = await ended(await start(*command, stdin=asyncio.subprocess.DEVNULL))
    assert (done.code, told in done.err) == (1, True)
    assert await s3.contents(bucket) == below("in/")


@pytest.mark.parametrize("answer", ["y", "n", ""])
async def test_rm_asks_at_a_terminal(s3: Store, at: Any, answer: str) -> None:
    at(s3.url)
    bucket = await s3.bucket()
    await s3.put(bucket, "a", b"1")
    terminal, stdin = os.openpty()
    try:
        os.write(terminal, f"{answer}\n".encode())
        done = await ended(await start("rm", f"s3://{bucket}/a", stdin=stdin))
    finally:
        os.close(terminal)
        os.close(stdin)
    assert f"delete s3://{bucket}/a (1 B)? [y/N]" in done.err
    assert (done.code, await s3.keys(bucket)) == ((0, []) if answer == "y" else (1, ["a"]))


async def test_alone_it_says_what_to_do_first() -> None:
    done = await aiohaul()
    assert (done.code, done.out) == (2, "")
    assert "aiohaul copy FILE s3://BUCKET/DIRECTORY" in done.err


@pytest.mark.parametrize("command", ["copy", "move", "ls", "cat", "rm"])
async def test_help_has_an_example(command: str) -> None:
    done = await aiohaul(command, "--help")
    assert (done.code, f"aiohaul {command} " in done.out.partition("example")[2]) == (0, True)


async def test_other_commands_load_nothing_of_copy() -> None:
    code = "import sys, aiohaul.cli.main; print(*sys.modules)"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    loaded = set(out.decode().split())
    assert "aiohaul.cli.copy_options" in loaded
    assert not loaded & {"aiohaul.cli.copy", "aiohaul.cli.listing", "aiohaul.cli.doctor"}
