"""A quarter of an hour of everything at random, on servers that fail 2 % of the requests.

    python tests/faults/soak.py [--minutes 15] [--seed N] [--directory soak-results]

Transfers, uploads, downloads, watches and invocations run side by side in one Session, and some of
them are cancelled. Every object is accounted for. From time to time all of them pause, and what is
held then is counted: from the middle third of the run to its last one none of it may grow by more
than is allowed it. The first third warms up: botocore loads what it knows of an operation when
that is first needed, so that a run of a few minutes may seem to grow. The counts are written to
samples.csv, and drawn in soak.png. The servers are in the same process: what they held would be
counted as well.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import ctypes
import gc
import logging
import os
import random
import secrets
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import aiohaul  # the path comes first
from tests.faults import compute, scenarios
from tests.support import front as faults
from tests.support import leaks, quick
from tests.support.front import Trouble
from tests.support.leaks import descriptors
from tests.support.world import World, wrong_in_the_end, wrong_meanwhile

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
EVERY = 15.0
#: What each count may be more at the end than in the middle. Thousands of operations lie between
#: the two: what each of them left behind would be many times as much.
GROWTH = {
    "memory": 16 * 2**20,  # pages that are in use in part are not given back
    "heap": 2 * 2**20,
    "blocks": 5000,  # less than one for each operation; the rest are caches that still fill up
    "descriptors": 8,
    "tasks": 8,
}
#: More timers than all others together.
TIMERS = 1000
#: Types of objects that are shown, of those that have grown the most.
SHOWN = 10


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
        self.bodies.clear()  # every name that there ever was
        return fault


class Pauses:
    """Where all who work side by side pause together: what is held then is held by nobody's work.

    Args:
        lanes: how many they are.

    Attributes:
        over: they are to end.
    """

    def __init__(self, lanes: int) -> None:
        self.over = False
        self._lanes = lanes
        self._here = 0
        self._all_here = asyncio.Event()
        self._go = asyncio.Event()
        self._go.set()

    async def pause(self) -> None:
        """Called between two operations: wait, if there is a pause."""
        if self._go.is_set():
            return
        self._here += 1
        if self._here == self._lanes:
            self._all_here.set()
        await self._go.wait()

    @asynccontextmanager
    async def all_pause(self) -> AsyncIterator[None]:
        """Let all pause, and go on afterwards."""
        self._here = 0
        self._all_here.clear()
        self._go.clear()
        await self._all_here.wait()
        yield
        self._go.set()


@dataclass
class Lane:
    """One of those that work side by side, with servers and directories of its own."""

    world: World
    functions: compute.LambdaStage
    chance: random.Random
    trouble: AtRandom
    counts: Counter[str]

    async def go_on(self, session: aiohaul.Session, pauses: Pauses) -> None:
        while True:
            await self._rest(pauses)
            if pauses.over:
                return
            kind = self.chance.choice(["transfer", "upload", "download", "watch", "lambda"])
            match kind:
                case "lambda":
                    await self._invoke()
                case "watch":
                    await self._watch(session)
                case _:
                    await self._haul(session, kind)

    async def _rest(self, pauses: Pauses) -> None:
        """Hold nothing while all pause: how much the last operation left on its servers varies."""
        await self.world.idle()
        for s3 in (self.world.home, self.world.away):
            s3.reset()
        await pauses.pause()

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
        number = self.chance.randrange(10**9)  # no name comes twice: what is kept of each shows
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
    """What is held at a moment.

    Attributes:
        seconds: since the start.
        before: bytes of this process, as the system counts them; how much of it lies free between
            what is in use depends on the order in which things came and went.
        memory: the same, once the C library has given back what is free.
        heap: bytes that are allocated and not freed, but for Python's small objects.
        blocks: Python's objects, and what else lies among them.
        descriptors: open files and sockets.
        tasks: of the event loop.
    """

    seconds: float
    before: int
    memory: int
    heap: int
    blocks: int
    descriptors: int
    tasks: int


COUNTED = [field.name for field in fields(Sample)][2:]


class MallInfo(ctypes.Structure):
    """What the C library tells of its heap: struct mallinfo2."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


async def sample(start: float) -> Sample:
    await forget_timers()
    sys._clear_type_cache()  # names of attributes that were looked up: it fills up for many minutes
    gc.collect()
    libc = ctypes.CDLL(None)
    before = resident()
    libc.malloc_trim(0)
    libc.mallinfo2.restype = MallInfo
    told = libc.mallinfo2()
    return Sample(
        round(asyncio.get_running_loop().time() - start, 1),
        before,
        resident(),
        told.uordblks + told.hblkhd,
        sys.getallocatedblocks(),
        descriptors(),
        len(asyncio.all_tasks()),
    )


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def forget_timers() -> None:
    """Have the loop forget timers that were cancelled: it does once they are most of its timers.

    Until then it keeps them, with their contexts and all that was held in those.
    """
    loop = asyncio.get_running_loop()
    for _ in range(TIMERS):
        loop.call_later(1, int).cancel()
    await asyncio.sleep(0)


def types() -> Counter[str]:
    """The objects that refer to others, by type."""
    return Counter(f"{kind.__module__}.{kind.__qualname__}" for kind in map(type, gc.get_objects()))


@dataclass
class Samples:
    """The samples of a run.

    Attributes:
        taken: all of them.
        meanwhile: how many objects of each type were added since the end of the first third.
    """

    taken: list[Sample]
    meanwhile: Counter[str]

    async def take(self, pauses: Pauses, seconds: float, told: Counter[str]) -> None:
        """Take them for so long, and then let all end."""
        start = asyncio.get_running_loop().time()
        count = max(round(seconds / EVERY), 9)
        before: Counter[str] = Counter()
        for number in range(count):
            await asyncio.sleep(start + (number + 1) * seconds / count - now())
            async with pauses.all_pause():
                if number == count // 3 - 1:
                    before = types()
                self.taken.append(await sample(start))
                pauses.over = number == count - 1
            print(self.taken[-1], told["requests"], "requests", flush=True)  # noqa: T201
        self.meanwhile = types()
        self.meanwhile.subtract(before)


def now() -> float:
    return asyncio.get_running_loop().time()


async def soak(directory: Path, minutes: float, seed: int) -> Samples:
    counts: Counter[str] = Counter()
    samples = Samples([], Counter())
    trouble = AtRandom(random.Random(seed))  # noqa: S311  # no secret
    pauses = Pauses(LANES)

    async def lane(number: int, session: aiohaul.Session) -> None:
        chance = random.Random(seed + number)  # noqa: S311  # no secret
        place = directory / str(number)
        place.mkdir()
        async with World(place) as world, compute.ALL["lambda"]() as functions:
            assert isinstance(functions, compute.LambdaStage)
            await Lane(world, functions, chance, trouble, counts).go_on(session, pauses)
            await world.idle()

    async with aiohaul.Session() as session:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(samples.take(pauses, minutes * 60, trouble.met))
            for number in range(LANES):
                tasks.create_task(lane(number, session))
        held = leaks.held_connections(session)
        assert not held, held
    for what, number in sorted({**counts, **trouble.met}.items()):
        print(f"{number:>9,} {what}")  # noqa: T201  # the counts
    print(f"{trouble.met.total() - trouble.met['requests']:>9,} requests failed")  # noqa: T201
    return samples


def grown(samples: list[Sample]) -> list[str]:
    """What is more in the last third than it was in the middle one, by more than it may be."""
    third = len(samples) // 3
    wrong = []
    for name, most in GROWTH.items():
        values = [getattr(each, name) for each in samples]
        first, middle, last = (
            statistics.median(part)
            for part in (values[:third], values[third:-third], values[-third:])
        )
        print(  # noqa: T201  # the verdict
            f"{name}: {first:,.0f} in the first third, {middle:,.0f} in the middle one,"
            f" {last:,.0f} in the last one; {last - middle:+,.0f} of {most:,} that it may grow"
        )
        if last - middle > most:
            wrong.append(name)
    return wrong


def draw(samples: list[Sample], file: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415  # dear, and not needed before

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  # as above

    figure, axes = plt.subplots(len(COUNTED), 1, sharex=True, figsize=(8, 11))
    for axis, name in zip(axes, COUNTED, strict=True):
        in_bytes = name in ("memory", "heap")
        scale = 2**20 if in_bytes else 1
        axis.plot([x.seconds for x in samples], [getattr(x, name) / scale for x in samples])
        axis.set_ylabel(f"{name}, MiB" if in_bytes else name)
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
        writer = csv.DictWriter(file, [each.name for each in fields(Sample)])
        writer.writeheader()
        writer.writerows(asdict(each) for each in samples.taken)
    draw(samples.taken, chosen.directory / "soak.png")
    wrong = grown(samples.taken)
    if wrong:
        print(f"grown: {', '.join(wrong)}. Objects that were added:")  # noqa: T201  # the verdict
        for name, number in samples.meanwhile.most_common(SHOWN):
            print(f"{number:>+9,} {name}")  # noqa: T201  # as above
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
