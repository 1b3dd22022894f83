"""What comes in thousands shares out the turns of the event loop."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self

import pytest

from aiohaul import concurrency
from aiohaul.concurrency import Paced, yield_if_busy


class Clock:
    """Stands still but for the work that is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(concurrency, "perf_counter", lambda: self.now)

    def work(self) -> None:
        """A millisecond of it."""
        self.now += 0.001


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class Turns:
    """Counts the turns that something else gets, until it is cancelled; a context manager."""

    def __init__(self, clock: Clock) -> None:
        self.count = 0
        self.longest = 0.0
        self._clock = clock

    async def __aenter__(self) -> Self:
        self._task = asyncio.ensure_future(self._run())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        last = self._clock.now
        while True:
            await asyncio.sleep(0)
            self.longest = max(self.longest, self._clock.now - last)
            last = self._clock.now
            self.count += 1


async def test_what_becomes_ready_together_goes_on_in_order_a_few_in_each_turn(
    clock: Clock,
) -> None:
    order: list[int] = []

    async def step(number: int) -> None:
        await yield_if_busy()
        clock.work()
        order.append(number)

    async with Turns(clock) as turns:
        await asyncio.gather(*map(step, range(1000)))
    assert order == [*range(1000)]
    assert turns.longest < 0.02
    assert turns.count > 100


async def test_whoever_is_cancelled_holds_up_nobody(clock: Clock) -> None:
    done: list[int] = []

    async def step(number: int) -> None:
        await yield_if_busy()
        clock.work()
        done.append(number)

    tasks = [asyncio.ensure_future(step(number)) for number in range(300)]
    await asyncio.sleep(0)
    for each in tasks[::2]:
        each.cancel()
    await asyncio.wait(tasks, timeout=20)
    assert {*done} >= {*range(1, 300, 2)}
    assert all(each.done() for each in tasks)


async def test_little_work_takes_no_turn(clock: Clock) -> None:
    async with Turns(clock) as turns:
        before = turns.count
        for _ in range(1000):
            await yield_if_busy()
        assert turns.count == before


async def test_many_items_are_gone_through_with_turns_in_between(clock: Clock) -> None:
    seen: list[int] = []
    async with Turns(clock) as turns:
        async for each in Paced(range(2000)):
            clock.now += 0.00001
            seen.append(each)
    assert seen == [*range(2000)]
    assert turns.longest < 0.01
    nothing: list[int] = []
    assert [each async for each in Paced(nothing)] == nothing


def test_each_loop_has_turns_of_its_own(clock: Clock) -> None:
    async def steps() -> None:
        for _ in range(10):
            clock.work()
            await asyncio.wait_for(yield_if_busy(), 20)

    for _ in range(3):
        asyncio.run(steps())
