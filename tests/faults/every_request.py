"""The campaign: every request of every operation, every fault. `nox -s faults` runs it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults import campaign, compute, count, scenarios
from tests.faults.campaign import KINDS, Verdict
from tests.support import quick
from tests.support.world import World

RESULTS = Path(os.environ.get("AIOHAUL_FAULTS", "faults-results"))


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[World]:
    quick.quicken(monkeypatch.setattr)
    async with World(tmp_path) as made:
        yield made


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    quick.quicken(monkeypatch.setattr)


def _named(value: object) -> str | None:
    if isinstance(value, tuple):
        fault, for_ever = value
        return f"{fault}{' for ever' if for_ever else ''}".replace(" ", "-")
    return None


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS, ids=_named)
@pytest.mark.parametrize("operation", scenarios.ALL)
async def test_every_request(world: World, operation: str, kind: tuple[str, bool]) -> None:
    fault, for_ever = kind
    scenario = scenarios.ALL[operation](world)
    points = await campaign.points(world, scenario)
    verdicts = [
        await campaign.judge(world, scenario, case)
        for case in campaign.cases(operation, points, fault, for_ever)
    ]
    _count(verdicts)


@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("kind", KINDS, ids=_named)
@pytest.mark.parametrize("operation", compute.ALL)
async def test_every_request_of_a_run_elsewhere(operation: str, kind: tuple[str, bool]) -> None:
    fault, for_ever = kind
    async with compute.ALL[operation]() as stage:
        points = await stage.points()
        _count(
            [
                await stage.judge(case)
                for case in campaign.cases(operation, points, fault, for_ever)
                if stage.can(case)
            ]
        )


def _count(verdicts: list[Verdict]) -> None:
    """Write the counts down, and fail for what was wrong."""
    if not verdicts:
        return
    case = verdicts[0].case
    wrong = [verdict for verdict in verdicts if verdict.wrong]
    healed = sum(verdict.healed for verdict in verdicts)
    count.note(RESULTS, (case.scenario, case.fault, len(verdicts), healed, len(wrong)))
    told = "\n".join(f"{each.case}\n  " + "\n  ".join(each.wrong) for each in wrong)
    assert not wrong, f"{len(wrong)} of {len(verdicts)} cases:\n{told}"
