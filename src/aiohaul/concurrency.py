"""Small tools for structured concurrency that anyio does not have."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from time import perf_counter
from typing import Generic, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import anyio

from aiohaul.errors import HaulError, SessionError

#: Seconds of a turn of the event loop after which what can wait is left to the next one.
_LONG_TURN = 0.003
#: Items of many that are gone through before it is asked whether the loop should have a turn.
_STEP = 200

T = TypeVar("T")
P = ParamSpec("P")


class _Turns:
    """The turns of an event loop, and who waits for a later one.

    As many go on in a turn as took up the last long one: that is found out, and not asked of the
    loop, for who is woken runs a turn later.
    """

    def __init__(self) -> None:
        self._began: float | None = None
        self._passed = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Take a part of this turn, or of a later one."""
        if self._began is None:
            self._begin()
        elif self._waiting or perf_counter() - self._began > _LONG_TURN:
            later = asyncio.get_running_loop().create_future()
            self._waiting.append(later)
            await later
        self._passed += 1

    def _begin(self) -> None:
        self._began = perf_counter()
        self._passed = 0
        asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        """The next turn has come."""
        began, self._began = self._began, None
        if not self._waiting or began is None:
            return
        share = self._passed if perf_counter() - began > _LONG_TURN else 2 * self._passed
        self._begin()
        for _ in range(min(max(share, 1), len(self._waiting))):
            later = self._waiting.popleft()
            if not later.done():  # else it was cancelled
                later.set_result(None)


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns] = WeakKeyDictionary()


async def give_way() -> None:
    """Wait for a later turn of the event loop, if what calls this has taken up much of this one.

    For each step of what may come in thousands: a request, a copy, a change. Tasks that become
    ready together would else all run before anything else does. They go on in the order in which
    they came, as many in a turn as there is time for.
    """
    loop = asyncio.get_running_loop()
    turns = _turns.get(loop)
    if turns is None:
        turns = _turns[loop] = _Turns()
    await turns.take()


class Paced(AsyncIterator[T]):
    """Many items, one by one; from time to time :func:`give_way`. Nothing of it needs closing."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)
        self._count = 0

    async def __anext__(self) -> T:
        self._count += 1
        if self._count % _STEP == 0:
            await give_way()
        for each in self._items:
            return each
        raise StopAsyncIteration


async def work(jobs: Iterable[Callable[[], Awaitable[None]]], width: int) -> None:
    """Do all jobs, at most ``width`` at once, each made only when its turn has come.

    Raises:
        HaulError: the first that a job raised; the others are cancelled then.
    """
    turns = iter(jobs)
    failures: list[HaulError] = []

    async def worker() -> None:
        for job in turns:
            await give_way()
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
    """The running event loop of asyncio.

    Raises:
        SessionError: there is none, as under trio.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError as error:
        raise SessionError(
            "aiohaul runs in an event loop of asyncio, and none is running here. Start it with"
            " asyncio.run(...), or with anyio.run(..., backend='asyncio'). From trio, give it a"
            " thread: await trio.to_thread.run_sync(asyncio.run, work())"
        ) from error


async def first_of(*calls: Callable[[], Awaitable[None]]) -> None:
    """Await these together until one of them ends, and cancel the others.

    Raises:
        Exception: what the first one raises that fails, outside of an exception group.
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


class Slots:
    """A number of slots, given out in the order of asking.

    A free one is had at once, where anyio's own limiter takes a turn of the event loop for each:
    that is a good part of what a small request costs. Whoever is cancelled while a slot is being
    handed over hands it on.

    Args:
        total: slots, 1 or more.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._held = 0
        #: in order; an OrderedDict is left from anywhere in it, and from its head, at the same cost
        self._waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    @property
    def total(self) -> int:
        """How many there are. Lowering it takes none from those that hold one."""
        return self._total

    @total.setter
    def total(self, total: int) -> None:
        self._total = total
        self._hand_on()

    @property
    def held(self) -> int:
        """How many are held."""
        return self._held

    async def acquire(self) -> None:
        """Wait for a slot, and hold it."""
        if self._held < self._total:  # then nobody waits
            self._held += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = None
        try:
            await turn
        except asyncio.CancelledError:
            self._waiting.pop(turn, None)
            if not turn.cancelled():  # it was handed over at that very moment
                self.release()
            raise

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Give a slot back."""
        self._held -= 1
        self._hand_on()

    def _hand_on(self) -> None:
        while self._waiting and self._held < self._total:
            turn, _ = self._waiting.popitem(last=False)
            if not turn.done():  # else it was cancelled, and its task has not run since
                self._held += 1
                turn.set_result(None)


class Lock(Slots):
    """One slot: whoever holds it is alone. Those of anyio before 4.13 could be lost by a cancel."""

    def __init__(self) -> None:
        super().__init__(1)


class Budget:
    """A number of bytes that may be in memory at once, given out in the order of asking."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = size
        self._turn = Lock()
        self._freed = anyio.Event()

    async def take(self, size: int) -> int:
        """Wait until ``size`` bytes (at most all of them) are free, and take them.

        Returns:
            The bytes to give back.
        """
        size = min(size, self._size)
        async with self._turn:
            while self._free < size:
                self._freed = anyio.Event()
                await self._freed.wait()
            self._free -= size
        return size

    def give_back(self, size: int) -> None:
        """Give back what was taken."""
        self._free += size
        self._freed.set()


class Place:
    """The place on a rota of one who waits until it is settled.

    Attributes:
        settled: True once there is nothing more to wait for.
    """

    def __init__(self) -> None:
        self.settled = False
        self._called = anyio.Event()

    def call(self) -> None:
        """Have the one who waits here look up."""
        self._called.set()

    def settle(self) -> None:
        """There is nothing more to wait for."""
        self.settled = True
        self.call()

    async def called(self) -> None:
        """Wait for the next call."""
        await self._called.wait()
        self._called = anyio.Event()

    def heard(self) -> None:
        """Called in the task that waits here, whenever it looks up."""


V = TypeVar("V", bound=Place)


class Rota(Generic[V]):
    """Those who wait for shared work; one of them does it for all, in its own task.

    No task of its own runs here. When the one on duty has what it waited for, or is cancelled,
    the next in line is on duty. When nobody waits, nobody works.
    """

    def __init__(self) -> None:
        self._waiting: dict[V, None] = {}
        self._on_duty: V | None = None

    def __iter__(self) -> Iterator[V]:
        return iter(self._waiting)

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, place: object) -> bool:
        return place in self._waiting

    async def wait(
        self, place: V, work: Callable[[], Awaitable[None]], stays: Callable[[], bool]
    ) -> None:
        """Wait until the place is settled, and work when on duty.

        Args:
            place: of the one who waits.
            work: one step of the work; it settles and calls the places of others.
            stays: False once the one who waits belongs to another rota; ask again at each call.
        """
        self._waiting[place] = None
        try:
            while not place.settled and stays():
                if self._on_duty is None:
                    self._on_duty = place
                if self._on_duty is place:
                    await work()
                else:
                    await place.called()
                place.heard()
        finally:
            del self._waiting[place]
            if self._on_duty is place:
                self._on_duty = next(iter(self._waiting), None)
                if self._on_duty is not None:
                    self._on_duty.call()
