"""Slots: in the order of asking, and none is lost when whoever waits is cancelled."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import suppress

import anyio
import pytest

from aiohaul.concurrency import FifoLimiter
from aiohaul.errors import BucketNotFoundError, HaulError
from aiohaul.s3.streaming.limiter import DestinationLimiter


async def settled() -> None:
    """Let every task that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_free_slot_is_had_without_a_turn_of_the_loop() -> None:
    slots = FifoLimiter(2)
    for _ in range(2):
        with pytest.raises(StopIteration):
            slots.acquire().send(None)
    assert slots.held == 2


async def test_slots_go_in_the_order_of_asking() -> None:
    slots, order = FifoLimiter(1), []

    async def take(name: str) -> None:
        await slots.acquire()
        order.append(name)
        slots.release()

    await slots.acquire()
    async with anyio.create_task_group() as tasks:
        for name in "abc":
            tasks.start_soon(take, name)
        await settled()
        assert not order
        slots.release()
    assert order == ["a", "b", "c"]
    assert slots.held == 0


async def test_one_who_asks_later_does_not_overtake_one_whose_turn_it_is() -> None:
    slots, order = FifoLimiter(1), []

    async def take(name: str) -> None:
        await slots.acquire()
        order.append(name)

    await slots.acquire()
    first = asyncio.create_task(take("first"))
    await settled()
    slots.release()  # handed to the first, which has not run yet
    second = asyncio.create_task(take("second"))
    await settled()
    assert order == ["first"]
    slots.release()
    await asyncio.gather(first, second)
    assert order == ["first", "second"]


async def test_slot_is_not_lost_when_cancelled_while_it_is_handed_over() -> None:
    slots = FifoLimiter(1)
    await slots.acquire()
    waiting = asyncio.create_task(slots.acquire())
    await settled()
    slots.release()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert slots.held == 0
    await asyncio.wait_for(slots.acquire(), 1)


async def test_slot_of_the_cancelled_goes_to_the_next_in_line() -> None:
    slots = FifoLimiter(1)
    await slots.acquire()
    waiting = [asyncio.create_task(slots.acquire()) for _ in range(3)]
    await settled()
    slots.release()  # to the first, who is cancelled before it runs; so is the second
    waiting[0].cancel()
    waiting[1].cancel()
    await asyncio.wait(waiting, timeout=1)
    assert [each.cancelled() for each in waiting] == [True, True, False]
    assert slots.held == 1


async def test_cancelled_ones_in_line_do_not_hold_up_those_who_ask_later() -> None:
    slots = FifoLimiter(1)
    await slots.acquire()
    waiting = asyncio.create_task(slots.acquire())
    await settled()
    waiting.cancel()
    await settled()
    slots.release()
    await asyncio.wait_for(slots.acquire(), 1)
    assert slots.held == 1


async def test_line_forgets_those_who_were_cancelled_while_every_slot_is_held() -> None:
    slots = FifoLimiter(1)
    await slots.acquire()
    waiting = [asyncio.create_task(slots.acquire()) for _ in range(3)]
    await settled()
    # What a task waits for is known by nobody else but the line.
    turns = [weakref.ref(each._fut_waiter) for each in waiting]  # type: ignore[attr-defined]
    last = waiting.pop()
    for each in waiting:
        each.cancel()
    await asyncio.wait(waiting)
    del each, waiting
    gc.collect()
    assert [turn() is None for turn in turns] == [True, True, False]
    slots.release()
    await asyncio.wait_for(last, 1)


async def test_scope_that_is_cancelled_ends_the_wait() -> None:
    slots = FifoLimiter(1)
    await slots.acquire()
    with anyio.move_on_after(0) as scope:
        await slots.acquire()
    assert scope.cancelled_caught
    assert slots.held == 1


async def test_more_slots_go_to_those_who_wait_and_fewer_take_none_away() -> None:
    slots = FifoLimiter(1)
    await slots.acquire()
    waiting = [asyncio.create_task(slots.acquire()) for _ in range(3)]
    await settled()
    slots.total = 3
    await settled()
    assert [each.done() for each in waiting] == [True, True, False]
    slots.total = 1
    slots.release()
    await settled()
    assert (slots.held, waiting[2].done()) == (2, False)
    slots.release()
    slots.release()
    await asyncio.wait_for(waiting[2], 1)
    assert slots.held == 1


async def test_gate_that_is_shut_refuses_those_who_wait_and_lets_others_work() -> None:
    gate, refused, turns = DestinationLimiter(1), [], 0
    lost = BucketNotFoundError(
        "gone.", operation="CopyObject", target="s3://b/k", code="NoSuchBucket", status=404
    )

    async def enter() -> None:
        try:
            async with gate.slot():
                raise AssertionError("it is shut")
        except HaulError as error:
            refused.append(error)

    async def elsewhere() -> None:
        nonlocal turns
        while len(refused) < 3:
            turns += 1
            await asyncio.sleep(0)

    async with anyio.create_task_group() as tasks:
        with suppress(BucketNotFoundError):
            async with gate.slot():
                for _ in range(3):
                    tasks.start_soon(enter)
                await settled()
                raise lost
        tasks.start_soon(elsewhere)
    assert refused == [lost] * 3
    assert turns > 1
    gate.reopen()
    async with gate.slot():
        pass
