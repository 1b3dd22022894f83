"""The event loop for code that has none: one per process, in a thread of its own.

``blocking.call(function, …)`` runs a coroutine function there, with the process's Session as its
first argument, and waits for it. The settings of that Session are those of the environment; its
handlers can be given others (``session.s3(Settings(…))``). A process that is forked has a loop and
a Session of its own.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar
from weakref import WeakSet

import anyio

from aiohaul import installed
from aiohaul.errors import SessionError
from aiohaul.session import Session

__all__ = ["Cancellable", "call", "start"]  # what an application uses; the rest is ours

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds after ``cancel()`` that ``result()`` leaves to the cleanup before it returns anyway.
GRACE = 0.8

_LOOP_ENDED = (
    "the event loop of aiohaul's blocking calls has ended: what this call was doing is being"
    " undone. Make the call again"
)


class _Daemons(ThreadPoolExecutor):
    """A daemon thread for each job: a process that is done waits for asyncio's own threads.

    Jobs are few: aiobotocore reads certificates in these threads.
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


class _LoopThread:
    """An event loop in a daemon thread, and the Session on it.

    The thread is a daemon, so that a process which is done ends, whatever the loop still does.
    ``run_forever`` and not ``run_until_complete``: anyio ends its worker threads with the task
    that ran until complete, and those are no daemons.

    Attributes:
        calls: those whose end somebody may wait for. Under the module's lock only.
    """

    def __init__(self) -> None:
        installed.warn_once()
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(_Daemons())
        self.calls: set[Cancellable[Any]] = set()
        self._session: Session | None = None
        self.thread = threading.Thread(target=self._run, name="aiohaul", daemon=True)
        try:
            self.thread.start()
        except BaseException:
            self.loop.close()
            raise

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        cause: BaseException | None = None
        try:
            self.loop.run_forever()
        except BaseException as error:  # noqa: BLE001  # it goes to the threads that wait
            cause = error
        calls = self._retire()
        for call in calls:
            ended = SessionError(_LOOP_ENDED)
            ended.__cause__ = cause
            call.settle(failure=ended)
        try:
            self.loop.run_until_complete(self._clean_up(calls))
        finally:
            self.loop.close()

    def _retire(self) -> list[Cancellable[Any]]:
        """Take no more calls: the next one starts a new loop."""
        global _current  # noqa: PLW0603  # one per process is the point
        with _lock:
            if _current is self:
                _current = None
            return list(self.calls)

    async def _clean_up(self, calls: Iterable[Cancellable[Any]]) -> None:
        for call in calls:
            call.cancel_scope()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks)
        if self._session is not None:
            await self._session.__aexit__(None, None, None)

    async def session(self) -> Session:
        """The Session of all calls, made at the first one."""
        if self._session is None:
            made = Session()
            await made.__aenter__()  # suspends nowhere
            self._session = made
        return self._session


_lock = threading.Lock()
_current: _LoopThread | None = None
#: Loops of the processes from which this one was forked. Their sockets are in use over there:
#: collecting them here would close them in an order that nobody has tried.
_left_behind: list[_LoopThread] = []


def _submit(call: Cancellable[Any]) -> None:
    """Begin a call on the process's loop, which is started if need be.

    Raises:
        SessionError: there can be no loop, or this is its own thread.
    """
    global _current  # noqa: PLW0603  # one per process is the point
    if sys.is_finalizing():  # other threads do not run any more
        raise SessionError("the interpreter is shutting down: blocking calls have no loop any more")
    with _lock:
        if _current is None:
            try:
                _current = _LoopThread()
            except (OSError, RuntimeError) as error:  # no descriptor, no memory, no thread
                raise SessionError(
                    f"the event loop for blocking calls cannot be started: {error}"
                ) from error
        there = _current
        if threading.current_thread() is there.thread:
            raise SessionError("a blocking call on aiohaul's own loop would wait for itself")
        there.calls.add(call)
        call.loop_thread = there  # before the loop's thread sees the call
        try:
            there.loop.call_soon_threadsafe(call.begin)
        except BaseException as error:
            there.calls.discard(call)
            if not isinstance(error, RuntimeError):
                raise
            _current = None
            raise SessionError(_LOOP_ENDED) from error


def _after_fork() -> None:
    """Leave the parent's loop to the parent: its thread does not exist here."""
    global _current, _lock  # noqa: PLW0603  # one per process is the point
    _lock = threading.Lock()  # another thread may have held it when this process came about
    if _current is not None:
        _left_behind.append(_current)
        _current = None
    for group in list(_groups):
        group.forget()


os.register_at_fork(after_in_child=_after_fork)


class Cancellable(Generic[T]):
    """A call that is under way on the loop, and that any thread can cancel.

    Made by :func:`start`.

    Attributes:
        loop_thread: where it runs.
    """

    loop_thread: _LoopThread

    def __init__(self, run: Callable[[Session], Awaitable[T]]) -> None:
        self._work = run
        self._scope: anyio.CancelScope | None = None
        self._task: asyncio.Task[None] | None = None  # the loop itself keeps no task alive
        self._changed = threading.Condition()
        self._results: list[T] = []
        self._failure: BaseException | None = None
        self._ended = False
        self._give_up: float | None = None
        self._process = os.getpid()
        _submit(self)

    def begin(self) -> None:
        """Start the task. On the loop's thread only."""
        if self._ended:  # with the loop, before it began
            return
        run = self._run()
        try:
            self._task = self.loop_thread.loop.create_task(run)
        except BaseException as error:  # noqa: BLE001  # it goes to the thread that waits
            run.close()
            self.settle(failure=error)

    async def _run(self) -> None:
        try:
            # Not sooner: anyio makes scopes in tasks only.
            with anyio.CancelScope() as self._scope:
                if self._give_up is not None:
                    self._scope.cancel()
                self._results.append(await self._work(await self.loop_thread.session()))
        except BaseException as error:  # noqa: BLE001  # it goes to the thread that waits
            self.settle(failure=error)
        else:
            self.settle()

    def settle(self, failure: BaseException | None = None) -> None:
        """Let those who wait have the outcome. The first one counts."""
        with _lock:
            self.loop_thread.calls.discard(self)
        with self._changed:
            if not self._ended:
                self._failure = failure
                self._ended = True
                self._changed.notify_all()

    def cancel(self) -> None:
        """End the call. Returns at once; what has ended already stays as it is."""
        self._check_process()
        with self._changed:
            if self._ended or self._give_up is not None:
                return
            self._give_up = time.monotonic() + GRACE
            self._changed.notify_all()
        with suppress(RuntimeError):  # the loop is closed: the call has ended with it
            self.loop_thread.loop.call_soon_threadsafe(self.cancel_scope)

    def cancel_scope(self) -> None:
        """Cancel what the task does. On the loop's thread only."""
        # The scope and not the task: what is shielded, such as StopTask, must go on.
        if self._scope is not None:
            self._scope.cancel()

    def result(self) -> T:
        """Wait for the end of the call.

        Returns:
            What it returned.

        Raises:
            CancelledError: it was cancelled (that of ``concurrent.futures``); raised within 1 s
                of that, even if the cleanup goes on.
            SessionError: its loop has ended, or runs in another process.
            BaseException: whatever the call raised. An interrupt of the waiting thread, after
                the call was cancelled and had the same time for its cleanup.
        """
        self._check_process()
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
                if sys.is_finalizing():  # the loop's thread does not run any more
                    raise SessionError("the interpreter is shutting down: this call will not end")
                left = None if self._give_up is None else self._give_up - time.monotonic()
                if left is not None and left <= 0:
                    return
                self._changed.wait(left)

    def _check_process(self) -> None:
        if self._process != os.getpid():
            raise SessionError(
                "this call runs in the process from which this one was forked: make it here anew"
            )


def start(
    function: Callable[Concatenate[Session, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
) -> Cancellable[T]:
    """Start a coroutine function on the process's loop.

    Args:
        function: called with the process's Session and the arguments.
        args: its further arguments.
        kwargs: as above.

    Raises:
        SessionError: called on that loop itself, or there can be no loop.
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
        SessionError: called on that loop itself, or there can be no loop, or it has ended.
        BaseException: whatever ``function`` raises.
    """
    return start(function, *args, **kwargs).result()


class Calls:
    """The calls of one owner, which another thread ends."""

    def __init__(self) -> None:
        self.forget()
        _groups.add(self)

    def forget(self) -> None:
        """Begin anew, as a forked process does: its calls go on in the parent alone."""
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


#: Those of this process, for its forks: another thread may hold a lock of theirs at that moment.
_groups: WeakSet[Calls] = WeakSet()
