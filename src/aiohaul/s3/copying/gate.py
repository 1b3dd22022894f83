"""One destination's turn: as many writes at once as it may have, and none once it is given up."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from aiohaul.concurrency import Slots
from aiohaul.errors import BucketNotFoundError, CredentialsError, EndpointError, HaulError


class Gate:
    """Lets so many writes to a destination be under way, until one fails for all.

    A destination that is slow holds as many requests as this, and leaves the others to the rest.

    Args:
        width: writes at once, 1 or more.
    """

    def __init__(self, width: int) -> None:
        self._slots = Slots(width)
        #: What makes further attempts useless.
        self.stopped: HaulError | None = None

    def turn(self) -> Self:
        """What to enter to wait for a turn, and have it.

        Raises:
            HaulError: when it is entered: the destination is given up, for this reason.
        """
        return self

    async def __aenter__(self) -> None:
        await self._slots.acquire()
        stopped = self.stopped
        if stopped is not None:
            self._slots.release()
            # Those that are refused come one after the other, and others have work to do.
            await asyncio.sleep(0)
            # Without the frames of those that had it before: they hold on to their bytes.
            raise stopped.with_traceback(None)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, HaulError) and is_final(error):
            self.stopped = error
        self._slots.release()


def is_final(error: HaulError) -> bool:
    """True if the next object would fail in the same way, after as many retries."""
    if isinstance(error, EndpointError):
        return error.code == "EndpointConnectionError"
    return isinstance(error, BucketNotFoundError | CredentialsError)
