"""Looking again and again, until there is something or the time is up."""

from __future__ import annotations

import itertools
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from aiohaul.errors import EndpointError, ServiceError, WatchTimeoutError
from aiohaul.progress import OnProgress, Watching

T = TypeVar("T")

#: A look that is under way at the timeout may finish, within this many seconds.
OVERRUN = 60.0


async def look_until_found(
    look: Callable[[], Awaitable[T | None]],
    *,
    where: str,
    timeout: float,
    interval: float,
    on_progress: OnProgress,
) -> T:
    """Look again and again until something is found.

    It looks at once, then every ``interval``, and for the last time when the timeout is reached.
    A look that fails for a passing reason (throttled, 5xx, no answer) counts as one that found
    nothing.

    Args:
        look: returns what was found, or None.
        where: what is looked at, for messages.
        timeout: seconds; 0 looks once.
        interval: seconds from the start of one look to the start of the next.
        on_progress: told of every look that found nothing.

    Raises:
        WatchTimeoutError: nothing was found until the timeout.
        ServiceError: a look failed for a reason that does not pass by itself, or the last one
            failed for any: then nobody knows what is there.
    """
    start = anyio.current_time()
    deadline = start + timeout
    failure: ServiceError | None = None
    for turn in itertools.count(1):
        with anyio.CancelScope(deadline=max(deadline, anyio.current_time()) + OVERRUN) as scope:
            try:
                found = await look()
            except ServiceError as error:
                if not error.retryable:
                    raise
                failure = error
            else:
                failure = None
                if found is not None:
                    return found
        now = anyio.current_time()
        if scope.cancelled_caught:
            failure = failure or no_answer(where)
            break
        if now >= deadline:
            break
        on_progress(Watching(where, deadline - now, failure))
        # A look that took longer than the interval is followed by the next one at once.
        due = start + turn * interval
        await anyio.sleep_until(min(max(due, now), deadline))
    if failure is not None:
        raise failure
    raise nothing_found(where, timeout)


def nothing_found(where: str, timeout: float) -> WatchTimeoutError:
    """The error of a watch whose time is up."""
    return WatchTimeoutError(f"nothing matched in {where} within {math.ceil(timeout)} s")


def no_answer(where: str) -> EndpointError:
    """The error of a watch whose time is up, and whose last look had no answer."""
    return EndpointError(
        f"no whole answer came until {OVERRUN:.0f} s after the watch's timeout.",
        operation="watching",
        target=where,
        code="TimeoutError",
        retryable=True,
    )
