"""Nobody waits for a blocking call that can no longer end: each step on its way fails in turn."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import Any

import anyio
import pytest

from aiohaul import Session, SessionError, blocking

#: Seconds after which somebody is still waiting.
WATCHDOG = 20
CALLERS = 16

Patch = pytest.MonkeyPatch


class OddError(BaseException):
    """No Exception: nothing that catches those sees it."""


async def answer(_: Session) -> int:
    return 42


async def forever(_: Session) -> None:
    await anyio.sleep_forever()


def outcome(call: Callable[[], Any]) -> BaseException | None:
    try:
        call()
    except BaseException as error:  # noqa: BLE001  # that is what is asked for
        return error
    return None


def outcomes(function: Callable[[Session], Awaitable[Any]]) -> list[BaseException | None]:
    """What became of many calls; waiting for one of them for too long is an error."""
    with ThreadPoolExecutor(CALLERS) as pool:
        calls = [pool.submit(outcome, partial(blocking.call, function)) for _ in range(CALLERS)]
        return [each.result(WATCHDOG) for each in calls]


@pytest.fixture
def fresh() -> Iterator[None]:
    """A loop that no other test uses: this test spoils it."""
    blocking._after_fork()
    yield
    end_loop()
    assert blocking.call(answer) == 42


def end_loop() -> None:
    there = blocking._current
    if there is not None:
        with suppress(RuntimeError):  # it has ended already
            there.loop.call_soon_threadsafe(there.loop.stop)
        there.thread.join(WATCHDOG)
        assert not there.thread.is_alive()


@contextmanager
def no_scope(patch: Patch) -> Iterator[None]:
    def fail(*_: Any, **__: Any) -> None:
        raise OddError("no scope")

    with patch.context() as now:
        now.setattr(anyio, "CancelScope", fail)
        yield


@contextmanager
def no_session(patch: Patch) -> Iterator[None]:
    def fail() -> None:
        raise OddError("no session")

    with patch.context() as now:
        now.setattr(blocking, "Session", fail)
        yield


@contextmanager
def no_entry(patch: Patch) -> Iterator[None]:
    async def fail(_: Session) -> None:
        raise OddError("no entry")

    with patch.context() as now:
        now.setattr(Session, "__aenter__", fail)
        yield


@contextmanager
def no_task(patch: Patch) -> Iterator[None]:
    def fail(*_: Any, **__: Any) -> None:
        raise OddError("no task")

    with patch.context() as now:
        now.setattr(asyncio.BaseEventLoop, "create_task", fail)
        yield


@contextmanager
def no_thread(patch: Patch) -> Iterator[None]:
    start = threading.Thread.start

    def fail(self: threading.Thread) -> None:
        if self.name == "aiohaul":
            raise RuntimeError("can't start new thread")
        start(self)

    with patch.context() as now:
        now.setattr(threading.Thread, "start", fail)
        yield


@contextmanager
def no_loop(patch: Patch) -> Iterator[None]:
    def fail() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with patch.context() as now:
        now.setattr(asyncio, "new_event_loop", fail)
        yield


@contextmanager
def no_callback(patch: Patch) -> Iterator[None]:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("Event loop is closed")

    with patch.context() as now:
        now.setattr(asyncio.BaseEventLoop, "call_soon_threadsafe", fail)
        yield


@contextmanager
def shutting_down(patch: Patch) -> Iterator[None]:
    with patch.context() as now:
        now.setattr(sys, "is_finalizing", lambda: True)
        yield


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("failing", "kind"),
    [
        (no_scope, OddError),
        (no_session, OddError),
        (no_entry, OddError),
        (no_task, OddError),
        (no_thread, SessionError),
        (no_loop, SessionError),
        (no_callback, SessionError),
        (shutting_down, SessionError),
    ],
)
def test_a_step_that_fails_is_the_error_of_its_caller(
    failing: Callable[[Patch], AbstractContextManager[None]],
    kind: type[BaseException],
    monkeypatch: Patch,
) -> None:
    with failing(monkeypatch):
        ended = outcomes(answer)
    assert [type(each) for each in ended] == [kind] * CALLERS
    assert outcomes(answer) == [None] * CALLERS  # nothing broken is kept


@pytest.mark.parametrize("error", [OddError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_an_odd_error_of_a_call_is_that_of_its_caller_alone(error: type[BaseException]) -> None:
    async def fail(_: Session) -> None:
        raise error

    other = blocking.start(forever)
    assert [type(each) for each in outcomes(fail)] == [error] * CALLERS
    assert blocking.call(answer) == 42
    other.cancel()
    assert outcome(other.result) is not None


def stop_loop() -> None:
    asyncio.get_running_loop().stop()


def leave() -> None:
    raise SystemExit(3)


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("end", [stop_loop, leave])
def test_the_end_of_the_loop_is_the_error_of_all_who_wait(end: Callable[[], None]) -> None:
    undone = threading.Semaphore(0)
    begun = threading.Semaphore(0)

    async def wait(_: Session) -> None:
        begun.release()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
                undone.release()

    calls = [blocking.start(wait) for _ in range(CALLERS)]
    for _ in calls:
        assert begun.acquire(timeout=WATCHDOG)
    there = blocking._current
    assert there is not None
    with ThreadPoolExecutor(CALLERS) as pool:
        waiting = [pool.submit(outcome, each.result) for each in calls]
        there.loop.call_soon_threadsafe(end)
        ended = [each.result(WATCHDOG) for each in waiting]
    assert [type(each) for each in ended] == [SessionError] * CALLERS
    assert "Make the call again" in str(ended[0])
    assert blocking.call(answer) == 42  # on a new loop
    for _ in calls:
        assert undone.acquire(timeout=WATCHDOG)
    there.thread.join(WATCHDOG)
    assert there.loop.is_closed()
    calls[0].cancel()  # which is too late, and does no harm


@pytest.mark.usefixtures("fresh")
def test_a_call_that_meets_the_end_of_the_loop_is_not_begun() -> None:
    begun = threading.Event()

    async def begin(_: Session) -> None:
        begun.set()

    blocking.call(answer)
    there = blocking._current
    assert there is not None
    late: list[blocking.Cancellable[None]] = []

    def stop() -> None:
        there.loop.stop()
        late.append(blocking.Cancellable(begin))

    # Seen by another thread only: a call on the loop itself is refused.
    thread, there.thread = there.thread, threading.Thread()
    there.loop.call_soon_threadsafe(stop)
    thread.join(WATCHDOG)
    assert isinstance(outcome(late[0].result), SessionError)
    assert not begun.is_set()
    there.thread = thread


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_call_of_the_parent_is_refused_in_a_forked_process() -> None:
    under_way = blocking.start(forever)
    calls = blocking.CallGroup()
    with calls._lock:  # as another thread may, at that moment
        child = os.fork()
        if not child:  # pragma: no cover  # in a process of its own
            errors = (outcome(under_way.result), outcome(under_way.cancel))
            refused = all(isinstance(each, SessionError) for each in errors)
            os._exit(0 if refused and calls.call(answer) == 42 else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    under_way.cancel()
    assert outcome(under_way.result) is not None


def ran(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        timeout=WATCHDOG,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return done.stdout


PROGRAM = """
import atexit, builtins, os, sys
from aiohaul import blocking
async def answer(_): return 42
async def forever(_):
    import anyio
    await anyio.sleep_forever()
def say(call, write=os.write):
    try:
        said = call()
    except BaseException as error:
        said = type(error).__name__
    write(1, f"{said}\\n".encode())
"""


def test_a_call_at_the_exit_of_the_interpreter() -> None:
    assert (
        ran(f"{PROGRAM}blocking.call(answer)\natexit.register(say, lambda: blocking.call(answer))")
        == "42\n"
    )


def test_a_first_call_at_the_exit_of_the_interpreter() -> None:
    """Newer Pythons start no threads any more by then."""
    said = ran(f"{PROGRAM}atexit.register(say, lambda: blocking.call(answer))")
    assert said in ("42\n", "SessionError\n")


def test_calls_while_the_interpreter_shuts_down() -> None:
    code = (
        f"{PROGRAM}"
        "class Late:\n"
        "    def __init__(self): self.call = blocking.start(forever)\n"
        "    def __del__(self, say=say, call=blocking.call, answer=answer):\n"
        "        say(lambda: call(answer)); say(self.call.result)\n"
        "builtins.late = Late()\n"
    )
    assert ran(code) == "SessionError\nSessionError\n"


def test_with_sniffio_installed() -> None:
    """It says that there is no async library where there is no task."""
    pytest.importorskip("sniffio", reason="the newest dependencies are run without it")
    assert outcomes(answer) == [None] * CALLERS
