"""The direct way at work: when it is taken, when it is left, and what it leaves behind."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiobotocore.endpoint
import aiobotocore.httpsession
import aiohttp
import botocore.auth
import botocore.exceptions
import botocore.handlers
import botocore.httpchecksum
import botocore.parsers
import botocore.utils
import pytest
from aiohttp import web
from multidict import CIMultiDictProxy

import aiohaul
from aiohaul.aws import answers
from aiohaul.aws.botocore_backend import BotocoreBackend
from aiohaul.aws.direct import checksums
from aiohaul.aws.fast_path import S3FastPath
from aiohaul.aws.service import Service
from aiohaul.aws.transport import Transport
from tests.support.fake_http import Request
from tests.support.fake_region import FakeS3
from tests.support.servers import REGION
from tests.support.sessions import s3_service
from tests.support.store import Store, md5

pytestmark = pytest.mark.usefixtures("direct_unless_told_otherwise", "needs_botocore")

MIB = 1024 * 1024


@pytest.fixture
def needs_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting of botocore's, so that its client builds the first request of each kind."""
    monkeypatch.setenv("AWS_SDK_UA_APP_ID", "night")


@pytest.fixture
def by_client(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests that go through the client, by their methods."""
    sent: list[str] = []
    send = Transport.send

    async def noting(self: Transport, request: Any) -> Any:
        sent.append(request.method)
        return await send(self, request)

    monkeypatch.setattr(Transport, "send", noting)
    return sent


def backend_of(s3: Service) -> BotocoreBackend:
    assert isinstance(s3._backend, BotocoreBackend)
    return s3._backend


async def head(s3: Service, key: str = "k", bucket: str = "bucket") -> answers.ObjectInfo:
    return await s3.call("head_object", key, Bucket=bucket, Key=key)


async def test_every_operation_comes_to_the_same_directly(s3: Store, by_client: list[str]) -> None:
    bucket = await s3.bucket()
    at = {"Bucket": bucket, "Key": "mp"}
    part = b"x" * (5 * MIB)
    async with s3_service(s3.url) as mine:

        async def once(name: str) -> None:
            key = f"{name} a+b/é%&=?#"
            told = await mine.call(
                "put_object", key, Bucket=bucket, Key=key, Body=b"data", Metadata={"a": "b c"}
            )
            assert told["ETag"].strip('"') == md5(b"data")
            told = await mine.call("head_object", key, Bucket=bucket, Key=key)
            assert (told["ContentLength"], told["Metadata"]) == (4, {"a": "b c"})
            source = {"Bucket": bucket, "Key": key}
            copied = await mine.call(
                "copy_object", name, Bucket=bucket, Key=f"{name}/copy", CopySource=source
            )
            assert copied["CopyObjectResult"]["ETag"].strip('"') == md5(b"data")
            page = await mine.call("list_objects_v2", name, Bucket=bucket, Prefix=name)
            assert {each["Key"] for each in page["Contents"]} == {key, f"{name}/copy"}
            assert (await mine.read(key, Bucket=bucket, Key=key))[0] == b"data"
            assert (await mine.read(key, Bucket=bucket, Key=key, Range="bytes=1-2"))[0] == b"at"
            upload = {
                "UploadId": (await mine.call("create_multipart_upload", "", **at))["UploadId"]
            }
            sent = await mine.call("upload_part", "", **at, **upload, PartNumber=1, Body=part)
            parts = {"Parts": [{"PartNumber": 1, "ETag": sent["ETag"]}]}
            await mine.call("complete_multipart_upload", "", **at, **upload, MultipartUpload=parts)
            assert await s3.get(bucket, "mp") == part
            upload = {
                "UploadId": (await mine.call("create_multipart_upload", "", **at))["UploadId"]
            }
            await mine.call("abort_multipart_upload", "", **at, **upload)
            assert await s3.uploads(bucket) == []
            keys = {"Objects": [{"Key": key}, {"Key": "mp"}], "Quiet": True}
            assert "Errors" not in await mine.call("delete_objects", "", Bucket=bucket, Delete=keys)
            await mine.call("delete_object", "", Bucket=bucket, Key=f"{name}/copy")
            assert await s3.keys(bucket) == []

        await once("first")
        assert len(by_client) == 11
        await once("second")
        assert len(by_client) == 11  # none more


@pytest.mark.parametrize("how", ["setting", "variable"])
async def test_direct_way_can_be_turned_off(
    fake: FakeS3, by_client: list[str], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "variable":
        monkeypatch.setenv("AIOHAUL_DIRECT", "0")
    async with s3_service(fake.url, direct=how == "variable") as s3:
        for _ in range(3):
            await head(s3)
    assert by_client == ["HEAD"] * 3


async def test_first_request_to_each_bucket_goes_through_the_client(
    fake: FakeS3, by_client: list[str]
) -> None:
    async with s3_service(fake.url) as s3:
        for bucket in ("one", "two", "one", "two", "one"):
            await head(s3, bucket=bucket)
    assert len(by_client) == 2
    assert len(fake.seen) == 5
    assert fake.accepted == 1  # on one connection


@pytest.mark.parametrize(
    "key", ["a/../b", "./x", "..", "//y", "/", "a%2Fb%", "ü 😀+?#&=;", "a\nb\r", "~'()*!@:,$[]"]
)
async def test_key_of_any_kind_takes_the_same_path_directly(
    fake: FakeS3, by_client: list[str], key: str
) -> None:
    async with s3_service(fake.url) as s3:
        for _ in range(2):
            await head(s3, key)
        for _ in range(2):
            await s3.call("list_objects_v2", key, Bucket="bucket", Prefix=key, StartAfter=key)
    assert len(by_client) == 2
    assert fake.seen[0].path == fake.seen[1].path
    assert fake.seen[2].path == fake.seen[3].path


async def test_of_many_first_requests_one_goes_through_the_client(
    fake: FakeS3, by_client: list[str]
) -> None:
    async with s3_service(fake.url) as s3:
        await asyncio.gather(*(head(s3, str(n)) for n in range(50)))
    assert len(fake.seen) == 50
    assert len(by_client) == 1


async def test_unknown_parameter_goes_through_the_client(
    fake: FakeS3, by_client: list[str]
) -> None:
    async with s3_service(fake.url) as s3:
        await head(s3)
        await head(s3)
        await s3.call("head_object", "k", Bucket="bucket", Key="k", SSECustomerKey="x" * 32)
        with pytest.raises(aiohaul.HaulError, match="NoSuchParameter"):
            await s3.call("head_object", "k", Bucket="bucket", Key="k", NoSuchParameter=1)
    assert len(by_client) == 2
    assert len(fake.seen) == 3


async def test_hook_that_changes_requests_keeps_them_on_the_client(
    fake: FakeS3, by_client: list[str]
) -> None:
    def add(request: Any, **_: Any) -> None:
        request.headers["x-amz-mine"] = "1"

    async with s3_service(fake.url) as s3:
        backend_of(s3)._client.meta.events.register("before-sign.s3.HeadObject", add)
        for _ in range(6):
            await head(s3)
    assert len(by_client) == 6
    assert all(request.headers["x-amz-mine"] == "1" for request in fake.seen)


async def test_proxy_keeps_requests_on_the_client(
    fake: FakeS3, by_client: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", fake.url)
    monkeypatch.setenv("AIOHAUL_ALLOW_HTTP", "1")
    async with s3_service("http://s3.nowhere.test") as s3:
        for _ in range(3):
            await head(s3)
    assert len(by_client) == 3
    assert all(request.path.startswith("http://s3.nowhere.test/") for request in fake.seen)


@pytest.mark.parametrize("operation", ["head_object", "list_objects_v2"])
async def test_bucket_that_is_in_another_region_is_found_by_the_client_and_learnt_anew(
    fake: FakeS3, by_client: list[str], operation: str
) -> None:
    key = {"Key": "k"} if operation == "head_object" else {}
    async with s3_service(fake.url) as s3:
        for _ in range(2):
            await s3.call(operation, "", Bucket="bucket", **key)
        assert len(by_client) == 1
        fake.region = "us-west-2"
        for _ in range(3):
            await s3.call(operation, "", Bucket="bucket", **key)
    # Directly, by the client to the old region and to the new one; then directly.
    assert len(by_client) == 3
    assert len(fake.seen) == 2 + 3 + 2
    assert all("/us-west-2/s3/" in request.headers["authorization"] for request in fake.seen[-3:])


async def test_error_carries_what_the_answer_told(fake: FakeS3) -> None:
    told = {"x-amz-request-id": "REQUEST", "retry-after": "0"}
    body = b"<Error><Code>SlowDown</Code><Message>Reduce your rate</Message></Error>"
    async with s3_service(fake.url) as s3:
        await s3.call("list_objects_v2", "s3://bucket", Bucket="bucket")
        fake.next_answers += [(503, body, told)] * 5
        with pytest.raises(aiohaul.ThrottledError, match="Reduce your rate") as raised:
            await s3.call("list_objects_v2", "s3://bucket", Bucket="bucket")
    error = raised.value
    assert (error.status, error.code, error.request_id) == (503, "SlowDown", "REQUEST")
    assert (error.attempts, error.retry_after) == (5, 0)
    assert error.operation == "ListObjectsV2"


async def test_connection_that_never_came_about_is_told_from_one_that_broke() -> None:
    async with FakeS3() as fake, s3_service(fake.url) as s3:
        await head(s3)
        await head(s3)
        fake.next_answers.append((200, b"", {}))
        for connection in fake.connections:
            connection.reset()
        await head(s3)  # sent again
        url = fake.url
    async with s3_service(url) as s3:
        with pytest.raises(aiohaul.UnreachableError):
            await s3.call_once("head_object", "k", Bucket="bucket", Key="k")


async def test_over_tls_the_checksum_goes_ahead_of_the_body(
    certificate: Path, by_client: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[CIMultiDictProxy[str], bytes]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.headers, await request.read()))
        return web.Response(headers={"ETag": '"e"'})

    application = web.Application(client_max_size=10 * MIB)
    application.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    bodies = [b"small", b"small", b"x" * (2 * MIB)]
    async with s3_service(f"https://localhost:{runner.addresses[0][1]}") as s3:
        for body in bodies:
            await s3.call("put_object", "k", Bucket="bucket", Key="k", Body=body)
    await runner.cleanup()
    assert by_client == ["PUT"]
    for (headers, received), body in zip(seen, bodies, strict=True):
        assert headers["x-amz-checksum-crc32"] == checksums.checksum("crc32", body)
        assert headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
        assert "Transfer-Encoding" not in headers
        assert received == body
    assert [headers.get("Expect") for headers, _ in seen] == [None, None, "100-continue"]


async def test_of_many_first_bodies_one_goes_through_the_client(
    fake: FakeS3, by_client: list[str]
) -> None:
    body = b"x" * 300_000  # it is hashed in a thread, and meanwhile the others come
    async with s3_service(fake.url) as s3:
        await asyncio.gather(
            *(
                s3.call("put_object", "k", Bucket="bucket", Key=f"k{number}", Body=body)
                for number in range(20)
            )
        )
    assert by_client == ["PUT"]
    assert len(fake.seen) == 20


async def test_of_many_first_requests_that_cannot_be_learnt_none_waits_for_ever(
    fake: FakeS3, by_client: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohaul.aws.direct.routes.same", lambda *_: False)
    async with s3_service(fake.url) as s3, asyncio.timeout(10):
        await asyncio.gather(*(head(s3, str(number)) for number in range(20)))
    assert by_client == ["HEAD"] * 20
    assert len(fake.seen) == 20


async def test_first_request_that_is_cancelled_leaves_the_lesson_to_the_next(
    fake: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning, learn = asyncio.Event(), S3FastPath._capture_route

    async def waiting(self: S3FastPath, *arguments: Any) -> None:
        if not learning.is_set():
            learning.set()
            await asyncio.Event().wait()
        await learn(self, *arguments)

    monkeypatch.setattr(S3FastPath, "_capture_route", waiting)
    async with s3_service(fake.url) as s3:
        first = asyncio.ensure_future(head(s3, "first"))
        await learning.wait()
        others = [asyncio.ensure_future(head(s3, str(number))) for number in range(3)]
        await asyncio.sleep(0)
        first.cancel()
        async with asyncio.timeout(10):
            await asyncio.gather(*others)
        assert backend_of(s3)._fast_path._routes
        assert not backend_of(s3)._fast_path._capturing
    assert len(fake.seen) == 3


@dataclass(eq=False)
class Half(FakeS3):
    """Sends the first half of an object, and the second half never."""

    halves: bool = False

    async def serve(self, request: Request) -> None:
        if not self.halves:
            await super().serve(request)
            return
        self.seen.append(request)
        lines = ["HTTP/1.1 200 OK", "content-length: 100000", 'etag: "e"', "", "x" * 50000]
        request.connection.writer.write("\r\n".join(lines).encode())
        await self.tell()
        await request.connection.until_gone()


async def test_cancelled_reads_keep_no_connection() -> None:
    async with Half() as fake, s3_service(fake.url, max_requests=3) as s3:  # a pool of four
        await s3.read("k", Bucket="bucket", Key="k")
        fake.halves = True
        for number in range(6):
            task = asyncio.ensure_future(s3.read("k", Bucket="bucket", Key="k"))
            await fake.until(lambda expected=number + 2: len(fake.seen) == expected)  # type: ignore[misc]
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        fake.halves = False
        async with asyncio.timeout(5):
            await asyncio.gather(*(s3.read("k", Bucket="bucket", Key="k") for _ in range(8)))


async def test_no_secret_in_any_log(fake: FakeS3, caplog: pytest.LogCaptureFixture) -> None:
    settings = aiohaul.Settings(
        access_key_id="known", secret_access_key="s3cr3t", session_token="t0k3n", region=REGION
    )
    with caplog.at_level(0):
        async with aiohaul.Session(endpoint_url=fake.url) as session:
            s3 = await session._clients.service("s3", settings)
            for _ in range(3):
                await head(s3)
            fake.next_answers.append((403, b"", {"x-told": "t0k3n"}))
            with pytest.raises(aiohaul.AccessDeniedError):
                await head(s3)
            assert "s3cr3t" not in repr(await backend_of(s3)._fast_path._keys())
    assert fake.seen[-1].headers["x-amz-security-token"] == "t0k3n"
    for word in ("s3cr3t", "t0k3n", "Signature="):
        assert word not in caplog.text


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("crc32", "y/Q5Jg=="),
        ("crc32c", "4waSgw=="),
        ("crc64nvme", "rosUhgp5mIg="),
        ("sha1", "98O8HYCOBHMq32eZZczDTKeuNEE="),
        ("sha256", "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="),
    ],
)
def test_checksums_are_the_known_ones(algorithm: str, expected: str) -> None:
    if not checksums.known(algorithm):
        pytest.skip("needs botocore[crt]")
    data = b"123456789"
    made = checksums.checksum(algorithm, data)
    assert made == expected


#: What of others is copied here in meaning, though nobody promises that it stays as it is: where
#: one of these changes, look whether the direct way still comes to the same, then note it anew.
UPSTREAM: dict[str, Any] = {
    "connections": aiohttp.BaseConnector.connect,
    "answers on connections": aiohttp.client_proto.ResponseHandler,
    "aiohttp's errors": aiobotocore.httpsession.AIOHTTPSession.send,
    "the session": aiobotocore.httpsession.AIOHTTPSession._get_session,
    "signing": botocore.auth.SigV4Auth,
    "signing for S3": botocore.auth.S3SigV4Auth,
    "checksums": botocore.httpchecksum.resolve_request_checksum_algorithm,
    "answers of 200": botocore.handlers._handle_200_error,
    "which these are": botocore.handlers._looks_like_special_case_error,
    "encoded keys": botocore.handlers.decode_list_object_v2,
    "expiry": botocore.handlers.handle_expires_header,
    "copy sources": botocore.handlers._quote_source_header_from_dict,
    "redirects": botocore.utils.S3RegionRedirectorv2.redirect_from_error,
    "modeled errors": aiobotocore.endpoint.AioEndpoint._add_modeled_error_fields,
    "answers": botocore.parsers.BaseRestParser,
    "answers of XML": botocore.parsers.BaseXMLResponseParser,
}
PINNED = {
    "connections": "b9fe1f4d3e57ad12",
    "answers on connections": "da5da6215c0ef3a0",
    "aiohttp's errors": "9633db7fc585c5fb",
    "the session": "9050ac5aa443ec89",
    "signing": "733abf07a77f36ba",
    "signing for S3": "223a49dbb554acde",
    "checksums": "98eae19bbfe2c7b2",
    "answers of 200": "a3182648d2550c15",
    "which these are": "d4f3acf13f8e911f",
    "encoded keys": "fcbd1af993b57b4c",
    "expiry": "8e4997cd63328940",
    "copy sources": "65c38e9711aa6172",
    "redirects": "8cb08e6907417586",
    "modeled errors": "1e4edfb66c90658f",
    "answers": "3d4dc9d67cce257f",
    "answers of XML": "e38b22674f37f95d",
}


@pytest.mark.parametrize("what", UPSTREAM)
def test_upstream_is_as_it_was(what: str) -> None:
    source = inspect.getsource(UPSTREAM[what])
    assert hashlib.sha256(source.encode()).hexdigest()[:16] == PINNED[what]


async def test_lesson_that_is_cancelled_is_none(
    fake: FakeS3, by_client: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    comparing = asyncio.Event()

    async def held(*_: object) -> bool:
        comparing.set()
        await asyncio.Event().wait()
        return False

    async with s3_service(fake.url) as s3:
        with monkeypatch.context() as patched:
            patched.setattr(S3FastPath, "_is_same", held)
            for _ in range(3):
                comparing.clear()
                task = asyncio.ensure_future(head(s3))
                await comparing.wait()
                task.cancel()
                await asyncio.wait([task])
        for _ in range(3):
            await head(s3)
    assert len(by_client) == 3 + 1
    assert len(fake.seen) == 3
