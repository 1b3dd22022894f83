"""Who is cancelled, and what ends then: asyncio's contract for callers, and work that goes on."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import anyio

from aiohaul.concurrency import running_loop
from aiohaul.errors import HaulError

T = TypeVar("T")
P = ParamSpec("P")


def in_own_task(
    function: Callable[P, Coroutine[Any, Any, T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Run each call of a coroutine function in a task of its own.

    For every public coroutine whose work has task groups or cancel scopes. Whoever awaits it keeps
    asyncio's contract: a ``cancel()`` is never swallowed, ``cancelling()`` is afterwards what the
    caller made it, and ``timeout``, ``TaskGroup`` and ``uncancel`` work as around
    ``asyncio.sleep``. Task groups that nest break it in the caller's own task: anyio hands the
    count of an inner group to the task that hosts the outer one, which is then uncancelled once
    too often. In here no native cancellation arrives: the caller's cancels a scope, which
    cancels whatever is awaited next until the work has ended.
    """

    @wraps(function)
    async def hosted(*args: P.args, **kwargs: P.kwargs) -> T:
        running_loop()
        scope = anyio.CancelScope()
        results: list[T] = []

        async def host() -> None:
            with scope:
                results.append(await function(*args, **kwargs))

        try:
            await _wait_out(host(), scope.cancel)
        except BaseExceptionGroup as group:
            if isinstance(group, Exception):
                raise
            raise _no_error(group) from group
        return results[0]

    return hosted


def _no_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first in a group that is no error: a framework that raised it waits for it as it is."""
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            if not isinstance(each, Exception):
                return _no_error(each)
        elif not isinstance(each, Exception):
            return each
    return group


async def to_its_end(
    call: Callable[[], Awaitable[T]],
    grace: float | Callable[[], float],
    keep: Callable[[T], None],
    within: float = math.inf,
) -> None:
    """Await ``call`` to its end even when cancelled, and hand its result to ``keep``.

    For a request whose answer is needed to undo it: the id of an upload that was started. Once
    the caller is cancelled, ``call`` has ``grace`` more seconds (or what that gives then); then the
    cancellation goes on.
    In all it has ``within`` seconds; what is not done by then is given up without a word.

    It runs in a task of its own: a shield around the caller would not hold off asyncio's own
    ``task.cancel()``.
    """
    scope = anyio.CancelScope(deadline=anyio.current_time() + within)

    async def host() -> None:
        with scope:
            keep(await call())

    def hurry() -> None:
        more = grace() if callable(grace) else grace
        scope.deadline = min(scope.deadline, anyio.current_time() + more)

    await _wait_out(host(), hurry)


async def _wait_out(work: Coroutine[Any, Any, None], end: Callable[[], None]) -> None:
    """Run ``work`` in a task of its own, and wait until it has ended, whatever happens meanwhile.

    Args:
        work: the work.
        end: called once the caller is cancelled.

    Raises:
        CancelledError: the caller was cancelled, also where the work failed or was done since: the
            last one that arrived, so that a scope around takes only its own for its own.
    """
    task = asyncio.create_task(work)
    cancelled = await _wait(task)
    if cancelled is None:
        return task.result()
    end()
    with anyio.CancelScope(shield=True):
        while not task.done():
            cancelled = await _wait(task) or cancelled
    _report_failure(task)
    try:
        raise cancelled
    finally:
        del cancelled  # it refers to this frame


async def _wait(task: asyncio.Task[None]) -> asyncio.CancelledError | None:
    """Wait for a task: None once it has ended, or what cancels the wait."""
    try:
        await asyncio.wait((task,))
    except asyncio.CancelledError as error:
        return error  # behind the handler, so that the next one has not this one as its context
    except BaseException:  # the caller's coroutine is closed: nobody waits any more
        task.cancel()
        raise
    return None


def _report_failure(task: asyncio.Task[None]) -> None:
    """Tell the event loop of a failure in work that was cancelled, which nobody is raised.

    Errors of this library are none: what they would have said is void with the cancellation.
    """
    failure = None if task.cancelled() else task.exception()
    if isinstance(failure, Exception) and not isinstance(failure, HaulError):
        context = {"message": "what was cancelled has failed", "exception": failure, "task": task}
        task.get_loop().call_exception_handler(context)


def is_cancelled() -> bool:
    """Whether the running task is cancelled, or a scope of anyio around it.

    If not, a CancelledError is not the running task's own: what it awaited was cancelled alone.
    """
    task = asyncio.current_task()
    return anyio.current_effective_deadline() == -math.inf or (
        task is not None and task.cancelling() > 0
    )
