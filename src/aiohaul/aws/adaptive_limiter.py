"""Limits the requests in flight to one endpoint, and lowers the limit if the endpoint throttles."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from aiohaul.concurrency import FifoLimiter

#: The number of rounds of successful requests after which a halved limit is at its maximum again.
_RECOVERY_ROUNDS = 16


class AdaptiveLimiter:
    """Limits the number of requests in flight to one endpoint.

    The limit starts at the maximum. A throttled request halves the limit, once for all requests
    that were in flight together. A successful request raises the limit a little. This is additive
    increase, multiplicative decrease (AIMD). Waiting requests start in first in, first out order.

    Args:
        maximum: the maximum number of requests in flight, 1 or more.
    """

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self._limit = float(maximum)
        self._step = max(1.0, maximum / 2 / _RECOVERY_ROUNDS)
        self._slots = FifoLimiter(maximum)
        self._throttled_at = -1.0

    @property
    def limit(self) -> int:
        """The number of requests that may be in flight now."""
        return int(self._limit)

    @property
    def in_flight(self) -> int:
        """The number of requests in flight now."""
        return self._slots.held

    def slot(self) -> Self:
        """Return an async context manager that waits for a slot, and holds the slot in the block.

        Its value is the time at which the slot was acquired (``time.monotonic``).
        """
        return self

    async def __aenter__(self) -> float:
        await self._slots.acquire()
        return time.monotonic()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._slots.release()

    def on_throttled(self, sent_at: float) -> None:
        """Halve the limit after a request was throttled.

        Args:
            sent_at: the time at which the request was sent (``time.monotonic``).
        """
        if sent_at > self._throttled_at:  # else the limit was already halved after that time
            self._throttled_at = time.monotonic()
            self._set(self._limit / 2)

    def on_success(self) -> None:
        """Raise the limit a little after a request succeeded."""
        if self._limit < self.maximum:
            self._set(self._limit + self._step / self._limit)

    def _set(self, limit: float) -> None:
        self._limit = min(max(limit, 1.0), float(self.maximum))
        self._slots.total = int(self._limit)
