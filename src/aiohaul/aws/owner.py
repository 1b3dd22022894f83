"""The Owner class, which checks that a Session is used in its own event loop and process."""

from __future__ import annotations

import asyncio
import os

from aiohaul.concurrency import running_loop
from aiohaul.errors import SessionError


class Owner:
    """The event loop and the process that entered a Session.

    Attributes:
        ended: True after the Session was closed.
    """

    def __init__(self) -> None:
        self.ended = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0

    @property
    def is_entered(self) -> bool:
        """True after the Session was entered."""
        return self._loop is not None

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that entered the Session; None in any other process."""
        return self._loop if self._pid == os.getpid() else None

    def enter(self) -> None:
        """Make the running event loop the owner.

        Raises:
            SessionError: the Session was entered before, or no asyncio event loop is running.
        """
        if self.is_entered:
            raise SessionError("this Session was entered before. Create a new Session")
        self._loop, self._pid = running_loop(), os.getpid()

    def check(self) -> None:
        """Check that the Session is open, and is used in its own event loop and process.

        Raises:
            SessionError: the Session is not entered, is closed, or belongs to another event loop or
                process.
        """
        if self.ended:
            raise SessionError("this Session is closed. Create a new Session")
        self.check_loop()

    def check_loop(self) -> None:
        """Check that the running event loop and the process have entered the Session.

        Raises:
            SessionError: the Session is not entered, or belongs to another event loop or process.
        """
        if self._loop is None:
            raise SessionError("this Session is not entered. Use 'async with Session() as session'")
        if self._pid != os.getpid():
            raise SessionError(
                "this Session belongs to the parent process. Create a new Session in this process,"
                " and close the other Session in the parent process"
            )
        if self._loop is not running_loop():
            raise SessionError(
                "this Session belongs to another event loop. Create a new Session in this loop, and"
                " close the other Session in its own loop"
            )
