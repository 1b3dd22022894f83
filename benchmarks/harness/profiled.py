"""Where the CPU goes: a command of aiohaul's, or a module, under Python's own profiler.

    python -m benchmarks.harness.profiled OUT aiohaul run …
    python -m benchmarks.harness.profiled OUT MODULE …

The clock is the process's CPU, so that waiting counts for nothing. The profiler makes everything
slower, and small functions most: what it shows is shares, not seconds.
"""

from __future__ import annotations

import cProfile
import pstats
import runpy
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.processes import cost, python

_ROWS = 8
#: What a file belongs to, by a part of its path; the first that fits.
_ROOMS = (
    ("aiohaul", "/aiohaul/"),
    ("aiohttp and what it needs", "/aiohttp/"),
    ("aiohttp and what it needs", "/yarl/"),
    ("aiohttp and what it needs", "/multidict/"),
    ("botocore, aiobotocore", "botocore/"),
    ("asyncio, anyio", "/asyncio/"),
    ("asyncio, anyio", "/anyio/"),
    ("imports", "<frozen importlib"),
    ("built in (C)", "~"),
    ("obstore", "/obstore/"),
)


def profile(*arguments: str) -> str:
    """Run a command under the profiler, in a process of its own: what took its CPU, as text."""
    with tempfile.NamedTemporaryFile(suffix=".prof") as file:
        cost([python("benchmarks.harness.profiled", file.name, *arguments)])
        return shares(file.name)


def shares(file: str) -> str:
    """Shares by origin, and the functions that took most by themselves."""
    stats = pstats.Stats(file).stats  # type: ignore[attr-defined]  # not in its types
    rooms: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for (path, line, name), (_, _, own, _, _) in stats.items():
        rooms[_room(path)] += own
        functions[_place(path, line, name)] += own
    total = sum(rooms.values()) or 1.0
    lines = [", ".join(f"{name} {own / total:.0%}" for name, own in rooms.most_common())]
    lines += [f"{own / total:6.1%}  {name}" for name, own in functions.most_common(_ROWS)]
    return "\n".join(lines)


def _room(path: str) -> str:
    return next((room for room, part in _ROOMS if part in path), "the rest of Python")


def _place(path: str, line: int, name: str) -> str:
    return name if path == "~" else f"{'/'.join(Path(path).parts[-2:])}:{line} {name}"


def main(out: str, what: str, arguments: Sequence[str]) -> None:
    """Run it, and write what was seen even where it ends with SystemExit."""
    sys.argv = [what, *arguments]
    profiler = cProfile.Profile(time.process_time)
    profiler.enable()
    try:
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise
    finally:
        profiler.disable()
        profiler.dump_stats(out)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
