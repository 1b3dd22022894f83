"""Runs jobs ahead of their consumer, within a bound, and yields the results in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from functools import partial
from typing import TypeVar

from aiohaul.cancellation import run_shielded
from aiohaul.s3.streaming.cleanup import GRACE

T = TypeVar("T")

#: A job, and its cost: bytes of memory, or 1 where jobs are counted.
Job = tuple[int, Callable[[], Awaitable[T]]]


async def prefetched(jobs: Iterable[Job[T]], budget: int) -> AsyncGenerator[T, None]:
    """Run jobs concurrently, and yield their results in the order of the jobs.

    Jobs start while the costs of unfinished jobs, and of results that the consumer has not taken
    yet, are within the budget. One job runs in any case. Plain tasks run the jobs, because a task
    group must not span a ``yield``. When the generator ends, fails or is closed, the tasks are
    cancelled, and have ended when the generator returns.

    Args:
        jobs: the jobs, read as they are started.
        budget: the maximum total cost.

    Raises:
        Exception: the exception of the first job, in their order, that failed.
    """
    remaining = iter(jobs)
    running: deque[tuple[int, asyncio.Task[T]]] = deque()
    used = 0
    following = next(remaining, None)
    try:
        while following is not None or running:
            while following is not None and (not running or used + following[0] <= budget):
                cost, job = following
                running.append((cost, asyncio.create_task(_run(job))))
                used += cost
                following = next(remaining, None)
            cost, task = running[0]
            await asyncio.wait((task,))
            result = task.result()
            running.popleft()
            del task
            yield result
            del result
            used -= cost
    finally:
        await _end([task for _, task in running])


async def _run(job: Callable[[], Awaitable[T]]) -> T:
    return await job()


async def _end(tasks: list[asyncio.Task[T]]) -> None:
    """Cancel tasks, and wait until they have ended."""
    pending = [task for task in tasks if not task.done()]
    for task in pending:
        task.cancel()
    try:
        if pending:
            await run_shielded(partial(_wait, pending), GRACE)
    finally:
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()  # or asyncio would log that nobody has retrieved it


async def _wait(tasks: list[asyncio.Task[T]]) -> None:
    await asyncio.wait(tasks)
