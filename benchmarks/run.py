"""Run all benchmarks, and write RESULTS.md beside this file: what they found, on which machine.

    pip install -e . --group benchmarks && apt-get install haproxy
    python -m benchmarks.run [--quick] [--only NAME …]

Each is a process of its own. What one prints is shown as it comes; one that fails is named in the
results, and the exit code is 1. With ``--quick`` all of them run on a small scale, to see that they
work, and nothing is written here; nor with ``--only``.
"""

# a module, whose output is its purpose

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.harness.processes import python
from benchmarks.harness.results import Result, restored
from benchmarks.harness.surroundings import ROOT, environment, machine

HERE = Path(__file__).parent
PLOTS = HERE / "results"
RESULTS = HERE / "RESULTS.md"
#: In the order of the questions; each is a module that can be run by itself.
BENCHMARKS = (
    "start.bench_start",
    "copies.bench_small",
    "listing.bench_listing",
    "copies.bench_worker",
    "copies.bench_tee",
    "watches.bench_watches",
    "watches.bench_large",
    "watches.bench_events",
    "invocations.bench_held",
    "growth.bench_growth",
    "requests.bench_requests",
    "otf.bench_transfer",
)
#: Seconds after which one of them is taken for hung.
_PATIENCE = 1800


@dataclass(frozen=True)
class Run:
    """What became of one benchmark: its text, or why there is none, and the seconds it took."""

    name: str
    text: str
    seconds: float
    failed: bool


def run(name: str, scratch: Path, plots: Path, *, quick: bool) -> Run:
    """Run one of them, to its end."""
    begun = time.perf_counter()
    stored = scratch / f"{name}.json"
    plot = plots / f"{name.rpartition('_')[2]}.svg"
    command = [*python(f"benchmarks.{name}"), "--result", str(stored), "--plot", str(plot)]
    options = ["--quick"] if quick else ["--profile"]
    with subprocess.Popen([*command, *options], cwd=ROOT, env=environment()) as process:
        try:
            code = process.wait(_PATIENCE)
            why = f"it ended with {code}" if code else ""
        except subprocess.TimeoutExpired:
            process.terminate()  # it ends its servers
            why = f"it took more than {_PATIENCE} s"
    seconds = time.perf_counter() - begun
    if why:
        return Run(name, f"## {name}\n\nFailed: {why}.", seconds, failed=True)
    found = restored(stored.read_text(encoding="utf-8"))
    return Run(name, section(name, found, seconds), seconds, failed=False)


def section(name: str, found: Result, seconds: float) -> str:
    """The part of the results that is one benchmark's."""
    marked = found.text(PLOTS.name).split("\n", 1)
    return f"{marked[0]}\n\n`python -m benchmarks.{name}`, {seconds:.0f} s\n{marked[1]}"


def document(runs: list[Run], load: float) -> str:
    """RESULTS.md."""
    total = sum(each.seconds for each in runs)
    now = datetime.now(UTC)
    head = (
        "# What aiohaul costs, beside others\n\n"
        f"Written by `nox -s benchmarks` on {now:%Y-%m-%d}, in {total / 60:.0f} minutes, on\n\n"
        f"{machine()}\n\n"
        f"with a load of {load:.1f} at the start. Clients and servers share the machine: trust the"
        " ratios. A figure in brackets is the ratio to the first row, which is aiohaul's; less is"
        " better in every column. What was aimed at says whether it was reached, and every figure"
        " of a peer that is lower by more than 5 % is named as a loss. A profile tells the shares"
        " of the CPU of aiohaul's process under cProfile, which favours what is not Python."
    )
    return "\n\n".join([head, *(each.text for each in runs)]) + "\n"


def main() -> None:
    """Run them all, or some, and write what they found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small, and nothing is written")
    parser.add_argument("--only", nargs="+", default=BENCHMARKS, metavar="NAME", help="of these")
    chosen = parser.parse_args()
    load = os.getloadavg()[0]
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        plots = scratch if chosen.quick else PLOTS
        plots.mkdir(exist_ok=True)
        for name in chosen.only:
            print(f"\n# {name}", flush=True)
            runs.append(run(name, scratch, plots, quick=chosen.quick))
            print(f"{runs[-1].seconds:.0f} s", flush=True)
    for each in runs:
        print(f"{each.seconds:6.0f} s  {each.name}{': failed' if each.failed else ''}")
    if chosen.quick or tuple(chosen.only) != BENCHMARKS:
        print("Not written: that takes all of them, in full.")
    else:
        RESULTS.write_text(document(runs, load), encoding="utf-8")
        print(f"{RESULTS} is written.")
    raise SystemExit(any(each.failed for each in runs))


if __name__ == "__main__":
    main()
