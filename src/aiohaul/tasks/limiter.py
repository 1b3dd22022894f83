"""Limits the number of concurrent tasks of a batch, including those of inner batches."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from heapq import heappop, heappush

#: The default of ``max_concurrency``. It is the number of concurrent requests of a Session, and a
#: quarter of the Lambda functions that an AWS account may run concurrently.
DEFAULT_MAX_CONCURRENCY = 256

#: Returns a context manager that waits for a permit on entry, and releases the permit on exit.
Slot = Callable[[], AbstractAsyncContextManager[None]]


class Permit:
    """The permission for one task to run. Created by :meth:`TaskLimiter.request`.

    A permit is first requested, then held, and at last closed.

    Attributes:
        priority: the position in the queue. The permit with the smallest priority is granted first.
        held: True from the grant until the release.
        closed: True after the permit was released, cancelled or transferred.
    """

    __slots__ = ("_limiter", "_on_grant", "closed", "held", "priority")

    def __init__(
        self, limiter: TaskLimiter, priority: tuple[int, ...], on_grant: Callable[[], object]
    ) -> None:
        self.priority = priority
        self.held = False
        self.closed = False
        self._limiter = limiter
        self._on_grant = on_grant

    def __lt__(self, other: Permit) -> bool:
        return self.priority < other.priority

    def grant(self) -> None:
        """Mark the permit as held, and call ``on_grant``."""
        self.held = True
        self._on_grant()

    def cancel(self) -> None:
        """Withdraw the request for the permit, if the permit is not held."""
        if not self.held:
            self.closed = True

    def transfer_to(self, other: Permit) -> None:
        """Close this permit, and grant the other permit instead."""
        self.held, self.closed = False, True
        other.grant()

    def release(self) -> None:
        """Close the permit; if it was held, grant the next permit. May be called more than once."""
        held, self.held = self.held, False
        self.closed = True
        if held:
            self._limiter.release_slot()


class TaskLimiter:
    """Grants a limited number of permits by priority. A queued request needs no asyncio task.

    To prevent a deadlock, a task that holds a permit must not wait for the permit of another task.
    Therefore an inner batch transfers its permit to its first task, and continues without a permit.

    Args:
        total: the maximum number of permits that are held concurrently, 1 or more.
    """

    def __init__(self, total: int) -> None:
        self._free = total
        self._queue: list[Permit] = []

    def request(
        self,
        priority: tuple[int, ...],
        on_grant: Callable[[], object],
        inherited: Permit | None = None,
    ) -> Permit:
        """Request a permit.

        Args:
            priority: the position in the queue, smallest first. The priority of a task in an inner
                batch begins with the priority of that batch, so that a batch that has started ends
                before other batches start.
            on_grant: called when the permit is granted, perhaps during this call. Must not raise.
            inherited: an older permit. If the older permit is still held, the new permit replaces
                it, and does not queue.
        """
        permit = Permit(self, priority, on_grant)
        if inherited is not None and inherited.held:
            inherited.transfer_to(permit)
        else:
            heappush(self._queue, permit)
            self._grant_next()
        return permit

    def release_slot(self) -> None:
        """Count a released permit as free, and grant the next permit."""
        self._free += 1
        self._grant_next()

    def _grant_next(self) -> None:
        while self._queue and self._free:
            permit = heappop(self._queue)
            if not permit.closed:
                self._free -= 1
                permit.grant()
