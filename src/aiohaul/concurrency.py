"""Tools for structured concurrency that anyio does not have: limiters, races and shared work."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from time import perf_counter
from typing import Generic, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import anyio

from aiohaul.errors import HaulError, SessionError

#: If a loop iteration takes longer than this (in seconds), :func:`yield_if_busy` waits.
_LONG_ITERATION = 0.003
#: The number of items between two calls of :func:`yield_if_busy`.
_CHECK_EVERY = 200

T = TypeVar("T")
P = ParamSpec("P")


class _LoopYielder:
    """Spreads the steps of many tasks over the iterations of one event loop.

    After a long iteration, the next one wakes as many tasks as ran in the long iteration; after a
    short one, twice as many. This number is measured, because a task runs one iteration after it is
    woken.
    """

    def __init__(self) -> None:
        self._began: float | None = None
        self._passed = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Return at once if this iteration is short so far, or else in a later iteration."""
        if self._began is None:
            self._begin()
        elif self._waiting or perf_counter() - self._began > _LONG_ITERATION:
            later = asyncio.get_running_loop().create_future()
            self._waiting.append(later)
            await later
        self._passed += 1

    def _begin(self) -> None:
        self._began = perf_counter()
        self._passed = 0
        asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        """Wake waiting tasks. The event loop calls this method in the next iteration."""
        began, self._began = self._began, None
        if not self._waiting or began is None:
            return
        share = self._passed if perf_counter() - began > _LONG_ITERATION else 2 * self._passed
        self._begin()
        for _ in range(min(max(share, 1), len(self._waiting))):
            later = self._waiting.popleft()
            if not later.done():  # else it was cancelled
                later.set_result(None)


_yielders: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopYielder] = WeakKeyDictionary()


async def yield_if_busy() -> None:
    """Wait for a later iteration of the event loop if the current iteration is long.

    Called before each request, copy or change, of which there may be thousands. Without this call,
    all tasks that become ready together would run before the loop handles any other event. Tasks
    continue in the order of their calls.
    """
    loop = asyncio.get_running_loop()
    yielder = _yielders.get(loop)
    if yielder is None:
        yielder = _yielders[loop] = _LoopYielder()
    await yielder.wait()


class Paced(AsyncIterator[T]):
    """Iterates over many items, and calls :func:`yield_if_busy` after every 200 items."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)
        self._count = 0

    async def __anext__(self) -> T:
        self._count += 1
        if self._count % _CHECK_EVERY == 0:
            await yield_if_busy()
        for each in self._items:
            return each
        raise StopAsyncIteration


async def run_limited(jobs: Iterable[Callable[[], Awaitable[None]]], width: int) -> None:
    """Run all jobs, at most ``width`` of them concurrently.

    Args:
        jobs: the jobs. The next job is read from the iterable when a job has ended.
        width: the maximum number of concurrent jobs.

    Raises:
        HaulError: a job raised this error, and the other jobs were cancelled.
    """
    remaining = iter(jobs)
    failures: list[HaulError] = []

    async def worker() -> None:
        for job in remaining:
            await yield_if_busy()
            try:
                await job()
            except HaulError as error:
                failures.append(error)
                tasks.cancel_scope.cancel()
                return

    async with anyio.create_task_group() as tasks:
        for _ in range(width):
            tasks.start_soon(worker)
    if failures:
        raise failures[0]


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the running event loop of asyncio.

    Raises:
        SessionError: no event loop of asyncio is running in this thread.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError as error:
        raise SessionError(
            "aiohaul needs a running event loop of asyncio, and none is running here. Start it"
            " with asyncio.run(...), or with anyio.run(..., backend='asyncio'). From trio, run it"
            " in a thread: await trio.to_thread.run_sync(asyncio.run, main())"
        ) from error


async def race(*calls: Callable[[], Awaitable[None]]) -> None:
    """Run all calls concurrently, and cancel the others when the first one ends.

    Raises:
        Exception: the first exception that a call raised, not in an exception group.
    """
    failures: list[Exception] = []
    async with anyio.create_task_group() as tasks:

        async def run(call: Callable[[], Awaitable[None]]) -> None:
            try:
                await call()
            except Exception as error:  # noqa: BLE001  # raised below, outside of an exception group
                failures.append(error)
            tasks.cancel_scope.cancel()

        for call in calls:
            tasks.start_soon(run, call)
    if failures:
        raise failures[0]


class FifoLimiter:
    """A semaphore that lets a number of tasks run concurrently, in first in, first out order.

    Each task holds a slot while it runs. If a slot is free, :meth:`acquire` returns without an
    iteration of the event loop. anyio's CapacityLimiter always takes an iteration, which is a
    considerable part of the cost of a small request. If a task is cancelled in the iteration in
    which it gets a slot, the next task gets this slot.

    Args:
        total: the number of slots, 1 or more.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._held = 0
        #: Waiting tasks, in the order of their calls. An OrderedDict removes any entry in constant
        #: time.
        self._waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    @property
    def total(self) -> int:
        """The number of slots. A lower number does not affect tasks that already hold a slot."""
        return self._total

    @total.setter
    def total(self, total: int) -> None:
        self._total = total
        self._grant()

    @property
    def held(self) -> int:
        """The number of slots that tasks hold."""
        return self._held

    async def acquire(self) -> None:
        """Wait for a free slot, and acquire it."""
        if self._held < self._total:  # then no other task waits
            self._held += 1
            return
        granted = asyncio.get_running_loop().create_future()
        self._waiting[granted] = None
        try:
            await granted
        except asyncio.CancelledError:
            self._waiting.pop(granted, None)
            if not granted.cancelled():  # the slot was granted in the same loop iteration
                self.release()
            raise

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Release a slot, which the longest waiting task then acquires."""
        self._held -= 1
        self._grant()

    def _grant(self) -> None:
        while self._waiting and self._held < self._total:
            granted, _ = self._waiting.popitem(last=False)
            if not granted.done():  # else the wait was cancelled, and its task has not run since
                self._held += 1
                granted.set_result(None)


class Lock(FifoLimiter):
    """A mutex. Before anyio 4.13, a cancellation could leave ``anyio.Lock`` locked forever."""

    def __init__(self) -> None:
        super().__init__(1)


class MemoryLimiter:
    """A semaphore that counts bytes of memory, in first in, first out order.

    Args:
        size: the maximum number of bytes in use.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._available = size
        self._lock = Lock()
        self._freed = anyio.Event()

    async def acquire(self, size: int) -> int:
        """Wait until ``size`` bytes are available, and acquire them.

        Returns:
            The number of bytes to pass to :meth:`release`: ``size``, or the limit if it is lower.
        """
        size = min(size, self._size)
        async with self._lock:
            while self._available < size:
                self._freed = anyio.Event()
                await self._freed.wait()
            self._available -= size
        return size

    def release(self, size: int) -> None:
        """Release acquired bytes."""
        self._available += size
        self._freed.set()


class Waiter:
    """A task's entry in a :class:`LeaderQueue`. The task waits until the entry is settled.

    Attributes:
        settled: True if the wait has ended.
    """

    def __init__(self) -> None:
        self.settled = False
        self._woken = anyio.Event()

    def wake(self) -> None:
        """Wake the waiting task, which then checks whether the entry is settled."""
        self._woken.set()

    def settle(self) -> None:
        """End the wait."""
        self.settled = True
        self.wake()

    async def wait_woken(self) -> None:
        """Wait for the next :meth:`wake`."""
        await self._woken.wait()
        self._woken = anyio.Event()

    def on_wake(self) -> None:
        """Called in the waiting task after each wake, and after each step of the leader."""


V = TypeVar("V", bound=Waiter)


class LeaderQueue(Generic[V]):
    """A queue of waiters that share work, which one of them does for all.

    The waiter that does the work in its own task is the leader. When the leader is settled or
    cancelled, the next waiter becomes the leader. The queue itself starts no task, so the work
    stops when no waiter is left.
    """

    def __init__(self) -> None:
        self._waiting: dict[V, None] = {}
        self._leader: V | None = None

    def __iter__(self) -> Iterator[V]:
        return iter(self._waiting)

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, waiter: object) -> bool:
        return waiter in self._waiting

    async def wait(
        self, waiter: V, step: Callable[[], Awaitable[None]], belongs: Callable[[], bool]
    ) -> None:
        """Wait until the waiter is settled, and do the shared work while the waiter is the leader.

        Args:
            waiter: the waiter of this task.
            step: does one step of the shared work, which may settle and wake waiters.
            belongs: returns False if the waiter has moved to another queue; called at each wake.
        """
        self._waiting[waiter] = None
        try:
            while not waiter.settled and belongs():
                if self._leader is None:
                    self._leader = waiter
                if self._leader is waiter:
                    await step()
                else:
                    await waiter.wait_woken()
                waiter.on_wake()
        finally:
            del self._waiting[waiter]
            if self._leader is waiter:
                self._leader = next(iter(self._waiting), None)
                if self._leader is not None:
                    self._leader.wake()
