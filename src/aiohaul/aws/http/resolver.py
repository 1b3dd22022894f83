"""Resolves host names in the library's own threads, with a short cache."""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from typing import Any, NamedTuple

from aiohaul.concurrency import Lock
from aiohaul.threads import run_in_thread

#: An entry of ``getaddrinfo``: family, type, protocol, canonical name, socket address.
AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]

#: The number of seconds for which addresses are reused. S3's own records live for 5 s.
_CACHE_TTL = 10.0
#: The maximum number of hosts in the cache. Each bucket may have its own host.
_MAX_HOSTS = 1024


class _Found(NamedTuple):
    addresses: list[AddressInfo]
    expires: float


class Resolver:
    """Calls ``getaddrinfo`` in a thread of the library, not in the loop's executor.

    All threads of the loop's executor may run functions that wait for a request of the library.
    Concurrent calls for one host share a lookup.
    """

    def __init__(self) -> None:
        self._found: OrderedDict[tuple[str, int], _Found] = OrderedDict()
        self._locks: dict[tuple[str, int], Lock] = {}

    async def resolve(self, host: str, port: int) -> list[AddressInfo]:
        """Return the addresses of a host, in another order at each call.

        So connections are spread over the addresses of the host.

        Raises:
            OSError: no address was found.
        """
        literal = _literal(host, port)
        if literal is not None:
            return [literal]
        key = host, port
        found = self._cached(key)
        if found is None:
            lock = self._locks.setdefault(key, Lock())
            try:
                async with lock:
                    found = self._cached(key) or await self._look_up(key)
            finally:
                if self._locks.get(key) is lock:
                    del self._locks[key]
        addresses = found.addresses
        self._found[key] = found._replace(addresses=_rotated(addresses))
        return addresses

    def forget(self, host: str, port: int) -> None:
        """Remove the addresses of a host from the cache, because no connection to them was made."""
        self._found.pop((host, port), None)

    def _cached(self, key: tuple[str, int]) -> _Found | None:
        found = self._found.get(key)
        return found if found and found.expires > asyncio.get_running_loop().time() else None

    async def _look_up(self, key: tuple[str, int]) -> _Found:
        addresses = await run_in_thread(_look_up, *key, abandon_on_cancel=True)
        if len(self._found) >= _MAX_HOSTS:
            self._found.popitem(last=False)
        found = _Found(addresses, asyncio.get_running_loop().time() + _CACHE_TTL)
        self._found[key] = found
        return found


def _look_up(host: str, port: int) -> list[AddressInfo]:
    if host.endswith(".localhost"):  # RFC 6761: no name server is asked
        host = "localhost"
    return [
        (family, kind, protocol, name, tuple(address))
        for family, kind, protocol, name, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
    ]


def _literal(host: str, port: int) -> AddressInfo | None:
    """Return the entry for an IP address; None for a host name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        address = (host, port) if family == socket.AF_INET else (host, port, 0, 0)
        return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address
    return None


def _rotated(addresses: list[AddressInfo]) -> list[AddressInfo]:
    """Move the first address of each family to the end of its family's addresses."""
    families = list(dict.fromkeys(family for family, *_ in addresses))
    rotated: list[AddressInfo] = []
    for family in families:
        own = [each for each in addresses if each[0] == family]
        rotated += own[1:] + own[:1]
    return rotated
