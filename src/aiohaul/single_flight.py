"""Single flight: concurrent equal reads share one request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar, cast

from aiohaul.concurrency import Lock
from aiohaul.errors import HaulError

T = TypeVar("T")


class _Read(Generic[T]):
    """A read in flight.

    Attributes:
        lock: the lock that the reading caller holds.
        waiting: the number of callers, including the reading one.
        result: a list with the result; empty until the read has succeeded.
        failure: the error of the read, or None.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.waiting = 0
        self.result: list[T] = []
        self.failure: HaulError | None = None


class SingleFlight:
    """Shares one read, and its result, between all callers that want the same value concurrently.

    The first caller reads in its own task, and the others wait. If the reading caller is cancelled,
    the next caller reads. If all callers are cancelled, the read stops. Results are not cached.
    """

    def __init__(self) -> None:
        self._reads: dict[Hashable, _Read[object]] = {}

    async def read(self, key: Hashable, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of ``call``, or of an equal read in flight.

        Args:
            key: identifies the read. Reads with equal keys are equal.
            call: sends the request, and returns the value.

        Raises:
            HaulError: ``call`` raised this error. All callers of the read receive it.
        """
        # Equal keys stand for equal reads, which have results of one type.
        shared = cast("_Read[T]", self._reads.setdefault(key, _Read()))
        shared.waiting += 1
        try:
            async with shared.lock:
                if not shared.result and shared.failure is None:
                    await self._run(key, shared, call)
        finally:
            shared.waiting -= 1
            if shared.waiting == 0:
                self._forget(key, shared)
        if shared.failure is not None:
            raise shared.failure
        return shared.result[0]

    async def _run(self, key: Hashable, shared: _Read[T], call: Callable[[], Awaitable[T]]) -> None:
        try:
            shared.result.append(await call())
        except HaulError as error:
            shared.failure = error
        # A later caller must start a new read, because the value may change after this one.
        self._forget(key, shared)

    def _forget(self, key: Hashable, shared: object) -> None:
        if self._reads.get(key) is shared:
            del self._reads[key]
