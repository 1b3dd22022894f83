"""How long does the loop stand still while a watch looks at a prefix of 200,000 objects?

    pip install -e . --group benchmarks
    python -m benchmarks.watches.bench_large

One watch looks again and again, with nothing between the looks: the longest stop of the loop
during each look, as Python comes and after gc.freeze(), which spares what is loaded by then from
every later garbage collection; and beside them the longest stops while nothing looks.
"""

# a module, whose output is its purpose

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import aiohaul
from benchmarks.harness import servers
from benchmarks.harness.drawing import COLORS, canvas, save
from benchmarks.harness.loops import Monitor
from benchmarks.harness.processes import Figures, told
from benchmarks.harness.results import Result, Table, aim, parser, show
from benchmarks.harness.surroundings import KEYS, REGION, resident

_MODULE = "benchmarks.watches.bench_large"
#: Looks that are measured in each state, after one that is not.
LOOKS = 3
#: Milliseconds.
STOP_AIM = 10.0
MEDIAN, WORST, OWN = "longest stop, median ms", "worst, ms", "worst, ms of its own CPU"
STATES = {
    "looking": "aiohaul, as Python comes",
    "frozen": "aiohaul, after gc.freeze()",
    "idle": "while nothing looks",
}


async def look(url: str) -> dict[str, Any]:
    """What one watch stops the loop for, and takes, in this process."""
    stops: list[tuple[float, float]] = []
    taken: list[float] = []
    monitor = Monitor(0.001)
    begun = time.perf_counter()
    done = asyncio.Event()

    def looked(_: aiohaul.Event) -> None:
        nonlocal begun
        stops.append(monitor.stop())
        taken.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        if len(stops) == LOOKS + 1:
            gc.freeze()
        if len(stops) > 2 * LOOKS:
            done.set()

    ticking = asyncio.create_task(monitor.run())
    async with aiohaul.Session(region=REGION, endpoint_url=url, **KEYS) as session:
        s3 = session.s3()
        await s3.find("bucket", "warm")
        before = resident()
        watch = s3.watch("bucket", "large", interval=0.001, existing=False, on_progress=looked)
        step = asyncio.ensure_future(anext(watch))
        await done.wait()
        added = resident() - before
        step.cancel()
        await asyncio.wait([step])
    idle = []
    for _ in range(LOOKS):
        monitor.stop()
        await asyncio.sleep(1)
        idle.append(monitor.stop())
    ticking.cancel()
    return {
        "looking": stops[1 : LOOKS + 1],
        "frozen": stops[LOOKS + 1 :],
        "idle": idle,
        "taken": taken[1:],
        "added": added,
    }


def rows(seen: dict[str, Any]) -> dict[str, Figures]:
    """What is shown."""
    return {
        name: {
            MEDIAN: statistics.median(wall for wall, _ in seen[state]) * 1000,
            WORST: max(wall for wall, _ in seen[state]) * 1000,
            OWN: max(cpu for _, cpu in seen[state]) * 1000,
        }
        | ({"s a look": statistics.median(seen["taken"]), "MB a watch": seen["added"] / 1e6}
           if state == "looking" else {})
        for state, name in STATES.items()
    }  # fmt: skip


def draw(seen: dict[str, Any], path: Path) -> None:
    """Draw the stops."""
    figure, ((axis,),) = canvas(1, 1, (6, 3))
    for color, (state, name) in zip(COLORS, STATES.items(), strict=False):
        values = [cpu * 1000 for _, cpu in seen[state]]
        axis.plot(range(1, len(values) + 1), values, "o-", color=color, label=name)
    axis.set(title="longest stop, 200,000 objects, CPU", xlabel="look", ylabel="ms", ylim=(0, None))
    axis.set_xticks(range(1, LOOKS + 1))
    axis.legend(fontsize=7)
    save(figure, path)


def main() -> None:
    """Measure, print and draw."""
    if sys.argv[1:2] == ["--look"]:
        print(json.dumps(asyncio.run(look(sys.argv[2]))))
        return
    chosen = parser(__doc__, rounds=1).parse_args()
    with servers.module("benchmarks.watches.server") as server:
        seen = told(_MODULE, "--look", server.url)
    shown = rows(seen)
    table = Table("200,000 objects", shown, plain=(MEDIAN, WORST, OWN, "s a look", "MB a watch"))
    found = Result(
        "A watch of a large prefix",
        f"{LOOKS} looks in each state, one watch, one process.",
        [table],
        [aim(OWN, shown[STATES["looking"]][OWN], STOP_AIM)],
        plot="large.svg",
    )
    show(found, chosen, lambda _, path: draw(seen, path))


if __name__ == "__main__":
    main()
