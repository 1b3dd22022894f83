"""Whether a request may have reached its server: not while it still waits for its connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
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
    """Make a connector of aiohttp's tell who waits for its connections."""
    connect = connector.connect

    async def connect_and_tell(*arguments: Any, **options: Any) -> Any:
        note = _note.get()
        if note is None:
            return await connect(*arguments, **options)
        # Once: a second connection is that of another try, and says nothing of the first.
        _note.set(None)
        note(reached=False)
        connection = await connect(*arguments, **options)
        note(reached=True)
        return connection

    connector.connect = connect_and_tell
    return connector
