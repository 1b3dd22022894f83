"""What users do, on stores as users have them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import aiohaul
from aiohaul import Action, Destination, LocalDestination, S3Handler, Stream
from aiohaul.s3.handler import transfers_of
from aiohaul.s3.local import stat_files
from aiohaul.s3.streaming.parts import PART_SIZE, Limits
from tests.support.definitions import local, run, source, to, transfer
from tests.support.store import Store

MIB = 2**20
#: Objects of more than this are copied in parts of 5 MiB, the smallest that stores take.
IN_PARTS = Limits(copy=1 * MIB, copy_step=5 * MIB)
LARGE = os.urandom(2 * PART_SIZE + 12345)
KEYS = [
    "src/plain.txt",
    "src/with space and + and %25 and %.txt",
    "src/größe-日本-🚀",
    "src/a&b=c?d#e;f,g'h\"i<j>",
    "src/" + "n" * 200,
]


async def two(s3: Store) -> tuple[str, str]:
    return await s3.bucket(), await s3.bucket()


@pytest.mark.feature("copies by the store itself")
async def test_copies_by_the_store_itself(store_s3: Store, handler: S3Handler) -> None:
    inbox, out = await two(store_s3)
    objects = {f"src/{number:02}": bytes([number]) * number for number in range(30)}
    await store_s3.fill(inbox, objects)
    report = await handler.copy(
        await handler.find(inbox, "src"), [Destination(bucket=out, directory="in")]
    )
    assert report.destinations[0].objects == len(objects)
    there = {key.replace("src/", "in/"): data for key, data in objects.items()}
    assert await store_s3.contents(out) == there


@pytest.mark.feature("description and tags of such copies")
async def test_description_and_tags_go_along(store_s3: Store, handler: S3Handler) -> None:
    inbox, out = await two(store_s3)
    told = {"ContentType": "text/csv", "Metadata": {"a": "b"}, "Tagging": "team=night"}
    await store_s3.put(inbox, "src/a", b"x", **told)
    await handler.copy(await handler.find(inbox, "src"), [Destination(bucket=out)])
    head = await store_s3.head(out, "a")
    assert (head["ContentType"], head["Metadata"]) == ("text/csv", {"a": "b"})
    assert await tags(store_s3, out, "a") == {"team": "night"}


@pytest.mark.feature("copies by the store itself, in parts")
async def test_copies_in_parts(store_s3: Store, handler: S3Handler) -> None:
    inbox, out = await two(store_s3)
    await store_s3.put(inbox, "src/large", LARGE, ContentType="text/csv", Metadata={"a": "b"})
    found = await handler.find(inbox, "src")
    (report,) = await transfers_of(handler).copy_all(
        found, [Destination(bucket=out)], limits=IN_PARTS
    )
    assert report.ok, report.failures
    assert await store_s3.get(out, "large") == LARGE
    head = await store_s3.head(out, "large")
    assert (head["ContentType"], head["Metadata"]) == ("text/csv", {"a": "b"})
    assert await store_s3.uploads(out) == []


@pytest.mark.feature("tags of copies in parts")
async def test_tags_of_copies_in_parts(store_s3: Store, handler: S3Handler) -> None:
    inbox, out = await two(store_s3)
    await store_s3.put(inbox, "src/large", LARGE, Tagging="team=night")
    found = await handler.find(inbox, "src")
    (report,) = await transfers_of(handler).copy_all(
        found, [Destination(bucket=out)], limits=IN_PARTS
    )
    assert report.ok, report.failures
    assert await tags(store_s3, out, "large") == {"team": "night"}


@pytest.mark.feature("one read, many writes")
async def test_through_the_worker(store_s3: Store, handler: S3Handler, tmp_path: Path) -> None:
    inbox, out = await two(store_s3)
    await store_s3.fill(inbox, {"src/large": LARGE, "src/empty": b"", "src/small": b"small"})
    report = await handler.copy(
        await handler.find(inbox, "src"),
        [
            *(Destination(bucket=out, directory=each, transfer_type="proxy") for each in "ab"),
            LocalDestination(directory=tmp_path),
        ],
        reread=True,
    )
    assert report.ok
    there = {"large": LARGE, "empty": b"", "small": b"small"}
    assert await store_s3.contents(out) == {f"{a}/{b}": there[b] for a in "ab" for b in there}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == there
    assert await store_s3.uploads(out) == []


async def written() -> AsyncIterator[bytes]:
    for start in range(0, len(LARGE), MIB):
        yield LARGE[start : start + MIB]


@pytest.mark.feature("multipart uploads of streams")
async def test_multipart(store_s3: Store, handler: S3Handler) -> None:
    out = await store_s3.bucket()
    stream = Stream("stream", written(), description={"ContentType": "text/csv"})
    await handler.copy([stream], [Destination(bucket=out)])
    assert await store_s3.get(out, "stream") == LARGE
    assert (await store_s3.head(out, "stream"))["ContentType"] == "text/csv"
    assert await store_s3.uploads(out) == []


@pytest.mark.feature("local files up")
async def test_files_up(store_s3: Store, handler: S3Handler, tmp_path: Path) -> None:
    out = await store_s3.bucket()
    for name, data in (("large", LARGE), ("small", b"small")):
        (tmp_path / name).write_bytes(data)
    found = await stat_files([tmp_path / "large", tmp_path / "small"])
    await handler.copy(found, [Destination(bucket=out, directory="in")])
    assert await store_s3.contents(out) == {"in/large": LARGE, "in/small": b"small"}


@pytest.mark.feature("objects down to files")
async def test_objects_down(store_s3: Store, handler: S3Handler, tmp_path: Path) -> None:
    inbox = await store_s3.bucket()
    await store_s3.fill(inbox, {"src/large": LARGE, "src/small": b"small"})
    await handler.copy(await handler.find(inbox, "src"), [LocalDestination(directory=tmp_path)])
    assert (tmp_path / "large").read_bytes() == LARGE
    assert (tmp_path / "small").read_bytes() == b"small"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.feature("deletes of the versions that were found")
async def test_delete(store_s3: Store, handler: S3Handler) -> None:
    inbox = await store_s3.bucket()
    await store_s3.fill(inbox, dict.fromkeys(KEYS, b"first"))
    found = await handler.find(inbox, "src")
    await store_s3.put(inbox, KEYS[0], b"second")
    report = await handler.delete(found)
    assert [each.source for each in report.failures] == [f"s3://{inbox}/{KEYS[0]}"]
    assert report.objects == len(KEYS) - 1
    assert await store_s3.contents(inbox) == {KEYS[0]: b"second"}


@pytest.mark.feature("moves")
async def test_move(store_s3: Store, handler: S3Handler) -> None:
    inbox, archive = await two(store_s3)
    await store_s3.fill(inbox, {"src/a": b"a", "src/b": b"b", "src/below/c": b"c"})
    action = Action(kind="move", bucket=archive, prefix="done/")
    report = await handler.act(await handler.find(inbox, "src"), action)
    assert not report.failures
    assert await store_s3.keys(inbox) == ["src/below/c"]
    assert await store_s3.contents(archive) == {"done/a": b"a", "done/b": b"b"}


@pytest.mark.feature("definitions: flag, rename, delete of the sources")
async def test_definition(store_s3: Store, tmp_path: Path) -> None:
    inbox, out = await two(store_s3)
    await store_s3.fill(inbox, {"src/a.txt": b"a", "src/b.txt": b"b"})
    report = await run(
        transfer(
            source(store_s3, inbox, postCopyAction={"action": "delete"}),
            to(
                store_s3,
                out,
                directory="in",
                rename={"pattern": "txt$", "sub": "csv"},
                flags={"fullPath": "in/all.flg"},
            ),
            local(tmp_path),
        )
    )
    assert report.ok
    assert await store_s3.keys(inbox) == []
    there = {"in/a.csv": b"a", "in/b.csv": b"b", "in/all.flg": b""}
    assert await store_s3.contents(out) == there


@pytest.mark.feature("watches")
async def test_watch(store_s3: Store, handler: S3Handler) -> None:
    inbox = await store_s3.bucket()
    await store_s3.put(inbox, "src/first", b"1")
    async with asyncio.timeout(30), handler.watch(inbox, "src", interval=0.2) as watch:
        seen = await anext(watch)
        assert (seen.kind, seen.object.key) == ("appeared", "src/first")
        await store_s3.put(inbox, "src/second", b"2")
        seen = await anext(watch)
        assert (seen.kind, seen.object.key) == ("appeared", "src/second")
        await store_s3.put(inbox, "src/first", b"another")
        seen = await anext(watch)
        assert (seen.kind, seen.object.key) == ("changed", "src/first")


@pytest.mark.feature("waits for files")
async def test_wait_for(store_s3: Store, handler: S3Handler) -> None:
    inbox = await store_s3.bucket()
    looked = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(
            handler.wait_for(
                inbox,
                "src",
                r".*\.txt",
                timeout=30,
                interval=0.2,
                on_progress=lambda _: looked.set(),
            )
        )
        await looked.wait()
        await store_s3.fill(inbox, {"src/a.csv": b"", "src/a.txt": b"a", "src/b.txt": b"b"})
    assert "src/a.csv" not in [each.key for each in waiting.result()]
    assert waiting.result()


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        pytest.param(
            *("push", b"small"),
            marks=pytest.mark.feature("overwrite=False: by the store itself"),
            id="push-whole",
        ),
        pytest.param(
            *("push", LARGE),
            marks=pytest.mark.feature("overwrite=False: in parts, by the store itself"),
            id="push-in-parts",
        ),
        pytest.param(
            *("proxy", b"small"),
            marks=pytest.mark.feature("overwrite=False: through the worker"),
            id="proxy-whole",
        ),
        pytest.param(
            *("proxy", LARGE),
            marks=pytest.mark.feature("overwrite=False: in parts, through the worker"),
            id="proxy-in-parts",
        ),
    ],
)
async def test_no_overwriting(store_s3: Store, handler: S3Handler, kind: str, data: bytes) -> None:
    inbox, out = await two(store_s3)
    await store_s3.fill(inbox, {"src/new": data, "src/taken": data})
    await store_s3.put(out, "taken", b"other")
    to_it = Destination(bucket=out, overwrite=False, transfer_type=kind)  # type: ignore[arg-type]
    found = await handler.find(inbox, "src")
    (report,) = await transfers_of(handler).copy_all(found, [to_it], limits=IN_PARTS)
    assert [each.kind for each in report.failures] == ["ObjectExistsError"]
    assert await store_s3.contents(out) == {"new": data, "taken": b"other"}
    assert await store_s3.uploads(out) == []


@pytest.mark.feature("a journal: only what is missing is copied")
async def test_journal(store_s3: Store, handler: S3Handler, tmp_path: Path) -> None:
    inbox, out = await two(store_s3)
    objects = {f"src/{number}": LARGE if number == 3 else bytes([number]) for number in range(6)}
    await store_s3.fill(inbox, objects)
    found = await handler.find(inbox, "src")
    to_it = [Destination(bucket=out, transfer_type="proxy")]
    journal = tmp_path / "journal.db"
    copied: list[str] = []

    def stop(event: aiohaul.Event) -> None:
        if isinstance(event, aiohaul.Copied):
            copied.append(event.source)
            copying.cancel()

    copying = asyncio.ensure_future(handler.copy(found, to_it, journal=journal, on_progress=stop))
    with pytest.raises(asyncio.CancelledError):
        await copying
    assert 0 < len(copied) < len(objects)

    report = await handler.copy(found, to_it, journal=journal)
    assert report.ok
    assert report.destinations[0].already_there >= len(copied)
    there = {key.removeprefix("src/"): data for key, data in objects.items()}
    assert await store_s3.contents(out) == there
    assert await store_s3.uploads(out) == []


@pytest.mark.feature("keys with anything in them")
@pytest.mark.parametrize("kind", ["push", "proxy"])
async def test_odd_keys(store_s3: Store, kind: str) -> None:
    inbox, out = await two(store_s3)
    await store_s3.fill(inbox, {key: key.encode() for key in KEYS})
    away = {"action": "move", "destination": "done/"}
    await run(
        transfer(source(store_s3, inbox, postCopyAction=away), to(store_s3, out, transferType=kind))
    )
    names = [key.removeprefix("src/") for key in KEYS]
    assert await store_s3.contents(out) == {name: f"src/{name}".encode() for name in names}
    assert await store_s3.keys(inbox) == sorted(f"done/{name}" for name in names)


async def tags(s3: Store, bucket: str, key: str) -> dict[str, str]:
    answer = await s3.client.get_object_tagging(Bucket=bucket, Key=key)
    return {each["Key"]: each["Value"] for each in answer["TagSet"]}
