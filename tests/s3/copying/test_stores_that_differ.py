"""Stores that differ from AWS: operations they lack, and headers they demand."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from email.header import decode_header, make_header
from typing import Any

import pytest
from aiohttp import web

import aiohaul
from aiohaul import Destination
from aiohaul.s3.handler import transfers_of
from aiohaul.s3.objects import delete_objects
from aiohaul.s3.streaming import checksums
from aiohaul.s3.streaming.checksums import Checksum
from aiohaul.s3.streaming.parts import LIMITS, PART_SIZE, Limits
from aiohaul.s3.streaming.readers import ObjectReader
from aiohaul.s3.streaming.verification import Expected
from tests.support.definitions import run, source, to, transfer
from tests.support.gateway import Gateway
from tests.support.servers import KEY, REGION, SECRET
from tests.support.store import Store, md5

Proxied = tuple[Gateway, Store]
LARGE = b"01234567" * (PART_SIZE // 8 + 1)
BULK_DELETE = r"^POST /[^?]*\?delete"


def session_on(url: str, **more: Any) -> aiohaul.Session:
    return aiohaul.Session(
        region=REGION, endpoint_url=url, access_key_id=KEY, secret_access_key=SECRET, **more
    )


@pytest.mark.parametrize("direct", [True, False])
async def test_delete_objects_carries_content_md5(proxied: Proxied, direct: bool) -> None:
    gate, s3 = proxied
    sent: list[str | None] = []

    def note(request: web.Request) -> None:
        if re.search(BULK_DELETE, f"{request.method} {request.raw_path}"):
            sent.append(request.headers.get("Content-MD5"))

    gate.noting = note
    bucket = await s3.bucket()
    async with session_on(s3.url, direct=direct) as session:
        handler = session.s3()
        for _ in range(3):  # the first one of a bucket always goes through botocore
            await s3.fill(bucket, {"src/a": b"1", "src/b": b"2"})
            report = await handler.delete(await handler.find(bucket, "src"))
            assert not report.failures
    assert len(sent) == 3
    assert all(re.fullmatch(r"[A-Za-z0-9+/]{22}==", each or "") for each in sent)


@pytest.mark.parametrize(
    ("status", "code"),
    [(501, "NotImplemented"), (405, "MethodNotAllowed"), (400, "MissingContentMD5")],
)
async def test_without_bulk_deletes_keys_go_one_by_one(
    proxied: Proxied, status: int, code: str
) -> None:
    gate, s3 = proxied
    gate.rule(BULK_DELETE, status=status, code=code)
    bucket = await s3.bucket()
    async with session_on(s3.url) as session:
        handler = session.s3()
        for _ in range(2):
            await s3.fill(bucket, {"src/a": b"1", "src/b": b"2"})
            report = await handler.delete(await handler.find(bucket, "src"))
            assert (report.objects, report.failures) == (2, ())
            assert await s3.keys(bucket) == []
    assert gate.count(BULK_DELETE) == 1, "the Session remembers that the endpoint has none"


async def test_single_delete_compares_the_etag_where_the_server_does_not(proxied: Proxied) -> None:
    gate, s3 = proxied
    gate.rule(BULK_DELETE, status=501, code="NotImplemented")
    bucket = await s3.bucket()
    await s3.fill(bucket, {"a": b"1", "b": b"2"})
    async with session_on(s3.url) as session:
        service = await session._clients.service("s3")
        found = sorted(await session.s3().find(bucket), key=lambda each: each.key)
        stale = replace(found[0], etag="0" * 32)
        ((failed, error),) = await delete_objects(service, [stale, found[1]])
    assert failed == stale
    assert isinstance(error, aiohaul.PreconditionFailedError)
    assert await s3.keys(bucket) == ["a"]


# What was written is verified by checksum, ETag or size --------------------------------------


CRC32 = checksums.algorithms()["CRC32"]
SENT = Expected(size=5, checksum=Checksum(CRC32, "NhCmhg=="), etag=md5(b"hello"))


@pytest.mark.parametrize(
    ("answer", "proven"),
    [
        ({"ETag": f'"{md5(b"hello")}"'}, True),
        ({"ETag": f'"{md5(b"hello").upper()}"'}, True),
        ({"ETag": '"opaque"', "ChecksumCRC32": "NhCmhg=="}, True),
        ({"ETag": f'"{md5(b"other")}"', "ChecksumCRC32": "NhCmhg=="}, True),
        ({"ETag": '"opaque"'}, False),
        ({"ETag": ""}, False),
        ({}, False),
    ],
)
def test_equal_checksum_or_etag_proves_an_object(answer: dict[str, Any], *, proven: bool) -> None:
    assert SENT.is_proven_by(answer) is proven


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        ({"ETag": f'"{md5(b"other")}"'}, True),
        ({"ETag": f'"{md5(b"other")}"', "ServerSideEncryption": "AES256"}, True),
        ({"ETag": f'"{md5(b"other")}"', "ServerSideEncryption": "aws:kms"}, False),
        ({"ETag": f'"{md5(b"other")}"', "SSECustomerAlgorithm": "AES256"}, False),
        ({"ETag": '"opaque"'}, False),
        ({"ETag": f'"{md5(b"other")}-1"'}, False),
        ({}, False),
    ],
)
def test_only_an_etag_of_the_same_form_looks_wrong(answer: dict[str, Any], *, wrong: bool) -> None:
    assert SENT.has_another_etag(answer) is wrong


def test_checksum_of_parts_is_not_one_of_the_whole() -> None:
    assert SENT.has_another_checksum({"ChecksumCRC32": "AAAAAA=="})
    assert not SENT.has_another_checksum({"ChecksumCRC32": "AAAAAA==-2"})
    assert not SENT.has_another_checksum({"ChecksumCRC32": "AA==", "ChecksumType": "COMPOSITE"})


@pytest.fixture
def no_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the checksums that an operation demands are sent."""
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")


COMPLETE = r"^POST /[^?]*\?uploadId"
NO_ETAG = b"<CompleteMultipartUploadResult><ETag></ETag></CompleteMultipartUploadResult>"


@pytest.mark.usefixtures("no_checksums")
async def test_upload_that_is_completed_without_an_etag_is_verified_by_head(
    proxied: Proxied,
) -> None:
    gate, s3 = proxied
    gate.rule(COMPLETE, body=NO_ETAG)
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", LARGE)
    await run(transfer(source(s3, inbox), to(s3, out, transferType="proxy")))
    assert await s3.contents(out) == {"a": LARGE}


MOVED = {"action": "delete"}


@pytest.mark.usefixtures("no_checksums")
@pytest.mark.parametrize("data", [b"hello", LARGE], ids=["put", "parts"])
@pytest.mark.parametrize("etag", ["opaque", "0" * 32])
async def test_size_alone_never_permits_a_delete(proxied: Proxied, data: bytes, etag: str) -> None:
    """An ETag that is not an MD5: the copy is read back before the source is deleted."""
    gate, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", data)
    copied = to(s3, out, transferType="proxy")
    if len(data) > PART_SIZE:
        gate.rule(COMPLETE, body=NO_ETAG)
        etag += "-2"
    headers = {"ETag": f'"{etag}"'}
    gate.rule(f"^(PUT|HEAD) /{out}/a($|[?](?!.*partNumber))", headers=headers)
    gate.rule(f"^GET /{out}/a$", headers=headers, strip="If-Match")
    await run(transfer(source(s3, inbox), copied))
    reread = gate.count(f"^GET /{out}/a$")
    assert reread == 0 if etag.startswith("opaque") else reread > 0
    gate.log.clear()
    await run(transfer(source(s3, inbox, postCopyAction=MOVED), copied))
    assert gate.count(f"^GET /{out}/a$") > 0
    assert await s3.keys(inbox) == []
    assert await s3.contents(out) == {"a": data}


@pytest.mark.usefixtures("no_checksums")
async def test_damaged_copy_with_an_opaque_etag_keeps_its_source(proxied: Proxied) -> None:
    gate, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", b"right")
    gate.rule(f"^(PUT|HEAD) /{out}/a", headers={"ETag": '"opaque"'})
    gate.rule(f"^GET /{out}/a$", body=b"wrong", headers={"ETag": '"opaque"'}, strip="If-Match")
    with pytest.raises(aiohaul.TransferError, match="differs from the source"):
        await run(
            transfer(source(s3, inbox, postCopyAction=MOVED), to(s3, out, transferType="proxy"))
        )
    assert await s3.keys(inbox) == ["src/a"]


# Headers, tags and metadata ------------------------------------------------------------------

EXPIRES = "Thu, 01 Dec 2033 16:00:00 GMT"
WAYS: dict[str, tuple[dict[str, Any], Limits]] = {
    "CopyObject": ({}, LIMITS),
    "UploadPartCopy": ({}, Limits(copy=1, copy_step=PART_SIZE)),
    "worker": ({"transfer_type": "proxy"}, LIMITS),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("data", [b"", b"hello", LARGE], ids=["empty", "small", "large"])
async def test_each_way_of_copying_carries_the_same_headers(
    moto_s3: Store, way: str, data: bytes
) -> None:
    s3, (more, limits) = moto_s3, WAYS[way]
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(
        inbox,
        "src/a",
        data,
        CacheControl="no-cache",
        ContentDisposition="attachment",
        ContentLanguage="de",
        ContentType="text/csv",
        Expires=EXPIRES,
        Metadata={"day": "31"},
        StorageClass="STANDARD_IA",
        Tagging="team=a%20b&plus=%2B",
        WebsiteRedirectLocation="/elsewhere",
    )
    async with session_on(s3.url) as session:
        handler = session.s3()
        (report,) = await transfers_of(handler).copy_all(
            await handler.find(inbox, "src"), [Destination(bucket=out, **more)], limits=limits
        )
    assert not report.failures
    head = await s3.head(out, "a")
    names = ("CacheControl", "ContentDisposition", "ContentLanguage", "ContentType")
    assert [head[name] for name in names] == ["no-cache", "attachment", "de", "text/csv"]
    assert head["ExpiresString"] == EXPIRES
    assert head["Metadata"] == {"day": "31"}
    assert head["StorageClass"] == "STANDARD_IA"
    assert await tags(s3, out) == {"team": "a b", "plus": "+"}
    if way != "CopyObject" or not data:
        assert head["WebsiteRedirectLocation"] == "/elsewhere"


async def tags(s3: Store, bucket: str) -> dict[str, str]:
    answer = await s3.client.get_object_tagging(Bucket=bucket, Key="a")
    return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}


@pytest.mark.parametrize("counts", [True, False])
async def test_store_that_counts_tags_is_not_asked_for_those_of_each_object(
    proxied: Proxied, counts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {f"src/{n:02}": b"1" for n in range(30)})
    if not counts:
        read = ObjectReader._metadata

        async def without_count(self: ObjectReader, answer: Mapping[str, Any]) -> Any:
            return await read(self, {k: v for k, v in answer.items() if k != "TagCount"})

        monkeypatch.setattr(ObjectReader, "_metadata", without_count)
        for n in range(30):
            await s3.put(inbox, f"src/{n:02}", b"1", Tagging=f"n={n}")
    gateway.log.clear()
    await run(transfer(source(s3, inbox), to(s3, out, transferType="proxy")))
    if counts:
        assert gateway.count(r"^GET .*tagging") == 8
    else:
        for n in range(30):
            found = await s3.client.get_object_tagging(Bucket=out, Key=f"{n:02}")
            assert found["TagSet"] == [{"Key": "n", "Value": str(n)}]


@pytest.mark.parametrize("way", ["UploadPartCopy", "worker"])
async def test_tags_that_a_store_drops_are_put_after_the_upload(proxied: Proxied, way: str) -> None:
    gate, s3 = proxied
    gate.rule(r"^POST /[^?]*\?uploads", strip="x-amz-tagging")
    more, limits = WAYS[way]
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", LARGE, Tagging="team=night")
    async with session_on(s3.url) as session:
        handler = session.s3()
        for _ in range(2):
            await transfers_of(handler).copy_all(
                await handler.find(inbox, "src"), [Destination(bucket=out, **more)], limits=limits
            )
            assert await tags(s3, out) == {"team": "night"}
    assert gate.count(f"^GET /{out}/a[?]tagging") == 1, "this is found out once"


@pytest.mark.parametrize("data", [b"hello", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("denied", ["GET /[^?]*[?]tagging", "PUT|uploads"])
async def test_copy_without_tags_is_logged(
    proxied: Proxied, data: bytes, denied: str, caplog: pytest.LogCaptureFixture
) -> None:
    gate, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", data, Tagging="team=night")
    operation = denied
    if denied == "PUT|uploads":
        operation = f"(PUT /{out}/a$|PUT /{out}/a[?]x-id|POST /{out}/a[?]uploads)"
    gate.rule(operation, status=403, code="AccessDenied", times=1)
    await run(transfer(source(s3, inbox), to(s3, out, transferType="proxy")))
    assert await s3.get(out, "a") == data
    assert "without tags" in caplog.text


async def test_metadata_that_is_not_ascii_is_encoded_as_s3_does(proxied: Proxied) -> None:
    gate, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", b"hello")
    gate.rule(f"^GET /{inbox}/src/a", headers={"x-amz-meta-author": "Müller"})
    await run(transfer(source(s3, inbox), to(s3, out, transferType="proxy")))
    (author,) = (await s3.head(out, "a"))["Metadata"].values()
    assert str(make_header(decode_header(author))) == "Müller"


# Conditions that a store ignores --------------------------------------------------------------


@pytest.mark.parametrize("way", ["UploadPartCopy", "worker"])
async def test_object_that_appears_during_an_upload_is_not_overwritten(
    proxied: Proxied, way: str
) -> None:
    """The store ignores If-None-Match of CompleteMultipartUpload."""
    gate, s3 = proxied
    gate.rule(COMPLETE, strip="If-None-Match")
    part = gate.rule(r"partNumber=1", hold=True, times=1)
    more, limits = WAYS[way]
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", LARGE)
    async with session_on(s3.url) as session:
        handler = session.s3()
        copying = asyncio.ensure_future(
            transfers_of(handler).copy_all(
                await handler.find(inbox, "src"),
                [Destination(bucket=out, overwrite=False, **more)],
                limits=limits,
            )
        )
        await part.reached.wait()
        await s3.put(out, "a", b"of somebody else")
        part.go.set()
        (report,) = await copying
    assert [each.kind for each in report.failures] == ["ObjectExistsError"]
    assert await s3.contents(out) == {"a": b"of somebody else"}
    assert await s3.uploads(out) == []


@pytest.mark.parametrize(
    ("way", "method", "operation"),
    [
        ("CopyObject", "^COPY ", "CopyObject"),
        ("UploadPartCopy", COMPLETE, "CompleteMultipartUpload"),
        ("worker", r"^PUT /[^?]*", "PutObject"),
    ],
)
@pytest.mark.parametrize("enforced", [True, False])
async def test_it_is_probed_once_if_a_store_enforces_a_condition(
    proxied: Proxied, way: str, method: str, operation: str, *, enforced: bool
) -> None:
    gate, s3 = proxied
    more, limits = WAYS[way]
    inbox, out = await s3.bucket(), await s3.bucket()
    for name in ("a", "b"):
        await s3.put(inbox, f"src/{name}", b"hello", Tagging="team=night")

    def note(request: web.Request) -> None:
        """The second write of one key is the probe."""
        line = gate.log[-1]
        is_write = re.search(method, line) and request.path.endswith("/a")
        if enforced and is_write and gate.log.count(line) == 2:
            gate.rules.clear()
            gate.rule(re.escape(line), status=412, code="PreconditionFailed")

    gate.rule(method, strip="If-None-Match")
    gate.noting = note
    destination = Destination(bucket=out, overwrite=False, **more)
    async with session_on(s3.url) as session:
        handler = session.s3()
        first, second = sorted(await handler.find(inbox, "src"), key=lambda each: each.key)
        for each in (first, second):
            (report,) = await transfers_of(handler).copy_all([each], [destination], limits=limits)
            assert not report.failures
        support = (await session._clients.service("s3")).support
    assert support.enforced == {operation: enforced}
    looks = gate.count(f"^HEAD /{out}/b")
    assert looks == 0 if enforced and way != "CopyObject" else looks >= 0
    assert await s3.contents(out) == {"a": b"hello", "b": b"hello"}
    assert await tags(s3, out) == {"team": "night"}, "the probe writes the same object"


async def test_store_that_compares_if_match_with_its_quotes(proxied: Proxied) -> None:
    """Ceph does so in PutObject."""
    gate, s3 = proxied
    bucket = await s3.bucket()
    gate.rule(f"^PUT /{bucket}/a", header='^if-match: "', status=412, code="PreconditionFailed")
    old = await s3.put(bucket, "a", b"old")
    async with session_on(s3.url) as session:
        handler = session.s3()
        new = await handler.write(bucket, "a", b"new", if_match=old)
        await handler.write(bucket, "a", b"newer", if_match=new.etag)
        assert gate.count(f"^PUT /{bucket}/a") == 3, "this is found out once"
        with pytest.raises(aiohaul.PreconditionFailedError):
            await handler.write(bucket, "a", b"newest", if_match=new.etag)
    assert await s3.contents(bucket) == {"a": b"newer"}


async def test_object_that_is_replaced_meanwhile_is_not_overwritten(proxied: Proxied) -> None:
    gate, s3 = proxied
    bucket = await s3.bucket()
    old = await s3.put(bucket, "a", b"old")
    rule = gate.rule(f"^PUT /{bucket}/a", hold=True, times=1)
    async with session_on(s3.url) as session:
        writing = asyncio.ensure_future(session.s3().write(bucket, "a", b"new", if_match=old))
        await rule.reached.wait()
        await s3.client.put_object(Bucket=bucket, Key="a", Body=b"of somebody else")
        rule.go.set()
        with pytest.raises(aiohaul.PreconditionFailedError):
            await writing
        support = (await session._clients.service("s3")).support
    assert gate.count(f"^PUT /{bucket}/a") == 1
    assert support.bare_if_match is False
    assert await s3.contents(bucket) == {"a": b"of somebody else"}


# Operations that a store does not have, and stores that are full ----------------------------


@pytest.mark.parametrize("action", [None, {"action": "move", "destination": "done/"}])
async def test_without_copy_object_copies_go_through_this_process(
    proxied: Proxied, action: dict[str, str] | None
) -> None:
    gate, s3 = proxied
    gate.rule("^COPY ", status=501, code="NotImplemented")
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {"src/a": b"1", "src/b": b"2"})
    definition = source(s3, inbox, **({"postCopyAction": action} if action else {}))
    await run(transfer(definition, to(s3, out)))
    assert await s3.contents(out) == {"a": b"1", "b": b"2"}
    if action:
        assert await s3.contents(inbox) == {"done/a": b"1", "done/b": b"2"}
    assert gate.count("^COPY ") <= 2, "the Session remembers that the endpoint has none"


async def test_full_store_is_given_up_after_the_first_parts(proxied: Proxied) -> None:
    gate, s3 = proxied
    gate.rule("partNumber=", status=507, code="XMinioStorageFull")
    inbox, out = await s3.bucket(), await s3.bucket()
    for number in range(24):
        await s3.put(inbox, f"src/{number}", LARGE)
    with pytest.raises(aiohaul.TransferError, match="XMinioStorageFull"):
        await run(transfer(source(s3, inbox), to(s3, out, transferType="proxy")))
    assert gate.count(r"^POST /[^?]*\?uploads") < 24
    assert await s3.uploads(out) == []
