from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import anyio
import pytest
from anyio import to_thread

from aiohaul import Session, SessionError, blocking


async def loop_thread(_: Session) -> int:
    return threading.get_ident()


async def forever(_: Session) -> None:
    await anyio.sleep_forever()


async def slow_to_clean_up(_: Session, done: threading.Event) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(1.5)
            done.set()


async def failing(_: Session) -> None:
    raise ValueError("as it is")


async def nested(_: Session) -> int:
    return blocking.call(loop_thread)


@pytest.mark.smoke
def test_all_threads_share_one_loop_and_one_session() -> None:
    async def session(given: Session) -> Session:
        return given

    with ThreadPoolExecutor(32) as pool:
        loops = set(pool.map(lambda _: blocking.call(loop_thread), range(200)))
        sessions = set(pool.map(lambda _: blocking.call(session), range(200)))
    assert len(loops) == len(sessions) == 1
    assert loops != {threading.get_ident()}


def test_an_error_comes_as_it_is() -> None:
    with pytest.raises(ValueError, match="as it is"):
        blocking.call(failing)


def test_a_call_on_the_loop_itself_is_refused() -> None:
    with pytest.raises(SessionError, match="wait for itself"):
        blocking.call(nested)


def test_cancel_ends_a_call_at_once() -> None:
    under_way = blocking.start(forever)
    begun = time.monotonic()
    threading.Timer(0.1, under_way.cancel).start()
    with pytest.raises(CancelledError):
        under_way.result()
    assert time.monotonic() - begun < 0.6


def test_result_does_not_wait_for_a_long_cleanup_which_goes_on() -> None:
    done = threading.Event()
    under_way = blocking.start(slow_to_clean_up, done)
    time.sleep(0.1)
    begun = time.monotonic()
    under_way.cancel()
    with pytest.raises(CancelledError):
        under_way.result()
    assert time.monotonic() - begun < 1
    assert done.wait(5)


def test_cancel_after_the_end_changes_nothing() -> None:
    under_way = blocking.start(loop_thread)
    ident = under_way.result()
    under_way.cancel()
    assert under_way.result() == ident


@pytest.mark.smoke
def test_an_end_ends_what_is_under_way_and_no_more() -> None:
    calls = blocking.CallGroup()
    threading.Timer(0.1, calls.end).start()
    with pytest.raises(CancelledError):
        calls.call(forever)
    assert calls.call(loop_thread) != threading.get_ident()


def test_an_end_before_a_call_keeps_it_from_starting() -> None:
    calls, begun = blocking.CallGroup(), threading.Event()

    async def begin(_: Session) -> None:
        begun.set()

    calls.end()
    calls.end()
    with pytest.raises(CancelledError):
        calls.call(begin)
    assert not begun.is_set()
    calls.call(begin)
    assert begun.is_set()


def test_an_interrupt_ends_the_call_and_lets_it_clean_up() -> None:
    code = (
        "import anyio\n"
        "from aiohaul import blocking\n"
        "async def work(_):\n"
        "    print('begun', flush=True)\n"
        "    try:\n"
        "        await anyio.sleep_forever()\n"
        "    finally:\n"
        "        with anyio.CancelScope(shield=True):\n"
        "            await anyio.sleep(0.1)\n"
        "            print('undone', flush=True)\n"
        "blocking.call(work)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=20)
    assert said == "undone\n"
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert process.returncode == -signal.SIGINT


# From 3.12 on Python warns of what is tested here.
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_process_gets_a_loop_of_its_own() -> None:
    blocking.call(loop_thread)
    child = os.fork()
    if not child:  # pragma: no cover  # in a process of its own
        code = 1
        try:
            blocking.call(loop_thread)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    blocking.call(loop_thread)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_fork_while_many_threads_call() -> None:
    over = threading.Event()
    calls = blocking.CallGroup()

    def keep_calling() -> None:
        while not over.is_set():
            calls.call(loop_thread)

    threads = [threading.Thread(target=keep_calling) for _ in range(16)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            child = os.fork()
            if not child:  # pragma: no cover  # in a process of its own
                code = 1
                try:
                    with ThreadPoolExecutor(4) as pool:
                        list(pool.map(lambda _: blocking.call(loop_thread), range(20)))
                    code = 0
                finally:
                    os._exit(code)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_an_exiting_process_waits_for_nothing() -> None:
    code = (
        "import anyio, asyncio, threading, time\n"
        "from anyio import to_thread\n"
        "from aiohaul import blocking\n"
        "begun = threading.Event()\n"
        "def stuck(): begun.set(); time.sleep(60)\n"
        "async def forever(_): await anyio.sleep_forever()\n"
        "async def in_thread(_): await to_thread.run_sync(time.sleep, 0)\n"
        "async def idle(_): await in_thread(_); await forever(_)\n"
        "async def lookup(_): await asyncio.get_running_loop().run_in_executor(None, stuck)\n"
        "blocking.start(forever)\n"
        "blocking.start(idle)\n"
        "blocking.start(lookup)\n"
        "blocking.call(in_thread)\n"
        "begun.wait()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        timeout=20,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""


def test_worker_threads_end_with_their_call() -> None:
    async def in_thread(_: Session) -> None:
        await to_thread.run_sync(time.sleep, 0)

    blocking.call(in_thread)
    deadline = time.monotonic() + 5
    while any(each.name == "AnyIO worker thread" for each in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
