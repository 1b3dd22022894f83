"""Calls coroutine functions from code without an event loop.

``blocking.call(function, …)`` runs a coroutine function on an event loop in a thread, and waits for
the result. The first argument of the function is a Session. All calls of a process share this
event loop and this Session. The Session reads its settings from the environment, and
``session.s3(Settings(…))`` uses other settings. A forked process has its own event loop and
Session.
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
from typing import Concatenate, Generic, ParamSpec, TypeVar
from weakref import WeakSet

import anyio

from aiohaul import installed
from aiohaul.errors import SessionError
from aiohaul.session import Session

__all__ = ["Cancellable", "call", "start"]  # the public names; all others are internal

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

#: Maximum number of seconds for which ``result()`` waits for the cleanup after ``cancel()``.
GRACE = 0.8

_LOOP_ENDED = (
    "a blocking call failed: the event loop of aiohaul's blocking calls has stopped, and it cancels"
    " this call. Make the call again"
)


class _DaemonExecutor(ThreadPoolExecutor):
    """Runs each job in a new daemon thread, so that the process can exit while a job runs.

    At exit, Python waits for the threads of other executors. Jobs are rare: aiobotocore reads
    certificates in these threads.
    """

    def submit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> concurrent.futures.Future[T]:
        job: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            if job.set_running_or_notify_cancel():
                try:
                    job.set_result(fn(*args, **kwargs))
                except BaseException as error:  # noqa: BLE001  # raised by result()
                    job.set_exception(error)

        threading.Thread(target=run, name="aiohaul job", daemon=True).start()
        return job


class _LoopThread:
    """An event loop in a daemon thread, and the Session of this loop.

    The thread is a daemon, so that the process can exit while tasks run. The loop runs by
    ``run_forever``, because ``run_until_complete`` would make anyio tie its worker threads, which
    are not daemons, to the outermost task.

    Attributes:
        calls: the calls that have not ended. Protected by the module's lock.
    """

    def __init__(self) -> None:
        installed.warn_once()
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(_DaemonExecutor())
        self.calls: set[Cancellable[object]] = set()
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
        except BaseException as error:  # noqa: BLE001  # raised in the waiting threads
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

    def _retire(self) -> list[Cancellable[object]]:
        """Make the next call start a new loop, and return the calls that have not ended."""
        global _current  # noqa: PLW0603  # one per process is the point
        with _lock:
            if _current is self:
                _current = None
            return list(self.calls)

    async def _clean_up(self, calls: Iterable[Cancellable[object]]) -> None:
        for call in calls:
            call.cancel_scope()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks)
        if self._session is not None:
            await self._session.__aexit__(None, None, None)

    async def session(self) -> Session:
        """Return the Session of all calls. The first call makes the Session."""
        if self._session is None:
            session = Session()
            await session.__aenter__()  # does not suspend
            self._session = session
        return self._session


_lock = threading.Lock()
_current: _LoopThread | None = None
#: Loops of parent processes. This list keeps them alive, because the garbage collector would close
#: sockets that the parents still use.
_inherited: list[_LoopThread] = []


def _submit(call: Cancellable[object]) -> None:
    """Start a call on the process's event loop, and start the loop if it does not run.

    Raises:
        SessionError: the loop cannot be started, or the caller runs on this loop.
    """
    global _current  # noqa: PLW0603  # one per process is the point
    if sys.is_finalizing():  # other threads no longer run
        raise SessionError(
            "starting a blocking call failed: the interpreter is shutting down. Make blocking calls"
            " before the main thread ends"
        )
    with _lock:
        if _current is None:
            try:
                _current = _LoopThread()
            except (OSError, RuntimeError) as error:  # no descriptor, no memory, no thread
                raise SessionError(
                    f"starting the event loop for blocking calls failed: {error}. Free memory, file"
                    " descriptors or threads, and make the call again"
                ) from error
        home = _current
        if threading.current_thread() is home.thread:
            raise SessionError(
                "starting a blocking call failed: the caller runs on the event loop of blocking"
                " calls, and would wait for itself. Await the coroutine function instead"
            )
        home.calls.add(call)
        call.loop_thread = home  # before the loop's thread sees the call
        try:
            home.loop.call_soon_threadsafe(call.begin)
        except BaseException as error:
            home.calls.discard(call)
            if not isinstance(error, RuntimeError):
                raise
            _current = None
            raise SessionError(_LOOP_ENDED) from error


def _after_fork() -> None:
    """Forget the parent's event loop, because its thread does not exist in this process."""
    global _current, _lock  # noqa: PLW0603  # one per process is the point
    _lock = threading.Lock()  # another thread may have held it during the fork
    if _current is not None:
        _inherited.append(_current)
        _current = None
    for group in list(_groups):
        group.reset()


os.register_at_fork(after_in_child=_after_fork)


class Cancellable(Generic[T_co]):
    """A call that runs on the event loop of :func:`start`, and that any thread can cancel.

    Attributes:
        loop_thread: the thread of the event loop.
    """

    loop_thread: _LoopThread

    def __init__(self, run: Callable[[Session], Awaitable[T_co]]) -> None:
        self._function = run
        self._scope: anyio.CancelScope | None = None
        self._task: asyncio.Task[None] | None = None  # the loop refers to its tasks only weakly
        self._changed = threading.Condition()
        self._results: list[T_co] = []
        self._failure: BaseException | None = None
        self._ended = False
        self._give_up_at: float | None = None
        self._process = os.getpid()
        _submit(self)

    def begin(self) -> None:
        """Start the task of the call. Must be called in the event loop's thread."""
        if self._ended:  # the loop ended before this call began
            return
        run = self._run()
        try:
            self._task = self.loop_thread.loop.create_task(run)
        except BaseException as error:  # noqa: BLE001  # raised in the waiting thread
            run.close()
            self.settle(failure=error)

    async def _run(self) -> None:
        try:
            # Not in begin(): anyio can make scopes in tasks only.
            with anyio.CancelScope() as self._scope:
                if self._give_up_at is not None:
                    self._scope.cancel()
                self._results.append(await self._function(await self.loop_thread.session()))
        except BaseException as error:  # noqa: BLE001  # raised in the waiting thread
            self.settle(failure=error)
        else:
            self.settle()

    def settle(self, failure: BaseException | None = None) -> None:
        """Mark the call as ended, and wake the threads that wait for the result.

        Later calls of this method have no effect.

        Args:
            failure: the error of the call; None if the call succeeded.
        """
        with _lock:
            self.loop_thread.calls.discard(self)
        with self._changed:
            if not self._ended:
                self._failure = failure
                self._ended = True
                self._changed.notify_all()

    def cancel(self) -> None:
        """Cancel the call, without waiting for its end.

        A call that has ended is not changed.

        Raises:
            SessionError: the call belongs to the parent of this forked process.
        """
        self._check_process()
        with self._changed:
            if self._ended or self._give_up_at is not None:
                return
            self._give_up_at = time.monotonic() + GRACE
            self._changed.notify_all()
        with suppress(RuntimeError):  # the loop is closed, and has ended the call
            self.loop_thread.loop.call_soon_threadsafe(self.cancel_scope)

    def cancel_scope(self) -> None:
        """Cancel the scope of the task. Must be called in the event loop's thread."""
        # Not the task: shielded work, such as StopTask, must continue.
        if self._scope is not None:
            self._scope.cancel()

    def result(self) -> T_co:
        """Wait for the end of the call, and return the result.

        Returns:
            The return value of the function.

        Raises:
            CancelledError: the call was cancelled (``concurrent.futures.CancelledError``). This
                error is raised at most 1 s after :meth:`cancel`, even if the cleanup continues.
            SessionError: the event loop has stopped, or belongs to the parent of this forked
                process.
            KeyboardInterrupt: Ctrl-C interrupted this wait. The call was cancelled, and had up to
                1 s for its cleanup.
            BaseException: the exception that the function raised.
        """
        self._check_process()
        try:
            self._wait()
        except BaseException:  # Ctrl-C in the waiting thread
            self.cancel()
            self._wait()  # a second Ctrl-C ends this wait too
            raise
        if self._give_up_at is not None:
            raise CancelledError
        if self._failure is not None:
            raise self._failure
        return self._results[0]

    def _wait(self) -> None:
        with self._changed:
            while not self._ended:
                if sys.is_finalizing():  # the loop's thread no longer runs
                    raise SessionError(
                        "waiting for a blocking call failed: the interpreter is shutting down. Wait"
                        " for blocking calls before the main thread ends"
                    )
                remaining = (
                    None if self._give_up_at is None else self._give_up_at - time.monotonic()
                )
                if remaining is not None and remaining <= 0:
                    return
                self._changed.wait(remaining)

    def _check_process(self) -> None:
        if self._process != os.getpid():
            raise SessionError(
                "using a blocking call failed: it was started in the parent of this forked process."
                " Start a new call in this process"
            )


def start(
    function: Callable[Concatenate[Session, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
) -> Cancellable[T]:
    """Start a coroutine function on the process's event loop, without waiting for the result.

    Args:
        function: the coroutine function. Its first argument is the process's Session.
        args: the positional arguments after the Session.
        kwargs: the keyword arguments.

    Returns:
        The running call. ``result()`` waits for the result, ``cancel()`` cancels the call.

    Raises:
        SessionError: the event loop cannot be started, or the caller already runs on this loop.
    """

    async def run(session: Session) -> T:
        return await function(session, *args, **kwargs)

    return Cancellable(run)


def call(
    function: Callable[Concatenate[Session, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run a coroutine function on the process's event loop, and wait for the result.

    Any thread may call this function. Ctrl-C in the waiting thread cancels the call.

    Args:
        function: the coroutine function. Its first argument is the process's Session.
        args: the positional arguments after the Session.
        kwargs: the keyword arguments.

    Returns:
        The return value of the function.

    Raises:
        SessionError: the event loop cannot be started or has stopped, or the caller already runs on
            this loop.
        BaseException: the exception that the function raised.
    """
    return start(function, *args, **kwargs).result()


class CallGroup:
    """A group of blocking calls that another thread can cancel together."""

    def __init__(self) -> None:
        self.reset()
        _groups.add(self)

    def reset(self) -> None:
        """Forget all calls. Called in a forked process, because the parent runs these calls."""
        self._lock = threading.Lock()
        self._running: set[Cancellable[object]] = set()
        self._refuse_next = False

    def call(
        self,
        function: Callable[Concatenate[Session, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a coroutine function as :func:`call` does, until :meth:`end` cancels the call.

        Raises:
            CancelledError: :meth:`end` was called during the call or before the call began
                (``concurrent.futures.CancelledError``).
            BaseException: the exception that the function raised.
        """
        with self._lock:
            if self._refuse_next:
                self._refuse_next = False
                raise CancelledError
            running = start(function, *args, **kwargs)
            self._running.add(running)
        try:
            return running.result()
        finally:
            with self._lock:
                self._running.discard(running)

    def end(self) -> None:
        """Cancel all running calls. If no call runs, refuse the next call.

        The next call is refused because the thread that makes it may be slower than the thread that
        calls this method. Later calls run as usual. This method does not wait for the calls.
        """
        with self._lock:
            running = list(self._running)
            self._refuse_next = not running
        for each in running:
            each.cancel()


#: All groups of this process. A forked process resets them, because another thread may have held
#: one of their locks during the fork.
_groups: WeakSet[CallGroup] = WeakSet()
