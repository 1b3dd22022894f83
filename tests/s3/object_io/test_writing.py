"""Objects that are written from bytes, iterators and files."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

import aiohaul
from tests.support import leaks
from tests.support.gateway import Gateway
from tests.support.servers import REGION
from tests.support.sessions import session_of
from tests.support.store import Store, md5

MIB = 2**20
LARGE = os.urandom(1024) * (19 * 1024)
Proxied = tuple[Gateway, Store]


async def chunks_of(data: bytes, step: int = 1_000_003) -> AsyncIterator[bytes]:
    for start in range(0, len(data), step):
        yield data[start : start + step]


@pytest.mark.parametrize("data", [b"", b"small", LARGE], ids=["empty", "small", "large"])
@pytest.mark.parametrize("kind", ["bytes", "bytearray", "memoryview", "iterator", "path"])
async def test_every_kind_of_data_of_every_size(
    s3: Store, session: aiohaul.Session, tmp_path: Path, data: bytes, kind: str
) -> None:
    bucket = await s3.bucket()
    (tmp_path / "file").write_bytes(data)
    made: dict[str, Callable[[], bytes | bytearray | memoryview | AsyncIterator[bytes] | Path]]
    made = {
        "bytes": lambda: data,
        "bytearray": lambda: bytearray(data),
        "memoryview": lambda: memoryview(data),
        "iterator": lambda: chunks_of(data),
        "path": lambda: tmp_path / "file",
    }
    written = await session.s3().write(
        bucket, "dir/a b", made[kind](), content_type="text/csv", metadata={"day": "1"}
    )
    assert await s3.get(bucket, "dir/a b") == data
    head = await s3.head(bucket, "dir/a b")
    assert (head["ContentType"], head["Metadata"]) == ("text/csv", {"day": "1"})
    assert (written.uri, written.size) == (f"s3://{bucket}/dir/a b", len(data))
    if s3.kind != "rclone" or data != LARGE:  # rclone answers with another ETag than it shows
        assert written.etag == head["ETag"].strip('"')
    assert await s3.uploads(bucket) == []


async def test_headers_tags_and_version(moto_s3: Store) -> None:
    bucket = await moto_s3.bucket()
    await moto_s3.client.put_bucket_versioning(
        Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    expires = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    async with session_of(moto_s3.url) as session:
        for data in (b"small", LARGE):
            written = await session.s3().write(
                bucket,
                "a",
                data,
                content_encoding="gzip",
                content_language="de",
                content_disposition="attachment",
                cache_control="no-cache",
                expires=expires,
                tags={"team": "a b", "c/d": "=+-@"},
            )
            details = await session.s3().info(bucket, "a")
            assert (details.content_encoding, details.content_language) == ("gzip", "de")
            assert (details.content_disposition, details.cache_control) == (
                "attachment",
                "no-cache",
            )
            assert details.expires == expires
            assert written.version_id == details.version_id is not None
            answer = await moto_s3.client.get_object_tagging(Bucket=bucket, Key="a")
            tags = {each["Key"]: each["Value"] for each in answer["TagSet"]}
            assert tags == {"team": "a b", "c/d": "=+-@"}
            assert await moto_s3.has_owner_acl(bucket, "a")


@pytest.mark.parametrize("data", [b"new", LARGE], ids=["small", "large"])
async def test_existing_object_is_not_replaced(
    s3: Store, session: aiohaul.Session, data: bytes
) -> None:
    bucket = await s3.bucket()
    handler = session.s3()
    await handler.write(bucket, "a", data, if_none_match=True)
    for _ in range(2):
        with pytest.raises(aiohaul.ObjectExistsError, match=f"s3://{bucket}/a"):
            await handler.write(bucket, "a", data[::-1], if_none_match=True)
    assert await s3.get(bucket, "a") == data
    assert await s3.uploads(bucket) == []


@pytest.mark.parametrize("data", [b"new", LARGE], ids=["small", "large"])
async def test_only_the_expected_object_is_replaced(
    s3: Store, session: aiohaul.Session, data: bytes
) -> None:
    bucket = await s3.bucket()
    old = await s3.put(bucket, "a", b"old")
    handler = session.s3()
    await handler.write(bucket, "a", data, if_match=old)
    assert await s3.get(bucket, "a") == data
    with pytest.raises(aiohaul.PreconditionFailedError, match=f"s3://{bucket}/a"):
        await handler.write(bucket, "a", b"newer", if_match=old)
    with pytest.raises((aiohaul.PreconditionFailedError, aiohaul.ObjectNotFoundError)):
        await handler.write(bucket, "missing", data, if_match=old)
    assert await s3.contents(bucket) == {"a": data}
    assert await s3.uploads(bucket) == []


async def test_mistakes_are_refused_before_any_request(tmp_path: Path) -> None:
    async with aiohaul.Session(region=REGION, endpoint_url="http://127.0.0.1:1") as session:
        handler = session.s3()
        with pytest.raises(aiohaul.PlanError, match="if_none_match and if_match exclude"):
            await handler.write("b", "a", b"", if_none_match=True, if_match="x")
        with pytest.raises(aiohaul.PlanError, match=r"not str\. Encode a str, or wrap the path"):
            await handler.write("b", "a", "text")  # type: ignore[arg-type]
        with pytest.raises(aiohaul.PlanError, match="size is for async iterators only"):
            await handler.write("b", "a", b"", size=3)
        with pytest.raises(aiohaul.PlanError, match="memory must be at least 1, not 0"):
            await handler.write("b", "a", b"", memory=0)
        with pytest.raises(aiohaul.LocalFileError, match="missing"):
            await handler.write("b", "a", tmp_path / "missing")


async def test_iterator_that_fails_or_has_another_length_writes_nothing(
    s3: Store, session: aiohaul.Session
) -> None:
    bucket = await s3.bucket()
    closed = []

    async def broken() -> AsyncIterator[bytes]:
        try:
            for _ in range(10):
                yield bytes(2 * MIB)
            raise RuntimeError("no more")
        finally:
            closed.append(True)

    handler = session.s3()
    with pytest.raises(aiohaul.StreamError, match="no more"):
        await handler.write(bucket, "a", broken())
    assert closed == [True]
    for size in (len(LARGE) - 1, len(LARGE) + 1, 3):
        with pytest.raises(aiohaul.VerificationError, match=f"should have {size} bytes"):
            await handler.write(bucket, "a", chunks_of(LARGE), size=size)
    assert (await handler.write(bucket, "b", chunks_of(LARGE), size=len(LARGE))).size == len(LARGE)
    assert await s3.keys(bucket) == ["b"]
    assert await s3.uploads(bucket) == []


async def test_failed_part_leaves_no_upload(proxied: Proxied) -> None:
    gateway, s3 = proxied
    bucket = await s3.bucket()
    gateway.rule("PUT .*partNumber=2", status=403, code="AccessDenied")
    async with session_of(s3.url) as session:
        with pytest.raises(aiohaul.AccessDeniedError, match="s3:PutObject"):
            await session.s3().write(bucket, "a", LARGE)
        assert leaks.held_connections(session) == []
    assert await s3.keys(bucket) == []
    assert await s3.uploads(bucket) == []


@pytest.mark.parametrize("kind", ["bytes", "iterator"])
async def test_cancelled_write_ends_at_once_and_leaves_no_upload(
    proxied: Proxied, kind: str
) -> None:
    gateway, s3 = proxied
    bucket = await s3.bucket()
    held = gateway.rule("PUT .*partNumber=2", hold=True)
    async with session_of(s3.url) as session:
        data = LARGE if kind == "bytes" else chunks_of(LARGE)
        task = asyncio.create_task(session.s3().write(bucket, "a", data))
        await held.reached.wait()
        task.cancel()
        done, _ = await asyncio.wait((task,), timeout=1)
        assert done
        assert task.cancelled()
        assert leaks.held_connections(session) == []
    assert await s3.keys(bucket) == []
    assert await s3.uploads(bucket) == []


async def test_session_that_closes_meanwhile_leaves_no_upload(proxied: Proxied) -> None:
    gateway, s3 = proxied
    bucket = await s3.bucket()
    held = gateway.rule("PUT .*partNumber=2", hold=True)
    async with session_of(s3.url) as session:
        task = asyncio.create_task(session.s3().write(bucket, "a", LARGE))
        await held.reached.wait()
    with pytest.raises(aiohaul.SessionError, match="closed before the object was written"):
        await task
    assert await s3.uploads(bucket) == []


async def test_lost_response_of_a_conditional_write_is_no_conflict(proxied: Proxied) -> None:
    gateway, s3 = proxied
    bucket = await s3.bucket()
    async with session_of(s3.url) as session:
        gateway.rule("PUT .*/a", lost=True, times=1)
        written = await session.s3().write(bucket, "a", b"data", if_none_match=True)
        assert written.etag == md5(b"data")
    assert await s3.contents(bucket) == {"a": b"data"}


async def test_parts_in_memory_stay_within_the_limit(proxied: Proxied) -> None:
    gateway, s3 = proxied
    bucket = await s3.bucket()
    async with session_of(s3.url) as session:
        read = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal read
            async for each in chunks_of(LARGE * 3):
                read += len(each)
                yield each

        held = gateway.rule("PUT .*partNumber", hold=True)
        task = asyncio.create_task(session.s3().write(bucket, "a", counted(), memory=17 * MIB))
        await held.reached.wait()
        await asyncio.sleep(0.5)
        assert read <= 17 * MIB + 8 * MIB
        held.go.set()
        assert (await task).size == 3 * len(LARGE)
