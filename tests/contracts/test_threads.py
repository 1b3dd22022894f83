"""The library's own threads: nobody else's are waited for, and none is left behind."""

from __future__ import annotations

import asyncio
import contextvars
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvloop
from anyio import from_thread, to_thread

import aiohaul
from aiohaul import threads
from aiohaul.aws.http import connector
from aiohaul.aws.http.resolver import AddressInfo, Resolver
from aiohaul.s3.journal import JOURNAL
from aiohaul.s3.local import list_files
from aiohaul.storage.database import connect
from aiohaul.threads import MAX_THREADS, end_idle_threads, run_in_thread
from tests.support.servers import KEY, REGION, SECRET

ANY = re.compile("")
#: Seconds after which what does not end has hung.
HUNG = 60.0
#: More than anyio's limiter has, and than asyncio's executor has.
HOLDERS = 100

Run = Callable[[Awaitable[Any]], Any]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine in a loop of its own, to the end of both."""
    factory = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}[request.param]

    def run_it(main: Awaitable[Any]) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(HUNG):
                return await main

        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(bounded())

    return run_it


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    abandoned.clear()
    abandoned.update(alive())
    yield
    assert not alive()


#: Threads that were there before: those of other tests, which wait for them no longer.
abandoned: set[threading.Thread] = set()


def alive() -> list[threading.Thread]:
    return [
        each
        for each in threading.enumerate()
        if each.name == "aiohaul worker" and each not in abandoned
    ]


def started() -> tuple[threading.Event, threading.Event, Callable[[], None]]:
    """A function, what it sets when it starts, and what it waits for."""
    begun, go = threading.Event(), threading.Event()

    def function() -> None:
        begun.set()
        assert go.wait(HUNG)

    return begun, go, function


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110  # threads set no events of a loop
        await asyncio.sleep(0.001)


# An application's threads -------------------------------------------------------------------


async def copied(folder: Path, journal: Path | None) -> None:
    async with aiohaul.Session() as session:
        files = await list_files(str(folder / "from"), ANY)
        to = aiohaul.LocalDestination(directory=folder / "to", create=True)
        await session.s3().copy(files, [to], journal=journal)


async def to_disk(folder: Path) -> None:
    await copied(folder, None)


async def with_a_journal(folder: Path) -> None:
    await copied(folder, folder / "journal")


async def in_a_batch(folder: Path) -> None:
    local = {"name": "local"}
    task = {
        "type": "transfer",
        "source": {"directory": str(folder / "from"), "fileRegex": ".*", "protocol": local},
        "destination": [{"directory": str(folder / "to"), "protocol": local}],
    }
    (folder / "to").mkdir()
    batch = {"type": "batch", "tasks": [{"order_id": 1, "task_id": "copy"}]}
    await aiohaul.run(batch, tasks={"copy": task}, state=folder / "state")


@pytest.mark.parametrize("work", [to_disk, with_a_journal, in_a_batch])
def test_endpoints_that_hold_all_threads_of_anyio_have_their_work_done(
    run: Run, tmp_path: Path, work: Callable[[Path], Awaitable[None]]
) -> None:
    """As FastAPI runs those that are no coroutines."""
    held = threading.Barrier(40)  # which anyio's limiter has

    async def bounded(folder: Path) -> None:
        with anyio.fail_after(HUNG / 2):
            await work(folder)

    def endpoint(number: int) -> None:
        folder = tmp_path / str(number)
        (folder / "from").mkdir(parents=True)
        (folder / "from" / "a").write_bytes(b"x" * number)
        if number < held.parties:
            held.wait(HUNG)
        from_thread.run(bounded, folder)
        assert (folder / "to" / "a").read_bytes() == b"x" * number

    async def main() -> None:
        async with anyio.create_task_group() as requests:
            for number in range(HOLDERS):
                requests.start_soon(to_thread.run_sync, endpoint, number)

    run(main())


def test_functions_that_hold_all_threads_of_asyncio_have_their_work_done(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        def hold(number: int) -> int:
            work = run_in_thread(lambda: number)
            return asyncio.run_coroutine_threadsafe(work, loop).result(HUNG)

        held = (asyncio.to_thread(hold, number) for number in range(HOLDERS))
        assert await asyncio.gather(*held) == list(range(HOLDERS))

    run(main())


def test_names_are_looked_up_though_all_threads_of_asyncio_are_held(run: Run) -> None:
    go = threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        held = [loop.run_in_executor(None, go.wait, HUNG) for _ in range(HOLDERS)]
        found = await Resolver().resolve("localhost", 80)
        go.set()
        await asyncio.gather(*held)
        assert {each[4][0] for each in found} <= {"127.0.0.1", "::1"}
        assert {each[4][1] for each in found} == {80}
        with pytest.raises(OSError, match="not known"):
            await Resolver().resolve("no-such-host.invalid", 80)

    run(main())


async def test_requests_look_names_up_in_the_threads_of_the_library(moto_url: str) -> None:
    found = []

    class Watched(Resolver):
        async def resolve(self, host: str, port: int) -> list[AddressInfo]:
            found.append(host)
            return await super().resolve(host, port)

    url = moto_url.replace("127.0.0.1", "localhost")
    settings = aiohaul.Settings(
        access_key_id=KEY, secret_access_key=SECRET, region=REGION, endpoint_url=url
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connector, "Resolver", Watched)
        async with aiohaul.Session() as session:
            with pytest.raises(aiohaul.BucketNotFoundError):
                await session.s3(settings).find("no-such-bucket")
    assert set(found) == {"localhost"}


# Calls --------------------------------------------------------------------------------------


def test_a_call_has_its_arguments_its_context_and_its_result(run: Run) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    def function(first: int, second: int) -> tuple[int, str, bool]:
        seen = variable.get()
        variable.set("changed")
        return first - second, seen, threading.current_thread().daemon

    async def main() -> None:
        variable.set("mine")
        assert await run_in_thread(function, 5, 3) == (2, "mine", True)
        assert variable.get() == "mine"

    run(main())


class Odd(BaseException):
    pass


@pytest.mark.parametrize(
    ("raised", "seen"),
    [
        (ValueError("it"), ValueError),
        (StopIteration("it"), RuntimeError),
        (StopAsyncIteration("it"), StopAsyncIteration),
        (GeneratorExit("it"), GeneratorExit),
        (Odd("it"), Odd),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, BaseException) else "",
)
def test_what_a_function_raises_is_raised(
    run: Run, raised: BaseException, seen: type[BaseException]
) -> None:
    def fail() -> None:
        raise raised

    async def main() -> None:
        with pytest.raises(seen) as failed:
            await run_in_thread(fail)
        assert raised in {failed.value, failed.value.__cause__}
        assert await run_in_thread(lambda: "and goes on") == "and goes on"

    run(main())


def test_as_many_run_at_once_as_may_and_the_others_in_the_order_of_asking(run: Run) -> None:
    go = threading.Event()
    order: list[int] = []

    def function(number: int) -> None:
        order.append(number)
        assert go.wait(HUNG)

    async def main() -> None:
        tasks = [asyncio.create_task(run_in_thread(function, n)) for n in range(2 * MAX_THREADS)]
        await until(lambda: len(order) == MAX_THREADS)
        assert len(alive()) == MAX_THREADS
        withdrawn = tasks[MAX_THREADS + 5]
        withdrawn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await withdrawn  # though all threads are held
        left = tasks[-1]
        with anyio.move_on_after(0):
            await run_in_thread(order.append, -1)
        go.set()
        await left
        await asyncio.wait(tasks)
        assert sorted(order) == [n for n in range(2 * MAX_THREADS) if n != MAX_THREADS + 5]
        assert len(alive()) <= MAX_THREADS

    run(main())


def test_one_thread_does_what_waits_in_the_order_of_asking(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "MAX_THREADS", 1)
    order: list[int] = []

    async def main() -> None:
        await asyncio.gather(*(run_in_thread(order.append, number) for number in range(50)))
        assert order == list(range(50))
        assert len(alive()) == 1

    run(main())


def test_functions_that_wait_for_functions_in_threads_end(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        def nested(depth: int) -> int:
            if not depth:
                return 0
            inner = asyncio.run_coroutine_threadsafe(run_in_thread(nested, depth - 1), loop)
            return 1 + inner.result(HUNG)

        outer = [run_in_thread(nested, 3) for _ in range(MAX_THREADS + 5)]
        assert set(await asyncio.gather(*outer)) == {3}

    run(main())


# Cancellation -------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 3])
def test_a_cancelled_task_waits_for_its_function(run: Run, times: int) -> None:
    async def main() -> None:
        begun, go, function = started()
        task = asyncio.create_task(run_in_thread(function))
        await until(begun.is_set)
        for _ in range(times):
            task.cancel("mine")
            await asyncio.sleep(0.01)
            assert not task.done()
        assert task.cancelling() == times
        go.set()
        with pytest.raises(asyncio.CancelledError, match="mine"):
            await task
        assert task.cancelling() == times

    run(main())


def test_a_task_that_is_cancelled_by_a_timeout_has_no_cancellation_left(run: Run) -> None:
    async def main() -> None:
        begun, go, function = started()
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(TimeoutError):  # noqa: PT012  # of the whole block
            async with asyncio.timeout(None) as timeout:
                loop = asyncio.get_running_loop()
                loop.call_later(0.01, timeout.reschedule, loop.time())
                loop.call_later(0.1, go.set)
                await run_in_thread(function)
        assert begun.is_set()
        assert task.cancelling() == 0
        await asyncio.sleep(0)

    run(main())


def test_a_cancelled_scope_waits_for_its_function_and_has_its_result(run: Run) -> None:
    async def main() -> None:
        go = threading.Event()
        results = []
        with anyio.CancelScope() as scope:
            loop = asyncio.get_running_loop()
            loop.call_later(0.01, scope.cancel)
            loop.call_later(0.05, go.set)
            results.append(await run_in_thread(go.wait, HUNG))
            await anyio.sleep(HUNG)
        assert results == [True]
        assert scope.cancelled_caught
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]  # there is one

    run(main())


@pytest.mark.parametrize("how", ["task", "scope"])
def test_a_function_is_abandoned(run: Run, how: str) -> None:
    begun, go, function = started()

    async def main() -> None:
        scope = anyio.CancelScope()

        async def wait() -> None:
            with scope:
                await run_in_thread(function, abandon_on_cancel=True)

        task = asyncio.create_task(wait())
        await until(begun.is_set)
        if how == "task":
            task.cancel()
        else:
            scope.cancel()
        await asyncio.wait([task])
        assert not go.is_set()
        assert task.cancelled() == (how == "task")
        assert scope.cancelled_caught == (how == "scope")

    run(main())
    go.set()  # its loop is closed by now
    for thread in alive():
        thread.join(HUNG)


def test_nothing_starts_for_a_caller_that_is_cancelled(run: Run) -> None:
    async def main() -> None:
        done: list[int] = []
        with anyio.CancelScope() as scope:
            scope.cancel()
            await run_in_thread(done.append, 1)
        assert scope.cancelled_caught
        assert not done

    run(main())


# Threads given back -------------------------------------------------------------------------


def test_a_session_ends_the_threads_of_its_calls(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with aiohaul.Session():
            await asyncio.gather(*(list_files(str(tmp_path), ANY) for _ in range(20)))
            assert alive()
        assert not alive()

    run(main())


def test_threads_without_work_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_IDLE_TIMEOUT", 0.01)

    async def main() -> None:
        for _ in range(20):  # also while they are about to end
            await asyncio.gather(*(run_in_thread(time.sleep, 0) for _ in range(10)))
            await asyncio.sleep(0.01)
        await until(lambda: not alive())
        assert await run_in_thread(lambda: 1) == 1

    run(main())


def test_a_loop_that_is_closed_without_a_word_leaves_no_threads_for_the_next() -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(run_in_thread(int))
    loop.close()
    (left,) = alive()

    async def main() -> None:
        await run_in_thread(int)
        assert left not in alive()

    asyncio.run(main())


def test_a_loop_has_threads_also_after_its_generators_are_ended() -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(run_in_thread(int))
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert not alive()
    assert loop.run_until_complete(run_in_thread(lambda: 1)) == 1

    async def end() -> None:
        end_idle_threads()

    loop.run_until_complete(end())
    loop.close()


def test_where_no_thread_can_be_started_that_is_an_error_until_it_passes(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start
    limit = 0

    def start_some(thread: threading.Thread) -> None:
        if thread.name == "aiohaul worker" and len(alive()) >= limit:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_some)

    async def main() -> None:
        nonlocal limit
        with pytest.raises(aiohaul.HaulError, match=r"can't start new thread\. .*ulimit -u"):
            await run_in_thread(int)
        limit = 2
        many = (run_in_thread(lambda n=n: n) for n in range(20))  # type: ignore[misc]  # mypy's
        assert await asyncio.gather(*many) == list(range(20))
        assert len(alive()) <= 2
        limit = MAX_THREADS
        seen: list[int] = []

        def meet() -> None:
            seen.append(1)
            while len(seen) < 10:
                time.sleep(0.001)

        await asyncio.gather(*(run_in_thread(meet) for _ in range(10)))

    run(main())


# Processes ----------------------------------------------------------------------------------


def in_a_process(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=HUNG,
        check=True,
    )
    assert not done.stderr
    return done.stdout


def test_a_process_ends_though_a_function_that_was_abandoned_goes_on() -> None:
    code = """
import asyncio, threading, anyio
from aiohaul.threads import run_in_thread
async def main():
    with anyio.move_on_after(0.1):
        await run_in_thread(threading.Event().wait, abandon_on_cancel=True)
    print("left")
asyncio.run(main())
"""
    assert in_a_process(code) == "left\n"


def test_a_process_ends_though_its_loop_has_not() -> None:
    code = """
from aiohaul.blocking import call
from aiohaul.threads import run_in_thread
async def work(session):
    return await run_in_thread(lambda: "done")
print(call(work))
"""
    assert in_a_process(code) == "done\n"


def test_a_forked_process_has_threads_of_its_own() -> None:
    code = """
import asyncio, os
from aiohaul.threads import run_in_thread
loop = asyncio.new_event_loop()
loop.run_until_complete(run_in_thread(int))
child = os.fork()
if child == 0:
    loop.run_until_complete(run_in_thread(print, "in the same loop", True))
    asyncio.run(run_in_thread(print, "in another"))
    os._exit(0)
_, status = os.waitpid(child, 0)
loop.run_until_complete(run_in_thread(print, "in the parent", status))
loop.run_until_complete(loop.shutdown_asyncgens())
loop.close()
"""
    if sys.version_info >= (3, 12):
        code = f"import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n{code}"
    out = in_a_process(code.replace("print,", "(lambda *a: print(*a, flush=True)),"))
    assert out.splitlines() == ["in the same loop True", "in another", "in the parent 0"]


def test_a_journal_that_cannot_be_written_for_want_of_threads_is_an_error(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads._Worker, "start", fail)
    (tmp_path / "from").mkdir()
    with pytest.raises(aiohaul.HaulError, match="starting a thread failed"):
        run(with_a_journal(tmp_path))
    connect(tmp_path / "other", JOURNAL.schema, JOURNAL.version).close()  # nothing of it is held
    assert not os.listdir(tmp_path / "from")  # noqa: PTH208  # nor done
