"""Everything cancelled at random moments, and what must hold after each of them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import aiohaul
from aiohaul import Settings
from tests.faults import campaign, compute, scenarios
from tests.faults.campaign import AT_ONCE
from tests.support import leaks
from tests.support.front import Trouble
from tests.support.servers import KEY, REGION, SECRET
from tests.support.world import Scenario, World, wrong_in_the_end, wrong_meanwhile, wrong_told

#: Turns of the event loop, at most, before something is cancelled.
_TURNS = 1500
#: Cancellations between two looks at what only shows on the whole.
_LOOK_EVERY = 250

Small = Callable[[World], Scenario]


class RandomEnds:
    """Cancels so many times, in one Session, and notes what is wrong.

    Args:
        world: where.
        session: whose tasks.
        functions: what may be called there.
        seed: of all that is random.
    """

    def __init__(
        self, world: World, session: aiohaul.Session, functions: compute.LambdaStage, seed: int
    ) -> None:
        self._world = world
        self._session = session
        self._functions = functions
        self._random = random.Random(seed)  # noqa: S311  # no secret
        self._tasks = asyncio.all_tasks()
        #: How it went: by operation, and whether it ended by itself before.
        self.ended: Counter[tuple[str, str]] = Counter()
        self.wrong: list[str] = []

    async def run(self, count: int) -> None:
        """Start and cancel something, until so many have been cancelled."""
        cancelled = 0
        while cancelled < count and not self.wrong:
            name = self._random.choice(list(_OPERATIONS))
            was = await _OPERATIONS[name](self)
            self.ended[name, "cancelled" if was else "done before"] += 1
            cancelled += was
            if cancelled % _LOOK_EVERY == 0:
                await self._look()
        await self._look()

    async def _look(self) -> None:
        self.wrong += await campaign.left_running(self._world, self._tasks)
        self.wrong += leaks.held_connections(self._session)

    async def _end(self, awaitable: Awaitable[object], name: str) -> bool:
        """Start it, and cancel it at a random moment: True if it had not ended before."""
        task = asyncio.ensure_future(awaitable)
        turns = int(_TURNS ** self._random.random())
        for _ in range(turns):
            await asyncio.sleep(0)
            if task.done():
                break
        took = await campaign.cancelled(task)
        if took > AT_ONCE:
            self.wrong.append(f"{name}: cancelled after {turns} turns, it took {took:.2f} s")
        # Of one that was done before it is 0.
        if task.cancelling() != task.cancelled():
            self.wrong.append(f"{name}: cancelled after {turns} turns, it is {task}")
        if task.cancelled():
            return True
        error = task.exception()
        if error is not None:
            self.wrong.append(f"{name}: cancelled after {turns} turns, it raised {error!r}")
        return False

    async def _haul(self, make: Small, *, journal: bool) -> bool:
        world, scenario = self._world, make(self._world)
        await world.set_up(scenario)
        events: list[aiohaul.Event] = []

        def run() -> Awaitable[object]:
            return aiohaul.run(
                scenario.definition,
                session=self._session,
                on_progress=events.append,
                journal=world.journal if journal else None,
            )

        was = await self._end(run(), scenario.name)
        now = world.now()
        wrong = wrong_meanwhile(scenario, now) + wrong_told(scenario, now, events)
        wrong += [f"{each} was left" for each in world.left_open()]
        if not was:
            wrong += wrong_in_the_end(scenario, now)
        elif journal:
            with suppress(aiohaul.NothingFoundError):  # it was cancelled when all was done
                await run()
            wrong += [f"run again: {each}" for each in wrong_in_the_end(scenario, world.now())]
            wrong += [f"run again: {each} was left" for each in world.left_open()]
        self.wrong += [f"{scenario.name}: {each}" for each in wrong]
        return was

    async def transfer(self) -> bool:
        return await self._haul(_small_transfer, journal=self._random.random() < 0.5)

    async def large_transfer(self) -> bool:
        return await self._haul(_large_transfer, journal=self._random.random() < 0.5)

    async def upload(self) -> bool:
        return await self._haul(_upload, journal=False)

    async def download(self) -> bool:
        return await self._haul(_download, journal=False)

    async def watch(self) -> bool:
        await self._world.set_up(_small_transfer(self._world))
        s3 = self._session.s3(self._settings())
        waiting = s3.wait_for("inbox", "src", "never", timeout=60, interval=0.01)
        return await self._end(waiting, "watch")

    async def invoke(self) -> bool:
        self._functions.begin(Trouble())
        was = await self._end(self._functions.run(), "lambda")
        if self._functions.runs > 1 or not (was or self._functions.runs):
            self.wrong.append(f"lambda: it ran {self._functions.runs} times")
        return was

    def _settings(self) -> Settings:
        return Settings(
            access_key_id=KEY,
            secret_access_key=SECRET,
            region=REGION,
            endpoint_url=self._world.fronts[0].url,
        )


def _small_transfer(world: World) -> Scenario:
    return scenarios.transfer(world, {"empty": b"", "small": b"small", "tiny": b"t"})


def _large_transfer(world: World) -> Scenario:
    return scenarios.transfer(world, {"middle": scenarios.MIDDLE, "small": b"small"})


def _upload(world: World) -> Scenario:
    return scenarios.upload(world, {"middle": scenarios.MIDDLE, "small": b"small"})


def _download(world: World) -> Scenario:
    return scenarios.download(world, {"middle": scenarios.MIDDLE, "small": b"small"})


_OPERATIONS: dict[str, Callable[[RandomEnds], Awaitable[bool]]] = {
    each.__name__: each
    for each in (
        RandomEnds.transfer,
        RandomEnds.large_transfer,
        RandomEnds.upload,
        RandomEnds.download,
        RandomEnds.watch,
        RandomEnds.invoke,
    )
}


async def cancel_at_random(directory: Path, count: int, seed: int) -> RandomEnds:
    """Cancel so many times; afterwards the Session must be as good as new.

    Raises:
        AssertionError: something does not hold.
    """
    async with World(directory) as world, compute.ALL["lambda"]() as functions:
        assert isinstance(functions, compute.LambdaStage)
        await campaign.points(world, _large_transfer(world))
        async with aiohaul.Session() as session:
            ends = RandomEnds(world, session, functions, seed)
            await ends.run(count)
            assert not ends.wrong, f"seed {seed}: " + "\n".join(ends.wrong)
            scenario = _large_transfer(world)
            await world.set_up(scenario)
            await aiohaul.run(scenario.definition, session=session)
            assert wrong_in_the_end(scenario, world.now()) == []
    return ends
