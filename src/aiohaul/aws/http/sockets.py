"""TCP sockets with keepalive, and the check of an idle connection before it is reused."""

from __future__ import annotations

import asyncio
import select
import socket
from contextlib import suppress
from typing import Any

#: In seconds. NAT gateways drop a connection that is silent for 350 s.
KEEPALIVE_IDLE = 60
KEEPALIVE_INTERVAL = 30
KEEPALIVE_PROBES = 5
#: The number of event loop iterations in which asyncio reads arrived bytes. It needs two.
_LOOP_ITERATIONS = 4


def keepalive_socket(address: tuple[Any, ...]) -> socket.socket:
    """Create a non-blocking TCP socket with keepalive for an entry of ``getaddrinfo``."""
    family, kind, protocol, *_ = address
    created = socket.socket(family=family, type=kind, proto=protocol)
    created.setblocking(False)  # noqa: FBT003  # socket's signature
    created.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    created.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A platform that lacks one of these uses its default.
    for option, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
    ):
        if hasattr(socket, option):
            created.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return created


def abort(transport: asyncio.Transport) -> None:
    """Close a transport at once, and discard unsent bytes.

    In Python 3.11.2 and its neighbours, a TLS transport that has lost its connection raises an
    AttributeError.
    """
    with suppress(AttributeError):
        transport.abort()


class IdleCheck:
    """Checks with one system call whether an idle connection may be reused.

    A connection must not be reused if the server has closed it, or if bytes have arrived. The next
    request would read these bytes as its response.

    Args:
        transport: the transport of the connection. The protocol of the transport must close the
            connection when bytes arrive.
    """

    __slots__ = ("_encrypted", "_poll", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._encrypted = transport.get_extra_info("sslcontext") is not None
        self._poll = select.poll()
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    async def is_quiet(self) -> bool:
        """Return True if the connection is open, and no bytes have arrived."""
        for _ in range(_LOOP_ITERATIONS):
            # Checked first, because another connection may use a closed one's file descriptor.
            if self._transport.is_closing():
                return False
            if not self._poll.poll(0):
                return True
            if not self._encrypted:
                return False
            # The bytes may be a TLS session ticket, not data. Let the event loop read them.
            await asyncio.sleep(0)
        return False
