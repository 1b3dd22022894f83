"""Transfers over both servers: what is where afterwards."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import aiohaul
from tests.support.definitions import local, run, source, to, transfer
from tests.support.store import Store, md5

MIB = 1024 * 1024


async def test_a_thousand_objects_to_three_buckets_and_moved_away(s3: Store) -> None:
    count = 1000 if s3.kind == "rclone" else 200  # moto takes its time
    inbox, *outs, archive = [await s3.bucket() for _ in range(5)]
    objects = {f"file-{n:04}.txt": b"%d" % n for n in range(count)}
    await s3.fill(inbox, {f"src/{name}": data for name, data in objects.items()})
    definition = transfer(
        source(s3, inbox, postCopyAction={"action": "move", "destination": f"s3://{archive}/x/"}),
        *(
            to(s3, out, directory=f"in{n}", flags={"fullPath": "f.flg"})
            for n, out in enumerate(outs)
        ),
    )
    report = await run(definition)
    for number, out in enumerate(outs):
        expected = {f"in{number}/{name}": md5(data) for name, data in objects.items()}
        assert await s3.listing(out) == {**expected, "f.flg": md5(b"")}
    expected = {f"x/{name}": md5(data) for name, data in objects.items()}
    assert await s3.listing(archive) == expected
    assert await s3.keys(inbox) == []
    assert [each.objects for each in report.destinations] == [count] * 3
    assert report.action == aiohaul.ActionReport("move", count, ())
    assert report.size == sum(map(len, objects.values()))


async def test_more_keys_than_one_delete_takes(rclone_s3: Store) -> None:
    s3 = rclone_s3
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {f"src/{n}": b"" for n in range(1203)})
    await s3.put(inbox, "src/below/stays")
    report = await run(
        transfer(source(s3, inbox, postCopyAction={"action": "delete"}), to(s3, out))
    )
    assert await s3.keys(inbox) == ["src/below/stays"]
    assert len(await s3.keys(out)) == 1203
    assert report.action == aiohaul.ActionReport("delete", 1203, ())


@pytest.mark.smoke
async def test_rename_at_the_destination_and_afterwards(s3: Store) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/file-1.txt", b"1")
    action = {"action": "rename", "destination": "src/old/", "pattern": r"(\d)", "sub": r"\1-done"}
    definition = transfer(
        source(s3, inbox, postCopyAction=action),
        to(s3, out, rename={"pattern": "^file", "sub": "data"}),
    )
    await run(definition)
    assert await s3.keys(out) == ["data-1.txt"]
    assert await s3.keys(inbox) == ["src/old/file-1-done.txt"]


async def test_rename_that_changes_nothing_leaves_the_object_alone(s3: Store) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", b"1")
    action = {"action": "rename", "destination": "src/", "pattern": "x", "sub": "y"}
    await run(transfer(source(s3, inbox, postCopyAction=action), to(s3, out)))
    assert await s3.contents(inbox) == {"src/a": b"1"}


@pytest.mark.parametrize("destination", ["/", "archive/"])
async def test_move_within_the_bucket_never_begins_with_a_slash(
    s3: Store, destination: str
) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", b"1")
    action = {"action": "move", "destination": destination}
    await run(transfer(source(s3, inbox, postCopyAction=action), to(s3, out)))
    assert await s3.keys(inbox) == [f"{destination}a".lstrip("/")]


async def test_move_without_destinations(s3: Store) -> None:
    inbox = await s3.bucket()
    await s3.put(inbox, "src/a", b"1")
    action = {"action": "move", "destination": "done/"}
    await run({"type": "transfer", "source": source(s3, inbox, postCopyAction=action)})
    assert await s3.contents(inbox) == {"done/a": b"1"}


async def test_only_the_directory_itself_or_the_whole_bucket(s3: Store) -> None:
    inbox, out, all_of_it = [await s3.bucket() for _ in range(3)]
    await s3.fill(inbox, {"src/a": b"", "src/below/b": b"", "srcx/c": b"", "d": b""})
    await run(transfer(source(s3, inbox), to(s3, out)))
    assert await s3.keys(out) == ["a"]
    await run(transfer(source(s3, inbox, directory=""), to(s3, all_of_it, directory="x")))
    assert await s3.keys(all_of_it) == ["x/a", "x/b", "x/c", "x/d"]


@pytest.mark.parametrize("kind", ["push", "proxy"])
@pytest.mark.parametrize(
    "name",
    ["a b", "a+b", "100%25", "ünï-😀", "a'b\"c", "&<>;", "x" * 240, "tilde~(1)!*"],
)
async def test_names_arrive_as_they_are(s3: Store, kind: str, name: str) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, f"src/{name}", b"data")
    action = {"action": "delete"}
    await run(
        transfer(
            source(s3, inbox, postCopyAction=action), to(s3, out, directory="d", transferType=kind)
        )
    )
    assert await s3.contents(out) == {f"d/{name}": b"data"}
    assert await s3.keys(inbox) == []


@pytest.mark.parametrize("size", [0, 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 20 * MIB + 7])
async def test_sizes_around_the_part_size_through_the_worker(
    s3: Store, tmp_path: Path, size: int
) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    data = bytes(range(256)) * (size // 256 + 1)
    await s3.put(inbox, "src/a", data[:size])
    await run(transfer(source(s3, inbox), to(s3, out, transferType="proxy"), local(tmp_path)))
    assert await s3.get(out, "a") == data[:size]
    assert (tmp_path / "a").read_bytes() == data[:size]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert await s3.uploads(out) == []


@pytest.mark.smoke
async def test_local_files_to_buckets_and_directories(s3: Store, tmp_path: Path) -> None:
    inbox, done, other = (tmp_path / name for name in ("in", "done", "other"))
    for directory in (inbox, done):
        directory.mkdir()
    (inbox / "a.txt").write_bytes(b"a")
    (inbox / "b.log").write_bytes(b"b")
    (inbox / "below.txt").mkdir()
    out = await s3.bucket()
    definition = transfer(
        local(
            inbox,
            fileRegex=r".*\.txt",
            postCopyAction={"action": "move", "destination": str(done)},
        ),
        to(s3, out, directory="d"),
        local(
            other,
            createDirectoryIfNotExists=True,
            mode="640",
            flags={"fullPath": str(tmp_path / "f")},
        ),
    )
    await run(definition)
    assert await s3.contents(out) == {"d/a.txt": b"a"}
    assert (other / "a.txt").read_bytes() == b"a"
    assert (other / "a.txt").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "f").read_bytes() == b""
    assert sorted(path.name for path in inbox.iterdir()) == ["b.log", "below.txt"]
    assert (done / "a.txt").read_bytes() == b"a"


@pytest.mark.parametrize(
    ("action", "left"),
    [
        ({"action": "delete"}, []),
        ({"action": "none"}, ["in/a1"]),
        ({"action": ""}, ["in/a1"]),
        ({"action": "rename", "destination": "{}/done/", "pattern": "1", "sub": "2"}, ["done/a2"]),
    ],
)
async def test_local_post_copy_actions(
    s3: Store, tmp_path: Path, action: dict[str, str], left: list[str]
) -> None:
    for name in ("in", "done"):
        (tmp_path / name).mkdir()
    (tmp_path / "in" / "a1").write_bytes(b"a")
    if "destination" in action:
        action = {**action, "destination": action["destination"].format(tmp_path)}
    out = await s3.bucket()
    inbox = local(tmp_path / "in", fileRegex="a", postCopyAction=action)
    await run(transfer(inbox, to(s3, out)))
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert [str(file.relative_to(tmp_path)) for file in files] == left
    assert await s3.keys(out) == ["a1"]


async def test_conditions_on_size(s3: Store) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {f"src/{size}": b"x" * size for size in (9, 10, 11, 19, 20)})
    conditions = {"size": {"gt": 10, "lt": 20}}
    await run(transfer(source(s3, inbox, conditionals=conditions), to(s3, out)))
    assert await s3.keys(out) == ["11", "19"]


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        ({"age": {"lt": 600}}, True),
        ({"age": {"gt": 600}}, False),
        ({"count": {"minCount": 2}}, True),
        ({"count": {"minCount": 3}}, False),
        ({"count": {"maxCount": 2}}, True),
        ({"count": {"maxCount": 1}}, False),
    ],
)
async def test_conditions_on_age_and_count(
    s3: Store, conditions: dict[str, Any], found: bool
) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {"src/a": b"", "src/b": b""})
    definition = transfer(source(s3, inbox, conditionals=conditions, error=False), to(s3, out))
    report = await run(definition)
    assert (report.found > 0) is found
    assert await s3.keys(out) == (["a", "b"] if found else [])


async def test_nothing_found_is_an_error_unless_the_definition_says_otherwise(s3: Store) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    with pytest.raises(aiohaul.NothingFoundError, match=inbox):
        await run(transfer(source(s3, inbox), to(s3, out)))
    report = await run(transfer(source(s3, inbox, error=False), to(s3, out)))
    assert report.ok
    assert report.found == 0


async def test_watch_that_times_out(s3: Store) -> None:
    inbox = await s3.bucket()
    watch = {"timeout": 0.2, "sleepTime": 0.05}
    with pytest.raises(aiohaul.WatchTimeoutError, match=r"within 1 s"):
        await run({"type": "transfer", "source": source(s3, inbox, fileWatch=watch)})
    report = await run(
        {"type": "transfer", "source": source(s3, inbox, fileWatch=watch, error=False)}
    )
    assert report.found == 0


@pytest.mark.smoke
async def test_watch_ends_when_the_file_arrives(s3: Store) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    watch = {"timeout": 60, "sleepTime": 0.05, "directory": "ready", "fileRegex": "go"}
    await s3.put(inbox, "src/data", b"data")
    looked = asyncio.Event()
    definition = transfer(source(s3, inbox, fileWatch=watch), to(s3, out))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run(definition, on_progress=lambda _: looked.set()))
        await looked.wait()
        assert await s3.keys(out) == []
        await s3.put(inbox, "ready/go")
    assert running.result().found == 1
    assert await s3.keys(out) == ["data"]


async def test_watch_only_does_nothing_else(s3: Store) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a")
    watch = {"watchOnly": True}
    action = {"action": "delete"}
    report = await run(
        transfer(source(s3, inbox, fileWatch=watch, postCopyAction=action), to(s3, out))
    )
    assert report.found == 1
    assert await s3.keys(inbox) == ["src/a"]
    assert await s3.keys(out) == []


async def test_conditions_during_the_watch_are_waited_for(s3: Store) -> None:
    inbox = await s3.bucket()
    await s3.put(inbox, "src/a", b"small")
    definition = {
        "type": "transfer",
        "source": source(
            s3,
            inbox,
            fileWatch={"timeout": 60, "sleepTime": 0.05},
            conditionals={"size": {"gt": 10}, "checkDuringFilewatch": True},
        ),
    }
    looked = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run(definition, on_progress=lambda _: looked.set()))
        await looked.wait()
        await s3.put(inbox, "src/a", b"large enough")
    assert running.result().found == 1


async def test_conditions_after_the_watch_are_not_waited_for(s3: Store) -> None:
    inbox = await s3.bucket()
    await s3.put(inbox, "src/a", b"small")
    definition = {
        "type": "transfer",
        "source": source(s3, inbox, fileWatch={"timeout": 60}, conditionals={"size": {"gt": 10}}),
    }
    with pytest.raises(
        aiohaul.NothingFoundError, match=r"1 files or objects match in .* do not meet the cond"
    ):
        await run(definition)


@pytest.mark.parametrize("kind", ["push", "proxy"])
async def test_description_travels_with_the_object(s3: Store, kind: str) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", b"x", ContentType="text/csv", Metadata={"owner": "me"})
    await run(transfer(source(s3, inbox), to(s3, out, transferType=kind)))
    answer = await s3.head(out, "a")
    assert answer["ContentType"] == "text/csv"
    assert answer["Metadata"]["owner"] == "me"


async def test_tags_and_storage_class_of_a_server_side_copy(moto_s3: Store) -> None:
    s3 = moto_s3
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", b"x", StorageClass="STANDARD_IA", Tagging="team=night")
    await run(transfer(source(s3, inbox), to(s3, out)))
    assert (await s3.head(out, "a"))["StorageClass"] == "STANDARD_IA"
    tags = await s3.client.get_object_tagging(Bucket=out, Key="a")
    assert tags["TagSet"] == [{"Key": "team", "Value": "night"}]


async def test_flag_is_written_after_everything_else_and_only_where_complete(s3: Store) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {f"src/{n}": b"x" for n in range(20)})
    order: list[str] = []

    def note(event: aiohaul.Event) -> None:
        order.append(type(event).__name__)

    missing = to(s3, "no-such-bucket", flag={"fullPath": "f.flg"})
    with pytest.raises(aiohaul.TransferError) as failed:
        await run(
            transfer(source(s3, inbox), to(s3, out, flag={"fullPath": "f.flg"}), missing),
            on_progress=note,
        )
    assert order.count("Copied") == 20
    assert "Copied" not in order[order.index("FlagWritten") :]
    good, bad = failed.value.report.destinations
    assert (good.objects, good.flag, good.ok) == (20, f"s3://{out}/f.flg", True)
    assert (bad.objects, bad.flag, len(bad.failures)) == (0, None, 20)
    assert len(await s3.keys(out)) == 21


async def test_partly_failed_transfer_leaves_every_source_in_place(s3: Store) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {"src/a": b"1", "src/b": b"2"})
    definition = transfer(
        source(s3, inbox, postCopyAction={"action": "delete"}),
        to(s3, out),
        to(s3, "no-such-bucket"),
    )
    with pytest.raises(aiohaul.TransferError, match="no-such-bucket") as failed:
        await run(definition)
    assert failed.value.report.action is None
    assert failed.value.report.destinations[1].failures[0].kind == "BucketNotFoundError"
    assert await s3.keys(inbox) == ["src/a", "src/b"]
    assert await s3.keys(out) == ["a", "b"]


async def test_two_sources_on_one_key_are_refused_before_the_first_byte(s3: Store) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {"x/a": b"1", "y/a": b"2", "z/b": b""})
    with pytest.raises(aiohaul.CollisionError, match=r"x/a and .*y/a would both be written to"):
        await run(transfer(source(s3, inbox, directory=""), to(s3, out)))
    assert await s3.keys(out) == []


async def test_missing_local_directory(s3: Store, tmp_path: Path) -> None:
    inbox = await s3.bucket()
    await s3.put(inbox, "src/a", b"1")
    with pytest.raises(aiohaul.TransferError, match="not a directory"):
        await run(transfer(source(s3, inbox), local(tmp_path / "absent")))
    assert not (tmp_path / "absent").exists()


async def test_one_session_serves_many_runs(s3: Store) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", b"1")
    async with aiohaul.Session() as session, asyncio.TaskGroup() as tasks:
        for n in range(10):
            definition = transfer(source(s3, inbox), to(s3, out, directory=str(n)))
            tasks.create_task(run(definition, session=session))
    assert await s3.keys(out) == [f"{n}/a" for n in range(10)]


@pytest.mark.smoke
async def test_the_library_without_definitions(s3: Store) -> None:
    inbox, one, two = [await s3.bucket() for _ in range(3)]
    await s3.fill(inbox, {"src/a.txt": b"1", "src/b.txt": b"22", "src/c.log": b"333"})
    settings = aiohaul.Settings(
        access_key_id=s3.protocol()["access_key_id"],
        secret_access_key=s3.protocol()["secret_access_key"],
        region="eu-west-1",
        endpoint_url=s3.url,
    )
    async with aiohaul.Session() as session:
        handler = session.s3(settings)
        listed = [each async for each in handler.list(inbox, "src/")]
        assert [each.key for each in listed] == ["src/a.txt", "src/b.txt", "src/c.log"]
        assert [each.size for each in listed] == [1, 2, 3]
        assert (datetime.now(UTC) - listed[0].last_modified).total_seconds() < 600
        found = await handler.wait_for(inbox, "src", r".*\.txt", timeout=5)
        assert found == listed[:2]
        seen = await handler.head(inbox, "src/a.txt")
        assert (seen.key, seen.size, seen.etag) == ("src/a.txt", 1, listed[0].etag)
        report = await handler.copy(
            found,
            [
                aiohaul.Destination(bucket=one, settings=settings),
                aiohaul.Destination(bucket=two, directory="d", settings=settings),
            ],
        )
        assert [each.objects for each in report.destinations] == [2, 2]
        await handler.touch(one, "flag")
        assert (await handler.delete(found)).objects == 2
    assert await s3.contents(one) == {"a.txt": b"1", "b.txt": b"22", "flag": b""}
    assert await s3.keys(two) == ["d/a.txt", "d/b.txt"]
    assert await s3.keys(inbox) == ["src/c.log"]
