"""Polls a resource until there is a result or a timeout."""

from __future__ import annotations

import itertools
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from aiohaul.errors import EndpointError, ServiceError, WatchTimeoutError
from aiohaul.progress import OnProgress, WatchPolled

T = TypeVar("T")

#: The number of seconds after the timeout until a running poll is cancelled.
GRACE = 60.0


async def poll_until(
    poll: Callable[[], Awaitable[T | None]],
    *,
    where: str,
    timeout: float,
    interval: float,
    on_progress: OnProgress,
) -> T:
    """Poll a resource until there is a result, and return the result.

    The first poll starts at once, the next ones after each ``interval``, and the last one at the
    timeout. A poll that fails with a transient error (throttled, 5xx, no response) counts as a poll
    without a result.

    Args:
        poll: returns the result, or None.
        where: the name of the resource in messages, such as ``s3://bucket/key``.
        timeout: the seconds to wait; 0 polls once.
        interval: the seconds from the start of one poll to the start of the next.
        on_progress: called after every poll without a result.

    Raises:
        WatchTimeoutError: there was no result before the timeout.
        ServiceError: a poll failed with an error that is not transient; or the last poll failed, so
            the state of the resource is unknown.
    """
    start = anyio.current_time()
    deadline = start + timeout
    failure: ServiceError | None = None
    for number in itertools.count(1):
        with anyio.CancelScope(deadline=max(deadline, anyio.current_time()) + GRACE) as scope:
            try:
                found = await poll()
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
            failure = failure or no_answer_error(where)
            break
        if now >= deadline:
            break
        on_progress(WatchPolled(where, deadline - now, failure))
        # After a poll that took longer than the interval, the next one starts at once.
        due = start + number * interval
        await anyio.sleep_until(min(max(due, now), deadline))
    if failure is not None:
        raise failure
    raise timeout_error(where, timeout)


def timeout_error(where: str, timeout: float) -> WatchTimeoutError:
    """Return the error of a wait that had no result before the timeout."""
    return WatchTimeoutError(f"nothing matched in {where} within {math.ceil(timeout)} s")


def no_answer_error(where: str) -> EndpointError:
    """Return the error for a wait that timed out, and whose last poll got no complete response."""
    return EndpointError(
        f"the last poll had no complete response {GRACE:.0f} s after the timeout.",
        operation="watching",
        target=where,
        code="TimeoutError",
        retryable=True,
    )
