"""Cleans up after a copy that failed or was cancelled."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from aiohaul.cancellation import run_shielded
from aiohaul.concurrency import run_limited
from aiohaul.errors import HaulError

#: The maximum seconds of cleanup in a cancelled task, because the task must end within one second.
GRACE = 0.4

_log = logging.getLogger(__name__)

Discard = Callable[[], Awaitable[None]]


async def discard_all(discards: Sequence[Discard]) -> None:
    """Run all cleanups concurrently, even if the task is cancelled.

    The failure of a cleanup is logged and not raised, so that the caller's own error is raised.
    """

    async def discard(one: Discard) -> None:
        try:
            await one()
        except HaulError as error:
            _log.warning(
                "cleaning up an unfinished copy failed, and an upload or a partial file may"
                " remain: %s",
                error,
            )

    if discards:
        jobs = [partial(discard, each) for each in discards]
        await run_shielded(lambda: run_limited(jobs, len(jobs)), GRACE)


@asynccontextmanager
async def discarded(discard: Discard) -> AsyncIterator[None]:
    """Run a cleanup if the ``async with`` block raises or is cancelled."""
    try:
        yield
    except BaseException:
        await discard_all([discard])
        raise
