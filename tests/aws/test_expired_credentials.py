"""Credentials that the server calls expired, and this machine's clock does not."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import anyio
import pytest

import aiohaul
from tests.support.fake_http import FakeServer, Request
from tests.support.servers import KEY, REGION, SECRET

ROLE = "arn:aws:iam::012345678900:role/night"
ETAG = {"etag": '"d41d8cd98f00b204e9800998ecf8427e"'}


@dataclass(eq=False)
class FakeRole(FakeServer):
    """STS, which gives a new token each time; and S3, Lambda, ECS and SSM, which refuse some.

    Attributes:
        refused: tokens that are called expired.
        assumed: how often the role was.
        tokens: how often each token came with a request, refused or not.
        denied: the role may not be assumed any more.
        together: requests with a refused token are answered once there are as many.
    """

    refused: set[str] = field(default_factory=lambda: {"token-1"})
    assumed: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    denied: bool = False
    together: int = 1
    _gathered: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, request: Request) -> None:
        if b"Action=AssumeRole" in request.body:
            await self._assume(request)
            return
        token = request.headers.get("x-amz-security-token", "")
        self.tokens[token] += 1
        if token not in self.refused:
            await request.connection.answer(200, b"{}" if request.path == "/" else b"", ETAG)
            return
        if self.tokens[token] >= self.together:
            self._gathered.set()
        await self._gathered.wait()
        await _refuse(request)

    async def _assume(self, request: Request) -> None:
        assert parse_qs(request.body.decode())["RoleArn"] == [ROLE]
        if self.denied:
            body = (
                "<ErrorResponse><Error><Code>AccessDenied</Code><Message>It was signed:\n"
                f"x-amz-security-token:{request.headers['x-amz-security-token']}\n</Message>"
                "</Error></ErrorResponse>"
            )
            await request.connection.answer(403, body.encode())
            return
        self.assumed += 1
        body = (
            "<AssumeRoleResponse><AssumeRoleResult><Credentials>"
            f"<AccessKeyId>key-{self.assumed}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
            f"<SessionToken>token-{self.assumed}</SessionToken>"
            f"<Expiration>{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}</Expiration>"
            "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
        )
        await request.connection.answer(200, body.encode())


async def _refuse(request: Request) -> None:
    """As each of the services does it."""
    if request.method == "HEAD":
        await request.connection.answer(400)
    elif request.path == "/" or "/functions/" in request.path:
        told = {"x-amzn-errortype": "ExpiredTokenException"}
        await request.connection.answer(403, b'{"__type": "ExpiredTokenException"}', told)
    else:
        body = b"<Error><Code>ExpiredToken</Code><Message>it has expired</Message></Error>"
        await request.connection.answer(400, body)


@pytest.fixture
async def server() -> AsyncIterator[FakeRole]:
    async with FakeRole() as made:
        yield made


def session(server: FakeRole, **more: Any) -> aiohaul.Session:
    given = {"role_arn": ROLE, "access_key_id": KEY, "secret_access_key": SECRET, **more}
    return aiohaul.Session(region=REGION, endpoint_url=server.url, **given)


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("operation", ["head", "touch", "invoke", "ssm"])
async def test_expired_role_is_renewed_and_the_request_sent_once_more(
    server: FakeRole, operation: str, direct: bool
) -> None:
    async with session(server, direct=direct) as made:
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "head": lambda: made.s3().head("bucket", "k"),
            "touch": lambda: made.s3().touch("bucket", "k"),
            "invoke": lambda: made.lambda_().invoke("f"),
            "ssm": lambda: made.ssm().put("/p", "v"),
        }
        for _ in range(3):  # of S3, the second goes the direct way
            with anyio.fail_after(10):
                try:
                    await calls[operation]()
                except aiohaul.EndpointError as error:  # these answers say next to nothing
                    assert error.code == "BadAnswer"  # noqa: PT017  # it was let in
            refused, now = f"token-{server.assumed - 1}", f"token-{server.assumed}"
            # Once before it expired, and once after; botocore looks where a bucket is by itself.
            assert server.tokens[refused] <= (4 if operation == "head" else 2)
            assert server.tokens[now] >= 1
            server.refused.add(now)
    assert server.assumed == 4


async def test_many_requests_that_are_refused_together_renew_once(server: FakeRole) -> None:
    server.together = 256
    async with session(server, max_requests=256) as made, anyio.create_task_group() as tasks:
        for number in range(256):
            tasks.start_soon(made.s3().touch, "bucket", f"k{number}")
    assert server.assumed == 2
    assert server.tokens == {"token-1": 256, "token-2": 256}


async def test_task_is_started_once_though_the_role_was_refused(server: FakeRole) -> None:
    notes: list[bool] = []

    def note(*, reached: bool) -> None:
        notes.append(reached)

    async def attempt(send: Any) -> Any:
        return await send(note)

    async with session(server) as made:
        ecs = await made._clients.service("ecs")
        await ecs.call_through(attempt, "run_task", "c", cluster="c", taskDefinition="t")
    # Under way, refused and so not done, and under way again: between, it asks for a connection.
    assert [
        reached for reached, before in zip(notes, [None, *notes], strict=False) if reached != before
    ] == [
        *(True, False, True),
        *(False, True, False, True),
    ]
    assert server.tokens == {"token-1": 1, "token-2": 1}


async def test_role_that_stays_expired_is_an_error_after_one_more_request(
    server: FakeRole,
) -> None:
    server.refused |= {"token-2", "token-3"}
    async with session(server) as made:
        with pytest.raises(aiohaul.CredentialsError, match="clock") as refused:
            await made.s3().touch("bucket", "k")
    assert refused.value.code == "ExpiredToken"
    assert server.tokens == {"token-1": 1, "token-2": 1}


async def test_role_that_cannot_be_renewed_says_so(
    server: FakeRole, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(1)
    async with session(server, session_token="of-the-source") as made:  # a fake
        await made._clients.service("s3")
        server.denied = True
        with pytest.raises(aiohaul.AccessDeniedError, match="sts:AssumeRole") as refused:
            await made.s3().touch("bucket", "k")
        # botocore logs it by itself.
        assert "Refreshing temporary credentials failed" in caplog.text
        assert "of-the-source" not in f"{caplog.text} {refused.value} {refused.value.__cause__}"
        server.denied = False
        await made.s3().touch("bucket", "k")
    assert server.tokens == {"token-1": 1, "token-2": 1}


async def test_keys_that_cannot_be_renewed_are_refused_at_once(
    server: FakeRole, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "aiohaul")
    async with session(server, role_arn=None, session_token="token-1") as made:  # a fake
        for request in (made.s3().touch("bucket", "k"), made.ssm().get("/p")):
            with pytest.raises(aiohaul.CredentialsError, match="Get new keys and a token"):
                await request
    assert server.tokens == {"token-1": 2}
    assert server.assumed == 0
    assert "sending the request again" not in caplog.text


async def test_cancelled_renewal_leaves_it_to_the_next(server: FakeRole) -> None:
    async with session(server) as made:
        service = await made._clients.service("s3")
        used = service._backend.renewal.current
        with anyio.CancelScope() as scope:
            scope.cancel()
            await service._backend.renewal.renew(used)
        assert scope.cancelled_caught
        await made.s3().touch("bucket", "k")
    assert server.assumed in (2, 3)  # the one that was cancelled may have been sent
