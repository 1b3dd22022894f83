"""The event loop for code that has none: one per process, in a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import anyio

from aiohaul.errors import SessionError
from aiohaul.session import Session

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds after ``cancel()`` that ``result()`` leaves to the cleanup before it returns anyway.
GRACE = 0.8


class _Daemons(ThreadPoolExecutor):
    """A daemon thread for each job: a process that is done waits for asyncio's own threads.

    Jobs are few: asyncio looks names up in these threads, and aiobotocore reads certificates.
    """

    def submit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> concurrent.futures.Future[T]:
        job: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            if job.set_running_or_notify_cancel():
                try:
                    job.set_result(fn(*args, **kwargs))
                except BaseException as error:  # noqa: BLE001  # it goes to whoever waits
                    job.set_exception(error)

        threading.Thread(target=run, name="aiohaul job", daemon=True).start()
        return job


class _Home:
    """An event loop in a daemon thread, and the Session on it.

    The thread is a daemon, so that a process which is done ends, whatever the loop still does.
    ``run_forever`` and not ``run_until_complete``: anyio ends its worker threads with the task
    that ran until complete, and those are no daemons.
    """

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(_Daemons())
        self.tasks: set[asyncio.Task[None]] = set()
        self._session: Session | None = None
        self.thread = threading.Thread(target=self._run, name="aiohaul", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    async def session(self) -> Session:
        """The Session of all calls, made at the first one."""
        if self._session is None:
            made = Session()
            self._session = made  # entering it suspends nowhere
            await made.__aenter__()
        return self._session

    def spawn(self, run: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine as a task. On the loop's thread only."""
        task = self.loop.create_task(run)
        self.tasks.add(task)  # the loop itself keeps no task alive
        task.add_done_callback(self.tasks.discard)


_lock = threading.Lock()
_home: _Home | None = None
#: Homes of the processes from which this one was forked. Their sockets are in use over there:
#: collecting them here would close them in an order that nobody has tried.
_left_behind: list[_Home] = []


def _the_home() -> _Home:
    global _home  # noqa: PLW0603  # one per process is the point
    with _lock:
        if _home is None:
            _home = _Home()
        return _home


def _after_fork() -> None:
    """Leave the parent's loop to the parent: its thread does not exist here."""
    global _home, _lock  # noqa: PLW0603  # one per process is the point
    _lock = threading.Lock()  # another thread may have held it when this process came about
    if _home is not None:
        _left_behind.append(_home)
        _home = None


os.register_at_fork(after_in_child=_after_fork)


class Cancellable(Generic[T]):
    """A call that is under way on the loop, and that any thread can cancel.

    Made by :func:`start`.
    """

    def __init__(self, run: Callable[[Session], Awaitable[T]]) -> None:
        self._work = run
        self._scope: anyio.CancelScope | None = None  # made on the loop, as anyio wants it
        self._changed = threading.Condition()
        self._results: list[T] = []
        self._failure: BaseException | None = None
        self._ended = False
        self._give_up: float | None = None
        self._home = _the_home()
        if threading.current_thread() is self._home.thread:
            raise SessionError("a blocking call on aiohaul's own loop would wait for itself")
        self._home.loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        self._scope = anyio.CancelScope()
        self._home.spawn(self._run(self._scope))

    async def _run(self, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                self._results.append(await self._work(await self._home.session()))
        except BaseException as error:  # noqa: BLE001  # it goes to the thread that waits
            self._failure = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """End the call. Returns at once; what has ended already stays as it is."""
        with self._changed:
            if self._ended or self._give_up is not None:
                return
            self._give_up = time.monotonic() + GRACE
            self._changed.notify_all()
        self._home.loop.call_soon_threadsafe(self._cancel_scope)

    def _cancel_scope(self) -> None:
        # The scope and not the task: what is shielded, such as StopTask, must go on.
        if self._scope is not None:  # always: this came after _begin
            self._scope.cancel()

    def result(self) -> T:
        """Wait for the end of the call.

        Returns:
            What it returned.

        Raises:
            CancelledError: it was cancelled (that of ``concurrent.futures``); raised within 1 s
                of that, even if the cleanup goes on.
            BaseException: whatever the call raised. An interrupt of the waiting thread, after
                the call was cancelled and had the same time for its cleanup.
        """
        try:
            self._wait()
        except BaseException:  # Ctrl-C in the thread that waits
            self.cancel()
            self._wait()  # another Ctrl-C ends this as well
            raise
        if self._give_up is not None:
            raise CancelledError
        if self._failure is not None:
            raise self._failure
        return self._results[0]

    def _wait(self) -> None:
        with self._changed:
            while not self._ended:
                left = None if self._give_up is None else self._give_up - time.monotonic()
                if left is not None and left <= 0:
                    return
                self._changed.wait(left)


def start(
    function: Callable[Concatenate[Session, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
) -> Cancellable[T]:
    """Start a coroutine function on the process's loop.

    Args:
        function: called with the process's Session and the arguments.
        args: its further arguments.
        kwargs: as above.

    Raises:
        SessionError: called on that loop itself.
    """
    return Cancellable(partial(_applied, function, args, kwargs))


async def _applied(
    function: Callable[..., Awaitable[T]],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    session: Session,
) -> T:
    return await function(session, *args, **kwargs)


def call(
    function: Callable[Concatenate[Session, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run a coroutine function on the process's loop, and wait for it.

    Safe from many threads. An interrupt of the waiting thread cancels the call.

    Args:
        function: called with the process's Session and the arguments.
        args: its further arguments.
        kwargs: as above.

    Raises:
        SessionError: called on that loop itself.
        BaseException: whatever ``function`` raises.
    """
    return start(function, *args, **kwargs).result()


class Calls:
    """The calls of one owner, which another thread ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: set[Cancellable[Any]] = set()
        self._refuse_next = False

    def call(
        self,
        function: Callable[Concatenate[Session, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Like :func:`call`, but for :meth:`end`.

        Raises:
            CancelledError: ended meanwhile, or before it began (that of ``concurrent.futures``).
            BaseException: whatever ``function`` raises.
        """
        with self._lock:
            if self._refuse_next:
                self._refuse_next = False
                raise CancelledError
            under_way = start(function, *args, **kwargs)
            self._under_way.add(under_way)
        try:
            return under_way.result()
        finally:
            with self._lock:
                self._under_way.discard(under_way)

    def end(self) -> None:
        """Cancel what is under way; if nothing is, the next call, before it begins.

        The thread that is to make the call may be slower than the one that ends it. Calls after
        that are made as ever. Returns at once.
        """
        with self._lock:
            under_way = list(self._under_way)
            self._refuse_next = not under_way
        for each in under_way:
            each.cancel()
