"""How much memory does a large object take on its way to three places, and who waits for whom?

    pip install -e . --group benchmarks
    python -m benchmarks.copies.bench_tee [--size GIB] [--small MIB]

One object is read once through ``S3Handler.copy`` and written to three buckets of a server in
another process, which makes it up and keeps nothing. First all three are as fast as they come;
then a smaller object, and one of the three takes 1 MB a second; then reading, and writing to each
of the three, go at 20 MB a second: how much of that is used tells whether one waits for the other.
Each case runs in a process of its own, whose resident memory is read every 100 ms.
"""

# a script, whose output is its purpose

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import servers, surroundings
from benchmarks.harness.drawing import canvas, save
from benchmarks.harness.processes import PEAK, SECONDS, Figures, told
from benchmarks.harness.results import Result, Table, number, parser, show
from benchmarks.harness.surroundings import KEYS, REGION

MIB, GIB = 2**20, 2**30
_MODULE = "benchmarks.copies.bench_tee"
TO = ("first", "second", "third")
#: Bytes a second of the slow one, and of links that are all the same.
SLOW, LINK = 1_000_000, 20_000_000
_EVERY = 0.1


def resident() -> float:
    """MiB of this process that are in memory."""
    return surroundings.resident() / MIB


async def copy(url: str) -> dict[str, Any]:
    """Copy the object, in this process: seconds, CPU and the curve of memory."""
    import aiohaul  # noqa: PLC0415  # the parent needs none of it
    from aiohaul import Destination  # noqa: PLC0415

    curve: list[tuple[float, float]] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(_EVERY):
            curve.append((time.monotonic(), resident()))

    async with aiohaul.Session(region=REGION, endpoint_url=url, **KEYS) as session:
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
    arguments = (str(size), json.dumps(rates))
    with servers.module("benchmarks.copies.server", *arguments) as server:
        seen = told(_MODULE, "--copy", server.url)
        read = json.loads(server.finish().splitlines()[-1])
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


def row(case: Case) -> Figures:
    """What is shown of a case."""
    done = {f"{bucket} had all after, s": case.done_at(index) for index, bucket in enumerate(TO)}
    return {
        "MiB": case.size / MIB,
        SECONDS: case.seconds,
        "MiB/s read": case.size / MIB / case.seconds,
        "CPU s/GiB read": case.cpu / (case.size / GIB),
        "MiB before": case.before,
        PEAK: case.peak,
        "most MiB ahead": case.ahead,
        **done,
    }


def draw(cases: list[Case], path: Path) -> None:
    """Draw memory above, and what the destinations had below."""
    figure, axes = canvas(2, len(cases), (13, 5.5))
    for column, case in enumerate(cases):
        upper, lower = axes[0][column], axes[1][column]
        upper.plot(*zip(*case.memory, strict=True), color="#2a6f97")
        upper.set(title=case.name, ylabel="MiB in memory", ylim=(0, case.peak * 1.15))
        for index, (bucket, style) in enumerate(zip(TO, ("-", "--", ":"), strict=True)):
            times = [at for at, _ in case.read]
            lower.plot(times, [had[index] for _, had in case.read], style, label=bucket)
        lower.set(xlabel="seconds", ylabel="MiB delivered")
        lower.legend(fontsize=7)
    save(figure, path)


def main() -> None:
    """Measure, print and draw."""
    if sys.argv[1:2] == ["--copy"]:
        print(json.dumps(asyncio.run(copy(sys.argv[2]))))
        return
    arguments = parser(__doc__, rounds=1)
    arguments.add_argument("--size", type=float, default=1, help="GiB of the large object")
    arguments.add_argument("--small", type=int, default=16, help="MiB where one is slow")
    arguments.add_argument("--linked", type=int, default=256, help="MiB where all are equal")
    chosen = arguments.parse_args()
    if chosen.quick:
        chosen.size, chosen.small, chosen.linked = 0.125, 2 * 8, 32
    cases = [
        measure("three fast ones", int(chosen.size * GIB), {}),
        measure("third takes 1 MB/s", chosen.small * MIB, {"third": SLOW}),
        measure("all links 20 MB/s", chosen.linked * MIB, dict.fromkeys(("source", *TO), LINK)),
    ]
    rows = {each.name: row(each) for each in cases}
    share = cases[2].size / cases[2].seconds / LINK
    found = Result(
        "Who waits for whom, and what is in memory meanwhile",
        "One object through this machine to three destinations, one run of each case.",
        [Table("aiohaul", rows, plain=list(rows[cases[0].name]))],
        [
            f"Of links of {LINK / 1e6:.0f} MB/s {share:.0%} is used; without overlap it were half.",
            f"The slow one is the third; the others had all after {number(cases[1].done_at(0))}"  # noqa: ISC004
            f" s and {number(cases[1].done_at(1))} s.",
        ],
        plot="tee.svg",
    )
    show(found, chosen, lambda _, path: draw(cases, path))


if __name__ == "__main__":
    main()
