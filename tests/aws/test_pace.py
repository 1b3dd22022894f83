"""The pace of requests: how throttling slows it down, and how it recovers."""

from __future__ import annotations

import anyio
import anyio.lowlevel

from aiohaul.aws.adaptive_limiter import AdaptiveLimiter


async def test_throttling_halves_the_pace_once_for_all_that_was_under_way() -> None:
    pace = AdaptiveLimiter(256)
    async with pace.slot() as first, pace.slot() as second:
        await anyio.sleep(0.001)
    pace.on_throttled(first)
    pace.on_throttled(second)
    assert pace.limit == 128
    await anyio.sleep(0.001)
    async with pace.slot() as later:
        pace.on_throttled(later)
    assert pace.limit == 64


async def test_pace_recovers_step_by_step_and_never_beyond_the_most() -> None:
    pace = AdaptiveLimiter(64)
    for _ in range(20):
        await anyio.sleep(0.0001)
        async with pace.slot() as since:
            pace.on_throttled(since)
    assert pace.limit == 1
    seen = []
    for _ in range(5000):
        pace.on_success()
        seen.append(pace.limit)
    assert seen == sorted(seen)
    assert seen[-1] == 64


async def test_lower_pace_is_kept_by_those_that_wait() -> None:
    pace = AdaptiveLimiter(4)
    most = 0

    async def request() -> None:
        nonlocal most
        async with pace.slot():
            most = max(most, pace.in_flight)
            await anyio.lowlevel.checkpoint()

    async with pace.slot() as since:
        await anyio.sleep(0.001)
    pace.on_throttled(since)
    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(request)
    assert most == 2
    assert pace.in_flight == 0
