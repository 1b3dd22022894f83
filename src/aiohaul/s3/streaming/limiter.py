"""Limits the concurrent writes to one destination, and stops them after a fatal error."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from aiohaul.aws.endpoint_support import is_not_implemented
from aiohaul.concurrency import FifoLimiter
from aiohaul.errors import (
    BucketNotFoundError,
    CredentialsError,
    EndpointError,
    HaulError,
    ServiceError,
    StorageFullError,
    UnreachableError,
)


class DestinationLimiter:
    """Limits the concurrent writes to one destination, and refuses all writes after a fatal error.

    The limit prevents that a slow destination uses all requests of the Session.

    Args:
        width: the maximum number of concurrent writes, 1 or more.
    """

    def __init__(self, width: int) -> None:
        self._slots = FifoLimiter(width)
        self._fatal_error: HaulError | None = None

    @property
    def fatal_error(self) -> HaulError | None:
        """The error after which all writes are refused; None while writes are allowed."""
        return self._fatal_error

    def give_up(self, error: HaulError) -> None:
        """Refuse all later writes: :meth:`slot` raises this error."""
        self._fatal_error = error

    def reopen(self) -> None:
        """Allow writes again after a fatal error."""
        self._fatal_error = None

    def slot(self) -> Self:
        """Return a context manager for one write, which waits until the write is within the limit.

        Raises:
            HaulError: the destination has a fatal error. The error is raised on entry.
        """
        return self

    async def __aenter__(self) -> None:
        await self._slots.acquire()
        fatal_error = self._fatal_error
        if fatal_error is not None:
            self._slots.release()
            # Yield, so that a burst of refusals does not starve the event loop.
            await asyncio.sleep(0)
            # Without the traceback, whose frames would keep the bytes of earlier writes in memory.
            raise fatal_error.with_traceback(None)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, HaulError) and is_final(error):
            self.give_up(error)
        self._slots.release()


def is_final(error: HaulError) -> bool:
    """Return True if every later write to the destination would fail with the same error."""
    if isinstance(error, EndpointError):
        # A connection that was reset has this code too, but the next write may succeed.
        return isinstance(error, UnreachableError) and error.code == "EndpointConnectionError"
    if isinstance(error, ServiceError) and is_not_implemented(error):
        return error.operation == "PutObject"  # copies can do without other operations
    return isinstance(error, BucketNotFoundError | CredentialsError | StorageFullError)
