"""Signals to a process whose event loop is blocked."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process

import pytest

BLOCKED = """
import asyncio, sys, time
from aiohaul.cli.runner import cancelled_by_signals

async def main():
    print("ready", flush=True)
    time.sleep(float(sys.argv[1]))
    try:
        await asyncio.sleep(60)
    finally:
        print("cleaned up", flush=True)

try:
    asyncio.run(cancelled_by_signals(main()))
except KeyboardInterrupt:
    sys.exit(130)
except asyncio.CancelledError:
    sys.exit(143)
"""


async def _started(seconds: float) -> Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", BLOCKED, str(seconds), stdout=PIPE, stderr=PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_second_signal_ends_a_process_whose_loop_is_blocked(number: signal.Signals) -> None:
    process = await _started(60)
    process.send_signal(number)
    await asyncio.sleep(1.2)
    process.send_signal(number)
    out, err = await asyncio.wait_for(process.communicate(), 5)
    assert process.returncode == -number
    assert out == b""
    assert err == b"aiohaul: the event loop is blocked; the process ends without cleanup\n"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
async def test_signal_that_comes_twice_at_once_does_not_prevent_the_cleanup(
    number: signal.Signals, code: int
) -> None:
    """As from wrappers, which send it to the process and to its group."""
    process = await _started(0.5)
    process.send_signal(number)
    await asyncio.sleep(0.1)
    process.send_signal(number)
    out, _ = await asyncio.wait_for(process.communicate(), 10)
    assert (process.returncode, out) == (code, b"cleaned up\n")
