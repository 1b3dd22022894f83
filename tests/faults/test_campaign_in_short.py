"""A short form of the fault campaign: every fault, at requests that are spread over each operation.

The whole of it is `nox -s faults`: see tests/faults.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults import campaign, compute, scenarios, soak
from tests.faults.campaign import Case
from tests.faults.random_ends import cancel_at_random
from tests.support import quick
from tests.support.front import Front
from tests.support.strict_s3 import Call, Reply
from tests.support.world import World

pytestmark = pytest.mark.timeout(600)

#: Cases of each fault and operation.
_CASES = 2


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[World]:
    quick.quicken(monkeypatch.setattr)
    async with World(tmp_path) as made:
        yield made


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    quick.quicken(monkeypatch.setattr)


@pytest.mark.parametrize("operation", scenarios.ALL)
async def test_each_fault_at_some_requests(world: World, operation: str) -> None:
    scenario = scenarios.ALL[operation](world)
    points = await campaign.points(world, scenario)
    wrong = []
    for number, (fault, for_ever) in enumerate(campaign.KINDS):
        cases = campaign.cases(operation, points, fault, for_ever)
        for case in some(cases, number, _CASES if operation == "transfer" else 1):
            verdict = await campaign.judge(world, scenario, case)
            wrong += [f"{case}: {each}" for each in verdict.wrong]
    assert not wrong, "\n".join(wrong)


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("operation", compute.ALL)
async def test_each_fault_at_a_run_elsewhere(operation: str) -> None:
    wrong = []
    async with compute.ALL[operation]() as stage:
        points = await stage.points()
        for number, (fault, for_ever) in enumerate(campaign.KINDS):
            cases = campaign.cases(operation, points, fault, for_ever)
            for case in some([each for each in cases if stage.can(each)], number, 1):
                verdict = await stage.judge(case)
                wrong += [f"{case}: {each}" for each in verdict.wrong]
    assert not wrong, "\n".join(wrong)


def some(cases: list[Case], number: int, wanted: int) -> list[Case]:
    """So many of these: others for each number, so that together they are most of them."""
    return [
        cases[(number * 7 + turn * len(cases) // wanted) % len(cases)]
        for turn in range(min(wanted, len(cases)))
    ]


async def test_cancellations_at_random_moments(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    quick.quicken(monkeypatch.setattr)
    ends = await cancel_at_random(tmp_path, 200, seed=20260101)
    assert {name for name, how in ends.ended if how == "cancelled"} >= {"transfer", "invoke"}


@pytest.mark.parametrize("name", soak.GROWTH)
def test_soak_tells_what_grows_steadily_and_not_what_only_warms_up(name: str) -> None:
    at_rest = soak.Sample(0, 2**28, 2**28, 2**26, 10**6, 90, 40)

    def then(number: int, more: float) -> soak.Sample:
        held = {name: getattr(at_rest, name) + int(more)}
        return replace(at_rest, seconds=15.0 * number, **held)

    most = soak.GROWTH[name]
    warming_up = [then(number, 9 * most * min(number / 20, 1)) for number in range(60)]
    assert soak.grown(warming_up) == []
    restless = [then(number, most * (number % 2)) for number in range(60)]
    assert soak.grown(restless) == []
    leaking = [then(number, most * number / 19) for number in range(60)]
    assert soak.grown(leaking) == [name]


async def test_soak_pauses_when_all_have_come_to_the_end_of_what_they_do() -> None:
    pauses = soak.Pauses(2)
    busy: list[bool] = [False, False]

    async def lane(number: int) -> None:
        while not pauses.over:
            busy[number] = True
            for _ in range(3 + number):
                await asyncio.sleep(0)
            busy[number] = False
            await pauses.pause()

    async with asyncio.TaskGroup() as tasks:
        for number in range(2):
            tasks.create_task(lane(number))
        for turn in range(3):
            await asyncio.sleep(0)
            async with pauses.all_pause():
                assert busy == [False, False]
                pauses.over = turn == 2


def accepting() -> bool:
    """Whether a connection was accepted whose transport is not yet made."""
    return any("_accept_connection2" in repr(task.get_coro()) for task in asyncio.all_tasks())


async def test_front_that_ceases_to_listen_loses_no_connection_that_it_has_just_accepted() -> None:
    async def answer(_: Call) -> Reply:
        return Reply()

    async with Front("any", answer).serving() as front:
        with socket.socket() as client:
            client.connect(("127.0.0.1", front.port))  # by the kernel: nobody has accepted it
            while not accepting():  # noqa: ASYNC110  # asyncio has no event for it
                await asyncio.sleep(0)
            await front._refuse()
            with socket.socket() as late:
                assert late.connect_ex(("127.0.0.1", front.port)) == errno.ECONNREFUSED
            client.sendall(b"HEAD /any/key HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n")
            client.settimeout(0)
            async with asyncio.timeout(5):
                told = await asyncio.get_running_loop().sock_recv(client, 12)
            assert told == b"HTTP/1.1 200"
        await front.idle()
