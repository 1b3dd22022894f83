"""Pools of connections for tests, without a Session."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohaul import Session
from aiohaul.aws.http.connection import Connection
from aiohaul.aws.http.connector import Connector
from aiohaul.aws.http.pool import MAX_IDLE, ConnectionPool
from aiohaul.aws.http.proxy import Proxy
from aiohaul.aws.http.tls import tls_context


@asynccontextmanager
async def connection_pool(
    tls: ssl.SSLContext | None = None,
    *,
    connect_timeout: float | None = None,
    read_timeout: float | None = None,
    max_idle: int = MAX_IDLE,
    proxy: Proxy | None = None,
) -> AsyncIterator[ConnectionPool]:
    """A pool that trusts what the context trusts, and that is closed at the end of the block."""
    connector = Connector(
        lambda: tls or tls_context(),
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        proxy=proxy,
    )
    made = ConnectionPool(connector, max_idle)
    try:
        yield made
    finally:
        made.close()


def pools_of(session: Session) -> list[ConnectionPool]:
    """The pools of a Session: those of S3 without botocore, and those of botocore's clients."""
    clients = session._clients
    pools = list(clients._pools.values())
    if clients._botocore.clients is not None:
        for transport in clients._botocore.clients.transports._transports.values():
            pools += transport._pools.values()
    return pools


def live_connections(session: Session) -> list[Connection]:
    """Every open connection of a Session."""
    return [each for pool in pools_of(session) for each in pool._connections if each.is_open]


def live_sockets(session: Session) -> list[socket.socket]:
    """The sockets of every open connection of a Session."""
    return [each._transport.get_extra_info("socket") for each in live_connections(session)]
