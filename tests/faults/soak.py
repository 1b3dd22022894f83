"""A quarter of an hour of everything at random, on servers that fail 2 % of the requests.

    python tests/faults/soak.py [--minutes 15] [--seed N] [--directory soak-results]

Transfers, uploads, downloads, watches and invocations run side by side in one Session, and some of
them are cancelled. Every object is accounted for; memory, descriptors and tasks must not grow from
the middle of the run to its end. They are written to samples.csv, and drawn in soak.png.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import gc
import logging
import os
import random
import secrets
import statistics
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import aiohaul  # the path comes first
from faults import campaign, compute, quick, scenarios
from faults import front as faults
from faults.front import Trouble
from faults.random_ends import descriptors
from faults.world import World, wrong_in_the_end, wrong_meanwhile

#: Of a hundred requests so many fail.
FAILING = 2
#: What happens to them.
FAULTS = (
    faults.RESET,
    faults.LOST,
    faults.CUT,
    faults.INTERNAL,
    faults.SLOW_DOWN,
    faults.DAMAGED_REQUEST,
    faults.SILENT,
    faults.SILENT_ACTED,
)
#: Of a hundred tasks so many are cancelled.
CANCELLED = 30
LANES = 4
#: Seconds between two samples.
EVERY = 10.0
#: What may be added from the middle to the end: bytes, descriptors, tasks.
GROWTH = (8 * 2**20, 8, 8)


class AtRandom(Trouble):
    """Fails so many of all requests, each time as chance has it."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance
        self.met: Counter[str] = Counter()

    def meets(self, name: str) -> str | None:  # noqa: ARG002  # all alike
        self.met["requests"] += 1
        if self._chance.randrange(100) >= FAILING:
            return None
        fault = self._chance.choice(FAULTS)
        self.met[fault] += 1
        return fault


@dataclass
class Lane:
    """One of those that work side by side, with servers and directories of its own."""

    world: World
    functions: compute.LambdaStage
    chance: random.Random
    trouble: AtRandom
    counts: Counter[str]

    async def go_on(self, session: aiohaul.Session, until: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            kind = self.chance.choice(["transfer", "upload", "download", "watch", "lambda"])
            match kind:
                case "lambda":
                    await self._invoke()
                case "watch":
                    await self._watch(session)
                case _:
                    await self._haul(session, kind)

    async def _ended(self, task: asyncio.Task[Any], kind: str) -> bool:
        """Let it end, or end it: True if it succeeded."""
        if self.chance.randrange(100) < CANCELLED:
            await asyncio.wait([task], timeout=self.chance.uniform(0, 0.3))
            task.cancel()
        await asyncio.wait([task])
        if task.cancelled():
            self.counts[f"{kind} cancelled"] += 1
            return False
        error = task.exception()
        if error is not None and not isinstance(error, aiohaul.HaulError):
            raise error
        self.counts[f"{kind} {'succeeded' if error is None else 'failed'}"] += 1
        return error is None

    async def _haul(self, session: aiohaul.Session, kind: str) -> None:
        """Start a transfer as often as it takes; then everything must be in its place."""
        number = self.chance.randrange(1000)
        files = {f"{each}-{number}": scenarios.FILES[each] for each in ("small", "middle", "empty")}
        scenario = scenarios.ALL[kind](self.world, files)
        await self.world.set_up(scenario)
        self._fail()
        done = False
        for _ in range(100):
            run = aiohaul.run(scenario.definition, session=session, journal=self.world.journal)
            done = await self._ended(asyncio.ensure_future(run), kind)
            wrong = wrong_meanwhile(scenario, self.world.now())
            assert not wrong, wrong
            if done or not wrong_in_the_end(scenario, self.world.now()):
                break
        wrong = wrong_in_the_end(scenario, self.world.now())
        assert not wrong, wrong
        if done:
            assert self.world.left_open() == []
        self.counts["objects in their places"] += len(scenario.end)

    async def _watch(self, session: aiohaul.Session) -> None:
        scenario = scenarios.download(self.world, {"late": b"late"})
        await self.world.set_up(scenario)
        self._fail()
        source = scenario.definition["source"]
        settings = aiohaul.Settings(
            access_key_id=source["protocol"]["access_key_id"],
            secret_access_key=source["protocol"]["secret_access_key"],
            region=source["protocol"]["region_name"],
            endpoint_url=source["protocol"]["endpoint_url"],
        )
        waiting = session.s3(settings).wait_for("inbox", "new", ".*", timeout=60, interval=0.02)
        task = asyncio.ensure_future(waiting)
        await asyncio.sleep(self.chance.uniform(0, 0.2))
        self.world.home.put("inbox", "new/a", b"a")
        if await self._ended(task, "watch"):
            assert [each.key for each in task.result()] == ["new/a"]

    async def _invoke(self) -> None:
        self.functions.begin(self.trouble)
        done = await self._ended(asyncio.ensure_future(self.functions.run()), "lambda")
        assert self.functions.runs <= 1
        assert self.functions.runs == 1 or not done

    def _fail(self) -> None:
        for front in self.world.fronts:
            front.trouble = self.trouble


@dataclass(frozen=True)
class Sample:
    seconds: float
    memory: int
    descriptors: int
    tasks: int


def sample(start: float) -> Sample:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Sample(
        round(asyncio.get_running_loop().time() - start, 1),
        pages * os.sysconf("SC_PAGE_SIZE"),
        descriptors(),
        len(asyncio.all_tasks()),
    )


async def soak(directory: Path, minutes: float, seed: int) -> list[Sample]:
    loop = asyncio.get_running_loop()
    start = loop.time()
    until = start + minutes * 60
    counts: Counter[str] = Counter()
    samples: list[Sample] = []
    trouble = AtRandom(random.Random(seed))  # noqa: S311  # no secret

    async def look() -> None:
        while loop.time() + EVERY < until or not samples:
            await asyncio.sleep(min(EVERY, minutes * 60 / 10))
            gc.collect()
            samples.append(sample(start))
            print(samples[-1], trouble.met["requests"], "requests", flush=True)  # noqa: T201

    async def lane(number: int, session: aiohaul.Session) -> None:
        chance = random.Random(seed + number)  # noqa: S311  # no secret
        place = directory / str(number)
        place.mkdir()
        async with World(place) as world, compute.ALL["lambda"]() as functions:
            assert isinstance(functions, compute.LambdaStage)
            await Lane(world, functions, chance, trouble, counts).go_on(session, until)
            await world.idle()

    async with aiohaul.Session() as session:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(look())
            for number in range(LANES):
                tasks.create_task(lane(number, session))
        held = campaign.held_connections(session)
        assert not held, held
    for what, number in sorted({**counts, **trouble.met}.items()):
        print(f"{number:>9,} {what}")  # noqa: T201  # the counts
    return samples


def grown(samples: list[Sample]) -> list[str]:
    """What is more at the end than it was in the middle, by more than it may be."""
    third = samples[len(samples) // 3 : 2 * len(samples) // 3]
    last = samples[-len(samples) // 3 :]
    wrong = []
    for name, most in zip(("memory", "descriptors", "tasks"), GROWTH, strict=True):
        before, after = (
            statistics.median(getattr(x, name) for x in part) for part in (third, last)
        )
        print(f"{name}: {before:,.0f} in the middle, {after:,.0f} at the end")  # noqa: T201
        if after - before > most:
            wrong.append(name)
    return wrong


def draw(samples: list[Sample], file: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415  # dear, and not needed before

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  # as above

    figure, axes = plt.subplots(3, 1, sharex=True, figsize=(8, 7))
    for axis, name, scale in zip(
        axes, ("memory", "descriptors", "tasks"), (2**20, 1, 1), strict=True
    ):
        axis.plot([x.seconds for x in samples], [getattr(x, name) / scale for x in samples])
        axis.set_ylabel("memory, MiB" if name == "memory" else name)
        axis.set_ylim(bottom=0)
    axes[-1].set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(file)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--directory", type=Path, default=Path("soak-results"))
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)  # noqa: T201  # so that it can be run again
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    logging.disable(logging.CRITICAL)  # it warns of what it is meant to meet
    quick.quicken(setattr)
    chosen.directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        samples = asyncio.run(soak(Path(directory), chosen.minutes, chosen.seed))
    with (chosen.directory / "samples.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["seconds", "memory", "descriptors", "tasks"])
        writer.writerows([x.seconds, x.memory, x.descriptors, x.tasks] for x in samples)
    draw(samples, chosen.directory / "soak.png")
    wrong = grown(samples)
    if wrong:
        print(f"grown: {', '.join(wrong)}")  # noqa: T201  # the verdict
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
