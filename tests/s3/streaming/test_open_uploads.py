"""Answers that are lost after the server acted: what it began is not left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import aiohaul
from aiohaul import Destination, Settings
from aiohaul.s3.local import stat_files
from tests.support import front as faults
from tests.support import quick
from tests.support.fake_s3 import content
from tests.support.front import Point, Trouble
from tests.support.quick import PART
from tests.support.servers import KEY, REGION, SECRET
from tests.support.strict_s3 import Call, Reply
from tests.support.world import World

LARGE = content(1, 2 * PART)
BEGIN = Point("home CreateMultipartUpload /direct/large", 1)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[World]:
    quick.quicken(monkeypatch.setattr)
    async with World(tmp_path) as made:
        made.home.buckets.add("direct")
        made.inbox.mkdir()
        made.target.mkdir()
        (made.inbox / "large").write_bytes(LARGE)
        yield made


async def copy(world: World, *, journal: Path | None = None) -> aiohaul.TransferReport:
    settings = Settings(
        access_key_id=KEY,
        secret_access_key=SECRET,
        region=REGION,
        endpoint_url=world.fronts[0].url,
    )
    async with aiohaul.Session() as session:
        handler = session.s3(settings)
        files = await stat_files([world.inbox / "large"])
        return await handler.copy(
            files, [Destination(bucket="direct", settings=settings)], journal=journal
        )


@pytest.mark.parametrize("noted", [False, True], ids=["no journal", "journal"])
@pytest.mark.parametrize("fault", [faults.LOST, faults.CUT, faults.SILENT_ACTED])
async def test_upload_whose_begin_was_not_answered_is_aborted(
    world: World, fault: str, noted: bool
) -> None:
    await world.troubled(Trouble(fault, BEGIN))
    await copy(world, journal=world.state / "j" if noted else None)
    assert world.home.begun == 2
    assert world.left_open() == []
    assert world.home.contents("direct") == {"large": LARGE}


async def test_uploads_whose_begin_is_never_answered_are_aborted(world: World) -> None:
    await world.troubled(Trouble(faults.LOST, BEGIN, for_ever=True))
    with pytest.raises(aiohaul.TransferError):
        await copy(world)
    assert world.home.begun > 1
    assert world.left_open() == []


async def test_upload_whose_id_came_damaged_is_aborted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_id(data: bytes, _: str) -> bytes:
        return data.replace(b"<UploadId>u", b"<UploadId>v")

    monkeypatch.setattr(faults, "flipped", other_id)
    await world.troubled(Trouble(faults.DAMAGED_ANSWER, BEGIN))
    with pytest.raises(aiohaul.TransferError):
        await copy(world)
    assert world.left_open() == []


async def test_upload_whose_begin_is_not_answered_before_the_end_is_aborted(world: World) -> None:
    await world.troubled(Trouble(faults.HELD_ACTED, BEGIN))
    task = asyncio.ensure_future(copy(world))
    await world.trouble.reached.wait()
    task.cancel()
    async with asyncio.timeout(1):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert world.left_open() == []


async def test_uploads_of_others_stay(world: World) -> None:
    """One that was there before, and one of another key."""
    theirs = ["theirs", "other"]
    for upload_id, key in zip(theirs, ("large", "larger"), strict=True):
        world.home.open(upload_id, ("direct", key), age=60 if key == "large" else 0)
    await world.troubled(Trouble(faults.LOST, BEGIN))
    await copy(world)
    assert sorted(world.home.uploads) == sorted(theirs)


@pytest.mark.parametrize("noted", [False, True], ids=["no journal", "journal"])
@pytest.mark.parametrize(("initiator", "stays"), [("somebody else", True), (KEY, False)])
async def test_upload_that_somebody_else_began_in_those_seconds_stays(
    world: World, monkeypatch: pytest.MonkeyPatch, initiator: str, stays: bool, noted: bool
) -> None:
    """Where the server tells who began it; one that is ours by all signs goes."""
    begin = world.home._CreateMultipartUpload

    def begin_after_them(call: Call) -> Reply:
        if not world.home.begun:
            world.home.open("theirs", ("direct", "large"), age=0, initiator=initiator)
        return begin(call)

    monkeypatch.setattr(world.home, "_CreateMultipartUpload", begin_after_them)
    await world.troubled(Trouble(faults.LOST, BEGIN))
    await copy(world, journal=world.state / "j" if noted else None)
    assert list(world.home.uploads) == ["theirs"] * stays
    assert world.home.contents("direct") == {"large": LARGE}
