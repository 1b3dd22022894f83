"""Directories, versions, tags, and deletes of whatever is there."""

from __future__ import annotations

import pytest

import aiohaul
from tests.support.gateway import Gateway
from tests.support.sessions import session_of
from tests.support.store import Store

Proxied = tuple[Gateway, Store]


async def versioned_bucket(s3: Store) -> str:
    bucket = await s3.bucket()
    await s3.client.put_bucket_versioning(
        Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    return bucket


TREE = ("top", "a/1", "a/2", "a/b/3", "a/b/c/4", "d/5")


async def test_directory_has_its_objects_and_subdirectories(
    s3: Store, session: aiohaul.Session
) -> None:
    bucket = await s3.bucket()
    await s3.fill(bucket, dict.fromkeys(TREE, b"x"))
    handler = session.s3()
    root = await handler.list_directory(bucket)
    assert (root.directories, [each.key for each in root.objects]) == (("a/", "d/"), ["top"])
    assert (root.uri, root.prefix) == (f"s3://{bucket}/", "")
    listing = await handler.list_directory(bucket, "a/")
    assert (listing.directories, [each.key for each in listing.objects]) == (
        ("a/b/",),
        ["a/1", "a/2"],
    )
    nothing = await handler.list_directory(bucket, "none/")
    assert (nothing.directories, list(nothing.objects)) == ((), [])


async def test_walk_goes_down_as_os_walk_does(s3: Store, session: aiohaul.Session) -> None:
    bucket = await s3.bucket()
    await s3.fill(bucket, dict.fromkeys(TREE, b"x"))
    walked = [
        (each.prefix, each.directories, [one.key for one in each.objects])
        async for each in session.s3().walk(bucket)
    ]
    assert walked == [
        ("", ("a/", "d/"), ["top"]),
        ("a/", ("a/b/",), ["a/1", "a/2"]),
        ("a/b/", ("a/b/c/",), ["a/b/3"]),
        ("a/b/c/", (), ["a/b/c/4"]),
        ("d/", (), ["d/5"]),
    ]
    below = [each.prefix async for each in session.s3().walk(bucket, "a/b/")]
    assert below == ["a/b/", "a/b/c/"]


async def test_directories_on_many_pages(moto_s3: Store) -> None:
    bucket = await moto_s3.bucket()
    await moto_s3.fill(bucket, {f"{number:04}/x": b"" for number in range(1001)})
    async with session_of(moto_s3.url) as session:
        listing = await session.s3().list_directory(bucket)
    assert listing.directories == tuple(f"{number:04}/" for number in range(1001))


async def test_missing_bucket(s3: Store, session: aiohaul.Session) -> None:
    await s3.bucket()
    with pytest.raises(aiohaul.BucketNotFoundError, match="no-such-bucket"):
        await session.s3().list_directory("no-such-bucket-here")
    with pytest.raises(aiohaul.BucketNotFoundError, match="no-such-bucket"):
        await anext(session.s3().walk("no-such-bucket-here"))


async def test_versions_and_delete_markers(moto_s3: Store) -> None:
    bucket = await versioned_bucket(moto_s3)
    for data in (b"1", b"22", b"333"):
        await moto_s3.put(bucket, "in/a", data)
    await moto_s3.put(bucket, "in/b", b"b")
    await moto_s3.put(bucket, "other", b"")
    await moto_s3.client.delete_object(Bucket=bucket, Key="in/a")
    async with session_of(moto_s3.url) as session:
        found = [each async for each in session.s3().list_versions(bucket, "in/")]
        assert [(each.key, each.is_delete_marker, each.size) for each in found] == [
            ("in/a", True, 0),
            ("in/a", False, 3),
            ("in/a", False, 2),
            ("in/a", False, 1),
            ("in/b", False, 1),
        ]
        assert [each.is_latest for each in found] == [True, False, False, False, True]
        oldest = found[3]
        assert oldest.uri == f"s3://{bucket}/in/a"
        read = await session.s3().read(bucket, "in/a", version_id=oldest.version_id)
        assert (read.data, read.details.etag) == (b"1", oldest.etag)


async def test_versions_on_many_pages(proxied: Proxied) -> None:
    gateway, s3 = proxied
    bucket = await versioned_bucket(s3)
    await s3.fill(bucket, {f"{number:04}": b"" for number in range(1005)})
    async with session_of(s3.url) as session:
        found = [each.key async for each in session.s3().list_versions(bucket)]
    assert found == [f"{number:04}" for number in range(1005)]
    assert gateway.count("versions") == 2


async def test_tags_are_read_replaced_and_removed(moto_s3: Store) -> None:
    bucket = await versioned_bucket(moto_s3)
    await moto_s3.put(bucket, "a", b"1")
    old = (await moto_s3.head(bucket, "a"))["VersionId"]
    async with session_of(moto_s3.url) as session:
        handler = session.s3()
        assert await handler.get_tags(bucket, "a") == {}
        await handler.put_tags(bucket, "a", {"x": "1", "y": "a b"})
        assert await handler.get_tags(bucket, "a") == {"x": "1", "y": "a b"}
        await moto_s3.put(bucket, "a", b"2")
        await handler.put_tags(bucket, "a", {"z": ""})
        assert await handler.get_tags(bucket, "a") == {"z": ""}
        assert await handler.get_tags(bucket, "a", version_id=old) == {"x": "1", "y": "a b"}
        await handler.put_tags(bucket, "a", {})
        assert await handler.get_tags(bucket, "a") == {}
        with pytest.raises(aiohaul.ObjectNotFoundError):
            await handler.get_tags(bucket, "missing")
        with pytest.raises(aiohaul.ServiceError, match="PutObjectTagging"):
            await handler.put_tags(bucket, "a", {str(number): "" for number in range(11)})


async def test_keys_are_deleted_whatever_they_hold(s3: Store, session: aiohaul.Session) -> None:
    bucket = await s3.bucket()
    await s3.fill(bucket, {"a": b"1", "b/c": b"2", "stays": b"3"})
    handler = session.s3()
    await s3.put(bucket, "a", b"overwritten")
    report = await handler.delete_keys(bucket, ["a", "b/c", "a", "missing"])
    assert (report.action, report.objects, report.failures) == ("delete", 3, ())
    assert await s3.keys(bucket) == ["stays"]
    assert (await handler.delete_keys(bucket, [])).objects == 0


async def test_mistaken_deletes_are_refused(s3: Store, session: aiohaul.Session) -> None:
    bucket = await s3.bucket()
    await s3.fill(bucket, {"a": b"1", "b": b"2"})
    with pytest.raises(aiohaul.PlanError, match="keys is the str 'ab'"):
        await session.s3().delete_keys(bucket, "ab")
    with pytest.raises(aiohaul.PlanError, match="a key is empty"):
        await session.s3().delete_keys(bucket, ["a", ""])
    assert await s3.keys(bucket) == ["a", "b"]


async def test_key_that_is_not_deleted_is_in_the_report(proxied: Proxied) -> None:
    gateway, s3 = proxied
    bucket = await s3.bucket()
    await s3.fill(bucket, {"a": b"1", "b": b"2"})
    gateway.rule(
        r"\?delete",
        body=b"<DeleteResult><Error><Key>b</Key><Code>AccessDenied</Code>"
        b"<Message>not yours</Message></Error></DeleteResult>",
    )
    async with session_of(s3.url) as session:
        report = await session.s3().delete_keys(bucket, ["a", "b"])
    (failure,) = report.failures
    assert report.objects == 1
    assert (failure.source, failure.kind) == (f"s3://{bucket}/b", "AccessDeniedError")


async def test_endpoint_without_bulk_deletes(proxied: Proxied) -> None:
    gateway, s3 = proxied
    bucket = await s3.bucket()
    await s3.fill(bucket, {"a": b"1", "b": b"2"})
    gateway.rule(r"\?delete", status=501, code="NotImplemented")
    async with session_of(s3.url) as session:
        report = await session.s3().delete_keys(bucket, ["a", "b"])
    assert (report.objects, report.failures) == (2, ())
    assert await s3.keys(bucket) == []
    assert gateway.count("^HEAD") == 0
