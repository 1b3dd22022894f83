"""Idle connections that die unseen, as behind a balancer that restarts: reset on use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

import aiohaul
from aiohaul.aws.service import Service
from tests.support.fake_http import Connection, FakeServer, Request
from tests.support.servers import KEY, REGION, SECRET

LISTING = b"<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>"
COMPLETED = b'<CompleteMultipartUploadResult><ETag>"x"</ETag></CompleteMultipartUploadResult>'
COPIED = b'<CopyObjectResult><ETag>"x"</ETag></CopyObjectResult>'
DELETED = b"<DeleteResult/>"
FOUND = {"etag": '"x"', "last-modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
AT = {"Bucket": "bucket", "Key": "k"}


@dataclass(eq=False)
class Balancer(FakeServer):
    """Resets the connections that were open at its restart, once they are used again.

    Attributes:
        dead: these connections.
        resets: how many were used.
        served: requests that were answered, as (method, path).
        cut: bytes of an answer that are sent before a reset.
    """

    dead: set[Connection] = field(default_factory=set)
    resets: int = 0
    served: list[tuple[str, str]] = field(default_factory=list)
    together: int = 1
    cut: bytes = b""
    _gathered: int = 0

    def restart(self) -> None:
        self.dead |= self.connections

    async def serve(self, request: Request) -> None:
        if request.connection in self.dead:
            self.resets += 1
            if self.cut:
                request.connection.writer.write(self.cut)
                await request.connection.writer.drain()
                await asyncio.sleep(0.05)
            request.connection.reset()
            return
        self._gathered += 1
        await self.tell()
        await self.until(lambda: self._gathered >= self.together)
        self.served.append((request.method, request.path))
        body = b""
        if "list-type=2" in request.path:
            body = LISTING
        elif "uploadId=" in request.path and request.method == "POST":
            body = COMPLETED
        elif "x-amz-copy-source" in request.headers:
            body = COPIED
        elif "?delete" in request.path:
            body = DELETED
        elif request.path.startswith("/2015-03-31/"):
            body = b'"done"'
        await request.connection.answer(200, body, FOUND)


@pytest.fixture
async def balancer() -> AsyncIterator[Balancer]:
    async with Balancer() as server:
        yield server


def session(server: Balancer, *, direct: bool) -> aiohaul.Session:
    return aiohaul.Session(
        region=REGION,
        endpoint_url=server.url,
        access_key_id=KEY,
        secret_access_key=SECRET,
        direct=direct,
    )


async def open_connections(server: Balancer, s3: Service, number: int) -> None:
    """Leave as many idle connections, and know the routes of all operations."""
    for operation, parameters in OPERATIONS.values():
        for _ in range(2):
            await s3.call(operation, "it", **parameters)
    server.together = server._gathered + number
    async with asyncio.TaskGroup() as tasks:
        for each in range(number):
            tasks.create_task(s3.call("head_object", "it", Bucket="bucket", Key=f"k{each}"))
    server.together = 1


OPERATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "head": ("head_object", AT),
    "copy": ("copy_object", {**AT, "CopySource": {"Bucket": "bucket", "Key": "other"}}),
    "list": ("list_objects_v2", {"Bucket": "bucket"}),
    "put": ("put_object", {**AT, "Body": b""}),
    "conditional put": ("put_object", {**AT, "Body": b"", "IfNoneMatch": "*"}),
    "complete": (
        "complete_multipart_upload",
        {**AT, "UploadId": "u", "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": '"x"'}]}},
    ),
    "delete": ("delete_objects", {"Bucket": "bucket", "Delete": {"Objects": [{"Key": "k"}]}}),
}
SAFE = {"head", "copy", "list", "put"}


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("name", OPERATIONS)
async def test_dead_idle_connections_cost_no_attempt_where_resending_is_safe(
    balancer: Balancer, monkeypatch: pytest.MonkeyPatch, name: str, direct: bool
) -> None:
    """Otherwise one attempt: the others are dropped, and the next gets a new connection."""
    delays: list[int] = []

    def no_delay(attempt: int, _: float | None) -> float:
        delays.append(attempt)
        return 0.0

    monkeypatch.setattr("aiohaul.aws.service.backoff_delay", no_delay)
    operation, parameters = OPERATIONS[name]
    async with session(balancer, direct=direct) as made:
        s3 = await made._clients.service("s3")
        await open_connections(balancer, s3, 60)
        assert len(balancer.connections) >= 60
        balancer.restart()
        served = len(balancer.served)
        for _ in range(3):
            await s3.call(operation, "it", **parameters)
        assert delays == ([] if name in SAFE else [2])
        assert balancer.resets == 1
        assert len(balancer.served) == served + 3


@pytest.mark.parametrize("direct", [True, False])
async def test_many_requests_on_dead_connections_all_recover(
    balancer: Balancer, monkeypatch: pytest.MonkeyPatch, direct: bool
) -> None:
    monkeypatch.setattr("aiohaul.aws.service.ATTEMPTS", 1)
    async with session(balancer, direct=direct) as made:
        s3 = await made._clients.service("s3")
        await open_connections(balancer, s3, 60)
        balancer.restart()
        async with asyncio.TaskGroup() as tasks:
            for each in range(60):
                tasks.create_task(s3.call("head_object", "it", Bucket="bucket", Key=f"{each}"))


@pytest.mark.parametrize(
    ("cut", "direct"),
    [
        (b"HTTP/1.1 200", True),  # aiohttp does not tell that a head is incomplete
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n<L", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n<L", False),
    ],
)
async def test_answer_that_has_begun_is_another_attempt(
    balancer: Balancer, monkeypatch: pytest.MonkeyPatch, cut: bytes, direct: bool
) -> None:
    monkeypatch.setattr("aiohaul.aws.service.ATTEMPTS", 1)
    async with session(balancer, direct=direct) as made:
        s3 = await made._clients.service("s3")
        await open_connections(balancer, s3, 1)
        balancer.restart()
        balancer.cut = cut
        with pytest.raises(aiohaul.EndpointError):
            await s3.call("list_objects_v2", "it", Bucket="bucket")
        assert balancer.resets == 1


@pytest.mark.parametrize("direct", [True, False])
async def test_server_that_resets_new_connections_too_is_an_error_after_all_attempts(
    balancer: Balancer, monkeypatch: pytest.MonkeyPatch, direct: bool
) -> None:
    monkeypatch.setattr("aiohaul.aws.service.backoff_delay", lambda *_: 0.0)
    async with session(balancer, direct=direct) as made:
        s3 = await made._clients.service("s3")
        await open_connections(balancer, s3, 8)

        async def reset(request: Request) -> None:
            balancer.resets += 1
            request.connection.reset()

        monkeypatch.setattr(balancer, "serve", reset)
        with pytest.raises(aiohaul.EndpointError) as raised:
            await s3.call("list_objects_v2", "it", Bucket="bucket")
        assert raised.value.attempts == 5
        assert balancer.resets == 6  # one more on the connection that was idle


async def test_invocation_on_a_dead_connection_is_in_doubt_and_the_next_is_not(
    balancer: Balancer,
) -> None:
    async with session(balancer, direct=True) as made:
        functions = made.lambda_()
        balancer.together = 5
        await asyncio.gather(*(functions.invoke(f"f{each}") for each in range(5)))
        balancer.together = 1
        balancer.restart()
        with pytest.raises(aiohaul.OutcomeUnknownError):
            await functions.invoke("f")
        for _ in range(5):
            assert (await functions.invoke("f")).payload == "done"
        assert balancer.resets == 1
