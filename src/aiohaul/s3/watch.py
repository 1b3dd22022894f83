"""Waiting until what is waited for is there."""

from __future__ import annotations

import itertools
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from aiohaul.errors import ServiceError, WatchTimeoutError
from aiohaul.progress import OnProgress, Watching

T = TypeVar("T")

#: A look that is under way at the timeout may finish, within this many seconds.
_OVERRUN = 60.0


async def wait_until_found(
    look: Callable[[], Awaitable[list[T]]],
    *,
    where: str,
    timeout: float,
    interval: float,
    on_progress: OnProgress,
) -> list[T]:
    """Look again and again until something is found.

    It looks at once, then every ``interval``, and for the last time when the timeout is reached.
    A look that fails for a passing reason (throttled, 5xx, no answer) counts as one that found
    nothing.

    Args:
        look: returns what is there and counts.
        where: what is looked at, for messages.
        timeout: seconds; 0 looks once.
        interval: seconds from the start of one look to the start of the next.
        on_progress: told of every look that found nothing.

    Raises:
        WatchTimeoutError: nothing was there until the timeout.
        ServiceError: a look failed for a reason that does not pass by itself, or the last one
            failed for any: then nobody knows what is there.
    """
    start = anyio.current_time()
    deadline = start + timeout
    failure: ServiceError | None = None
    for turn in itertools.count(1):
        try:
            found = await _look_within(look, max(deadline - anyio.current_time(), 0) + _OVERRUN)
        except ServiceError as error:
            if not error.retryable:
                raise
            failure = error
        else:
            failure = None
            if found:
                return found
        now = anyio.current_time()
        if now >= deadline:
            break
        on_progress(Watching(where, deadline - now, failure))
        # A look that took longer than the interval is followed by the next one at once.
        due = start + turn * interval
        await anyio.sleep_until(min(max(due, now), deadline))
    if failure is not None:
        raise failure
    raise WatchTimeoutError(f"nothing matched in {where} within {math.ceil(timeout)} s")


async def _look_within(look: Callable[[], Awaitable[list[T]]], seconds: float) -> list[T]:
    with anyio.move_on_after(seconds):
        return await look()
    return []
