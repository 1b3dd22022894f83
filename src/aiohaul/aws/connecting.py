"""The connections of requests: whether one may have reached its server, and what it leaves behind.

It has reached nobody while it still waits for its connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol


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
    """Make a connector of aiohttp's tell who waits for its connections.

    And let what a request has not sent by its end go with it: a server that takes no bytes would
    hold a connection that is closed, which sends what it has first, for as long as it likes.
    """
    connect = connector.connect

    async def connect_and_tell(*arguments: Any, **options: Any) -> Any:
        note = _note.get()
        if note is not None:
            # Once: a second connection is that of another try, and says nothing of the first.
            _note.set(None)
            note(reached=False)
        connection = await connect(*arguments, **options)
        if note is not None:
            note(reached=True)
        connection.add_callback(partial(_discard, connection.transport))
        return connection

    connector.connect = connect_and_tell
    return connector


def _discard(transport: Any) -> None:
    """Called when a request is done with its connection: what is left to send is nobody's."""
    if transport is not None and transport.get_write_buffer_size():
        transport.abort()
