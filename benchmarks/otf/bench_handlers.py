# a script, which prints its table
"""What do handlers cost where a batch runs many tasks at once?

    python -m benchmarks.otf.bench_handlers

100 threads make 10 handlers each, five sources and five destinations, and each pair lists a
directory and copies the object in it, on ``rclone serve s3``. Smaller numbers show how it grows.
Beside aiohaul's handlers: those of the addon that they replace, in an environment of its own.
Prints a table and writes ``handlers.png`` next to this file. The addon needs 12 GB for 1,000
handlers: where the machine has less to give, that line is left out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.otf.reference import environment, rclone, reference_python

HERE = Path(__file__).parent
SIZES = [(1, 10), (10, 10), (25, 10), (50, 10), (100, 10)]
#: MiB that a handler of the reference takes, for the decision whether there is room for it.
EXPECTED_MIB = 12.0
ADDONS = {"aiohaul": Path(sys.executable), "otf-addons-aws": reference_python()}

Figures = dict[str, float]


def available() -> float:
    """MiB of memory that the machine can give."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) / 1024


def measure(python: Path, threads: int, each: int) -> Figures:
    """Run the handlers in a process of their own, against a server of their own."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for number in range(10):
            place = directory / "source" / f"src{number}"
            place.mkdir(parents=True)
            (place / "a.txt").write_bytes(b"x" * 1024)
        for thread in range(threads):
            for turn in range(each // 2):
                # rclone answers a few errors while many requests race to make a directory.
                (directory / "night" / "in" / f"t{thread}-{turn}").mkdir(parents=True)
        with rclone(directory) as url:
            done = subprocess.run(  # the script beside this one
                [str(python), str(HERE / "handlers.py"), str(threads), str(each)],
                env=environment(url),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                check=True,
            )
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def row(name: str, figures: Figures) -> str:
    """A line of the table."""
    count = figures["handlers"]
    return (
        f"| {name} | {count:.0f} | {figures['mib']:.1f} | {figures['mib'] / count:.3f} |"
        f" {figures['threads']:.0f} | {figures['seconds']:.2f} | {figures['cpu']:.2f} |"
        f" {figures['cpu'] / count * 1000:.1f} |"
    )


def plot(results: dict[str, list[Figures]]) -> Path:
    """Draw memory and time over the number of handlers."""
    import matplotlib as mpl  # noqa: PLC0415  # the table does without it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  # as above

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
    for axis, what, label in zip(axes, ("mib", "seconds"), ("memory, MiB", "seconds"), strict=True):
        for name, figures in results.items():
            counts = [each["handlers"] for each in figures]
            axis.plot(counts, [max(each[what], 0.01) for each in figures], "o-", label=name)
        axis.set(xlabel="handlers, ten to a thread", ylabel=label, xscale="log", yscale="log")
        axis.grid(visible=True, alpha=0.3)
    axes[0].legend()
    figure.tight_layout()
    target = HERE / "handlers.png"
    figure.savefig(target, dpi=120)
    return target


def main() -> None:
    """Measure both addons at every size."""
    print("| addon | handlers | MiB | MiB each | more threads | s | CPU s | CPU ms each |")
    print("|---|---|---|---|---|---|---|---|")
    results: dict[str, list[Figures]] = {name: [] for name in ADDONS}
    for name, python in ADDONS.items():
        for threads, each in SIZES:
            if name != "aiohaul" and threads * each * EXPECTED_MIB > available() * 0.7:
                continue
            figures = measure(python, threads, each)
            results[name].append(figures)
            print(row(name, figures), flush=True)
    print(plot(results))


if __name__ == "__main__":
    main()
