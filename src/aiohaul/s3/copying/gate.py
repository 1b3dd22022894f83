"""One destination's turn: as many writes at once as it may have, and none once it is given up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from aiohaul.errors import BucketNotFoundError, CredentialsError, EndpointError, HaulError


class Gate:
    """Lets so many writes to a destination be under way, until one fails for all.

    A destination that is slow holds as many requests as this, and leaves the others to the rest.

    Args:
        width: writes at once, 1 or more.
    """

    def __init__(self, width: int) -> None:
        self._limiter = anyio.CapacityLimiter(width)
        #: What makes further attempts useless.
        self.stopped: HaulError | None = None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it.

        Raises:
            HaulError: the destination is given up, for this reason.
        """
        async with self._limiter:
            if self.stopped is not None:
                # Without the frames of those that had it before: they hold on to their bytes.
                raise self.stopped.with_traceback(None)
            try:
                yield
            except HaulError as error:
                if is_final(error):
                    self.stopped = error
                raise


def is_final(error: HaulError) -> bool:
    """True if the next object would fail in the same way, after as many retries."""
    if isinstance(error, EndpointError):
        return error.code == "EndpointConnectionError"
    return isinstance(error, BucketNotFoundError | CredentialsError)
