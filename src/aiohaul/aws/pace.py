"""How many requests are in flight at one endpoint: fewer while it asks for fewer."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from aiohaul.concurrency import Slots

#: Rounds of answers that went well in which half of the most is won back.
_ROUNDS = 16


class Pace:
    """A bound on the requests in flight, shared by everything that goes to one endpoint.

    It starts at the most. An endpoint that throttles halves it (once for all requests that were
    under way together); every answer that went well raises it a little, until it is back: additive
    increase, multiplicative decrease. Waiting requests go in the order of asking.

    Args:
        most: requests in flight at once, 1 or more.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._limit = float(most)
        self._step = max(1.0, most / 2 / _ROUNDS)
        self._slots = Slots(most)
        self._slowed_at = -1.0

    @property
    def limit(self) -> int:
        """Requests that may be in flight at this moment."""
        return int(self._limit)

    @property
    def in_flight(self) -> int:
        """Requests that are in flight."""
        return self._slots.held

    def slot(self) -> Self:
        """What to enter to wait for a slot, and hold it: that gives the moment since when."""
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

    def throttled(self, since: float) -> None:
        """A request that was sent at ``since`` was throttled."""
        if since > self._slowed_at:  # else it was sent at the pace that has been halved already
            self._slowed_at = time.monotonic()
            self._set(self._limit / 2)

    def went_well(self) -> None:
        """A request was answered."""
        if self._limit < self.most:
            self._set(self._limit + self._step / self._limit)

    def _set(self, limit: float) -> None:
        self._limit = min(max(limit, 1.0), float(self.most))
        self._slots.total = int(self._limit)
