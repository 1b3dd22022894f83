"""What asyncio promises to whoever cancels a task, as a list of ways to end a call.

Each way starts a call, lets it come so many turns of the event loop far, ends it, and sees that
it was ended. It returns what ``cancelling()`` is then, which has to be the same as around
``asyncio.sleep``; or None if the call was done before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from importlib.metadata import version
from typing import Any

import anyio

Call = Callable[[], Awaitable[Any]]
#: Seconds after which something hangs.
_HANGS = 20.0


class _OwnError(Exception):
    """Raised beside the call."""


async def _comes_so_far(task: asyncio.Task[Any], turns: int) -> bool:
    """Give the loop so many turns: False if the task has ended in them."""
    for _ in range(turns):
        await asyncio.sleep(0)
        if task.done():
            break
    return not task.done()


async def _ended(task: asyncio.Task[Any]) -> None:
    await asyncio.wait((task,), timeout=_HANGS)
    assert task.done(), f"it hangs: {task}"


def _start(body: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.create_task(body)


async def _awaited(call: Call) -> None:
    await call()


class _Noted:
    """A call, and whether it has ended by itself."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.done = False

    async def __call__(self) -> None:
        await self._call()
        self.done = True


def _was_cancelled(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        raise AssertionError(f"the cancellation was lost: {task}") from task.exception()


async def cancelled(call: Call, turns: int, later: int) -> int | None:
    """Once; ``later`` is for the others."""
    del later
    task = _start(_awaited(call))
    if not await _comes_so_far(task, turns):
        return None
    task.cancel()
    await _ended(task)
    _was_cancelled(task)
    return task.cancelling()


async def cancelled_twice(call: Call, turns: int, later: int) -> int | None:
    task = _start(_awaited(call))
    if not await _comes_so_far(task, turns):
        return None
    task.cancel()
    again = await _comes_so_far(task, later)
    if again:
        task.cancel()
    await _ended(task)
    _was_cancelled(task)
    return task.cancelling() - again


async def uncancelled(call: Call, turns: int, later: int) -> int | None:
    """Who takes a cancellation back goes on as if nothing had been."""

    async def body() -> str:
        try:
            await call()
        except asyncio.CancelledError:
            _this().uncancel()
            assert _this().cancelling() == 0
            for _ in range(later + 2):
                await asyncio.sleep(0)
            return "went on"
        return "done before"

    task = _start(body())
    if not await _comes_so_far(task, turns):
        return None
    task.cancel()
    await _ended(task)
    assert task.result() == "went on"
    return task.cancelling()


async def timed_out(call: Call, turns: int, later: int) -> int | None:
    del later
    noted = _Noted(call)
    timeouts: list[asyncio.Timeout] = []

    async def body() -> None:
        async with asyncio.timeout(None) as timeout:
            timeouts.append(timeout)
            await noted()

    task = _start(body())
    await asyncio.sleep(0)
    if not await _comes_so_far(task, turns):
        return None
    timeouts[0].reschedule(_now())
    await _ended(task)
    if not isinstance(task.exception(), TimeoutError):
        assert not timeouts[0].expired(), "the timeout was swallowed"
    return task.cancelling()


async def timed_out_and_cancelled(call: Call, turns: int, later: int) -> int | None:
    """A timeout, and the application's own cancellation while the call still cleans up."""
    noted = _Noted(call)
    timeouts: list[asyncio.Timeout] = []

    async def body() -> None:
        try:
            async with asyncio.timeout(None) as timeout:
                timeouts.append(timeout)
                await noted()
        except TimeoutError:
            pass
        await asyncio.sleep(_HANGS)

    task = _start(body())
    await asyncio.sleep(0)
    await _comes_so_far(task, turns)
    if not noted.done:
        timeouts[0].reschedule(_now())
        await _comes_so_far(task, 1 + later)
    task.cancel()
    await asyncio.wait((task,), timeout=_HANGS / 2)
    assert task.done(), "the cancellation behind a timeout was lost"
    _was_cancelled(task)
    return None if noted.done else task.cancelling()


async def waited_for(call: Call, turns: int, later: int) -> int | None:
    noted = _Noted(call)
    inner = _start(noted())
    task = _start(asyncio.wait_for(inner, _HANGS))
    if not await _comes_so_far(task, turns):
        return None
    task.cancel()
    again = await _comes_so_far(task, later)
    if again:
        task.cancel()
    await _ended(task)
    await _ended(inner)  # cancelled twice, Python 3.11 does not wait for it
    if noted.done:  # then Python 3.11 returns what it has, whatever came meanwhile
        return None
    _was_cancelled(task)
    return task.cancelling() - again


async def beside_a_failure(call: Call, turns: int, later: int) -> int | None:
    """In the body of a TaskGroup of which a task fails."""
    del later
    noted, fail = _Noted(call), asyncio.Event()

    async def body() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(_failing(fail))
            await noted()

    return await _failed_beside(_start(body()), noted, fail, turns)


async def in_a_task_beside_a_failure(call: Call, turns: int, later: int) -> int | None:
    """In a task of a TaskGroup of which another task fails."""
    del later
    noted, fail = _Noted(call), asyncio.Event()

    async def body() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(noted())
            group.create_task(_failing(fail))

    return await _failed_beside(_start(body()), noted, fail, turns)


async def in_a_scope(call: Call, turns: int, later: int) -> int | None:
    """In a cancel scope of anyio, which cancels again and again."""
    del later
    noted, scope = _Noted(call), anyio.CancelScope()

    async def body() -> None:
        with scope:
            await noted()

    task = _start(body())
    if not await _comes_so_far(task, turns):
        return None
    scope.cancel()
    await _ended(task)
    assert task.exception() is None
    assert scope.cancelled_caught or noted.done
    return None if noted.done else task.cancelling()


async def in_a_scope_and_cancelled(call: Call, turns: int, later: int) -> int | None:
    """In such a scope, and natively while it cancels."""
    scope = anyio.CancelScope()

    async def body() -> None:
        with scope:
            await call()
        await asyncio.sleep(_HANGS)

    task = _start(body())
    if not await _comes_so_far(task, turns):
        return None
    scope.cancel()
    await _comes_so_far(task, 1 + later)  # in the same turn anyio itself may lose it
    task.cancel()
    await asyncio.wait((task,), timeout=_HANGS / 2)
    assert task.done(), "the cancellation beside that of a scope was lost"
    _was_cancelled(task)
    return task.cancelling()


ANYIO = tuple(map(int, version("anyio").split(".")[:2]))

WAYS: tuple[Callable[[Call, int, int], Awaitable[int | None]], ...] = (
    cancelled,
    cancelled_twice,
    uncancelled,
    timed_out,
    timed_out_and_cancelled,
    waited_for,
    beside_a_failure,
    in_a_task_beside_a_failure,
    in_a_scope,
    # An older scope takes the caller's own cancellation for one of its own where that arrives in
    # the end of an ``async with`` which the scope has cancelled.
    *((in_a_scope_and_cancelled,) if ANYIO >= (4, 16) else ()),
)


async def _failing(when: asyncio.Event) -> None:
    await when.wait()
    raise _OwnError


async def _failed_beside(
    task: asyncio.Task[None], call: _Noted, fail: asyncio.Event, turns: int
) -> int | None:
    await _comes_so_far(task, turns)
    fail.set()
    await _ended(task)
    failure = task.exception()
    assert isinstance(failure, ExceptionGroup)
    assert [type(each) for each in failure.exceptions] == [_OwnError]
    return None if call.done else task.cancelling()


def _this() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def _now() -> float:
    return asyncio.get_running_loop().time()
