"""Names of hosts, looked up in the library's own threads."""

from __future__ import annotations

import socket

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from aiohaul.threads import run_in_thread

_FLAGS = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class Resolver(AbstractResolver):
    """Asks the system, as aiohttp's own does in the threads of the loop's executor.

    An application may hold all of those with functions that wait for a request.
    """

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host.

        Raises:
            OSError: there are none.
        """
        found = await run_in_thread(_look_up, host, port, family, abandon_on_cancel=True)
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=of, proto=proto, flags=_FLAGS
            )
            for of, proto, address in found
        ]

    async def close(self) -> None:
        """Nothing is open."""


def _look_up(host: str, port: int, family: int) -> list[tuple[int, int, str]]:
    found = socket.getaddrinfo(
        host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
    )
    return [(of, proto, _text(address)) for of, _, proto, _, address in found]


def _text(address: tuple[object, ...]) -> str:
    """The address alone; one of IPv6 that is good on one link names that."""
    scope = address[3] if len(address) > 3 else 0  # noqa: PLR2004  # as getaddrinfo has it
    return f"{address[0]}%{scope}" if scope else str(address[0])


def resolver() -> dict[str, AbstractResolver]:
    """The argument of aiohttp's connectors; none where ``aiodns`` needs no threads."""
    return {"resolver": Resolver()} if aiohttp.DefaultResolver is aiohttp.ThreadedResolver else {}
