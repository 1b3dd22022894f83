"""Equal reads at the same time share one request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, TypeVar

from aiohaul.concurrency import Lock
from aiohaul.errors import HaulError

T = TypeVar("T")


class _Flight(Generic[T]):
    """One read that some are waiting for.

    Attributes:
        lock: held by the one that reads.
        waiting: how many wait, the one that reads among them.
        result: what was read; empty while it is not.
        failure: why it was not.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.waiting = 0
        self.result: list[T] = []
        self.failure: HaulError | None = None


class SingleFlight:
    """Shares reads among those who ask for the same while it is under way.

    The first who asks reads, in its own task, and the others wait. If it is cancelled, the next
    in line reads; if all are, nothing is left behind. What was read is not kept.
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[Any]] = {}

    async def read(self, key: Hashable, call: Callable[[], Awaitable[T]]) -> T:
        """Await ``call``, or the outcome of an equal one that is under way.

        Args:
            key: equal for equal reads.
            call: does the read.

        Raises:
            HaulError: whatever ``call`` raises of that kind, to everyone who waits.
        """
        flight: _Flight[T] = self._flights.setdefault(key, _Flight())
        flight.waiting += 1
        try:
            async with flight.lock:
                if not flight.result and flight.failure is None:
                    await self._land(key, flight, call)
        finally:
            flight.waiting -= 1
            if flight.waiting == 0:
                self._forget(key, flight)
        if flight.failure is not None:
            raise flight.failure
        return flight.result[0]

    async def _land(
        self, key: Hashable, flight: _Flight[T], call: Callable[[], Awaitable[T]]
    ) -> None:
        try:
            flight.result.append(await call())
        except HaulError as error:
            flight.failure = error
        # Who asks from now on wants what is there now, not what was read just before.
        self._forget(key, flight)

    def _forget(self, key: Hashable, flight: _Flight[Any]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
