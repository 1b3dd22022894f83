"""To whom a Session belongs: one event loop of one process, from its begin to its end."""

from __future__ import annotations

import asyncio
import os

from aiohaul.concurrency import running_loop
from aiohaul.errors import SessionError


class Owner:
    """The event loop and the process that have entered a Session.

    Attributes:
        ended: the Session has ended.
    """

    def __init__(self) -> None:
        self.ended = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0

    @property
    def is_entered(self) -> bool:
        """True once the Session was entered."""
        return self._loop is not None

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that entered it, in this process; None in any other."""
        return self._loop if self._pid == os.getpid() else None

    def enter(self) -> None:
        """Take the running event loop for the owner.

        Raises:
            SessionError: it has an owner, or there is no event loop of asyncio.
        """
        if self.is_entered:
            raise SessionError("this Session was entered before: make a new one")
        self._loop, self._pid = running_loop(), os.getpid()

    def check(self) -> None:
        """Check that the Session may be used here and now.

        Raises:
            SessionError: it may not.
        """
        if self.ended:
            raise SessionError("this Session has ended: make a new one")
        self.check_place()

    def check_place(self) -> None:
        """Check that this is the event loop and the process that have entered it.

        Raises:
            SessionError: it is not.
        """
        if self._loop is None:
            raise SessionError("this Session is not entered: use 'async with Session() as session'")
        if self._pid != os.getpid():
            raise SessionError(
                "this Session belongs to the parent process: make a new one here, and leave it"
                " where it was entered"
            )
        if self._loop is not running_loop():
            raise SessionError(
                "this Session belongs to another event loop: make one for this loop, and leave it"
                " in the loop that entered it"
            )
