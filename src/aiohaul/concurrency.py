"""Small tools for structured concurrency that anyio does not have."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import anyio

from aiohaul.errors import HaulError

T = TypeVar("T")


async def work(jobs: Iterable[Callable[[], Awaitable[None]]], width: int) -> None:
    """Do all jobs, at most ``width`` at once, each made only when its turn has come.

    Raises:
        HaulError: the first that a job raised; the others are cancelled then.
    """
    turns = iter(jobs)
    failures: list[HaulError] = []

    async def worker() -> None:
        for job in turns:
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


async def to_its_end(
    call: Callable[[], Awaitable[T]],
    grace: float | Callable[[], float],
    keep: Callable[[T], None],
    within: float = math.inf,
) -> None:
    """Await ``call`` to its end even when cancelled, and hand its result to ``keep``.

    For a request whose answer is needed to undo it: the id of an upload that was started. Once
    the caller is cancelled, ``call`` has ``grace`` more seconds (or what that gives then); then the
    cancellation goes on.
    In all it has ``within`` seconds; what is not done by then is given up without a word.

    It runs in a task of its own: a shield around the caller would not hold off asyncio's own
    ``task.cancel()``.
    """
    shield = anyio.CancelScope(shield=True, deadline=anyio.current_time() + within)
    ended = anyio.Event()
    failures: list[Exception] = []

    async def run() -> None:
        try:
            with shield:
                keep(await call())
        except Exception as error:  # noqa: BLE001  # raised below, outside of an exception group
            failures.append(error)
        finally:
            ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        try:
            await ended.wait()
        finally:
            more = grace() if callable(grace) else grace
            shield.deadline = min(shield.deadline, anyio.current_time() + more)
    if failures:
        raise failures[0]


class Budget:
    """A number of bytes that may be in memory at once, given out in the order of asking."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = size
        self._turn = anyio.Lock()
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
