"""The connections that aiohttp makes and keeps: which are used, and what requests leave on them.

A request has reached nobody while it still waits for its connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol

from aiohaul.aws.sockets import IdleCheck


class Note(Protocol):
    """Is told whether a request may have reached its server."""

    def __call__(self, *, reached: bool) -> None:
        """Take it: True if it may have."""


_note: ContextVar[Note | None] = ContextVar("aiohaul_note", default=None)


@contextmanager
def noting(note: Note) -> Iterator[None]:
    """Tell ``note`` whether the one request that is sent herein may have reached its server.

    It may from the beginning, so that nothing is denied on doubt; it has not from when it asks
    for a connection until it has it.
    """
    note(reached=True)
    token = _note.set(note)
    try:
        yield
    finally:
        _note.reset(token)


def telling(connector: Any) -> Any:
    """Make a connector of aiohttp's tell who waits for its connections, and look at kept ones.

    aiohttp uses a kept connection again unless it has seen its end, also where an answer has
    arrived on it meanwhile: the next request would take that for its own.

    What a request has not sent by its end goes with it: a server that takes no bytes would
    hold a connection that is closed, which sends what it has first, for as long as it likes.
    """
    connect = connector.connect

    async def connect_and_tell(*arguments: Any, **options: Any) -> Any:
        note = _note.get()
        if note is not None:
            # Once: a second connection is that of another try, and says nothing of the first.
            _note.set(None)
            note(reached=False)
        while not await _is_usable(connection := await connect(*arguments, **options)):
            connection.transport.abort()
            connection.close()
        if note is not None:
            note(reached=True)
        connection.add_callback(partial(_leave, connection.transport, connection.protocol))
        return connection

    connector.connect = connect_and_tell
    return connector


class _Idle(asyncio.Protocol):
    """Stands in for aiohttp's protocol while a connection is kept: whatever arrives ends it."""

    def __init__(self, transport: Any, protocol: Any) -> None:
        self._transport = transport
        self._protocol = protocol
        self.check = IdleCheck(transport)

    def data_received(self, data: bytes) -> None:  # noqa: ARG002  # nobody has asked for it
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)


async def _is_usable(connection: Any) -> bool:
    """True for a new connection, and for one that is as it was left: that is handed back."""
    idle = connection.transport.get_protocol()
    if not isinstance(idle, _Idle):
        return True
    try:
        quiet = await idle.check.is_quiet()
    except BaseException:
        connection.transport.abort()
        connection.close()
        raise
    # What has come with the last answer is known to aiohttp's protocol alone.
    if not quiet or connection.protocol.should_close:
        return False
    connection.transport.set_protocol(connection.protocol)
    return True


def _leave(transport: Any, protocol: Any) -> None:
    """Called when a request is done with its connection: what is left to send is nobody's."""
    if transport is None or transport.is_closing():
        return
    if transport.get_write_buffer_size():
        transport.abort()
    elif transport.get_protocol() is protocol:
        transport.set_protocol(_Idle(transport, protocol))
