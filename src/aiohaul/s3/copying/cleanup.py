"""Leaving nothing behind: what is done when a copy is not finished, however that came about."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from aiohaul.cancellation import to_its_end
from aiohaul.concurrency import work
from aiohaul.errors import HaulError

#: Seconds that this may take once the caller is cancelled: a cancelled task must end within one.
GRACE = 0.4

_log = logging.getLogger(__name__)

Discard = Callable[[], Awaitable[None]]


async def discard_all(discards: Sequence[Discard]) -> None:
    """Do all of these, cancelled or not. What fails is logged: another failure led here."""

    async def discard(one: Discard) -> None:
        try:
            await one()
        except HaulError as error:
            _log.warning("an upload or a file was left behind: %s", error)

    if discards:
        jobs = [partial(discard, each) for each in discards]
        await to_its_end(lambda: work(jobs, len(jobs)), GRACE, lambda _: None)


@asynccontextmanager
async def discarded(discard: Discard) -> AsyncIterator[None]:
    """Do this if the block is not left by its end."""
    try:
        yield
    except BaseException:
        await discard_all([discard])
        raise
