"""Sessions: their lifetime, what they share, who they are."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from typing import Any

import anyio
import pytest

import aiohaul
from aiohaul.aws.hosts import sts_endpoint
from tests.support.connections import live_sockets
from tests.support.definitions import run, source, to, transfer
from tests.support.gateway import Gateway
from tests.support.servers import KEY, REGION, SECRET
from tests.support.store import Store

Proxied = tuple[Gateway, Store]
ROLE = "arn:aws:iam::012345678900:role/night"


def session(s3: Store, **more: Any) -> aiohaul.Session:
    return aiohaul.Session(
        access_key_id=KEY,
        secret_access_key=SECRET,
        region=REGION,
        endpoint_url=s3.url,
        **more,
    )


async def test_misuse_is_said(moto_s3: Store) -> None:
    made = session(moto_s3)
    with pytest.raises(aiohaul.SessionError, match="not entered"):
        await made.s3().head("b", "k")
    async with made:
        pass
    with pytest.raises(aiohaul.SessionError, match="is closed"):
        await made.s3().head("b", "k")
    with pytest.raises(aiohaul.SessionError, match="entered before"):
        await made.__aenter__()
    with pytest.raises(aiohaul.SettingsError, match="max_requests"):
        aiohaul.Session(max_requests=0)
    with pytest.raises(aiohaul.PlanError, match="Leave out the '/'"):
        aiohaul.Destination(bucket="b", directory="/d")
    with pytest.raises(aiohaul.SettingsError, match="both"):
        aiohaul.Session(access_key_id="x")


async def test_other_loop_is_refused(moto_s3: Store) -> None:
    async with session(moto_s3) as made:
        with pytest.raises(aiohaul.SessionError, match="another event loop"):
            await asyncio.to_thread(lambda: asyncio.run(made.s3().head("b", "k")))


async def test_forked_child_is_refused(moto_s3: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async with session(moto_s3) as made:
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)
            with pytest.raises(aiohaul.SessionError, match="parent process"):
                await made.s3().head("b", "k")
            with pytest.raises(aiohaul.SessionError, match="close the other Session in"):
                await made.__aexit__(None, None, None)


async def test_handlers_share_clients_by_settings(moto_s3: Store) -> None:
    async with session(moto_s3) as made:
        clients = made._clients
        first, second = [await clients.service("s3") for _ in range(2)]
        same = await clients.service("s3", aiohaul.Settings(region=REGION))
        other = await clients.service("s3", aiohaul.Settings(region="us-east-1"))
        assert first is second is same
        assert other is not first


async def test_concurrent_first_use_makes_one_client(moto_s3: Store) -> None:
    async with session(moto_s3) as made:
        services = await asyncio.gather(*(made._clients.service("s3") for _ in range(50)))
        assert len(set(map(id, services))) == 1


async def test_changed_environment_is_another_client(
    moto_s3: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = await moto_s3.bucket()
    await moto_s3.put(bucket, "k", b"x")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    async with aiohaul.Session(region=REGION) as made:
        first = await made._clients.service("s3")
        monkeypatch.setenv("AWS_ENDPOINT_URL", moto_s3.url)
        assert await made._clients.service("s3") is not first
        assert (await made.s3().head(bucket, "k")).size == 1


async def test_exit_closes_every_connection_whatever_happened(proxied: Proxied) -> None:
    gateway, s3 = proxied
    bucket = await s3.bucket()
    held = gateway.rule("HEAD", hold=True)

    async def fail_while_requests_are_open() -> None:
        async with session(s3) as made, asyncio.TaskGroup() as tasks:
            await made.s3().touch(bucket, "k")
            for _ in range(5):
                tasks.create_task(made.s3().head(bucket, "k"))
            await held.reached.wait()
            raise KeyError

    with pytest.raises(ExceptionGroup):
        await fail_while_requests_are_open()
    await gateway.idle()
    gc.collect()


async def test_session_that_ends_while_a_client_is_made(proxied: Proxied) -> None:
    gateway, s3 = proxied
    held = gateway.rule("^POST /$", hold=True)
    async with session(s3, role_arn=ROLE) as made:
        task = asyncio.ensure_future(made.s3().head("b", "k"))
        await held.reached.wait()
    held.go.set()
    with pytest.raises(aiohaul.SessionError, match="is closed"):
        await task


async def test_keepalive_is_set_on_the_live_connection(proxied: Proxied) -> None:
    _, s3 = proxied
    bucket = await s3.bucket()
    async with session(s3) as made:
        await made.s3().touch(bucket, "k")
        (live,) = live_sockets(made)
        assert live.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert live.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
        assert live.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 30


async def test_connections_are_reused(proxied: Proxied) -> None:
    gateway, s3 = proxied
    bucket = await s3.bucket()
    seen: set[Any] = set()
    gateway.noting = lambda request: seen.add(request.transport)
    async with session(s3) as made:
        for _ in range(10):
            await made.s3().touch(bucket, "k")
    assert len(seen) == 1


@pytest.mark.parametrize("seconds", [None, 900])
async def test_role_is_assumed_once_for_many_requests(
    proxied: Proxied, seconds: int | None
) -> None:
    gateway, s3 = proxied
    bucket = await s3.bucket()
    keys: set[str] = set()

    def note(request: Any) -> None:
        keys.add(request.headers["Authorization"].split("Credential=")[1].split("/")[0])

    async with session(s3, role_arn=ROLE, role_external_id="ext", role_duration=seconds) as made:
        gateway.noting = note
        await asyncio.gather(*(made.s3().touch(bucket, str(n)) for n in range(30)))
    assert gateway.count("^POST /$") == 1
    assert len(keys) == 2  # the source's for AssumeRole, the role's for all else
    assert KEY in keys


async def test_role_that_expires_renews_itself(
    proxied: Proxied, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, s3 = proxied
    bucket = await s3.bucket()
    async with session(s3, role_arn=ROLE) as made:
        await made.s3().touch(bucket, "a")
        assert gateway.count("^POST /$") == 1
        service: Any = await made._clients.service("s3")
        credentials = service._backend._client._get_credentials()
        monkeypatch.setattr(credentials, "_advisory_refresh_timeout", 10**9)
        monkeypatch.setattr(credentials, "_mandatory_refresh_timeout", 10**9)
        await made.s3().touch(bucket, "b")
        assert gateway.count("^POST /$") == 2
    assert await s3.keys(bucket) == ["a", "b"]


async def test_role_that_may_not_be_assumed(proxied: Proxied) -> None:
    gateway, s3 = proxied
    gateway.rule("^POST /$", status=403, code="AccessDenied")
    async with session(s3, role_arn=ROLE) as made:
        with pytest.raises(aiohaul.AccessDeniedError, match=f"AssumeRole on {ROLE}.*sts:Assume"):
            await made.s3().head("b", "k")


async def test_role_that_is_not_answered_for_holds_up_nobody_else(proxied: Proxied) -> None:
    gateway, s3 = proxied
    bucket = await s3.bucket()
    held = gateway.rule("^POST /$", hold=True, times=1)
    async with session(s3) as made:
        with_role = made.s3(aiohaul.Settings(role_arn=ROLE))
        first = asyncio.create_task(with_role.touch(bucket, "first"))
        await held.reached.wait()
        second = asyncio.create_task(with_role.touch(bucket, "second"))
        with anyio.fail_after(10):
            await made.s3().touch(bucket, "other")
        assert not second.done()
        first.cancel()  # and the next in line assumes the role
        with pytest.raises(asyncio.CancelledError):
            await first
        await second
        held.go.set()
    assert await s3.keys(bucket) == ["other", "second"]


async def test_role_of_the_environment(proxied: Proxied, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", b"x")
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    await run(transfer(source(s3, inbox), to(s3, out)))
    assert gateway.count("^POST /$") == 1
    assert gateway.count("^COPY") == 1


async def test_different_identities_never_copy_server_side(proxied: Proxied) -> None:
    gateway, s3 = proxied
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a", b"x")
    other = to(s3, out, protocol=s3.protocol(access_key_id="other", secret_access_key="other"))
    await run(transfer(source(s3, inbox), other))
    assert gateway.count("^COPY") == 0
    assert await s3.contents(out) == {"a": b"x"}


async def test_endpoints_of_two_servers_in_one_transfer(moto_s3: Store, rclone_s3: Store) -> None:
    inbox, out = await moto_s3.bucket(), await rclone_s3.bucket()
    await moto_s3.fill(inbox, {f"src/{n}": b"%d" % n for n in range(20)})
    await run(transfer(source(moto_s3, inbox), to(rclone_s3, out, directory="d")))
    assert await rclone_s3.contents(out) == {f"d/{n}": b"%d" % n for n in range(20)}


def test_settings_in_order() -> None:
    settings = aiohaul.Settings
    keys = settings(access_key_id="a", secret_access_key="b", session_token="t")
    other = settings(access_key_id="x", secret_access_key="y", region="r", role_arn="arn:role")
    both = other.over(keys)
    assert (both.access_key_id, both.session_token) == ("x", None)
    both = keys.over(other)
    assert (both.access_key_id, both.region, both.role_arn) == ("a", "r", "arn:role")
    role = settings(role_arn="arn:mine").over(
        settings(role_arn="arn:other", role_external_id="secret")
    )
    assert (role.role_arn, role.role_external_id) == ("arn:mine", None)


def test_settings_from_the_environment() -> None:
    environ = {
        "AWS_REGION": "eu-north-1",
        "AWS_ROLE_ARN": "arn:role",
        "AWS_ASSUME_ROLE_EXTERNAL_ID": "ext",
    }
    settings = aiohaul.Settings().over_environment(environ)
    assert (settings.region, settings.role_arn, settings.role_external_id) == (
        "eu-north-1",
        "arn:role",
        "ext",
    )
    web = {**environ, "AWS_WEB_IDENTITY_TOKEN_FILE": "/token"}
    settings = aiohaul.Settings(region="mine").over_environment(web)
    assert (settings.region, settings.role_arn, settings.role_external_id) == ("mine", None, None)


@pytest.mark.parametrize(
    ("endpoint", "sts"),
    [
        (None, None),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("https://s3.eu-west-1.amazonaws.com", None),
        ("https://bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com", None),
    ],
)
def test_endpoint_of_assume_role(endpoint: str | None, sts: str | None) -> None:
    assert sts_endpoint(endpoint) == sts


def test_no_secret_in_a_repr() -> None:
    settings = aiohaul.Settings(
        access_key_id="a", secret_access_key="s3cr3t", session_token="t0k3n", role_external_id="3xt"
    )
    for secret in ("s3cr3t", "t0k3n", "3xt"):
        assert secret not in repr(settings)
