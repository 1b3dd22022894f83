"""TLS to every service: who is trusted, who is not, and what the error says of it."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import aiohaul
from tests.support.fake_http import FakeServer, Request
from tests.support.servers import KEY, REGION, SECRET

ROLE = "arn:aws:iam::012345678900:role/night"
ANSWERS: dict[str, dict[str, Any]] = {
    "AmazonSSM.PutParameter": {"Version": 1},
    "secretsmanager.GetSecretValue": {"Name": "s", "SecretString": "x", "VersionId": "v"},
    "AmazonEC2ContainerServiceV20141113.ListTasks": {"taskArns": []},
    "AmazonSQS.ReceiveMessage": {"Messages": []},
    "Logs_20140328.FilterLogEvents": {"events": []},
}


@dataclass(eq=False)
class Everything(FakeServer):
    """All services at once.

    Attributes:
        asked: how often for each operation.
    """

    asked: Counter[str] = field(default_factory=Counter)

    async def serve(self, request: Request) -> None:
        operation = request.headers.get("x-amz-target", request.path)
        if b"Action=AssumeRole" in request.body:
            self.asked["AssumeRole"] += 1
            await request.connection.answer(200, assumed())
        else:
            self.asked[operation] += 1
            told = json.dumps(ANSWERS[operation]).encode() if operation in ANSWERS else b""
            status = 204 if request.headers.get("x-amz-invocation-type") == "DryRun" else 200
            await request.connection.answer(status, told, {"etag": '"e"'})


def assumed() -> bytes:
    end = datetime.now(UTC) + timedelta(hours=1)
    return (
        "<AssumeRoleResponse><AssumeRoleResult><Credentials>"
        "<AccessKeyId>a</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
        f"<SessionToken>t</SessionToken><Expiration>{end:%Y-%m-%dT%H:%M:%SZ}</Expiration>"
        "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
    ).encode()


@pytest.fixture
async def server(certificate: Path) -> AsyncIterator[Everything]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with Everything(tls=context) as made:
        yield made


async def _service(session: aiohaul.Session, name: str, operation: str, **what: Any) -> Any:
    return await (await session._clients.service(name)).call(operation, "it", **what)


CALLS: dict[str, Callable[[aiohaul.Session], Awaitable[Any]]] = {
    "s3": lambda made: made.s3().touch("bucket", "k"),
    "lambda": lambda made: made.lambda_().invoke("f"),
    "event": lambda made: made.lambda_().invoke("f", invocation_type="DryRun"),
    "ssm": lambda made: made.ssm().put("/p", "v"),
    "secretsmanager": lambda made: made.secrets().get("s"),
    "ecs": lambda made: _service(made, "ecs", "list_tasks", cluster="c"),
    "sqs": lambda made: _service(made, "sqs", "receive_message", QueueUrl=f"{_url(made)}/0/q"),
    "logs": lambda made: _service(made, "logs", "filter_log_events", logGroupName="g"),
}
services = pytest.mark.parametrize("name", sorted(CALLS))


def _url(session: aiohaul.Session) -> str:
    return session._clients.settings.endpoint_url or ""


def session(url: str, **more: Any) -> aiohaul.Session:
    return aiohaul.Session(
        access_key_id=KEY, secret_access_key=SECRET, region=REGION, endpoint_url=url, **more
    )


@pytest.mark.smoke
@services
@pytest.mark.parametrize("how", ["argument", "environment"])
async def test_ca_of_ones_own_serves_every_service(
    server: Everything, certificate: Path, monkeypatch: pytest.MonkeyPatch, how: str, name: str
) -> None:
    if how == "environment":
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    async with session(server.url, ca_bundle=certificate if how == "argument" else None) as made:
        await CALLS[name](made)
    assert server.asked.total() == 1


@services
async def test_certificate_that_nobody_vouches_for_is_refused_by_every_service(
    server: Everything, name: str
) -> None:
    async with session(server.url) as made:
        with pytest.raises(aiohaul.UnreachableError, match="certificate verify failed") as refused:
            await CALLS[name](made)
    assert "ca_bundle" in str(refused.value)
    assert "AWS_CA_BUNDLE" in str(refused.value)
    # Another attempt would end like this one.
    assert (refused.value.attempts, refused.value.retryable) == (1, False)
    assert not server.asked


@services
async def test_certificate_for_another_host_is_refused_by_every_service(
    server: Everything, certificate: Path, name: str
) -> None:
    url = server.url.replace("localhost", "127.0.0.1")
    async with session(url, ca_bundle=certificate) as made:
        with pytest.raises(aiohaul.UnreachableError, match=r"127\.0\.0\.1.*host in endpoint_url"):
            await CALLS[name](made)
    assert not server.asked


@services
async def test_plain_http_to_another_machine_is_refused_by_every_service(name: str) -> None:
    async with session("http://aws.invalid:9000") as made:
        with pytest.raises(aiohaul.SettingsError, match=r"aws\.invalid.*allow_http"):
            await CALLS[name](made)


@pytest.mark.parametrize("how", ["argument", "environment"])
async def test_role_is_assumed_over_tls(
    server: Everything, certificate: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "environment":
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    bundle = certificate if how == "argument" else None
    async with session(server.url, ca_bundle=bundle, role_arn=ROLE) as made:
        await made.s3().touch("bucket", "k")
    assert server.asked == {"AssumeRole": 1, "/bucket/k": 1}


async def test_no_role_is_assumed_of_whom_nobody_vouches_for(
    server: Everything, certificate: Path
) -> None:
    for url, bundle in (
        (server.url, None),
        (server.url.replace("localhost", "127.0.0.1"), certificate),
    ):
        async with session(url, role_arn=ROLE, ca_bundle=bundle) as made:
            with pytest.raises(aiohaul.EndpointError, match=r"AssumeRole.*ca_bundle"):
                await made.s3().touch("bucket", "k")
    assert not server.asked


async def test_role_of_an_endpoint_that_is_plain_http_is_not_assumed() -> None:
    """The request to STS comes first, and is signed with the keys."""
    async with session("http://aws.invalid:9000", role_arn=ROLE) as made:
        with pytest.raises(aiohaul.SettingsError, match=r"aws\.invalid.*allow_http"):
            await made.s3().touch("bucket", "k")


@pytest.mark.smoke
async def test_held_call_over_tls_is_dropped_when_cancelled(
    server: Everything, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection of a call that is held for minutes goes at once, encrypted or not."""

    async def hold(request: Request) -> None:
        server.asked["held"] += 1
        await server.tell()
        await request.connection.until_gone()
        server.asked["gone"] += 1
        await server.tell()

    monkeypatch.setattr(server, "serve", hold)
    async with session(server.url, ca_bundle=certificate) as made:
        call = asyncio.ensure_future(made.lambda_().invoke("f"))
        await server.until(lambda: server.asked["held"] == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(5):
            await server.until(lambda: server.asked["gone"] == 1)
