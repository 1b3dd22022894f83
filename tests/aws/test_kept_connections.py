"""Kept connections: none is used that its server has closed, or on which something has arrived."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import aiohaul
from aiohaul.aws.http.sockets import IdleCheck
from tests.support.compute_fixtures import KEYS, REGION
from tests.support.connections import connection_pool
from tests.support.kept_server import ACTS, ANSWER, TLS_ACTS, KeptServer

pytestmark = pytest.mark.usefixtures("direct_unless_told_otherwise")

#: Which acts are tried on which kind of connection.
CASES = [("plain", name) for name in ACTS] + [("tls", name) for name in TLS_ACTS]


def answered(head: bytes) -> bytes:
    """An object as large as its key says; a function's answer is its name."""
    method, path, _ = head.split(b"\r\n")[0].split(b" ")
    last = path.rstrip(b"/").split(b"/")[-1]
    if method == b"HEAD":
        return ANSWER % int(last)
    name = path.split(b"/")[-2]
    return ANSWER % (len(name) + 2) + b'"%b"' % name


def tls_context(certificate: Path, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    if version is not None:
        context.maximum_version = version
    return context


@pytest.fixture
def server(request: pytest.FixtureRequest, certificate: Path) -> Iterator[KeptServer]:
    tls = tls_context(certificate) if request.param == "tls" else None
    with KeptServer(answered, tls) as made:
        yield made


def session(server: KeptServer, certificate: Path, **more: Any) -> aiohaul.Session:
    return aiohaul.Session(
        region=REGION, endpoint_url=server.url, ca_bundle=certificate, **KEYS, **more
    )


async def size(made: aiohaul.Session, size: int) -> int:
    """Ask for the size of an object of this size, once."""
    service = await made._clients.service("s3")
    answer = await service.attempt("head_object", "it", Bucket="bucket", Key=str(size))
    return int(answer["ContentLength"])


async def sizes(made: aiohaul.Session) -> None:
    """With the second request, the first way is known; the third is sent on a kept connection."""
    for number in (11, 12, 13):
        assert await size(made, number) == number


async def invoked(made: aiohaul.Session) -> None:
    for name in ("eleven", "twelve", "thirteen"):
        assert (await made.lambda_().invoke(name)).payload == name


async def size_is_right(made: aiohaul.Session) -> None:
    assert await size(made, 21) == 21


async def answer_is_right(made: aiohaul.Session) -> None:
    assert (await made.lambda_().invoke("twenty-one")).payload == "twenty-one"


Step = Callable[[aiohaul.Session], Awaitable[None]]
#: by name: whether S3 is asked directly, what uses connections, and what uses them again
PATHS: dict[str, tuple[bool, Step, Step]] = {
    "direct": (True, sizes, size_is_right),
    "client": (False, sizes, size_is_right),
    "lambda": (True, invoked, answer_is_right),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("seen", [False, True], ids=["unread", "read"])
@pytest.mark.parametrize(("server", "act"), CASES, indirect=["server"])
async def test_connection_that_is_not_as_it_was_left_is_not_used(
    server: KeptServer, certificate: Path, act: str, seen: bool, path: str
) -> None:
    """Whether the event loop has read it by then or not; a request is sent once, and no more."""
    direct, use, use_again = PATHS[path]
    async with session(server, certificate, direct=direct) as made:
        await use(made)
        used, sent = server.accepted, len(server.requests)
        server.on_all(TLS_ACTS[act])
        if seen:
            await asyncio.sleep(0.02)
        await use_again(made)
        assert len(server.requests) == sent + 1
        assert server.accepted == used + 1


VERSIONS = [None, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("version", VERSIONS, ids=["plain", "TLS 1.2", "TLS 1.3"])
async def test_connection_that_is_as_it_was_left_is_used_again(
    certificate: Path, version: ssl.TLSVersion | None, path: str
) -> None:
    """Session tickets, which come after the handshake of TLS 1.3, cost no connection."""
    direct, use, use_again = PATHS[path]
    tls = tls_context(certificate, version) if version else None
    with KeptServer(answered, tls) as server:
        async with session(server, certificate, direct=direct) as made:
            await use(made)
            for _ in range(20):
                await use_again(made)
            assert server.accepted == 1
            for _ in range(5):
                await asyncio.gather(*(use_again(made) for _ in range(8)))
            assert server.accepted == 8
        assert len(server.requests) == 3 + 20 + 5 * 8


@pytest.mark.parametrize("seen", [False, True], ids=["unread", "read"])
async def test_word_of_tls_that_carries_nothing_costs_no_connection(
    certificate: Path, seen: bool
) -> None:
    """A server may send records of TLS's own at any time, as it does with tickets."""

    def ask_for_certificate(made: socket.socket) -> None:
        assert isinstance(made, ssl.SSLSocket)
        made.verify_client_post_handshake()
        made.do_handshake()

    tls = tls_context(certificate, ssl.TLSVersion.TLSv1_3)
    tls.verify_mode = ssl.CERT_OPTIONAL
    tls.post_handshake_auth = True
    trusting = ssl.create_default_context(cafile=certificate)
    trusting.post_handshake_auth = True
    with KeptServer(answered, tls) as server:
        async with connection_pool(trusting) as made:
            for _ in range(2):
                assert (await made.exchange("HEAD", f"{server.url}/b/5", {}, b"")).status == 200
                server.on_all(ask_for_certificate)
                if seen:
                    await asyncio.sleep(0.02)
            assert (await made.exchange("HEAD", f"{server.url}/b/5", {}, b"")).status == 200
        assert server.accepted == 1


async def test_one_who_is_cancelled_while_it_looks_leaves_no_connection_behind(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def for_ever(_: IdleCheck) -> bool:
        await asyncio.Event().wait()
        return True

    with KeptServer(answered) as server:
        for direct in (True, False):
            async with session(server, certificate, direct=direct) as made:
                await sizes(made)
                with monkeypatch.context() as patch:
                    patch.setattr(IdleCheck, "is_quiet", for_ever)
                    task = asyncio.create_task(size_is_right(made))
                    await asyncio.sleep(0.01)
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
                used = server.accepted
                await size_is_right(made)
                assert server.accepted == used + 1


async def test_invocation_after_a_balancer_has_closed_its_connection_is_in_no_doubt(
    certificate: Path,
) -> None:
    with KeptServer(answered) as server:
        async with session(server, certificate) as made:
            for number in range(5):
                assert (await made.lambda_().invoke(f"f{number}")).payload == f"f{number}"
                server.on_all(ACTS["close"])
        assert len(server.requests) == 5
