# a script, which prints its table
"""How long does ``task-run`` take for a transfer, from the start of its process to its end?

    python -m benchmarks.otf.bench_transfer

Objects of 1 KiB go from one bucket to another on ``rclone serve s3`` on this machine, and so
without the latency of a network; then they are deleted at their source. Beside aiohaul:
otf-addons-aws, in an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.harness.drawing import bars
from benchmarks.harness.processes import CPU, PEAK, SECONDS, Figures, cost
from benchmarks.harness.results import Result, Table, parser, show
from benchmarks.harness.rounds import in_turns, medians
from benchmarks.harness.surroundings import S3_PROTOCOL as PROTOCOL
from benchmarks.otf.reference import environment, rclone, reference_python

DEFINITION = {
    "type": "transfer",
    "source": {
        "bucket": "source",
        "directory": "src",
        "fileRegex": ".*",
        "postCopyAction": {"action": "delete"},
        "protocol": PROTOCOL,
    },
    "destination": [{"bucket": "night", "directory": "dest", "protocol": PROTOCOL}],
}


def run(python: Path, count: int) -> Figures:
    """What one process costs, on a server and with objects of its own."""
    with tempfile.TemporaryDirectory() as data, tempfile.TemporaryDirectory() as folder:
        for place in ("source/src", "night/dest"):
            Path(data, place).mkdir(parents=True)
        for number in range(count):
            Path(data, f"source/src/{number}.txt").write_bytes(b"x" * 1024)
        Path(folder, "variables.json").write_text("{}")
        Path(folder, "haul.json").write_text(json.dumps(DEFINITION))
        command = [str(python.with_name("task-run")), "-t", "haul", "-c", folder]
        with rclone(Path(data)) as url:
            spent = cost([command], environment(url))
        if len(list(Path(data, "night/dest").iterdir())) != count:
            raise SystemExit("not everything arrived")
    return spent


def measure(chosen: argparse.Namespace) -> Result:
    """Both addons with few and many objects."""
    addons = {"aiohaul": Path(sys.executable), "otf-addons-aws": reference_python()}
    tables = []
    for count in chosen.objects:
        ways = {name: partial(run, python, count) for name, python in addons.items()}
        rows = medians(in_turns(ways, chosen.rounds, warm_up=False))
        tables.append(Table(f"{count:,} objects", rows, compared=(SECONDS, CPU, PEAK)))
    how = (
        "Whole processes of `task-run` that move objects of 1 KiB from one bucket to another on"
        f" `rclone serve s3`, without latency; {chosen.rounds} rounds, medians, ratios to aiohaul."
    )
    losses = [each for table in tables for each in table.losses()]
    return Result("Under Open Task Framework", how, tables, losses, plot="transfer.svg")


def main() -> None:
    """Measure, print and draw."""
    arguments = parser(__doc__, rounds=3)
    arguments.add_argument("--objects", type=int, nargs="+", default=[1, 100, 1000])
    chosen = arguments.parse_args()
    if chosen.quick:
        chosen.objects, chosen.rounds = [10], 1
    show(measure(chosen), chosen, bars((SECONDS, CPU, PEAK)))


if __name__ == "__main__":
    main()
