"""How much memory does a large object take on its way to three places, and who waits for whom?

    pip install aiohaul matplotlib
    python benchmarks/copies/bench_tee.py [--size GIB] [--small MIB]

One object is read once through ``S3Handler.copy`` and written to three buckets of a server in
another process, which makes it up and keeps nothing. First all three are as fast as they come;
then a smaller object, and one of the three takes 1 MB a second; then reading, and writing to each
of the three, go at 20 MB a second: how much of that is used tells whether one waits for the other.
Each case runs in a process of
its own, whose resident memory is read every 100 ms. Prints one table, and draws ``tee.png``
beside this file.
"""

# a script, whose output is its purpose

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MIB, GIB = 2**20, 2**30
HERE = Path(__file__).parent
TO = ("first", "second", "third")
#: Bytes a second of the slow one, and of links that are all the same.
SLOW, LINK = 1_000_000, 20_000_000
#: Bytes of the object that goes over those.
LINKED = 256 * MIB
_EVERY = 0.1
_STATUS = Path("/proc/self/status")


def resident() -> float:
    """MiB of this process that are in memory."""
    line = next(each for each in _STATUS.read_text().splitlines() if each.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def copy(url: str) -> dict[str, Any]:
    """Copy the object, in this process: seconds, CPU and the curve of memory."""
    import aiohaul  # noqa: PLC0415  # the parent needs none of it
    from aiohaul import Destination  # noqa: PLC0415

    curve: list[tuple[float, float]] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(_EVERY):
            curve.append((time.monotonic(), resident()))

    async with aiohaul.Session(
        region="eu-west-1",
        endpoint_url=url,
        access_key_id="testing",
        secret_access_key="testing-secret",  # noqa: S106  # the benchmark's own server
    ) as session:
        s3 = session.s3()
        source = await s3.head("source", "large")
        before, start, cpu = resident(), time.monotonic(), time.process_time()
        sampler = threading.Thread(target=sample)
        sampler.start()
        try:
            to = [Destination(bucket=bucket, transfer_type="proxy") for bucket in TO]
            report = await s3.copy([source], to)
        finally:
            done.set()
            sampler.join()
        assert all(each.objects == 1 for each in report.destinations)
        return {
            "start": start,
            "seconds": time.monotonic() - start,
            "cpu": time.process_time() - cpu,
            "before": before,
            "memory": curve,
        }


@dataclass(frozen=True)
class Case:
    """One case, and what was seen."""

    name: str
    size: int
    start: float
    seconds: float
    cpu: float
    before: float
    memory: list[tuple[float, float]]
    #: seconds, and MiB that each destination had by then
    read: list[tuple[float, list[float]]]

    @property
    def peak(self) -> float:
        """The most MiB that were in memory."""
        return max((mib for _, mib in self.memory), default=self.before)

    @property
    def ahead(self) -> float:
        """The most MiB by which the fastest destination was ahead of the slowest."""
        return max(max(each) - min(each) for _, each in self.read)

    def done_at(self, index: int) -> float:
        """Seconds after which a destination had everything."""
        return next(at for at, each in self.read if each[index] >= self.size / MIB)


def measure(name: str, size: int, rates: dict[str, int]) -> Case:
    """Run one case: a server, and a process that copies."""
    server_command = [sys.executable, str(HERE / "server.py"), str(size), json.dumps(rates)]
    with subprocess.Popen(
        server_command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{int(server.stdout.readline())}"
            copying = [sys.executable, __file__, "--copy", url]
            seen = json.loads(subprocess.run(copying, check=True, stdout=subprocess.PIPE).stdout)
            read = json.loads(server.communicate()[0])
        finally:
            server.kill()
    start = seen["start"]
    return Case(
        name,
        size,
        start,
        seen["seconds"],
        seen["cpu"],
        seen["before"],
        [(at - start, mib) for at, mib in seen["memory"]],
        [
            (at - start, [each.get(bucket, 0) / MIB for bucket in TO])
            for at, each in read
            if at >= start
        ],
    )


def table(cases: list[Case]) -> str:
    """The results as text."""
    heads = ("MiB", "seconds", "MiB/s read", "CPU s/GiB", "RSS before", "peak", "most ahead")
    widths = (8, 9, 12, 11, 12, 8, 12)
    titles = "".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True))
    lines = [f"{'':26}{titles}   had all after, s"]
    for each in cases:
        done = ", ".join(f"{each.done_at(index):.1f}" for index in range(len(TO)))
        lines.append(
            f"{each.name:26}{each.size / MIB:8.0f}{each.seconds:9.1f}"
            f"{each.size / MIB / each.seconds:12.1f}{each.cpu / (each.size / GIB):11.2f}"
            f"{each.before:12.1f}{each.peak:8.1f}{each.ahead:12.1f}   {done}"
        )
    return "\n".join(lines)


def curves(case: Case, rows: int = 12) -> str:
    """Memory, and what the destinations had, over time."""
    lines = [f"{case.name}: seconds, MiB in memory, MiB that each destination had"]
    for number in range(rows + 1):
        at = case.seconds * number / rows
        _, mib = min(case.memory, key=lambda each: abs(each[0] - at))
        _, had = min(case.read, key=lambda each: abs(each[0] - at))
        lines.append(f"{at:9.1f}{mib:9.1f}   " + "".join(f"{each:9.1f}" for each in had))
    return "\n".join(lines)


def plot(cases: list[Case], path: Path) -> None:
    """Draw memory above, and what the destinations had below."""
    import matplotlib as mpl  # noqa: PLC0415  # only drawing needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(2, len(cases), figsize=(13, 6), layout="constrained", sharex="col")
    for column, case in enumerate(cases):
        upper, lower = axes[0][column], axes[1][column]
        upper.plot(*zip(*case.memory, strict=True), color="#2a6f97")
        upper.set(title=case.name, ylabel="MiB in memory", ylim=(0, case.peak * 1.15))
        for index, (bucket, style) in enumerate(zip(TO, ("-", "--", ":"), strict=True)):
            times = [at for at, _ in case.read]
            lower.plot(times, [had[index] for _, had in case.read], style, label=bucket)
        lower.set(xlabel="seconds", ylabel="MiB delivered")
        lower.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print and draw."""
    if sys.argv[1:2] == ["--copy"]:
        print(json.dumps(asyncio.run(copy(sys.argv[2]))))
        return
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--size", type=float, default=2, help="GiB of the large object")
    arguments.add_argument(
        "--small", type=int, default=64, help="MiB beside a slow one: over 8, one part"
    )
    chosen = arguments.parse_args()
    cases = [
        measure("three fast ones", int(chosen.size * GIB), {}),
        measure("third takes 1 MB/s", chosen.small * MIB, {"third": SLOW}),
        measure("all links 20 MB/s", LINKED, dict.fromkeys(("source", *TO), LINK)),
    ]
    print(table(cases))
    for each in cases:
        print(f"\n{curves(each)}")
    plot(cases, HERE / "tee.png")


if __name__ == "__main__":
    main()
