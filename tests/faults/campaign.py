"""Every request of a run, every fault: the run with it, what holds then, and the run again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohaul
from aiohaul.session import Session
from tests.support import front as faults
from tests.support.front import Point, Trouble
from tests.support.leaks import held_connections
from tests.support.world import (
    Scenario,
    World,
    wrong_in_the_end,
    wrong_meanwhile,
    wrong_told,
)

CANCELLED = "task cancelled"
CANCELLED_ACTED = "task cancelled, acted"
KILLED = "process killed"
KILLED_ACTED = "process killed, acted"

#: Seconds within which whatever is cancelled has ended, by the contract.
AT_ONCE = 1.0

#: What is done to requests, and whether also to every later one of the same name.
KINDS: tuple[tuple[str, bool], ...] = (
    (faults.REFUSED, True),
    (faults.RESET, False),
    (faults.RESET, True),
    (faults.LOST, False),
    (faults.LOST, True),
    (faults.CUT, False),
    (faults.CUT, True),
    (faults.DAMAGED_ANSWER, False),
    (faults.DAMAGED_ANSWER, True),
    (faults.DAMAGED_REQUEST, False),
    (faults.DAMAGED_REQUEST, True),
    (faults.INTERNAL, False),
    (faults.INTERNAL, True),
    (faults.SLOW_DOWN, False),
    (faults.SLOW_DOWN, True),
    (faults.EXPIRED, False),
    (faults.EXPIRED, True),
    (faults.FALSE_200, False),
    (faults.FALSE_200, True),
    (faults.SILENT, False),
    (faults.SILENT_ACTED, False),
    (CANCELLED, False),
    (CANCELLED_ACTED, False),
    (KILLED, False),
    (KILLED_ACTED, False),
)
_HELD = {
    CANCELLED: faults.HELD,
    CANCELLED_ACTED: faults.HELD_ACTED,
    KILLED: faults.HELD,
    KILLED_ACTED: faults.HELD_ACTED,
}
_KILLS = frozenset({KILLED, KILLED_ACTED})


@dataclass(frozen=True, slots=True)
class Case:
    """One fault at one request."""

    scenario: str
    fault: str
    for_ever: bool
    point: Point

    def __str__(self) -> str:
        how = " for ever" if self.for_ever else ""
        return f"{self.scenario}: {self.fault}{how} at {self.point}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a case.

    Attributes:
        case: which.
        healed: the run itself succeeded, in spite of the fault.
        told: what it raised, where it did not.
        wrong: what should not have been; empty if all is well.
    """

    case: Case
    healed: bool
    told: str
    wrong: tuple[str, ...] = ()


@dataclass
class _Run:
    """One run and what was told meanwhile."""

    error: BaseException | None = None
    events: list[aiohaul.Event] = field(default_factory=list)


async def points(world: World, scenario: Scenario) -> dict[Point, bool]:
    """The requests of a run in which nothing goes wrong, and whether they have a body."""
    await world.set_up(scenario)
    run = await _run(world, scenario)
    if run.error is not None:
        raise run.error
    wrong = [*wrong_in_the_end(scenario, world.now()), *world.left_open()]
    assert not wrong, wrong
    bodies = world.trouble.bodies
    return {point: point.name in bodies for point in sorted(world.trouble.order)}


def cases(operation: str, found: Mapping[Point, bool], fault: str, for_ever: bool) -> list[Case]:
    """This fault at every request that can have it."""
    return [
        Case(operation, fault, for_ever, point)
        for point, has_body in found.items()
        if has_body or fault != faults.DAMAGED_REQUEST
    ]


async def judge(world: World, scenario: Scenario, case: Case) -> Verdict:
    """Carry out one case."""
    await world.set_up(scenario)
    tasks = asyncio.all_tasks()
    fault = _HELD.get(case.fault, case.fault)
    await world.troubled(Trouble(fault, case.point, case.for_ever))
    if case.fault in _KILLS:
        run = await _killed(world, scenario)
    elif case.fault in _HELD:
        run = await _cancelled(world, scenario)
    else:
        run = await _run(world, scenario)
    wrong = list(_after(world, scenario, case, run))
    await world.troubled(Trouble())
    again = await rerun(world, scenario, run.error)
    wrong += again
    wrong += await left_running(world, tasks)
    wrong += held_connections(await world.session())
    told = "" if run.error is None else type(run.error).__name__
    return Verdict(case, run.error is None, told, tuple(wrong))


def _after(world: World, scenario: Scenario, case: Case, run: _Run) -> Iterator[str]:
    """What is wrong after the run with the fault."""
    now = world.now()
    if not world.trouble.hits:
        yield "the request never came"
    yield from wrong_meanwhile(scenario, now)
    yield from wrong_told(scenario, now, run.events)
    if run.error is None:
        yield from wrong_in_the_end(scenario, now)
    elif not isinstance(run.error, aiohaul.HaulError | asyncio.CancelledError | _KilledError):
        yield f"it raised {run.error!r}"
    # Who can reach the server no more cannot tidy up there.
    cut_off = case.for_ever and case.fault in (faults.REFUSED, faults.EXPIRED)
    unable = case.for_ever and "AbortMultipartUpload" in case.point.name
    if not (cut_off or unable or case.fault in _KILLS):
        yield from (f"{each} was left" for each in world.left_open())


async def rerun(world: World, scenario: Scenario, before: BaseException | None) -> list[str]:
    """Run again, without the fault, unless all is done; say what is wrong then."""
    wrong = []
    if before is not None:
        run = await _run(world, scenario)
        if run.error is not None and not _nothing_left(world, scenario, run.error):
            wrong.append(f"run again it raised {run.error!r}")
        wrong += [f"run again: {each}" for each in wrong_told(scenario, world.now(), run.events)]
    now = world.now()
    return [
        *wrong,
        *(f"in the end {each}" for each in wrong_in_the_end(scenario, now)),
        *(f"in the end {each} is left" for each in world.left_open()),
        *(f"{each} has not the ACL" for each in world.without_acl()),
        *(
            f"{path.name} lies beside the journal"
            for path in world.state.iterdir()
            if path != world.journal
        ),
    ]


def _nothing_left(world: World, scenario: Scenario, error: BaseException) -> bool:
    """True where the run before had done everything, and only could not say so any more."""
    done = not wrong_in_the_end(scenario, world.now())
    return isinstance(error, aiohaul.NothingFoundError) and done


async def _run(world: World, scenario: Scenario) -> _Run:
    run = _Run()
    session = await world.session()
    try:
        await _carry_out(world, scenario, session, run)
    except BaseException as error:  # noqa: BLE001  # all of it is looked at
        run.error = error
    return run


async def _carry_out(world: World, scenario: Scenario, session: Session, run: _Run) -> None:
    journal = world.journal if scenario.definition["type"] == "transfer" else None
    await aiohaul.run(
        scenario.definition, session=session, on_progress=run.events.append, journal=journal
    )


async def _cancelled(world: World, scenario: Scenario) -> _Run:
    """Run it, and cancel it at its point."""
    task = asyncio.ensure_future(_run(world, scenario))
    waiter = asyncio.ensure_future(world.trouble.reached.wait())
    await asyncio.wait([task, waiter], return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    await asyncio.wait([waiter])
    if not task.done():
        took = await cancelled(task)
        if took > AT_ONCE:
            return _Run(AssertionError(f"cancelled, it took {took:.2f} s to end"))
    return task.result()


async def cancelled(task: asyncio.Task[Any]) -> float:
    """Cancel this, and wait for its end: the seconds that it took.

    Those in which this process waited for a processor are left out: a busy machine is no fault.
    """
    start, before = time.monotonic(), _waited()
    task.cancel()
    await asyncio.wait([task])
    took = time.monotonic() - start
    return took - sum(now - before.get(thread, 0.0) for thread, now in _waited().items())


def _waited() -> dict[str, float]:
    """Seconds that each thread of this process has waited for a processor."""
    waited = {}
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it has just ended
            told = (thread / "schedstat").read_text().split()
            waited[thread.name] = int(told[1]) / 1e9
    return waited


class _KilledError(Exception):
    """The process that ran it was killed."""


async def _killed(world: World, scenario: Scenario) -> _Run:
    """Run it in a process of its own, and kill that at its point."""
    file = world.state.with_name("definition.json")
    file.write_text(json.dumps(scenario.definition))
    victims = await world.victims()
    child = await victims.start(file, world.journal)
    ended = asyncio.ensure_future(victims.ended())
    reached = asyncio.ensure_future(world.trouble.reached.wait())
    await asyncio.wait([ended, reached], return_when=asyncio.FIRST_COMPLETED)
    reached.cancel()
    await asyncio.wait([reached])
    if not ended.done():
        os.kill(child, signal.SIGKILL)
    status = await ended
    await world.idle()
    if status != signal.SIGKILL:
        return _Run(AssertionError(f"it ended by itself: {status}"))
    return _Run(_KilledError())


async def left_running(world: World, before: set[asyncio.Task[object]]) -> list[str]:
    """Tasks that were not there before, and requests that are still open."""
    try:
        await world.idle()
    except TimeoutError:
        return ["a request is still open"]
    own = {task for task in asyncio.all_tasks() - before if not _of_server(task)}
    return [f"still running: {task}" for task in own]


def _of_server(task: asyncio.Task[object]) -> bool:
    """True for the tasks of aiohttp's servers, for their connections and requests."""
    return "RequestHandler." in repr(task.get_coro())
