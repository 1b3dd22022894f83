"""How do copies grow with the number of objects, and of destinations?

    pip install -e . --group benchmarks
    python -m benchmarks.growth.bench_growth [--objects N …] [--destinations N …] [--most COPIES]

Server-side copies of 100 to 100,000 objects to 1, 3 and 10 buckets, and one object through this
machine to as many; beside aiohaul, s5cmd with one bucket. The endpoints are the benchmark's own:
they keep nothing and answer at once, so that what grows is the client. Whole processes are
measured: time, CPU and peak memory. What is more copies than ``--most`` is left out.

Shown is the power by which each grows from one number of objects to the next: 1 is in proportion,
0 is not at all. Where the start of the process weighs more than the copies, it is nearer to 0; how
much each copy takes beyond that start is the straight line through all points.
"""

# a module, whose output is its purpose

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from benchmarks.copies import bench_worker
from benchmarks.copies.peers import WAYS
from benchmarks.copies.places import Place, in_memory
from benchmarks.harness.drawing import canvas, lines, save
from benchmarks.harness.processes import CPU, PEAK, SECONDS, Figures, cost, python
from benchmarks.harness.results import Result, Table, number, parser, show
from benchmarks.harness.rounds import exponents, in_turns, line, medians

OURS, S5CMD = "aiohaul run", "s5cmd run"
SHOWN = (SECONDS, CPU, PEAK)
EACH = bench_worker.EACH
#: From here to there in the power, it grows in proportion.
STRAIGHT = (0.9, 1.1)
#: Below that it does not grow.
FLAT = 0.1
#: Destinations with which s5cmd is shown.
BESIDE = 1
MIB = 2**20

#: Figures by the number of objects.
Curve = dict[float, Figures]


def copied(place: Place, name: str, count: int, destinations: int) -> Figures:
    """Copy so many objects to so many buckets."""
    buckets = tuple(f"bucket-{number}" for number in range(destinations))
    directory = place.next()
    commands = WAYS[name](place.server.url, place.source(count), directory, buckets, place.folder)
    return cost(commands)


def curves(chosen: argparse.Namespace) -> dict[str, Curve]:
    """What every number of objects and destinations took, by name."""
    found: dict[str, Curve] = {}
    with in_memory() as place:
        copied(place, OURS, min(chosen.objects), 1)  # what is loaded first is loaded slowly
        for destinations in chosen.destinations:
            for name in (OURS, S5CMD) if destinations == BESIDE else (OURS,):
                curve = found.setdefault(f"{name}, to {destinations}", {})
                for count in chosen.objects:
                    if count * destinations > chosen.most:
                        continue
                    once = partial(copied, place, name, count, destinations)
                    few = count * destinations < 10_000
                    rounds = in_turns({name: once}, chosen.rounds if few else 1, warm_up=False)
                    curve[count] = medians(rounds)[name]
    return found


def through(chosen: argparse.Namespace) -> dict[float, Figures]:
    """One object through this machine, by the number of destinations."""
    found: dict[float, Figures] = {}
    for destinations in chosen.destinations:
        buckets = tuple(f"bucket-{number}" for number in range(destinations))
        case = bench_worker.Measurement(chosen.size * MIB, buckets)
        commands = partial(_worker, buckets=buckets)
        found[destinations] = case.run(commands, 1)
    return found


def _worker(url: str, buckets: tuple[str, ...]) -> list[list[str]]:
    return [python(bench_worker.MODULE, "--way", "aiohaul", url, *buckets)]


def table(name: str, curve: Mapping[float, Figures]) -> Table:
    """A curve as a table."""
    rows = {f"{count:,.0f} objects": _only(each) for count, each in curve.items()}
    return Table(name, rows, plain=SHOWN)


def _only(figures: Figures) -> Figures:
    return {column: figures[column] for column in SHOWN}


def straightness(name: str, curve: Mapping[float, Figures], destinations: int) -> Iterator[str]:
    """Whether a curve is a straight line, or where it bends."""
    for column in SHOWN:
        points = {count: each[column] for count, each in curve.items()}
        if len(points) < 2:
            continue
        powers = exponents(points)
        steps = ", ".join(
            f"{start:,.0f} to {end:,.0f}: {power:.2f}, {shape(power)}"
            for (start, end), power in powers.items()
        )
        bent = len({shape(power) for power in powers.values()}) > 1
        begin, slope = line(points)
        unit = "MiB" if column == PEAK else "s"
        each = slope / destinations * 1e6 if column != PEAK else slope * 2**20
        per = "µs a copy" if column != PEAK else "bytes an object"
        worst = max(points, key=lambda count: abs(points[count] / (begin + slope * count) - 1))
        off = points[worst] / (begin + slope * worst) - 1
        yield (
            f"{name}, {column}{', bends' if bent else ''}: {steps}. The line through all begins"
            f" with {number(begin)} {unit} and takes {number(each)} {per}; farthest from it, by"
            f" {off:+.0%}, are {worst:,.0f} objects."
        )


def shape(power: float) -> str:
    """A power of growth in words."""
    if power < FLAT:
        return "flat"
    if power < STRAIGHT[0]:
        return "less than in proportion"
    return "in proportion" if power < STRAIGHT[1] else "more than in proportion"


def measure(chosen: argparse.Namespace) -> Result:
    """All curves."""
    found = curves(chosen)
    tables = [table(name, curve) for name, curve in found.items()]
    sentences = [
        sentence
        for name, curve in found.items()
        for sentence in straightness(name, curve, int(name.rpartition(" ")[2]))
    ]
    bytes_ = through(chosen)
    rows = {
        f"to {destinations:.0f}": {**_only(each), EACH: each[EACH]}
        for destinations, each in bytes_.items()
    }
    tables.append(Table(f"{chosen.size} MiB through aiohaul", rows, plain=(*SHOWN, EACH)))
    how = (
        "Server-side copies against an endpoint that answers from memory: medians of"
        f" {chosen.rounds} rounds below 10,000 copies, one run from there on. More than"
        f" {chosen.most:,} copies are left out."
    )
    return Result("How it grows", how, tables, sentences, plot="growth.svg")


def draw(result: Result, path: Path) -> None:
    """Draw the curves, on logarithmic scales."""
    figure, axes = canvas(1, len(SHOWN), (13, 4))
    curves_ = [each for each in result.tables if each.title.rpartition(" ")[2].isdigit()]
    for axis, column in zip(axes[0], SHOWN, strict=True):
        drawn = {
            each.title: {
                float(name.split()[0].replace(",", "")): row[column]
                for name, row in each.rows.items()
            }
            for each in curves_
        }
        lines(axis, drawn, "objects", column)
    save(figure, path)


def main() -> None:
    """Measure, print and draw."""
    arguments = parser(__doc__, rounds=3)
    counts = [100, 1000, 10_000, 100_000]
    arguments.add_argument("--objects", type=int, nargs="+", default=counts)
    arguments.add_argument("--destinations", type=int, nargs="+", default=[1, 3, 10])
    arguments.add_argument("--most", type=int, default=100_000, help="copies of one run")
    arguments.add_argument("--size", type=int, default=256, help="MiB of the one object")
    chosen = arguments.parse_args()
    if chosen.quick:
        chosen.objects, chosen.rounds, chosen.size = [100, 1000], 1, 32
    show(measure(chosen), chosen, draw)


if __name__ == "__main__":
    main()
