"""Writes bytes to standard output from the event loop."""

from __future__ import annotations

import os
import sys

from aiohaul.threads import run_in_thread


async def write_bytes(data: bytes) -> None:
    """Write bytes to standard output, in a thread. A cancellation does not wait for the reader.

    Raises:
        BrokenPipeError: the reader of the pipe has ended.
    """
    # Without Python's buffer, which an abandoned thread would lock at the end of the process.
    await run_in_thread(_write, data, abandon_on_cancel=True)


def _write(data: bytes) -> None:
    remaining = memoryview(data)
    while remaining:
        remaining = remaining[os.write(sys.stdout.fileno(), remaining) :]


def discard_output() -> None:
    """Discard the output that Python still buffers, because the reader of the pipe has ended."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
