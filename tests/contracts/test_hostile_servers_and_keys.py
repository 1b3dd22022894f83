"""Servers, keys and answers that mean harm."""

from __future__ import annotations

import io
import logging
import tracemalloc
import typing
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import aiohaul
from aiohaul.cli.display import Bars, Lines, closing_table
from aiohaul.logs import TextFormatter, log_event
from aiohaul.progress import BatchEvent
from aiohaul.report import DestinationReport, Failure, TransferReport
from tests.support.fake_http import FakeServer, Request, head
from tests.support.servers import KEY, REGION, SECRET

Answer = Callable[[Request], Awaitable[None]]
both_ways = pytest.mark.parametrize("direct", [True, False], ids=["direct", "client"])
#: Clears the screen, renames the window, and begins a line that looks like another.
HOSTILE = "a\x1b[2J\x1b]0;x\x07\r\nERROR all is lost\u202e"


pytestmark = pytest.mark.usefixtures("direct_unless_told_otherwise")


@dataclass(eq=False)
class Server(FakeServer):
    """Answers as a test says, and remembers what it was sent.

    Attributes:
        answer: how.
        requests: all that came.
    """

    answer: Answer | None = None
    requests: list[Request] = field(default_factory=list)

    async def serve(self, request: Request) -> None:
        self.requests.append(request)
        if self.answer is None:
            await request.connection.answer(200, b"", {"etag": '"e"'})
        else:
            await self.answer(request)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server() as made:
        yield made


@pytest.fixture
async def elsewhere() -> AsyncIterator[Server]:
    async with Server() as made:
        yield made


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiohaul.aws.service.backoff_delay", lambda *_: 0.0)


def session(server: Server, **more: Any) -> aiohaul.Session:
    return aiohaul.Session(
        access_key_id=KEY,
        secret_access_key=SECRET,
        region=REGION,
        endpoint_url=server.url,
        **more,
    )


async def learnt(made: aiohaul.Session, *, direct: bool) -> None:
    """Let the ways of some operations be known, so that what follows is sent directly."""
    for _ in range(2):
        await made.s3().touch("bucket", "k")
    s3 = await made._clients.service("s3")
    assert s3.takes_fast_path("put_object", "bucket") is direct


# Redirects


@both_ways
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_takes_a_signed_request_elsewhere(
    server: Server, elsewhere: Server, status: int, direct: bool
) -> None:
    host = elsewhere.url.removeprefix("http://")
    body = (
        f"<Error><Code>PermanentRedirect</Code><Endpoint>{host}</Endpoint>"
        f"<Bucket>bucket</Bucket></Error>"
    ).encode()

    async def redirect(request: Request) -> None:
        told = {"location": f"{elsewhere.url}{request.path}", "x-amz-bucket-region": f"{host}/#"}
        content = b"" if request.method == "HEAD" else body
        await request.connection.answer(status, content, told)

    async with session(server, direct=direct) as made:
        await learnt(made, direct=direct)
        server.answer = redirect
        for call in (
            made.s3().touch("bucket", "k"),
            made.s3().head("bucket", "k"),
            made.lambda_().invoke("f", {"a": 1}),
            made.ssm().put("/p", "v"),
            made.secrets().get("s"),
        ):
            with pytest.raises(aiohaul.HaulError):
                await call
    assert elsewhere.accepted == 0


# Names


@both_ways
async def test_key_cannot_begin_a_header_or_another_request(server: Server, direct: bool) -> None:
    key = "a\r\nx-evil: 1\r\n\r\nDELETE /bucket/b HTTP/1.1\r\nhost: h\r\n\r\n\x00\x7f\x85\u2028"
    async with session(server, direct=direct) as made:
        await learnt(made, direct=direct)
        await made.s3().touch("bucket", key)
        s3 = await made._clients.service("s3")
        copied = {"Bucket": "bucket", "Key": key, "CopySource": {"Bucket": "in", "Key": key}}
        for _ in range(2):
            await s3.call("copy_object", "it", **copied)
    assert {request.method for request in server.requests} == {"PUT"}
    assert not any("x-evil" in request.headers for request in server.requests)
    assert all("%0D%0A" in request.path for request in server.requests[2:])


@both_ways
@pytest.mark.parametrize(
    "what",
    [
        {"Metadata": {"a": "b\r\nx-evil: 1"}},
        {"Metadata": {"a\r\nx-evil": "1"}},
        {"Metadata": {"a": "b\nx-evil: 1"}},
        {"ContentType": "text/plain\r\nx-evil: 1"},
        {"ContentType": "text/plain\rx-evil: 1"},
        {"CacheControl": "\r\n\r\nDELETE /bucket/b HTTP/1.1\r\n"},
        {"Tagging": "a=b\r\nx-evil: 1"},
    ],
    ids=str,
)
async def test_value_of_a_header_cannot_begin_another(
    server: Server, what: dict[str, Any], direct: bool
) -> None:
    async with session(server, direct=direct) as made:
        await learnt(made, direct=direct)
        s3 = await made._clients.service("s3")
        with pytest.raises(aiohaul.HaulError):
            await s3.call("put_object", "it", Bucket="bucket", Key="k", **what)
    assert len(server.requests) == 2


def test_key_cannot_draw_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    uri, error = f"s3://in/{HOSTILE}", aiohaul.PlanError(f"no name: {HOSTILE}")
    failure = Failure.of(uri, error)
    destination = DestinationReport(f"s3://out/{HOSTILE}", 0, 0, (failure,), HOSTILE, 0.1)
    report = TransferReport(1, 1, (destination,))
    events: tuple[aiohaul.Event, ...] = (
        aiohaul.WatchPolled(uri, 1.0, error),
        aiohaul.Found(1, 1, (uri,)),
        aiohaul.Failed(uri, uri, error),
        aiohaul.FlagWritten(uri, uri),
        aiohaul.Copied(uri, uri, uri, 1),
        aiohaul.SourceActionDone("delete", uri),
    )
    single = set(typing.get_args(aiohaul.Event)) - set(typing.get_args(BatchEvent))
    assert {type(event) for event in events} == single
    for display in (Lines(stream), Bars()):
        with display:
            for event in events:
                display(event)
    stream.write(closing_table(report))
    shown = stream.getvalue()
    assert "ERROR all is lost" in shown
    assert not any(line.startswith("ERROR") for line in shown.splitlines())
    assert "\x1b[2J" not in shown
    assert "\x07" not in shown
    assert "\u202e" not in shown


def test_key_cannot_begin_a_line_of_a_log() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter())
    logger = logging.getLogger("aiohaul.test")
    logger.addHandler(handler)
    said = list[logging.LogRecord]()

    def note(record: logging.LogRecord) -> bool:
        said.append(record)
        return True

    handler.addFilter(note)
    error = aiohaul.PlanError(HOSTILE)
    logger.warning("%s failed", HOSTILE, exc_info=error)
    log_event(logger, logging.WARNING, "%s, %d, %.1f: %s", HOSTILE, 1, 2.0, error)
    logger.removeHandler(handler)
    lines = stream.getvalue().splitlines()
    assert sum("ERROR all is lost" in line for line in lines) >= 3
    assert not any(line.startswith("ERROR") for line in lines)
    assert "\x1b" not in stream.getvalue()
    # Whoever formats it.
    assert said[-1].getMessage().isprintable()


def test_cli_shows_no_key_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from aiohaul.cli.main import _fail  # noqa: PLC0415  # the command line

    assert _fail(f"{tmp_path / HOSTILE}: is wrong", 2) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


# Answers


def endless(status: int, size: int, sent: list[int]) -> Answer:
    """An answer of a gigabyte and more, sent for as long as it is read."""

    async def function(request: Request) -> None:
        writer = request.connection.writer
        writer.write(head(status, size, {"content-type": "application/xml"}))
        while sent[0] < size:
            writer.write(b"<" * 2**16)
            await writer.drain()
            sent[0] += 2**16

    return function


@both_ways
@pytest.mark.parametrize("status", [307, 403, 404])
async def test_endless_error_is_given_up(server: Server, status: int, direct: bool) -> None:
    sent = [0]
    async with session(server, direct=direct) as made:
        await learnt(made, direct=direct)
        server.answer = endless(status, 10 * 2**30, sent)
        for call in (
            made.s3().touch("bucket", "k"),
            made.lambda_().invoke("f"),
            made.ssm().put("/p", "v"),
        ):
            sent[0] = 0
            with pytest.raises(aiohaul.HaulError, match="has more than 1,048,576 bytes"):
                await call
            # Besides, what the sockets on the way hold, for each of five attempts.
            assert sent[0] < 10 * 2**26
        server.answer = None
        await made.s3().touch("bucket", "k")


BOMB = b"".join(
    (
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a0 "aaaaaaaaaa">',
        *(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">'.encode() for n in range(1, 10)),
        b"]>",
    )
)
LIST = b"<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated></ListBucketResult>"


async def peak_of_listing(
    server: Server, answer: Callable[[Request], Awaitable[None]], *, direct: bool
) -> int:
    """Bytes that a listing takes at most which is answered so; first, the way is learnt."""

    async def told(request: Request) -> None:
        await request.connection.answer(200, LIST)

    async with session(server, direct=direct) as made:
        server.answer = told
        for _ in range(2):
            assert [each async for each in made.s3().list("bucket")] == []
        server.answer = answer
        tracemalloc.start()
        try:
            with pytest.raises(aiohaul.ServiceError):
                [each async for each in made.s3().list("bucket")]
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


@both_ways
@pytest.mark.parametrize("status", [200, 403])
async def test_entities_of_an_answer_do_not_grow(server: Server, status: int, direct: bool) -> None:
    async def bomb(request: Request) -> None:
        inner = b"<Contents><Key>&a9;</Key></Contents><Code>&a9;</Code><Message>&a9;</Message>"
        root = b"ListBucketResult" if status == 200 else b"Error"
        body = BOMB + b"<%s>%s</%s>" % (root, inner, root)
        await request.connection.answer(status, body)

    assert await peak_of_listing(server, bomb, direct=direct) < 64 * 2**20


@both_ways
async def test_packed_answer_is_not_unpacked(server: Server, direct: bool) -> None:
    """Nothing was asked for in that encoding; a small answer must not become a large one."""
    import gzip  # noqa: PLC0415  # for this alone

    packed = gzip.compress(b"<" * 2**26)

    async def bomb(request: Request) -> None:
        await request.connection.answer(200, packed, {"content-encoding": "gzip"})

    assert await peak_of_listing(server, bomb, direct=direct) < 32 * 2**20
