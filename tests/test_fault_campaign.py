"""A short form of the fault campaign: every fault, at requests that are spread over each operation.

The whole of it is `nox -s faults`: see tests/faults.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from faults import campaign, compute, quick, scenarios
from faults.campaign import Case
from faults.random_ends import cancel_at_random
from faults.world import World

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
