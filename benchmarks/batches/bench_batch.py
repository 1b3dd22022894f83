# a script, which prints its table
"""How long does a batch take beyond what its calls take? 100 Lambda calls in ten layers.

    python -m benchmarks.batches.bench_batch [--rounds 3] [--seconds 0.5]

Each layer of ten calls waits for all of the layer before. A call is held for as long as its
payload says by a server in a process of its own, on 127.0.0.1, so the calls alone take ten times
that. The same folder of definitions is run by `aiohaul run`, by Open Task Framework's own batch
handler with the addon that aiohaul replaces, and by it with aiohaul's handlers: as it comes, and
tuned, with a look every twentieth of a second and no pause after each start. Whole processes are
measured, from their start to their end, their imports included; one of each in every round, the
figures are medians, and ratios those of the rounds. Prints a table and writes ``batch.png`` beside
this file. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.otf.reference import environment, reference_python

HERE = Path(__file__).parent
LAYERS, WIDTH = 10, 10
PROTOCOL = {"name": "opentaskpy.addons.aws.remotehandlers.lambda.LambdaExecution"}
#: What turns down OTF's polling and its second of pause for each task that it starts.
QUICK = {"OTF_BATCH_POLL_INTERVAL": "0.05", "OTF_NO_THREAD_SLEEP": "1"}
AS_IT_COMES = {"OTF_BATCH_POLL_INTERVAL": "5"}


@dataclass(frozen=True)
class Way:
    """One way to run the batch.

    Attributes:
        name: for the table.
        python: of the environment.
        variables: of the process.
        otf: whether it is OTF that runs it.
    """

    name: str
    python: Path
    variables: Mapping[str, str]
    otf: bool = True

    def command(self, folder: Path) -> list[str]:
        """The command line."""
        if self.otf:
            return [str(self.python.with_name("task-run")), "-t", "night", "-c", str(folder)]
        return [str(self.python), "-m", "aiohaul", "run", "--quiet", str(folder / "night.json")]


@dataclass(frozen=True)
class Figures:
    """What one run took: seconds, seconds of CPU, MiB at most; and calls held at once at most."""

    wall: float
    cpu: float
    mib: float
    most: int


def write_folder(folder: Path, seconds: float) -> None:
    """Write the batch and its tasks."""
    tasks = []
    for number in range(LAYERS * WIDTH):
        name = f"call-{number:03}"
        first = number // WIDTH * WIDTH
        call = {
            "type": "execution",
            "functionArn": "arn:aws:lambda:eu-west-1:000000000000:function:work",
            "invocationType": "RequestResponse",
            "payload": {"seconds": seconds},
            "protocol": PROTOCOL,
        }
        (folder / f"{name}.json").write_text(json.dumps(call))
        before = [each + 1 for each in range(first - WIDTH, first)] if first else []
        tasks.append({"order_id": number + 1, "task_id": name, "dependencies": before})
    (folder / "night.json").write_text(json.dumps({"type": "batch", "tasks": tasks}))
    (folder / "variables.json").write_text("{}")


@contextmanager
def server() -> Iterator[str]:
    """The address of the endpoint."""
    command = [sys.executable, str(HERE / "server.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def measure(way: Way, folder: Path) -> Figures:
    """Run the batch once, against a server of its own, and see that it was run."""
    with server() as url:
        variables = environment(url)
        if way.variables is AS_IT_COMES:
            del variables["OTF_NO_THREAD_SLEEP"]
        begun = time.perf_counter()
        process = subprocess.Popen(
            way.command(folder),
            env={**variables, **way.variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        with urllib.request.urlopen(f"{url}/seen", timeout=10) as answer:  # noqa: S310  # the server's
            seen = json.load(answer)
    assert process.returncode == 0, f"{way.name} failed"
    assert seen["calls"] == LAYERS * WIDTH, f"{way.name} made {seen['calls']} calls"
    return Figures(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, seen["most"])


def table(results: Mapping[str, Sequence[Figures]], least: float) -> str:
    """Everything that was measured."""
    lines = [
        (
            f"| {LAYERS * WIDTH} calls in {LAYERS} layers, {least:g} s by themselves"
            " | s | s beyond the calls | times aiohaul's s | CPU s | MiB |"
        ),
        "|---|---|---|---|---|---|",
    ]
    ours = next(iter(results.values()))
    for name, runs in results.items():
        wall = median(run.wall for run in runs)
        ratio = median(run.wall / own.wall for run, own in zip(runs, ours, strict=True))
        lines.append(
            f"| {name} | {wall:.1f} | {wall - least:.1f} | {ratio:.2f} |"
            f" {median(run.cpu for run in runs):.1f} | {median(run.mib for run in runs):.0f} |"
        )
    return "\n".join(lines)


def plot(results: Mapping[str, Sequence[Figures]], least: float) -> Path:
    """Draw seconds, memory and CPU side by side."""
    import matplotlib as mpl  # noqa: PLC0415  # the table needs none

    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  # after the choice of what draws

    figure, axes = plt.subplots(1, 3, figsize=(13, 3.2), layout="constrained", sharey=True)
    columns = {
        "seconds (dashed: the calls alone)": [
            median(r.wall for r in runs) for runs in results.values()
        ],
        "seconds of CPU": [median(r.cpu for r in runs) for runs in results.values()],
        "MiB at most": [median(r.mib for r in runs) for runs in results.values()],
    }
    for axis, (title, values) in zip(axes, columns.items(), strict=True):
        drawn = axis.barh(list(results), values)
        axis.bar_label(drawn, fmt="%.1f", padding=3)
        axis.margins(x=0.2)
        axis.set_title(title)
    axes[0].axvline(least, color="black", linestyle="--", linewidth=0.8)
    axes[0].invert_yaxis()
    target = HERE / "batch.png"
    figure.savefig(target, dpi=120)
    return target


def main() -> None:
    """Measure all ways, in turns."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each call")
    given = parser.parse_args()
    own, reference = Path(sys.executable), reference_python()
    ways = [
        Way("aiohaul", own, {}, otf=False),
        Way("OTF tuned, aiohaul's handlers", own, QUICK),
        Way("OTF tuned, otf-addons-aws", reference, QUICK),
        Way("OTF as it comes, aiohaul's handlers", own, AS_IT_COMES),
        Way("OTF as it comes, otf-addons-aws", reference, AS_IT_COMES),
    ]
    results: dict[str, list[Figures]] = {way.name: [] for way in ways}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_folder(folder, given.seconds)
        for _ in range(given.rounds):
            for way in ways:
                figures = measure(way, folder)
                results[way.name].append(figures)
                print(way.name, figures, file=sys.stderr, flush=True)
    least = given.seconds * LAYERS
    print(table(results, least))
    print(plot(results, least))


if __name__ == "__main__":
    main()
