"""Names of hosts: looked up once for many, in turn, and never outside for names of this machine."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from aiohaul.aws.http.resolver import Resolver

HOSTS = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts that were looked up."""
    hosts: list[str] = []

    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        hosts.append(host)
        if host.startswith("none"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, 1, 6, "", (each, port))
            for each in HOSTS
        ]

    monkeypatch.setattr("aiohaul.aws.http.resolver.socket.getaddrinfo", getaddrinfo)
    return hosts


async def test_many_callers_share_one_lookup(asked: list[str]) -> None:
    resolver = Resolver()
    found = await asyncio.gather(*(resolver.resolve("host", 443) for _ in range(50)))
    assert asked == ["host"]
    firsts = [addresses[0][4][0] for addresses in found]
    assert {each: firsts.count(each) for each in firsts} == {HOSTS[0]: 25, HOSTS[1]: 25}
    assert all(len(addresses) == len(HOSTS) for addresses in found)


async def test_failure_is_not_kept(asked: list[str]) -> None:
    resolver = Resolver()
    for _ in range(2):
        with pytest.raises(socket.gaierror):
            await resolver.resolve("none", 443)
    assert asked == ["none", "none"]


async def test_addresses_are_looked_up_again_after_they_were_of_no_use(asked: list[str]) -> None:
    resolver = Resolver()
    await resolver.resolve("host", 443)
    resolver.forget("host", 443)
    await resolver.resolve("host", 443)
    assert len(asked) == 2


async def test_addresses_expire(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiohaul.aws.http.resolver._CACHE_TTL", 0.0)
    resolver = Resolver()
    await resolver.resolve("host", 443)
    await resolver.resolve("host", 443)
    assert len(asked) == 2


async def test_cancelled_lookup_leaves_the_others_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()

    def getaddrinfo(_: str, port: int, **__: Any) -> list[Any]:
        go.wait(10)
        return [(socket.AF_INET, 1, 6, "", (HOSTS[0], port))]

    monkeypatch.setattr("aiohaul.aws.http.resolver.socket.getaddrinfo", getaddrinfo)
    resolver = Resolver()
    first, second = (asyncio.ensure_future(resolver.resolve("host", 1)) for _ in range(2))
    await asyncio.sleep(0.02)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    go.set()
    assert (await second)[0][4] == (HOSTS[0], 1)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "192.0.2.7"])
async def test_addresses_need_no_lookup(asked: list[str], host: str) -> None:
    ((family, *_, address),) = await Resolver().resolve(host, 9000)
    assert address[:2] == (host, 9000)
    assert family == (socket.AF_INET6 if ":" in host else socket.AF_INET)
    assert not asked


async def test_names_below_localhost_are_this_machine(asked: list[str]) -> None:
    await Resolver().resolve("bucket.localhost", 9000)
    assert asked == ["localhost"]
