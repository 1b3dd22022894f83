"""Answers of S3 and Lambda, through a socket and everything that reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import AsyncExitStack, suppress
from typing import Any

import anyio
from botocore.loaders import Loader
from botocore.model import ServiceModel

from aiohaul.aws.direct import listing
from aiohaul.aws.direct import parser as reading
from aiohaul.aws.errors import translated
from aiohaul.aws.service import Service
from aiohaul.compute.lambda_handler import LambdaHandler
from aiohaul.errors import HaulError
from aiohaul.s3 import objects
from aiohaul.s3.listing import list_pages
from aiohaul.s3.objects import S3Object
from aiohaul.session import Session
from tests.fuzz.choices import Choices
from tests.fuzz.texts import NOW
from tests.support.samples import LAMBDA_BODIES, LAMBDA_HEADERS, LISTING, S3_BODIES, S3_HEADERS

_STATUS = (200, 200, 200, 201, 204, 206, 301, 304, 400, 403, 404, 412, 429, 500, 503, 999, 202)
#: Seconds in which whatever was answered must have been understood or refused.
_PATIENCE = 10.0
RAW = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nnull\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
    b'HTTP/1.1 200 OK\r\nETag: "e"\r\nLast-Modified: Sat, 31 Jan 2026 10:20:30 GMT\r\n\r\n',
    b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://[/\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnull",
)


class Endpoint:
    """A server that answers every request with the bytes that it was given, and closes."""

    def __init__(self) -> None:
        self.answer = b""
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._services: tuple[Service, ...] = ()
        self._functions: LambdaHandler | None = None

    def open(self) -> None:
        self._loop.run_until_complete(self._open())

    def close(self) -> None:
        self._loop.run_until_complete(self._stack.aclose())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    async def _open(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        await self._stack.enter_async_context(server)
        port = server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        for direct in (True, False):
            session = Session(
                endpoint_url=url,
                direct=direct,
                access_key_id="k",
                secret_access_key="s",
                region="eu-west-1",
            )
            await self._stack.enter_async_context(session)
            self._services += (await session._clients.service("s3", None),)
            self._functions = session.lambda_()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length or b"0"))
            writer.write(self.answer)
            await writer.drain()
        writer.close()

    def ask(self, choice: int, answer: bytes) -> None:
        """Make a request, and take the answer, or an error of the project's own."""
        self.answer = answer
        self._loop.run_until_complete(self._ask(choice))

    async def _ask(self, choice: int) -> None:
        with anyio.fail_after(_PATIENCE), suppress(HaulError):
            if choice >= len(_REQUESTS):
                assert self._functions is not None
                kind = ("RequestResponse", "Event")[choice % 2]
                answer = await self._functions.invoke("f", {}, invocation_type=kind)  # type: ignore[arg-type]
                assert answer.error_summary
                repr(answer)
            else:
                service = self._services[choice % 2]
                await _REQUESTS[choice](_Once(service))


class _Once:
    """A service that sends every request once: pauses between attempts take long."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.support = service.support

    async def call(self, operation: str, target: str, /, **parameters: Any) -> dict[str, Any]:
        return await self._service.attempt(operation, target, **parameters)


async def _list(s3: Any) -> None:
    turns = 0
    async for page in list_pages(s3, "in", "src/"):
        for each in page.objects:
            assert isinstance(each.key, str)
            assert isinstance(each.size, int)
            assert each.last_modified <= NOW or each.last_modified > NOW
            repr(each)
        turns += 1
        assert turns < 3  # the same page again and again is refused


async def _head(s3: Any) -> None:
    found = await objects.head_object(s3, "in", "src/a")
    assert isinstance(found.size, int)


async def _delete(s3: Any) -> None:
    await objects._delete_once(s3, [S3Object("in", "k", 1, "e", NOW)])


async def _copy(s3: Any) -> None:
    source = {"Bucket": "in", "Key": "k"}
    await s3.call("copy_object", "s3://in/k2", Bucket="in", Key="k2", CopySource=source)


_REQUESTS: tuple[Callable[[Any], Awaitable[None]], ...] = (
    _list,
    _list,
    _head,
    _head,
    _delete,
    _delete,
    _copy,
    _copy,
)

_open: list[Endpoint] = []


def _endpoint() -> Endpoint:
    if not _open:
        _open.append(Endpoint())
        _open[0].open()
    return _open[0]


def close() -> None:
    """End the server, if there is one."""
    while _open:
        _open.pop().close()


def _http(choices: Choices, headers: dict[str, str], bodies: tuple[bytes, ...]) -> bytes:
    status = choices.pick(_STATUS)
    some = {name: value for name, value in headers.items() if choices.below(3) != 1}
    if choices.below(2):
        name = choices.pick([*headers, "x-new", "content-length", "transfer-encoding"])
        some[name] = choices.spliced(some.get(name, ""))
    body = choices.pick(bodies)
    if choices.below(2):
        body = choices.damaged(body)
    rest = choices.rest()
    return written(status, some, body + rest)


def written(status: int, headers: dict[str, str], body: bytes) -> bytes:
    some = {"content-length": str(len(body)), **headers}
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in some.items())]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogatepass") + body


def s3(data: bytes) -> None:
    """Listings and other answers; plain listings must be the same by both ways of reading."""
    choices = Choices(data)
    if choices.below(2) == 0:
        page = choices.rest()
        _read_twice(page)
        _endpoint().ask(0, written(200, {}, page))
        return
    request = choices.below(len(_REQUESTS))
    headers = {**S3_HEADERS}
    headers.pop("content-length")
    _endpoint().ask(request, _http(choices, headers, S3_BODIES))


def _read_twice(page: bytes) -> None:
    found: list[Any] = []
    for read in (_quickly, _by_xml):
        try:
            with translated("ListObjectsV2", "s3://in"):
                found.append(_result(read(page)))
        except (HaulError, reading.FailedAnswerError):
            found.append(None)
    assert found[0] == found[1]


def _quickly(page: bytes) -> Generator[None, None, Any]:
    made = yield from listing.read_page(_listing_answer(), 200, page, decode=True)
    if isinstance(made.get("Contents"), listing.Entries):
        made["Contents"] = list(made["Contents"])
    return made


def _by_xml(page: bytes) -> Generator[None, None, Any]:
    made = yield from reading.read_body(_listing_answer(), 200, page)
    yield from listing._decoded(made)
    return made


_models: list[reading.Answer] = []


def _listing_answer() -> reading.Answer:
    if not _models:
        model = ServiceModel(Loader().load_service_model("s3", "service-2"), "s3")
        made = reading.compiled(model.operation_model("ListObjectsV2"))
        assert made is not None
        _models.append(made)
    return _models[0]


def _result(steps: Generator[None, None, Any]) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value


def function(data: bytes) -> None:
    """Answers of Lambda: status, headers, body."""
    choices = Choices(data)
    if choices.below(2) == 0:
        _endpoint().ask(len(_REQUESTS), written(200, {}, choices.rest()))
        return
    kind = len(_REQUESTS) + choices.below(2)
    _endpoint().ask(kind, _http(choices, LAMBDA_HEADERS, LAMBDA_BODIES))


def socket(data: bytes) -> None:
    """Whatever may come through a socket instead of an answer."""
    choices = Choices(data)
    if choices.below(2) == 0:
        answer = choices.rest()
        request = (len(data) + sum(data[:8])) % (len(_REQUESTS) + 2)
    else:
        request = choices.below(len(_REQUESTS) + 2)
        answer = choices.damaged(choices.pick((*RAW, written(200, S3_HEADERS, LISTING))))
    _endpoint().ask(request, answer)
