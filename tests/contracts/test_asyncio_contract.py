"""Whatever is awaited keeps asyncio's contract for those who cancel it, at every point."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from aiohaul import Stream
from tests.support import asyncio_contract, leaks, public_calls, quick
from tests.support.asyncio_contract import WAYS
from tests.support.public_calls import CALLS, Stage

#: At how many points of a call it is ended in each way, and how far it is let come.
POINTS = int(os.environ.get("AIOHAUL_POINTS", "3"))
_FAR = 400
#: Turns after which what was ended once is ended again.
_LATER = (0, 1, 3, 10)
_LONG = 3600

_request_id: ContextVar[str] = ContextVar("_request_id", default="none")


def test_there_is_a_call_of_everything_that_is_awaited() -> None:
    assert set(public_calls.awaited()) == public_calls.called()


@pytest.mark.parametrize("name", CALLS)
async def test_it_ends_as_a_sleep_does(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, moto: str
) -> None:
    async with Stage(tmp_path, moto) as stage:
        quick.quicken(monkeypatch.setattr)
        call = functools.partial(CALLS[name], stage)
        turns = await _turns(call)
        before = _own_tasks()
        ended = 0
        for way in WAYS:
            for point in range(POINTS):
                at = 1 + round(turns * (point + 0.5) / POINTS)  # in the first turn it starts
                later = _LATER[point % len(_LATER)]
                cancelling = await way(call, at, later)
                if cancelling is not None:
                    ended += 1
                    assert cancelling == await way(_sleep, 1, later), (way.__name__, at, later)
        assert ended, "it was never ended before it was done"
        assert _own_tasks() == before
        for session in stage.sessions.values():
            assert leaks.held_connections(session) == []
        await call_once_more(call)


async def _sleep() -> None:
    await asyncio.sleep(_LONG)


async def call_once_more(call: asyncio_contract.Call) -> None:
    """What was ended so often can still be done."""
    task = asyncio.ensure_future(call())
    await asyncio.wait((task,), timeout=1)
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled():
        task.result()


async def _turns(call: asyncio_contract.Call) -> int:
    """How many turns of the loop the call takes."""
    for _ in range(2):  # the first one learns of the servers, and takes longer
        task = asyncio.ensure_future(call())
        turns = 0
        while not task.done() and turns < _FAR:
            await asyncio.sleep(0)
            turns += 1
        task.cancel()
        await asyncio.wait((task,))
        if not task.cancelled():
            task.result()
    return turns


def _own_tasks() -> set[str]:
    """The tasks of this library that are running."""
    return {repr(task) for task in asyncio.all_tasks() if _is_own(task)}


def _is_own(task: asyncio.Task[Any]) -> bool:
    code: Any = getattr(task.get_coro(), "cr_code", None)
    return code is not None and "/aiohaul/" in code.co_filename


async def test_context_variables_reach_what_the_caller_hands_over(
    tmp_path: Path, moto: str
) -> None:
    """The call runs in a task of its own, in a copy of the caller's context."""
    heard: set[str] = set()

    def hear(_: object) -> None:
        heard.add(_request_id.get())

    async def chunks() -> AsyncIterator[bytes]:
        heard.add(_request_id.get())
        yield b"x"

    async with Stage(tmp_path, moto) as stage:
        _request_id.set("42")
        await stage.home.copy([Stream("stream", chunks())], [stage.away()], on_progress=hear)
    assert heard == {"42"}
