"""Objects that are read into memory, one and many, and what is said of them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

import aiohaul
from tests.support import leaks
from tests.support.gateway import Gateway
from tests.support.sessions import session_of
from tests.support.store import Store, md5

DATA = bytes(range(256)) * 40
Proxied = tuple[Gateway, Store]


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, None, DATA),
        (0, 10, DATA[:10]),
        (100, None, DATA[100:]),
        (100, 7, DATA[100:107]),
        (-8, None, DATA[-8:]),
        (len(DATA) - 3, 100, DATA[-3:]),
        (5, 0, b""),
        (len(DATA), None, b""),
        (len(DATA) + 5, 3, b""),
    ],
)
async def test_object_and_ranges_of_it(
    s3: Store, session: aiohaul.Session, offset: int, length: int | None, expected: bytes
) -> None:
    bucket = await s3.bucket()
    etag = await s3.put(bucket, "dir/a b+ü", DATA, ContentType="text/csv", Metadata={"day": "1"})
    found = await session.s3().read(bucket, "dir/a b+ü", offset=offset, length=length)
    assert found.data == expected
    assert type(found.data) is bytes
    details = found.details
    assert (details.bucket, details.key, details.size) == (bucket, "dir/a b+ü", len(DATA))
    assert (details.etag, details.content_type) == (etag, "text/csv")
    assert details.metadata == {"day": "1"}
    assert abs(datetime.now(UTC) - details.last_modified) < timedelta(minutes=5)
    assert details.uri == f"s3://{bucket}/dir/a b+ü"
    assert DATA[:3].hex() not in repr(found)


async def test_empty_object_is_read(s3: Store, session: aiohaul.Session) -> None:
    bucket = await s3.bucket()
    await s3.put(bucket, "empty")
    for offset, length in ((0, None), (0, 5), (2, None), (-4, None)):
        found = await session.s3().read(bucket, "empty", offset=offset, length=length)
        assert (found.data, found.details.size, found.details.etag) == (b"", 0, md5(b""))


async def test_only_the_expected_version_is_read(s3: Store, session: aiohaul.Session) -> None:
    bucket = await s3.bucket()
    old = await s3.put(bucket, "a", b"old")
    handler = session.s3()
    assert (await handler.read(bucket, "a", if_match=old)).data == b"old"
    new = await s3.put(bucket, "a", b"newer")
    for call in (handler.read, handler.info, handler.open):
        with pytest.raises(aiohaul.PreconditionFailedError, match=f"s3://{bucket}/a"):
            await call(bucket, "a", if_match=old)
        assert (await call(bucket, "a", if_match=new)) is not None


async def test_missing_objects_and_buckets(s3: Store, session: aiohaul.Session) -> None:
    bucket = await s3.bucket()
    await s3.put(bucket, "there")
    handler = session.s3()
    for where in ((bucket, "missing"), ("no-such-bucket-here", "missing")):
        assert await handler.exists(*where) is False
        for call in (handler.read, handler.info, handler.open):
            with pytest.raises((aiohaul.ObjectNotFoundError, aiohaul.BucketNotFoundError)):
                await call(*where)
    assert await handler.exists(bucket, "there") is True


async def test_arguments_that_make_no_sense_are_refused(session: aiohaul.Session) -> None:
    handler = session.s3()
    for offset, length, message in (
        (0, -1, "length must be at least 0, not -1"),
        (-3, 2, "length must be None with a negative offset"),
    ):
        with pytest.raises(aiohaul.PlanError, match=message):
            await handler.read("any", "thing", offset=offset, length=length)
        with pytest.raises(aiohaul.PlanError, match=message):
            await anext(handler.stream("any", "thing", offset=offset, length=length))
    with pytest.raises(aiohaul.PlanError, match="chunk_size must be at least 1, not 0"):
        await anext(handler.stream("any", "thing", chunk_size=0))
    with pytest.raises(aiohaul.PlanError, match="memory must be at least 1, not 0"):
        await anext(handler.stream("any", "thing", memory=0))
    with pytest.raises(aiohaul.PlanError, match="block_size must be at least 1, not 0"):
        await handler.open("any", "thing", block_size=0)
    with pytest.raises(aiohaul.PlanError, match="max_concurrency must be at least 1, not 0"):
        await anext(handler.read_many("any", ["thing"], max_concurrency=0))


async def test_details_are_those_of_the_object(moto_s3: Store) -> None:
    bucket = await moto_s3.bucket()
    expires = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    etag = await moto_s3.put(
        bucket,
        "a",
        DATA,
        CacheControl="no-cache",
        ContentDisposition="attachment",
        ContentEncoding="gzip",
        ContentLanguage="de",
        Expires=expires,
        StorageClass="GLACIER_IR",
        ServerSideEncryption="aws:kms",
        SSEKMSKeyId="key",
        ChecksumAlgorithm="SHA256",
    )
    async with session_of(moto_s3.url) as session:
        details = await session.s3().info(bucket, "a")
        assert (details.cache_control, details.content_disposition) == ("no-cache", "attachment")
        assert (details.content_encoding, details.content_language) == ("gzip", "de")
        assert (details.storage_class, details.expires) == ("GLACIER_IR", expires)
        assert (details.encryption, details.kms_key_id) == ("aws:kms", "key")
        assert set(details.checksums) == {"SHA256"}
        assert details.object == await session.s3().head(bucket, "a")
        assert details.etag == etag
        assert hash(details) == hash(await session.s3().info(bucket, "a"))


async def test_version_is_read_by_its_id(moto_s3: Store) -> None:
    bucket = await moto_s3.bucket()
    await moto_s3.client.put_bucket_versioning(
        Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    await moto_s3.put(bucket, "a", b"old")
    old = (await moto_s3.head(bucket, "a"))["VersionId"]
    await moto_s3.put(bucket, "a", b"newer")
    async with session_of(moto_s3.url) as session:
        handler = session.s3()
        found = await handler.read(bucket, "a", version_id=old)
        assert (found.data, found.details.version_id) == (b"old", old)
        assert (await handler.info(bucket, "a", version_id=old)).size == 3
        assert await handler.exists(bucket, "a", version_id=old)
        parts = [each async for each in handler.stream(bucket, "a", version_id=old, chunk_size=2)]
        assert parts == [b"ol", b"d"]
        async with await handler.open(bucket, "a", version_id=old) as file:
            assert await file.read() == b"old"


async def test_damaged_bytes_of_a_whole_object_are_an_error(proxied: Proxied) -> None:
    gateway, s3 = proxied
    bucket = await s3.bucket()
    await s3.put(bucket, "a", DATA, ChecksumAlgorithm="CRC32")
    async with session_of(s3.url) as session:
        assert (await session.s3().read(bucket, "a", verify=True)).data == DATA
        gateway.rule("GET .*/a", body=DATA[::-1])
        with pytest.raises(aiohaul.HaulError, match=r"CRC32|checksum"):
            await session.s3().read(bucket, "a", verify=True)


async def test_many_are_read_in_their_order_and_many_at_once(
    s3: Store, session: aiohaul.Session
) -> None:
    bucket = await s3.bucket()
    objects = {f"in/{number:03}": f"{number}".encode() for number in range(150)}
    await s3.fill(bucket, objects)
    handler = session.s3()
    found = [each async for each in handler.read_many(bucket, objects)]
    assert {each.details.key: each.data for each in found} == objects
    assert [each.details.key for each in found] == list(objects)
    listed = await handler.find(bucket, "in")
    few = [each async for each in handler.read_many(bucket, listed, max_concurrency=3)]
    assert [each.data for each in few] == list(objects.values())
    assert [each async for each in handler.read_many(bucket, [])] == []


async def test_one_of_many_that_is_missing(s3: Store, session: aiohaul.Session) -> None:
    bucket = await s3.bucket()
    await s3.fill(bucket, {"a": b"1", "c": b"3"})
    handler = session.s3()
    failed: list[tuple[str, str]] = []

    def note(key: str, error: aiohaul.HaulError) -> None:
        failed.append((key, type(error).__name__))

    many = handler.read_many(bucket, ["a", "b", "c"], on_error=note)
    assert [each.data async for each in many] == [b"1", b"3"]
    assert failed == [("b", "ObjectNotFoundError")]
    with pytest.raises(aiohaul.ObjectNotFoundError, match=f"s3://{bucket}/b"):
        assert [each async for each in handler.read_many(bucket, ["a", "b", "c"])]


async def test_overwritten_one_of_many_is_not_read(s3: Store, session: aiohaul.Session) -> None:
    bucket = await s3.bucket()
    await s3.fill(bucket, {"in/a": b"1", "in/b": b"2"})
    listed = await session.s3().find(bucket, "in")
    await s3.put(bucket, "in/b", b"other")
    many = session.s3().read_many(bucket, listed)
    async with aclosing(many):
        assert (await anext(many)).data == b"1"
        with pytest.raises(aiohaul.PreconditionFailedError, match="in/b"):
            await anext(many)
    with pytest.raises(aiohaul.PlanError, match="read_many reads objects of one bucket, here of x"):
        assert [each async for each in session.s3().read_many("x", listed)]


async def test_no_more_are_read_ahead_than_allowed(proxied: Proxied) -> None:
    gateway, s3 = proxied
    bucket = await s3.bucket()
    keys = [f"{number:02}" for number in range(40)]
    await s3.fill(bucket, dict.fromkeys(keys, b"x"))
    async with session_of(s3.url) as session:
        many = session.s3().read_many(bucket, keys, max_concurrency=5)
        async with aclosing(many):
            await anext(many)
            await asyncio.sleep(0.3)
            assert gateway.count(f"GET /{bucket}/") <= 5
            await anext(many)
            await asyncio.sleep(0.3)
            assert gateway.count(f"GET /{bucket}/") <= 6
        assert leaks.held_connections(session) == []


async def test_cancelled_and_abandoned_reads_of_many_leave_nothing(proxied: Proxied) -> None:
    gateway, s3 = proxied
    bucket = await s3.bucket()
    keys = [f"{number:02}" for number in range(40)]
    await s3.fill(bucket, dict.fromkeys(keys, b"x"))
    async with session_of(s3.url) as session:
        handler = session.s3()
        async with aclosing(handler.read_many(bucket, keys)) as many:
            async for _ in many:
                break
        gateway.rule(f"GET /{bucket}/2", hold=True)

        async def all_of_them() -> None:
            async for _ in handler.read_many(bucket, keys):
                pass

        task = asyncio.create_task(all_of_them())
        await asyncio.sleep(0.3)
        assert not task.done()
        task.cancel()
        done, _ = await asyncio.wait((task,), timeout=1)
        assert done
        assert task.cancelled()
        assert leaks.held_connections(session) == []
