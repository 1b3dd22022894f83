"""Threads of the library for blocking functions: files, databases, hashes, DNS.

The library does not use anyio's threads or asyncio's default executor, because an application may
occupy all of those threads with functions that wait for this library.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Generic, TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from aiohaul.concurrency import FifoLimiter
from aiohaul.errors import HaulError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Ts = TypeVarTuple("Ts")

#: The maximum number of threads of an event loop for each nesting depth. Further functions wait,
#: first in, first out.
MAX_THREADS = 40
#: The number of seconds after which an idle thread ends.
_IDLE_TIMEOUT = 5.0

#: The nesting depth: the number of :func:`run_in_thread` calls that contain the running code.
_depth: contextvars.ContextVar[int] = contextvars.ContextVar("aiohaul_thread_depth", default=0)


async def run_in_thread(
    function: Callable[[*Ts], T], *args: *Ts, abandon_on_cancel: bool = False
) -> T:
    """Call a function in a thread, with the caller's context variables, and return the result.

    If the caller is cancelled before the function starts, the function is not called. If the
    function already runs, the cancelled caller waits for its end, because the caller may close a
    file that the function uses. A ``task.cancel()`` is raised here after the function has ended. If
    a scope of anyio is cancelled, the result is returned, and the caller's next ``await`` raises
    the cancellation, as after ``anyio.to_thread.run_sync``.

    Args:
        function: the blocking function.
        args: the arguments of the function.
        abandon_on_cancel: True does not wait for the function when the caller is cancelled, and
            discards the result of the function.

    Raises:
        HaulError: no thread can be started.
        BaseException: the exception that the function raised; a RuntimeError for StopIteration.
    """
    await checkpoint_if_cancelled()
    call = _Call(function, args)
    await (await _threads())[_depth.get()].start(call)
    with anyio.CancelScope(shield=not abandon_on_cancel):
        await call.wait(shielded=not abandon_on_cancel)
    return call.outcome()


async def run_in_thread_if(
    slow: bool,  # the condition
    function: Callable[[*Ts], T],
    *args: *Ts,
) -> T:
    """Call a function that may take long in a thread (:func:`run_in_thread`), another one here."""
    return await run_in_thread(function, *args) if slow else function(*args)


def end_idle_threads() -> None:
    """End the idle threads of the running loop, and wait until they have ended."""
    threads = _by_loop.get(asyncio.get_running_loop())
    if threads is not None:
        threads.end_idle()


class _Call(Generic[T_co]):
    """A call in a thread, and the task that waits for its result."""

    def __init__(self, function: Callable[[*Ts], T_co], args: tuple[*Ts]) -> None:
        self._function: Callable[[], T_co] | None = partial(function, *args)
        self._context = contextvars.copy_context()
        self._context.run(_depth.set, _depth.get() + 1)
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._done = False
        self._results: list[T_co] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        """Call the function. Called in the thread."""
        function, self._function = self._function, None
        if function is None:
            raise AssertionError("a call runs once")
        try:
            self._results.append(self._context.run(function))
        except BaseException as error:  # noqa: BLE001  # raised in the waiting task
            # Without the traceback entry of this frame, which refers to the arguments.
            self._error = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)

    def report(self, release: Callable[[], None]) -> bool:
        """Wake the waiting task, and release the slot of the thread pool. Called in the thread.

        Returns:
            False if the loop is closed, so that no task waits for the call.
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

    async def wait(self, *, shielded: bool) -> None:
        """Wait for the end of the function.

        Args:
            shielded: True raises a ``task.cancel()`` only after the function has ended.
        """
        cancelled: asyncio.CancelledError | None = None
        while not self._done:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError as error:
                if not shielded:
                    raise
                cancelled = cancelled or error
        if cancelled is not None:
            self._results.clear()
            self._error = None
            try:
                raise cancelled
            finally:
                cancelled = None  # the error refers to this frame, so this is a reference cycle

    def outcome(self) -> T_co:
        """Return the result of the function. May be called only once.

        Raises:
            BaseException: the exception that the function raised.
        """
        try:
            if self._error is not None:
                raise self._error
            return self._results.pop()
        finally:
            self._error = None  # the error refers to this frame too


class _Worker(threading.Thread):
    """A thread that runs calls one after the other, and ends after 5 idle seconds."""

    def __init__(self, level: _ThreadPool, call: _Call[object]) -> None:
        super().__init__(name="aiohaul worker", daemon=True)
        self._pool = level
        self._call: _Call[object] | None = call
        self._ready = threading.Lock()
        self._ready.acquire()

    def assign(self, call: _Call[object] | None) -> None:
        """Make the idle thread run a call. None ends the thread."""
        self._call = call
        self._ready.release()

    def run(self) -> None:
        level = self._pool
        while self._call is not None:
            call, self._call = self._call, None
            call.run()
            # Idle before the task is woken, so that the task's next call can use this thread.
            level.idle.append(self)
            timeout = _IDLE_TIMEOUT if call.report(level.release) else 0
            del call  # frees the memory of the result
            if not self._ready.acquire(timeout=timeout):
                try:
                    level.idle.remove(self)
                except ValueError:  # a call is being assigned to it right now
                    self._ready.acquire()


class _ThreadPool:
    """The threads of an event loop for the functions of one nesting depth.

    A function in a thread may itself wait for :func:`run_in_thread`. Such nested calls cannot
    deadlock, because each nesting depth has threads of its own.
    """

    def __init__(self) -> None:
        self._slots = FifoLimiter(MAX_THREADS)
        #: Idle threads; the most recently used thread is the last one. Threads add themselves.
        self.idle: list[_Worker] = []

    async def start(self, call: _Call[object]) -> None:
        """Wait until fewer than 40 calls run, and start the call in a thread.

        Raises:
            HaulError: no thread exists, and none can be started.
        """
        while True:
            await self._slots.acquire()
            try:
                self._start(call)
            except RuntimeError as error:
                others = self._slots.held - 1
                self._slots.total = max(others, 1)  # use only the threads that exist, for now
                self._slots.release()
                if not others:
                    raise HaulError(
                        f"starting a thread failed: {error}. Raise the limit of threads (ulimit -u,"
                        " or the pids limit of the container), or free memory"
                    ) from error
            else:
                return

    def _start(self, call: _Call[object]) -> None:
        try:
            worker = self.idle.pop()
        except IndexError:
            _Worker(self, call).start()
        else:
            worker.assign(call)

    def release(self) -> None:
        """Release the slot of a call. Called in the event loop's thread."""
        slots = self._slots
        slots.release()
        if slots.total < MAX_THREADS:  # starting a thread failed before, and may work again
            slots.total = slots.total + 1 if slots.held else MAX_THREADS

    def end_idle(self) -> None:
        """End the idle threads, and wait until they have ended."""
        ended = []
        while self.idle:
            worker = self.idle.pop()
            worker.assign(None)
            ended.append(worker)
        for worker in ended:
            worker.join()  # returns soon, because the thread is idle


class _LoopThreads(defaultdict[int, _ThreadPool]):
    """The thread pools of one event loop, by nesting depth."""

    def __init__(self) -> None:
        super().__init__(_ThreadPool)
        self._end: AsyncGenerator[None, None] | None = self._end_with_loop()

    async def watch_loop_end(self) -> None:
        """Start an async generator that ends the threads when the event loop shuts down.

        asyncio closes all started async generators at shutdown, and has no other public hook.
        """
        if self._end is not None:
            await anext(self._end)

    async def _end_with_loop(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._end = None
            self.end_idle()

    def end_idle(self) -> None:
        """End the idle threads, and wait until they have ended."""
        for level in list(self.values()):
            level.end_idle()


_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopThreads] = WeakKeyDictionary()


async def _threads() -> _LoopThreads:
    """Return the thread pools of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _by_loop.get(loop)
    if found is None:
        for other in [each for each in _by_loop if each.is_closed()]:
            _by_loop.pop(other).end_idle()  # closed without shutting down its async generators
        found = _by_loop[loop] = _LoopThreads()
        await found.watch_loop_end()  # does not suspend
    return found


def _after_fork() -> None:
    """Forget all threads, because they exist only in the parent process."""
    for threads in list(_by_loop.values()):
        threads.clear()


os.register_at_fork(after_in_child=_after_fork)
