"""Sockets: keepalive that survives a NAT gateway, and a look at what has arrived."""

from __future__ import annotations

import asyncio
import select
import socket
from typing import Any

#: A NAT gateway forgets a connection that is silent for 350 s; probes go out well before.
KEEPALIVE_IDLE = 60
KEEPALIVE_INTERVAL = 30
KEEPALIVE_PROBES = 5
#: Turns of the event loop within which it reads what has arrived: asyncio needs two.
_TURNS = 4


def keepalive_socket(address: tuple[Any, ...]) -> socket.socket:
    """Make a TCP socket with keepalive for an entry of ``getaddrinfo``.

    botocore's own ``tcp_keepalive`` does not reach aiohttp's sockets.
    """
    family, kind, protocol, *_ = address
    made = socket.socket(family=family, type=kind, proto=protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Where a platform lacks one of these, its own default holds.
    for option, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
    ):
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made


class IdleCheck:
    """Tells whether a kept connection may be used again: one system call.

    It may not if its server has closed it, or if anything has arrived on it: that would be taken
    for the answer to the next request.

    Args:
        transport: of the connection. Its protocol must close it when it is given anything.
    """

    __slots__ = ("_encrypted", "_poll", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._encrypted = transport.get_extra_info("sslcontext") is not None
        self._poll = select.poll()
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    async def is_quiet(self) -> bool:
        """True if the connection is open, and nothing has arrived on it."""
        for _ in range(_TURNS):
            # In this order: the descriptor of a closed connection may be another one's by now.
            if self._transport.is_closing():
                return False
            if not self._poll.poll(0):
                return True
            if not self._encrypted:
                return False
            # It may be a session ticket, which concerns TLS alone: let the event loop read it.
            await asyncio.sleep(0)
        return False
