"""Guards calls of the application's code: callbacks, streams and credential refreshers.

A task group discards a CancelledError of a task, because it takes the error as the cancellation of
this task. If the application's code raises a CancelledError although the task is not cancelled,
this module therefore raises a HaulError instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TypeVar

from aiohaul.cancellation import is_cancelled
from aiohaul.errors import HaulError
from aiohaul.progress import ignore

E = TypeVar("E")


class user_code:  # noqa: N801  # a context manager, named as such are
    """A context manager around a call or an await of the application's code.

    Exceptions, a cancellation of the caller, and errors such as KeyboardInterrupt pass unchanged.
    This is a class, because a generator would be slower and the block is entered often.

    Args:
        what: the name of the code in messages, such as ``on_progress``.
        failure: the class of the error to raise.

    Raises:
        HaulError: the code raised CancelledError or GeneratorExit, but the caller was not
            cancelled. The class of the error is ``failure``.
    """

    __slots__ = ("_failure", "_task", "_what")

    def __init__(self, what: str, failure: type[HaulError] = HaulError) -> None:
        self._what = what
        self._failure = failure

    def __enter__(self) -> None:
        self._task = _current_task()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None or not _ends_a_task(error):
            return
        # The awaiting coroutine is closed after the end of the loop, so no task runs it.
        if isinstance(error, GeneratorExit) and _current_task() is not self._task:
            return
        if is_cancelled():
            return
        name = type(error).__name__
        raise self._failure(
            f"{self._what} raised {name}, but its task was not cancelled. Handle {name} there: it"
            " may come from another task or future that was awaited"
        ) from error


def _ends_a_task(error: BaseException) -> bool:
    """Return True for CancelledError, GeneratorExit, and a group of these and of Exceptions."""
    if isinstance(error, BaseExceptionGroup):
        return not isinstance(error, Exception) and all(
            isinstance(each, Exception) or _ends_a_task(each) for each in error.exceptions
        )
    return isinstance(error, asyncio.CancelledError | GeneratorExit)


def _current_task() -> asyncio.Task[object] | None:
    with suppress(RuntimeError):  # no loop
        return asyncio.current_task()
    return None


def guarded(what: str, callback: Callable[[E], None] | None) -> Callable[[E], None]:
    """Return a function that calls a callback inside of :class:`user_code`.

    Args:
        what: the name of the callback in messages, such as ``on_progress``.
        callback: the application's callback; None returns a function that does nothing.
    """
    if callback is None:
        return ignore
    function = callback

    def wrapper(event: E) -> None:
        with user_code(what):
            function(event)

    return wrapper
