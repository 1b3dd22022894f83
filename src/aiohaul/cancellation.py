"""Cancellation: asyncio's contract for callers, and work that a cancel must not interrupt."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import ParamSpec, TypeVar

import anyio

from aiohaul.concurrency import running_loop
from aiohaul.errors import HaulError

T = TypeVar("T")
P = ParamSpec("P")


def in_own_task(
    function: Callable[P, Coroutine[object, object, T]],
) -> Callable[P, Coroutine[object, object, T]]:
    """Decorate a coroutine function so that each call runs in a task of its own.

    Every public coroutine function that uses task groups or cancel scopes needs this decorator, so
    that asyncio's contract holds for the callers: no ``cancel()`` is lost, ``cancelling()`` returns
    the caller's own count afterwards, and ``timeout``, ``TaskGroup`` and ``uncancel`` work as
    around ``asyncio.sleep``. Nested task groups would break this contract in the caller's task,
    because anyio moves the cancel count of an inner group to the host of the outer group, and then
    uncancels the host once too often. The new task is never cancelled natively. If the caller is
    cancelled, a cancel scope around the function is cancelled, until the function has ended.
    """

    @wraps(function)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        running_loop()
        scope = anyio.CancelScope()
        results: list[T] = []

        async def host() -> None:
            with scope:
                results.append(await function(*args, **kwargs))

        try:
            await _wait_until_done(host(), scope.cancel)
        except BaseExceptionGroup as group:
            if isinstance(group, Exception):
                raise
            raise _first_non_error(group) from group
        return results[0]

    return wrapper


def _first_non_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error in a group that is not an Exception, such as a KeyboardInterrupt.

    A framework that raised this error expects to catch it outside of a group.
    """
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            if not isinstance(each, Exception):
                return _first_non_error(each)
        elif not isinstance(each, Exception):
            return each
    return group


async def run_shielded(
    call: Callable[[], Awaitable[T]],
    grace: float | Callable[[], float],
    on_result: Callable[[T], object] | None = None,
    timeout: float = math.inf,
) -> None:
    """Await ``call`` even if the caller is cancelled, and pass the result to ``on_result``.

    For a request whose response is needed to undo the request, such as the id of a new multipart
    upload. ``call`` runs in a task of its own, because anyio's shielded scopes do not stop a native
    ``task.cancel()``.

    Args:
        call: the coroutine function.
        grace: the seconds until ``call`` is cancelled too after the caller was cancelled, or a
            function that returns these seconds.
        on_result: called with the result.
        timeout: the seconds until ``call`` is cancelled in any case; then no error is raised.

    Raises:
        CancelledError: the caller was cancelled; raised after ``call`` has ended.
    """
    scope = anyio.CancelScope(deadline=anyio.current_time() + timeout)

    async def host() -> None:
        with scope:
            result = await call()
            if on_result is not None:
                on_result(result)

    def hurry() -> None:
        more = grace() if callable(grace) else grace
        scope.deadline = min(scope.deadline, anyio.current_time() + more)

    await _wait_until_done(host(), hurry)


async def _wait_until_done(
    work: Coroutine[object, object, None], on_cancel: Callable[[], None]
) -> None:
    """Run ``work`` in a task of its own, and wait until the task has ended, even if cancelled.

    Args:
        work: the coroutine.
        on_cancel: called once, when the caller is cancelled.

    Raises:
        CancelledError: the caller was cancelled. Raised even if the work succeeded or failed later.
            Of several cancellations, the last one is raised, so that the cancel scopes around the
            caller recognise their own.
    """
    task = asyncio.create_task(work)
    cancelled = await _wait(task)
    if cancelled is None:
        return task.result()
    on_cancel()
    with anyio.CancelScope(shield=True):
        while not task.done():
            cancelled = await _wait(task) or cancelled
    _report_failure(task)
    try:
        raise cancelled
    finally:
        del cancelled  # the error refers to this frame, so this is a reference cycle


async def _wait(task: asyncio.Task[None]) -> asyncio.CancelledError | None:
    """Wait for a task. Return None if the task has ended, or the error that cancelled the wait."""
    try:
        await asyncio.wait((task,))
    except asyncio.CancelledError as error:
        return error  # outside of the handler, the next error does not get it as __context__
    except BaseException:  # the caller's coroutine is closed, so nobody waits for the task
        task.cancel()
        raise
    return None


def _report_failure(task: asyncio.Task[None]) -> None:
    """Report an unexpected error of a cancelled call to the loop's exception handler.

    The caller receives the CancelledError instead. A HaulError is not reported, because such errors
    are expected after a cancellation.
    """
    failure = None if task.cancelled() else task.exception()
    if isinstance(failure, Exception) and not isinstance(failure, HaulError):
        context = {
            "message": "aiohaul: a task failed while it was being cancelled",
            "exception": failure,
            "task": task,
        }
        task.get_loop().call_exception_handler(context)


def is_cancelled() -> bool:
    """Return True if the running task, or one of anyio's scopes around it, is cancelled.

    If False, a CancelledError comes from an awaited task or future that someone else cancelled.
    """
    task = asyncio.current_task()
    return anyio.current_effective_deadline() == -math.inf or (
        task is not None and task.cancelling() > 0
    )
