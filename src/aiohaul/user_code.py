"""Calls of the application's own code: what it raises never passes for the end of the caller.

A task group takes a CancelledError of one of its tasks for that task's own, and goes on without a
word. So one that reached nobody in here must not come out of a callback, a stream or a refresher.
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
    """Around code of the application's that is called or awaited. A class: it is often entered.

    Errors pass as they are, and so does a cancellation of the caller. Other exceptions that are no
    errors pass too: with them a framework, or the interpreter, leaves everything.

    Args:
        what: the code, as the subject of a sentence.
        failure: the kind of the error.

    Raises:
        HaulError: the code raised what ends tasks and generators; of the kind ``failure``.
    """

    __slots__ = ("_failure", "_task", "_what")

    def __init__(self, what: str, failure: type[HaulError] = HaulError) -> None:
        self._what = what
        self._failure = failure

    def __enter__(self) -> None:
        self._task = _running()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None or not _ends_a_task(error):
            return
        # The coroutine that awaits it is closed: the loop has ended, and no task is running it.
        if isinstance(error, GeneratorExit) and _running() is not self._task:
            return
        if is_cancelled():
            return
        name = type(error).__name__
        raise self._failure(
            f"{self._what} raised {name}, and was not cancelled. Handle {name} in it: of a task or"
            " future that it waits for, perhaps"
        ) from error


def _ends_a_task(error: BaseException) -> bool:
    """Whether it is what ends one task or generator, or a group in which that is hidden."""
    if isinstance(error, BaseExceptionGroup):
        return not isinstance(error, Exception) and all(
            isinstance(each, Exception) or _ends_a_task(each) for each in error.exceptions
        )
    return isinstance(error, asyncio.CancelledError | GeneratorExit)


def _running() -> asyncio.Task[object] | None:
    with suppress(RuntimeError):  # no loop
        return asyncio.current_task()
    return None


def guarded(what: str, callback: Callable[[E], None] | None) -> Callable[[E], None]:
    """A callback whose odd exceptions are errors: see :class:`user_code`.

    Args:
        what: its name.
        callback: the application's; None is ``ignore``.
    """
    if callback is None:
        return ignore
    told = callback

    def tell(event: E) -> None:
        with user_code(what):
            told(event)

    return tell
