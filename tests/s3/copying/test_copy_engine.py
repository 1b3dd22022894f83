"""The copy engine: one read, many writes, any size, exactly right."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import threading
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import aiohaul
from aiohaul import Destination, LocalDestination, S3Object, Settings, Stream
from aiohaul.s3.copying import plan
from aiohaul.s3.handler import transfers_of
from aiohaul.s3.local import stat_files
from aiohaul.s3.streaming import checksums, tee
from aiohaul.s3.streaming.parts import LIMITS, PART_SIZE, Limits
from tests.support.definitions import run, source, to, transfer
from tests.support.fake_s3 import FakeS3, Written, content, fake_s3
from tests.support.gateway import Gateway
from tests.support.servers import KEY, REGION, SECRET
from tests.support.store import Store

MIB = 1024 * 1024
Proxied = tuple[Gateway, Store]
#: What stands for 5 GiB where no test can have that many.
SMALL_COPIES = Limits(copy=1 * MIB, copy_step=5 * MIB)


def settings(url: str) -> Settings:
    return Settings(access_key_id=KEY, secret_access_key=SECRET, region=REGION, endpoint_url=url)


def session_on(url: str, **more: Any) -> aiohaul.Session:
    return aiohaul.Session(
        region=REGION, endpoint_url=url, access_key_id=KEY, secret_access_key=SECRET, **more
    )


@pytest.fixture
async def fakes() -> AsyncIterator[list[FakeS3]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(fake_s3()) for _ in range(4)]


def made_up(fake: FakeS3, key: str, size: int) -> S3Object:
    """A source whose bytes the fake makes up."""
    fake.sources[f"/in/{key}"] = size
    return S3Object("in", key, size, "0-1", datetime(2026, 1, 1, tzinfo=UTC))


def crc_of(size: int) -> int:
    return zlib.crc32(content(0, size))


async def haul(sources: list[S3Object], fakes: list[FakeS3], **more: Any) -> aiohaul.TransferReport:
    first, *rest = fakes
    async with aiohaul.Session(max_requests=32) as session:
        return await session.s3(settings(first.url)).copy(
            sources,
            [Destination(bucket="out", settings=settings(each.url)) for each in rest],
            **more,
        )


async def test_large_plan_is_checked_without_holding_up_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turned, check = threading.Event(), plan.check

    def waiting_check(*arguments: Any) -> None:
        assert turned.wait(10), "the loop stood still"
        check(*arguments)

    monkeypatch.setattr(plan, "check", waiting_check)
    when = datetime(2026, 1, 1, tzinfo=UTC)
    sources = [S3Object("in", f"{number}/same", 1, "0-1", when) for number in range(20_000)]
    settled = settings("http://127.0.0.1:1")
    async with aiohaul.Session() as session:
        copying = asyncio.ensure_future(
            session.s3(settled).copy(sources, [Destination(bucket="out", settings=settled)])
        )
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.01, turned.set)
        with pytest.raises(aiohaul.CollisionError, match="both be written to"):
            await copying


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110  # a server's state has no event
        await asyncio.sleep(0.01)


KEYS = [
    "src/plain.txt",
    "src/with space and + and %25 and %.txt",
    "src/new\nline",
    "src/größe-日本-🚀",
    "src/" + "n" * 1020,
    "src/..",
    "src/a&b=c?d#e;f,g'h\"i<j>",
]
#: Some servers refuse some of these keys; together they take all of them.
NOT_TAKEN = {
    "moto": {"src/new\nline"},
    "rclone": {"src/" + "n" * 1020, "src/.."},
    "juicefs": {"src/.."},
    "seaweedfs": {"src/" + "n" * 1020, "src/.."},
}
SIZES = [
    0,
    1,
    PART_SIZE - 1,
    PART_SIZE,
    PART_SIZE + 1,
    2 * PART_SIZE - 1,
    2 * PART_SIZE,
    2 * PART_SIZE + 1,
    5 * PART_SIZE + 12345,
]


@pytest.mark.parametrize("size", SIZES)
async def test_every_byte_arrives_for_sizes_around_every_boundary(
    s3: Store, tmp_path: Path, size: int
) -> None:
    inbox, out, other = await s3.bucket(), await s3.bucket(), await s3.bucket()
    data = content(7, size)
    await s3.put(inbox, "src/a", data)
    async with session_on(s3.url) as session:
        handler = session.s3()
        await handler.copy(
            await handler.find(inbox, "src"),
            [
                Destination(bucket=out, transfer_type="proxy", settings=settings(s3.url)),
                Destination(bucket=other, settings=settings(s3.url)),
                LocalDestination(directory=tmp_path),
            ],
            reread=True,
        )
    assert await s3.get(out, "a") == data
    assert await s3.get(other, "a") == data
    assert (tmp_path / "a").read_bytes() == data
    assert await s3.uploads(out) == []


@pytest.mark.parametrize("kind", ["push", "proxy"])
async def test_every_key_that_s3_takes_is_carried(s3: Store, kind: str) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    keys = [key for key in KEYS if key not in NOT_TAKEN.get(s3.kind, set())]
    await s3.fill(inbox, {key: key.encode() for key in keys})
    report = await run(transfer(source(s3, inbox), to(s3, out, transferType=kind)))
    assert report.destinations[0].objects == len(keys)
    contents = await s3.contents(out)
    # rclone's listing shows its own name of a file for a moment, with a picture of the line's end.
    told = {key.replace("\u240a", "\n"): content for key, content in contents.items()}
    assert told == {key.rpartition("/")[2]: key.encode() for key in keys}


async def test_source_is_read_once_for_all_destinations(fakes: list[FakeS3]) -> None:
    first, *rest = fakes
    size = 5 * PART_SIZE + 1
    await haul([made_up(first, "a", size), made_up(first, "b", 100)], fakes)
    assert first.count("GET /in/a$") == 6
    assert first.count("GET /in/b$") == 1
    for each in rest:
        assert each.objects["/out/a"].crc == crc_of(size)
        assert each.objects["/out/a"].parts == 6
        assert each.objects["/out/b"].crc == crc_of(100)
        assert each.objects["/out/b"].parts == 0
        assert not each.uploads


async def test_description_and_acl_go_with_the_bytes(fakes: list[FakeS3]) -> None:
    first, *rest = fakes
    await haul([made_up(first, "a", 2 * PART_SIZE), made_up(first, "b", 1)], fakes)
    for each in rest:
        for name in ("a", "b"):
            headers = {k.lower(): v for k, v in each.objects[f"/out/{name}"].headers.items()}
            assert headers["x-amz-acl"] == "bucket-owner-full-control"
            assert headers["content-type"] == "text/x-made-up"
            assert headers["x-amz-meta-a"] == "b"


async def test_slow_destination_holds_up_only_itself_until_the_budget_is_used_up(
    fakes: list[FakeS3],
) -> None:
    """The fast ones have all of it, and their flags, before the slow one has its first object."""
    first, fast, slow, other = fakes
    slow.delay = 3600
    sources = [made_up(first, f"{n:03}", 1 * MIB) for n in range(24)]
    events: list[aiohaul.Event] = []

    def target(fake: FakeS3, bucket: str) -> Destination:
        return Destination(bucket=bucket, flag="done.flg", settings=settings(fake.url))

    async with session_on(first.url) as session:
        task = asyncio.ensure_future(
            session.s3().copy(
                sources,
                [target(fast, "fast"), target(slow, "slow"), target(other, "other")],
                memory=32 * MIB,
                on_progress=events.append,
            )
        )
        flags = ["/fast/done.flg" in fast.objects, "/other/done.flg" in other.objects]
        assert flags == [False, False]
        await until(lambda: "/fast/done.flg" in fast.objects and "/other/done.flg" in other.objects)
        assert not slow.objects
        assert {written.crc for key, written in fast.objects.items() if "done" not in key} == {
            crc_of(1 * MIB)
        }
        assert sum(isinstance(each, aiohaul.Copied) for each in events) == 48
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_budget_holds_the_reader_and_not_memory(fakes: list[FakeS3]) -> None:
    """Nothing more is read than the budget has room for, while a destination takes nothing."""
    first, fast, slow, _ = fakes
    size = 20 * PART_SIZE
    slow.rate = 1e5
    task = asyncio.ensure_future(
        haul([made_up(first, "a", size)], [first, slow, fast], memory=4 * PART_SIZE)
    )
    await until(lambda: fast.count("PUT .*partNumber") >= 3)
    await asyncio.sleep(0.3)  # long enough to read it all, were it allowed
    assert first.count("GET /in/a$") <= 4
    task.cancel()
    async with asyncio.timeout(1):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not fast.uploads


async def test_one_destination_that_fails_is_tried_again_alone(fakes: list[FakeS3]) -> None:
    first, good, bad, other = fakes
    bad.fail("PUT .*partNumber=2", 503, "ServiceUnavailable", times=5)
    size = 3 * PART_SIZE
    report = await haul([made_up(first, "a", size)], [first, good, bad, other])
    assert report.ok
    assert first.count("GET /in/a$") == 6  # once for all, once for the one
    assert good.count("PUT") == other.count("PUT") == 3
    for each in (good, bad, other):
        assert each.objects["/out/a"].crc == crc_of(size)
        assert not each.uploads


async def test_one_destination_that_fails_for_good_leaves_the_others_alone(
    fakes: list[FakeS3],
) -> None:
    first, good, bad, other = fakes
    bad.fail("PUT", 403, "AccessDenied", times=1000)
    with pytest.raises(aiohaul.TransferError) as failed:
        await haul(
            [made_up(first, "a", 3 * PART_SIZE), made_up(first, "b", 1)], [first, good, bad, other]
        )
    reports = failed.value.report.destinations
    assert [each.objects for each in reports] == [2, 0, 2]
    assert {each.kind for each in reports[1].failures} == {"AccessDeniedError"}
    assert not bad.uploads
    assert not bad.objects


@pytest.mark.parametrize("by", ["CRC64NVME", "CRC32C", "CRC32", "md5"])
@pytest.mark.parametrize("size", [100, 3 * PART_SIZE])
async def test_bytes_damaged_on_their_way_out_are_sent_again(
    fakes: list[FakeS3], size: int, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *rest = fakes
    if by != "md5":
        known = {by: checksums.algorithms()[by]}
        monkeypatch.setattr(checksums, "algorithms", lambda: known)
    for each in rest:
        each.checksums = by != "md5"
        each.damage_bodies = 1
    report = await haul([made_up(first, "a", size)], fakes)
    assert report.ok
    for each in rest:
        written = each.objects["/out/a"]
        assert written.crc == crc_of(size)
        asked = {value for name, value in written.headers.items() if "algorithm" in name.lower()}
        assert by == "md5" or size == 100 or asked == {by}


@pytest.mark.parametrize("size", [100, 3 * PART_SIZE])
@pytest.mark.parametrize("kind", ["moto", "rclone"])
async def test_bytes_damaged_on_their_way_in_are_read_again(
    request: pytest.FixtureRequest, tmp_path: Path, size: int, kind: str
) -> None:
    from tests.support.gateway import gateway  # noqa: PLC0415
    from tests.support.store import store  # noqa: PLC0415

    data = content(1, size)
    url = request.getfixturevalue(f"{kind}_url")
    async with gateway(url) as way, store(url, kind) as s3:
        inbox = await s3.bucket()
        await s3.put(inbox, "src/a", data)
        size_of_first = min(size, PART_SIZE)
        way.rule("GET .*/src/a", body=b"!" + data[1:size_of_first], times=1)
        s3.url = way.url
        async with session_on(way.url) as session:
            handler = session.s3()
            found = await handler.find(inbox, "src")
            report = await handler.copy(found, [LocalDestination(directory=tmp_path)])
    assert report.ok
    assert (tmp_path / "a").read_bytes() == data


async def test_bytes_damaged_at_every_reading_are_never_called_a_copy(
    proxied: Proxied, tmp_path: Path
) -> None:
    gateway, s3 = proxied
    inbox = await s3.bucket()
    await s3.put(inbox, "src/a", b"right")
    for data in (b"wrong", b"wrung", b"wreng", b"wring", b"wrang", b"xrong"):
        gateway.rule("GET .*/src/a", body=data, times=1)
    async with session_on(s3.url) as session:
        handler = session.s3()
        found = await handler.find(inbox, "src")
        with pytest.raises(aiohaul.TransferError, match="damaged"):
            await handler.copy(found, [LocalDestination(directory=tmp_path)])
    assert list(tmp_path.iterdir()) == []


async def test_source_whose_etag_is_no_md5_is_read_twice_and_copied(
    proxied: Proxied, tmp_path: Path
) -> None:
    """Some servers have ETags of their own making."""
    gateway, s3 = proxied
    inbox = await s3.bucket()
    etag = await s3.put(inbox, "src/a", b"right")
    gateway.rule("GET .*/src/a", body=b"other")
    found = S3Object(inbox, "src/a", 5, etag, datetime.now(UTC))
    async with session_on(s3.url) as session:
        handler = session.s3()
        await handler.copy([found], [LocalDestination(directory=tmp_path)])
    assert (tmp_path / "a").read_bytes() == b"other"
    assert gateway.count("GET .*/src/a") == 2


@pytest.mark.parametrize("fault", [{}, {"status": 503, "code": "SlowDown", "times": 2}])
async def test_copy_in_parts_carries_what_one_copy_carries(
    proxied: Proxied, fault: dict[str, Any]
) -> None:
    gateway, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    data = content(3, 17 * MIB)
    await s3.put(
        inbox,
        "src/a",
        data,
        ContentType="text/csv",
        ContentLanguage="de",
        CacheControl="no-store",
        Metadata={"day": "31"},
        Tagging="team=night&k%20ey=v%2Bw",
        StorageClass="STANDARD_IA",
    )
    if fault:
        gateway.rule("^COPY .*partNumber=2", **fault)
    async with session_on(s3.url) as session:
        handler = session.s3()
        found = await handler.find(inbox, "src")
        reports = await transfers_of(handler).copy_all(
            found, [Destination(bucket=out)], limits=SMALL_COPIES
        )
    assert reports[0].objects == 1
    assert gateway.count("^COPY .*partNumber=") == 4 + fault.get("times", 0)
    assert gateway.count("GET .*/src/a") == 1
    assert gateway.count("GET .*/a[?]tagging") == gateway.count("tagging") == 2
    assert await s3.get(out, "a") == data
    head = await s3.head(out, "a")
    assert head["ContentType"] == "text/csv"
    assert head["ContentLanguage"] == "de"
    assert head["CacheControl"] == "no-store"
    assert head["Metadata"] == {"day": "31"}
    assert head["StorageClass"] == "STANDARD_IA"
    tags = await s3.client.get_object_tagging(Bucket=out, Key="a")
    assert {tag["Key"]: tag["Value"] for tag in tags["TagSet"]} == {"team": "night", "k ey": "v+w"}
    assert await s3.has_owner_acl(out, "a")
    assert await s3.uploads(out) == []


async def test_move_of_what_is_too_large_for_one_copy(proxied: Proxied) -> None:
    from aiohaul.aws.clients import Clients  # noqa: PLC0415
    from aiohaul.s3.copying.actions import apply_to_objects  # noqa: PLC0415
    from aiohaul.s3.copying.plan import Action  # noqa: PLC0415

    _, s3 = proxied
    inbox = await s3.bucket()
    data = content(0, 11 * MIB)
    await s3.put(inbox, "src/a", data)
    async with Clients(settings(s3.url), max_requests=8) as clients:
        service = await clients.service("s3")
        async with aiohaul.Session() as session:
            found = await session.s3(settings(s3.url)).find(inbox, "src")
        report = await apply_to_objects(
            service,
            found,
            Action(kind="move", prefix="done/"),
            width=8,
            on_progress=lambda _: None,
            limits=SMALL_COPIES,
        )
    assert (report.objects, report.failures, report.delete_guard) == (1, (), "listing")
    assert await s3.contents(inbox) == {"done/a": data}


async def test_server_that_copies_no_parts_is_served_by_the_tee(
    rclone_s3: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohaul.aws.service.backoff_delay", lambda *_: 0)
    s3 = rclone_s3
    inbox, out = await s3.bucket(), await s3.bucket()
    data = content(0, 17 * MIB)
    await s3.put(inbox, "src/a", data)
    async with session_on(s3.url) as session:
        handler = session.s3()
        found = await handler.find(inbox, "src")
        reports = await transfers_of(handler).copy_all(
            found, [Destination(bucket=out)], limits=SMALL_COPIES
        )
    assert reports[0].objects == 1
    assert await s3.get(out, "a") == data
    assert await s3.uploads(out) == []


async def test_source_overwritten_while_its_parts_are_copied_is_detected(
    proxied: Proxied,
) -> None:
    gateway, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", content(0, 11 * MIB))
    held = gateway.rule("^COPY .*partNumber=2", hold=True, times=1)
    async with session_on(s3.url) as session:
        handler = session.s3()
        found = await handler.find(inbox, "src")
        task = asyncio.ensure_future(
            transfers_of(handler).copy_all(found, [Destination(bucket=out)], limits=SMALL_COPIES)
        )
        await held.reached.wait()
        await s3.put(inbox, "src/a", content(1, 11 * MIB))
        held.go.set()
        (report,) = await task
    assert report.objects == 0
    assert "overwritten" in report.failures[0].error
    assert await s3.keys(out) == []
    assert await s3.uploads(out) == []


async def test_source_overwritten_while_it_is_read_is_not_deleted(
    proxied: Proxied, tmp_path: Path
) -> None:
    gateway, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", content(0, 3 * PART_SIZE))
    held = gateway.rule("GET .*/src/a", hold=True, times=1)
    definition = transfer(
        source(s3, inbox, postCopyAction={"action": "delete"}),
        to(s3, out, transferType="proxy"),
        {"directory": str(tmp_path), "protocol": {"name": "local"}},
    )
    task = asyncio.ensure_future(run(definition))
    await held.reached.wait()
    await s3.put(inbox, "src/a", content(1, 3 * PART_SIZE))
    held.go.set()
    with pytest.raises(aiohaul.TransferError):
        await task
    assert await s3.get(inbox, "src/a") == content(1, 3 * PART_SIZE)
    assert await s3.keys(out) == []
    assert await s3.uploads(out) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [10, 2 * PART_SIZE])
@pytest.mark.parametrize("kind", ["push", "proxy"])
async def test_object_that_is_there_is_not_overwritten_on_request(
    s3: Store, tmp_path: Path, kind: Any, size: int
) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", content(0, size))
    await s3.put(inbox, "src/b", b"new")
    await s3.put(out, "a", b"old")
    (tmp_path / "a").write_bytes(b"old")
    async with session_on(s3.url) as session:
        handler = session.s3()
        with pytest.raises(aiohaul.TransferError) as failed:
            await handler.copy(
                await handler.find(inbox, "src"),
                [
                    Destination(
                        bucket=out,
                        overwrite=False,
                        transfer_type=kind,
                        settings=settings(s3.url),
                    ),
                    LocalDestination(directory=tmp_path, overwrite=False),
                ],
            )
    far, near = failed.value.report.destinations
    assert [each.kind for each in far.failures] == ["ObjectExistsError"]
    assert [each.kind for each in near.failures] == ["LocalFileExistsError"]
    assert await s3.contents(out) == {"a": b"old", "b": b"new"}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "a": b"old",
        "b": b"new",
    }
    assert await s3.uploads(out) == []


@pytest.mark.parametrize("size", [10, 2 * PART_SIZE])
async def test_own_write_whose_answer_was_lost_is_not_taken_for_another(
    fakes: list[FakeS3], monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    first, out, *_ = fakes
    real = out._answer
    lost = 1

    async def answer(request: Any) -> Any:
        nonlocal lost
        done = await real(request)
        writes = "partNumber" not in request.query and "uploads" not in request.query
        if lost and request.method in ("PUT", "POST") and writes:
            lost -= 1
            request.transport.abort()
        return done

    monkeypatch.setattr(out, "_answer", answer)
    async with aiohaul.Session() as session:
        report = await session.s3(settings(first.url)).copy(
            [made_up(first, "a", size)],
            [Destination(bucket="out", overwrite=False, settings=settings(out.url))],
        )
    assert report.ok
    assert not lost
    assert out.objects["/out/a"].crc == crc_of(size)


async def test_conflict_is_told_apart_from_an_object_that_is_there(fakes: list[FakeS3]) -> None:
    first, out, *_ = fakes
    out.fail("PUT", 409, "ConditionalRequestConflict", times=100)
    with pytest.raises(aiohaul.TransferError) as failed:
        await haul([made_up(first, "a", 1)], [first, out])
    assert failed.value.report.failures[0].kind == "ConflictError"
    out.errors.clear()
    out.fail("PUT", 409, "ConditionalRequestConflict", times=1)
    assert (await haul([made_up(first, "a", 1)], [first, out])).ok


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("size", [0, 1, PART_SIZE, PART_SIZE + 1, 3 * PART_SIZE])
async def test_stream_of_an_application_goes_to_all_destinations(
    s3: Store, tmp_path: Path, size: int, known: bool
) -> None:
    out, other = await s3.bucket(), await s3.bucket()
    data = content(2, size)
    stream = Stream(
        "report.csv",
        pieces(data, 100_000),
        size=size if known else None,
        description={"ContentType": "text/csv"},
    )
    async with aiohaul.Session() as session:
        report = await session.s3(settings(s3.url)).copy(
            [stream],
            [
                *(Destination(bucket=each, settings=settings(s3.url)) for each in (out, other)),
                LocalDestination(directory=tmp_path),
            ],
        )
    assert [each.size for each in report.destinations] == [size] * 3
    assert report.size == size
    for each in (out, other):
        assert await s3.get(each, "report.csv") == data
        assert await s3.uploads(each) == []
    assert (tmp_path / "report.csv").read_bytes() == data
    if s3.kind == "moto":
        assert (await s3.head(out, "report.csv"))["ContentType"] == "text/csv"


async def test_objects_files_and_streams_go_the_way_that_each_can(
    s3: Store, tmp_path: Path
) -> None:
    """S3 copies the objects by itself; the others are not left out for that."""
    inbox, out, other = [await s3.bucket() for _ in range(3)]
    await s3.put(inbox, "src/object", b"one")
    (tmp_path / "file").write_bytes(b"two")
    async with session_on(s3.url) as session:
        door = session.s3()
        sources: list[Any] = [
            *await door.find(inbox, "src"),
            *await stat_files([tmp_path / "file"]),
            Stream("stream", pieces(b"three", 2)),
        ]
        report = await door.copy(sources, [Destination(bucket=out), Destination(bucket=other)])
    assert [each.objects for each in report.destinations] == [3, 3]
    for each in (out, other):
        assert await s3.contents(each) == {"object": b"one", "file": b"two", "stream": b"three"}


@pytest.mark.parametrize("told", [5, 2 * PART_SIZE])
async def test_stream_of_another_size_than_told_is_no_copy(
    rclone_s3: Store, tmp_path: Path, told: int
) -> None:
    out = await rclone_s3.bucket()
    stream = Stream("a", pieces(content(0, PART_SIZE + 10), 1000), size=told)
    async with aiohaul.Session() as session:
        with pytest.raises(aiohaul.TransferError, match="should have"):
            await session.s3(settings(rclone_s3.url)).copy(
                [stream],
                [
                    Destination(bucket=out, settings=settings(rclone_s3.url)),
                    LocalDestination(directory=tmp_path),
                ],
            )
    assert await rclone_s3.keys(out) == []
    assert await rclone_s3.uploads(out) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("after", [0, 3 * PART_SIZE])
async def test_stream_that_raises_is_no_copy(rclone_s3: Store, after: int) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield content(0, after)
        raise ValueError("the database is gone")

    out = await rclone_s3.bucket()
    async with aiohaul.Session() as session:
        with pytest.raises(aiohaul.TransferError, match="the database is gone"):
            await session.s3(settings(rclone_s3.url)).copy(
                [Stream("a", broken())],
                [Destination(bucket=out, settings=settings(rclone_s3.url))],
            )
    assert await rclone_s3.keys(out) == []
    assert await rclone_s3.uploads(out) == []


async def test_reread_finds_what_nothing_else_can(proxied: Proxied, tmp_path: Path) -> None:
    """A server that answers as if all were well, and has something else."""
    gateway, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", b"right")
    gateway.rule(f"GET /{out}/a", body=b"wrong")
    async with session_on(s3.url) as session:
        handler = session.s3()
        found = await handler.find(inbox, "src")
        targets: list[Destination | LocalDestination] = [
            Destination(bucket=out),
            LocalDestination(directory=tmp_path),
        ]
        with pytest.raises(aiohaul.TransferError, match="differs from the source"):
            await handler.copy(found, targets, reread=True)
        await handler.copy(found, targets)


async def test_slow_down_lowers_the_pace_of_the_endpoint_alone(fakes: list[FakeS3]) -> None:
    first, calm, busy, _ = fakes
    busy.fail("PUT", 503, "SlowDown", times=60)
    sources = [made_up(first, f"{n:03}", 10) for n in range(400)]
    async with aiohaul.Session(max_requests=64) as session:
        report = await session.s3(settings(first.url)).copy(
            sources,
            [Destination(bucket="out", settings=settings(each.url)) for each in (calm, busy)],
        )
        paces = {place[2]: pace.limit for place, pace in session._clients._limiters.items()}
    assert report.ok
    assert len(busy.objects) == len(calm.objects) == 400
    assert paces[calm.url] == paces[first.url] == 64
    assert paces[busy.url] < 64


@pytest.mark.parametrize("mix", [(300, 0), (0, 6), (200, 4)], ids=["many", "few", "mixed"])
async def test_requests_in_flight_are_filled_in_every_mix(
    fakes: list[FakeS3], mix: tuple[int, int]
) -> None:
    first, out, *_ = fakes
    many, few = mix
    out.delay = 0.2
    sources = [made_up(first, f"s{n}", 100) for n in range(many)]
    sources += [made_up(first, f"l{n}", 4 * PART_SIZE) for n in range(few)]
    await haul(sources, [first, out])
    # As many as the Session allows (32), or as the memory holds of large parts.
    assert out.peak >= (16 if many else 4)
    assert len(out.objects) == many + few


async def test_cancelled_tee_leaves_no_upload_anywhere(fakes: list[FakeS3]) -> None:
    first, *rest = fakes
    for each in rest:
        each.rate = 2e6
    task = asyncio.ensure_future(
        haul([made_up(first, f"{n}", 4 * PART_SIZE) for n in range(4)], fakes)
    )
    await until(lambda: all(each.uploads for each in rest))
    task.cancel()
    async with asyncio.timeout(1):
        with pytest.raises(asyncio.CancelledError):
            await task
    for each in rest:
        assert not each.uploads
        assert not each.objects


def test_default_budget_is_64_mib() -> None:
    assert LIMITS.memory == 64 * MIB


ASSUMED = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleResult><AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/r/s</Arn>
<AssumedRoleId>AROA:s</AssumedRoleId></AssumedRoleUser><Credentials>
<AccessKeyId>ASIASHORTLIVED</AccessKeyId><SecretAccessKey>x</SecretAccessKey>
<SessionToken>y</SessionToken><Expiration>{expiration}</Expiration></Credentials>
</AssumeRoleResult></AssumeRoleResponse>"""


async def test_credentials_that_expire_in_the_middle_of_an_upload_are_renewed(
    proxied: Proxied,
) -> None:
    """A role of 900 s is renewed 300 s before its end: here after 6 s."""
    gateway, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", content(0, 4 * PART_SIZE))
    expires = datetime.now(UTC) + timedelta(seconds=306)
    answer = ASSUMED.format(expiration=f"{expires:%Y-%m-%dT%H:%M:%SZ}").encode()
    gateway.rule("^POST /$", body=answer, times=1)
    held = gateway.rule("PUT .*partNumber=2", hold=True, times=1)
    keys: list[tuple[str, str]] = []

    def note(request: Any) -> None:
        signed = re.search(r"Credential=(\w+)/", request.headers.get("Authorization", ""))
        keys.append((request.query.get("partNumber", ""), signed[1] if signed else ""))

    gateway.noting = note
    role = {"role_arn": "arn:aws:iam::123456789012:role/r", "role_duration": 900}
    async with session_on(s3.url, **role) as session:
        handler = session.s3()
        found = await handler.find(inbox, "src")
        target = Destination(bucket=out, transfer_type="proxy")
        task = asyncio.ensure_future(handler.copy(found, [target], memory=PART_SIZE))
        await held.reached.wait()
        await asyncio.sleep(max((expires - datetime.now(UTC)).total_seconds() - 300, 0) + 1)
        held.go.set()
        report = await task
    assert report.ok
    parts = {key for number, key in keys if number}
    assert "ASIASHORTLIVED" in parts
    assert len(parts) == 2
    assert gateway.count("^POST /$") == 2
    assert await s3.get(out, "a") == content(0, 4 * PART_SIZE)


async def test_object_of_another_is_not_taken_for_an_upload_of_our_own(
    fakes: list[FakeS3], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody completes an upload of the same size while our completion is throttled."""
    first, out, *_ = fakes
    monkeypatch.setattr("aiohaul.aws.service.backoff_delay", lambda *_: 0)
    out.fail("POST .*uploadId", 503, "SlowDown")
    size = 2 * PART_SIZE
    real = out._complete

    async def complete(request: Any, path: str, upload_id: str) -> Any:
        out.objects[path] = Written(size, 1, '"somebody-elses"', {})
        return await real(request, path, upload_id)

    monkeypatch.setattr(out, "_complete", complete)
    async with aiohaul.Session() as session:
        with pytest.raises(aiohaul.TransferError) as failed:
            await session.s3(settings(first.url)).copy(
                [made_up(first, "a", size)],
                [Destination(bucket="out", overwrite=False, settings=settings(out.url))],
            )
    assert failed.value.report.failures[0].kind == "ObjectExistsError"
    assert out.objects["/out/a"].etag == '"somebody-elses"'
    assert not out.uploads


async def test_memory_of_a_source_that_broke_is_given_back(fakes: list[FakeS3]) -> None:
    """More sources break than the memory would last for, were each to keep some of it."""
    first, out, *_ = fakes
    sources = [made_up(first, f"{n}", 4 * PART_SIZE) for n in range(12)]
    first.fail("GET", 403, "AccessDenied", times=1000)
    with pytest.raises(aiohaul.TransferError) as failed:
        await haul(sources, [first, out], memory=2 * PART_SIZE)
    assert len(failed.value.report.failures) == 12


async def test_destination_that_is_given_up_costs_no_reading(fakes: list[FakeS3]) -> None:
    first, out, *_ = fakes
    out.fail("PUT", 404, "NoSuchBucket", times=1000)
    sources = [made_up(first, f"{n:04}", 1 * MIB) for n in range(300)]
    with pytest.raises(aiohaul.TransferError):
        await haul(sources, [first, out], memory=16 * MIB)
    assert first.count("GET") < 100


async def test_failing_callback_ends_the_copy_with_its_own_error(fakes: list[FakeS3]) -> None:
    first, out, *_ = fakes

    def fail(event: aiohaul.Event) -> None:
        if isinstance(event, aiohaul.Copied):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await haul([made_up(first, f"{n}", 1) for n in range(9)], [first, out], on_progress=fail)


async def test_what_is_no_stream_is_a_failure_of_that_source_alone(fakes: list[FakeS3]) -> None:
    first, out, *_ = fakes
    sources: list[Any] = [made_up(first, "a", 1), Stream("b", 7)]  # type: ignore[arg-type]
    with pytest.raises(aiohaul.TransferError) as failed:
        await haul(sources, [first, out])
    assert [each.source for each in failed.value.report.failures] == ["stream b"]
    assert "/out/a" in out.objects


async def test_small_files_are_copied_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's garbage collector goes through all that is under way, and holds the loop."""
    under_way = most = 0
    copy = tee.tee

    async def counted(*arguments: Any) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            return await copy(*arguments)
        finally:
            under_way -= 1

    monkeypatch.setattr(tee, "tee", counted)
    files = [tmp_path / f"{number}.csv" for number in range(500)]
    for file in files:
        file.touch()
    async with aiohaul.Session() as session:
        report = await session.s3().copy(
            await stat_files(files), [LocalDestination(directory=tmp_path / "out", create=True)]
        )
    assert report.destinations[0].objects == 500
    assert 0 < most <= 200


async def test_file_that_is_replaced_while_it_moves_to_another_file_system_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aiohaul.s3 import local_writing as files  # noqa: PLC0415
    from aiohaul.s3.local import stat_files  # noqa: PLC0415

    path, target = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"old")
    (seen,) = await stat_files([path])

    def across(*_: str, **__: int) -> None:
        raise OSError(errno.EXDEV, "across")

    def copy(file: aiohaul.LocalFile, *_: object) -> None:
        new = tmp_path / "new"
        new.write_bytes(b"new")
        new.rename(file.path)

    monkeypatch.setattr(os, "replace", across)
    monkeypatch.setattr(files, "_copy_file", copy)
    with pytest.raises(aiohaul.LocalFileError, match="changed during the move"):
        await files.move_file(seen, target)
    assert path.read_bytes() == b"new"
