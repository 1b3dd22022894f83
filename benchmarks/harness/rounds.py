"""Ways to do one thing, measured in turns."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping
from itertools import pairwise
from math import log10

from benchmarks.harness.processes import ChildFailedError, Figures

#: Measures one way once.
Measure = Callable[[], Figures]


def in_turns(
    ways: Mapping[str, Measure],
    rounds: int,
    *,
    fewer: Mapping[str, int] | None = None,
    warm_up: bool = True,
) -> dict[str, list[Figures]]:
    """What each way cost in each round: what disturbs the machine disturbs all of them.

    A peer that fails is left out from then on; if aiohaul fails, which is the first, all fails.

    Args:
        ways: by name.
        rounds: how many count.
        fewer: how many of a way that takes too long for all of them.
        warm_up: one round more, that does not count, before them.
    """
    taken: dict[str, list[Figures]] = {name: [] for name in ways}
    first = next(iter(ways))
    failed: set[str] = set()
    for turn in range(0 if warm_up else 1, rounds + 1):
        for name, measure in ways.items():
            if name in failed or turn > (fewer or {}).get(name, rounds):
                continue
            try:
                figures = measure()
            except ChildFailedError as error:
                if name == first:
                    raise
                print(f"  {turn} {name} failed: {error}", file=sys.stderr, flush=True)
                failed.add(name)
                continue
            if turn:
                taken[name].append(figures)
                shown = ", ".join(f"{value:.4g} {column}" for column, value in figures.items())
                print(f"  {turn} {name}: {shown}", file=sys.stderr, flush=True)
    return taken


def medians(taken: Mapping[str, list[Figures]]) -> dict[str, Figures]:
    """The median of every figure."""
    return {
        name: {
            column: statistics.median(each[column] for each in rounds if column in each)
            for column in dict.fromkeys(column for each in rounds for column in each)
        }
        for name, rounds in taken.items()
        if rounds
    }


def line(points: Mapping[float, float]) -> tuple[float, float]:
    """Start and slope of the straight line through points, each weighted by its relative error."""
    weights = {x: 1 / y**2 for x, y in points.items()}
    total = sum(weights.values())
    middle = sum(weights[x] * x for x in points) / total
    height = sum(weights[x] * y for x, y in points.items()) / total
    spread = sum(weights[x] * (x - middle) ** 2 for x in points)
    slope = sum(weights[x] * (x - middle) * (y - height) for x, y in points.items()) / spread
    return height - slope * middle, slope


def exponents(points: Mapping[float, float]) -> dict[tuple[float, float], float]:
    """By which power it grows between each two neighbours: 1 is in proportion, 0 is not at all."""
    return {
        (a, b): log10(points[b] / points[a]) / log10(b / a) for a, b in pairwise(sorted(points))
    }
