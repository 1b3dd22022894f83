"""Child processes, and what they cost."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from benchmarks.harness.surroundings import ROOT, environment

#: What one run has shown: seconds, MiB and so on, by the name of the column.
Figures = dict[str, float]
#: Processes that run side by side.
Commands = Sequence[Sequence[str]]

SECONDS, CPU, PEAK, SERVER = "seconds", "client CPU, s", "peak MiB", "servers' CPU, s"
#: Seconds after which a child is taken for hung.
_PATIENCE = 900
_TICK = os.sysconf("SC_CLK_TCK")


class ChildFailedError(Exception):
    """A child ended with an error; the message is what it said."""


def cost(
    commands: Commands,
    variables: Mapping[str, str] | None = None,
    servers: Sequence[int] = (),
) -> Figures:
    """Run commands side by side to their ends: time, CPU, and the memory of the largest one.

    The peak is the kernel's figure, and that begins with what this process has at the start of a
    child: a benchmark stays small until all is measured, and imports what it draws with at last.

    Args:
        commands: what to run; one that fails ends the benchmark.
        variables: the environment, else the usual one.
        servers: ids of processes whose CPU is told as well.
    """
    before = sum(map(cpu_of, servers))
    begun = time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        running = [
            subprocess.Popen(
                each,
                env=variables or environment(),
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
            for each in commands
        ]
        try:
            used = [_ended(process, errors) for process in running]
        finally:
            for process in running:
                process.kill()  # one that has ended is left alone
    figures = {
        SECONDS: time.perf_counter() - begun,
        CPU: sum(each.ru_utime + each.ru_stime for each in used),
        PEAK: max(each.ru_maxrss for each in used) / 1024,
    }
    return figures | ({SERVER: sum(map(cpu_of, servers)) - before} if servers else {})


def _ended(process: subprocess.Popen[bytes], errors: IO[str]) -> resource.struct_rusage:
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        errors.seek(0)
        raise ChildFailedError(f"{errors.read()[-2000:]}\n{process.args!r}: {process.returncode}")
    return used


def cpu_of(process: int) -> float:
    """Seconds of CPU that a running process has used, its finished children's not included."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of the benchmarks, or of the tests."""
    return [sys.executable, "-m", module, *arguments]


def told(module: str, *arguments: str) -> Any:
    """What a module of the benchmarks prints, as JSON, in a process of its own."""
    done = subprocess.run(
        python(module, *arguments),
        env=environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
        timeout=_PATIENCE,
    )
    return json.loads(done.stdout.splitlines()[-1])
