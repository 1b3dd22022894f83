"""Sockets whose keepalive survives a NAT gateway."""

from __future__ import annotations

import socket
from typing import Any

#: A NAT gateway forgets a connection that is silent for 350 s; probes go out well before.
KEEPALIVE_IDLE = 60
KEEPALIVE_INTERVAL = 30
KEEPALIVE_PROBES = 5


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
