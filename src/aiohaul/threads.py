"""Threads of the library's own, for what blocks: files, databases, digests, names.

An application may hold every thread of anyio's limiter, or of asyncio's default executor, with
functions that wait for this library. So the library takes none of those.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from typing import Any, Generic, TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from aiohaul.concurrency import Slots
from aiohaul.errors import HaulError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: Functions that run at once for each event loop; more wait, in the order of asking.
MAX_THREADS = 40
#: Seconds after which a thread without work ends.
_IDLE_TIMEOUT = 5.0

#: How many functions in threads the running code is nested in.
_depth: contextvars.ContextVar[int] = contextvars.ContextVar("aiohaul_thread_depth", default=0)


async def run_in_thread(
    function: Callable[[*Ts], T], *args: *Ts, abandon_on_cancel: bool = False
) -> T:
    """Call a function in a thread, with the caller's context variables.

    A caller that is cancelled while its function waits for a thread leaves at once. If the function
    runs already, this waits for its end: the caller is about to close what the function uses. Then
    ``task.cancel()`` is raised here. A cancelled scope of anyio is raised by the caller's next
    ``await``, as after ``anyio.to_thread.run_sync``: the result is not lost.

    Args:
        function: what to call.
        args: its arguments.
        abandon_on_cancel: do not wait for the function when the caller is cancelled; its result is
            thrown away then.

    Raises:
        HaulError: no thread can be started.
        BaseException: whatever the function raises; RuntimeError for StopIteration.
    """
    await checkpoint_if_cancelled()
    call = _Call(function, args)
    await (await _threads())[_depth.get()].start(call)
    with anyio.CancelScope(shield=not abandon_on_cancel):
        await call.wait(to_its_end=not abandon_on_cancel)
    return call.outcome()


def end_idle_threads() -> None:
    """End the threads of the running loop that have no work, and wait until they have ended."""
    threads = _by_loop.get(asyncio.get_running_loop())
    if threads is not None:
        threads.end_idle()


class _Call(Generic[T]):
    """A call of a function in a thread, and the task that waits for it."""

    def __init__(self, function: Callable[[*Ts], T], args: tuple[*Ts]) -> None:
        self._function: Callable[..., T] | None = function
        self._args: tuple[Any, ...] = args
        self._context = contextvars.copy_context()
        self._context.run(_depth.set, _depth.get() + 1)
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._done = False
        self._result: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Call the function. In the thread."""
        function, args = self._function, self._args
        self._function, self._args = None, ()
        try:
            self._result = self._context.run(function, *args)  # type: ignore[arg-type]  # run once
        except BaseException as error:  # noqa: BLE001  # it goes to the task that waits
            # Without this frame, which holds the arguments.
            self._error = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)

    def report(self, release: Callable[[], None]) -> bool:
        """Tell the task, and give the slot back. In the thread.

        Returns:
            False if the loop is closed: nobody waits any more.
        """
        try:
            self._loop.call_soon_threadsafe(self._end, release)
        except RuntimeError:
            return False
        return True

    def _end(self, release: Callable[[], None]) -> None:
        release()
        self._done = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, *, to_its_end: bool) -> None:
        """Wait for the end of the function.

        Args:
            to_its_end: a cancellation by asyncio is raised only then.
        """
        cancelled: asyncio.CancelledError | None = None
        while not self._done:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError as error:
                if not to_its_end:
                    raise
                cancelled = cancelled or error
        if cancelled is not None:
            self._result = self._error = None
            try:
                raise cancelled
            finally:
                cancelled = None  # else it holds this frame, which holds it

    def outcome(self) -> T:
        """What the function returned. Once.

        Raises:
            BaseException: what it raised.
        """
        try:
            if self._error is not None:
                raise self._error
            return self._result  # type: ignore[no-any-return]  # the function's
        finally:
            self._result = self._error = None  # as above


class _Worker(threading.Thread):
    """A thread that makes one call after the other."""

    def __init__(self, level: _Level, call: _Call[Any]) -> None:
        super().__init__(name="aiohaul worker", daemon=True)
        self._level = level
        self._call: _Call[Any] | None = call
        self._given = threading.Lock()
        self._given.acquire()

    def give(self, call: _Call[Any] | None) -> None:
        """Have an idle one make a call; None ends it."""
        self._call = call
        self._given.release()

    def run(self) -> None:
        level = self._level
        while self._call is not None:
            call, self._call = self._call, None
            call.run()
            # Idle before the task knows: its next call finds this thread.
            level.idle.append(self)
            timeout = _IDLE_TIMEOUT if call.report(level.release) else 0
            del call  # with the bytes that it returned
            if not self._given.acquire(timeout=timeout):
                try:
                    level.idle.remove(self)
                except ValueError:  # it is being given a call at this very moment
                    self._given.acquire()


class _Level:
    """The threads of a loop whose functions are nested as deep as each other.

    Those wait for functions that are nested deeper, which have threads of their own: no function
    waits for a thread which waits for that function.
    """

    def __init__(self) -> None:
        self._slots = Slots(MAX_THREADS)
        #: Threads without work, the last used one last. Threads add themselves, and leave.
        self.idle: list[_Worker] = []

    async def start(self, call: _Call[Any]) -> None:
        """Wait for a slot, and start the call in it.

        Raises:
            HaulError: there is no thread, and none can be started.
        """
        while True:
            await self._slots.acquire()
            try:
                self._start(call)
            except RuntimeError as error:
                others = self._slots.held - 1
                self._slots.total = max(others, 1)  # as many as there can be, for now
                self._slots.release()
                if not others:
                    raise HaulError(
                        f"starting a thread failed: {error}. Let this process have more threads"
                        " (ulimit -u, or the limit of its container), or more memory"
                    ) from error
            else:
                return

    def _start(self, call: _Call[Any]) -> None:
        try:
            worker = self.idle.pop()
        except IndexError:
            _Worker(self, call).start()
        else:
            worker.give(call)

    def release(self) -> None:
        """Give the slot of a call back. On the loop."""
        slots = self._slots
        slots.release()
        if slots.total < MAX_THREADS:  # what kept threads from starting may have passed
            slots.total = slots.total + 1 if slots.held else MAX_THREADS

    def end_idle(self) -> None:
        """End the threads without work."""
        ended = []
        while self.idle:
            worker = self.idle.pop()
            worker.give(None)
            ended.append(worker)
        for worker in ended:
            worker.join()  # which takes no longer than its last few steps


class _Threads(defaultdict[int, _Level]):
    """The threads of one event loop, by how deep their functions are nested."""

    def __init__(self) -> None:
        super().__init__(_Level)
        self._end: AsyncGenerator[None, None] | None = self._until_the_loop_ends()

    async def notice_the_end(self) -> None:
        """Have the loop end the threads with itself.

        Loops end the async generators that have begun: the one public sign of their end.
        """
        if self._end is not None:
            await anext(self._end)

    async def _until_the_loop_ends(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._end = None
            self.end_idle()

    def end_idle(self) -> None:
        """End the threads without work."""
        for level in list(self.values()):
            level.end_idle()


_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _Threads] = WeakKeyDictionary()


async def _threads() -> _Threads:
    """The threads of the running loop."""
    loop = asyncio.get_running_loop()
    found = _by_loop.get(loop)
    if found is None:
        for other in [each for each in _by_loop if each.is_closed()]:
            _by_loop.pop(other).end_idle()  # it was closed without a word
        found = _by_loop[loop] = _Threads()
        await found.notice_the_end()  # suspends nowhere
    return found


def _after_fork() -> None:
    """Forget the threads: they are the parent's."""
    for threads in list(_by_loop.values()):
        threads.clear()


os.register_at_fork(after_in_child=_after_fork)
