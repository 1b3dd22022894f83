"""Stores that fail, die, and are used by several at once: nothing is lost, and a run goes on."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import aiohaul
from aiohaul.aws import service
from aiohaul.s3 import objects as verbs
from aiohaul.s3.streaming.parts import PART_SIZE, Limits
from aiohaul.s3.transfers import S3Transfers
from tests.support import commands
from tests.support.definitions import run, source, to, transfer
from tests.support.gateway import Gateway, gateway
from tests.support.store import Store, store
from tests.support.stores import STORES, StoreServer, asked_for
from tests.support.stores_fixtures import Started

MIB = 2**20
FILES = {
    "empty": b"",
    "small": b"small",
    "middle": os.urandom(6 * MIB),
    "large": os.urandom(PART_SIZE + 12345),
}
#: What happens to a request.
FAULTS: dict[str, dict[str, Any]] = {
    "500": {"status": 500},
    "503": {"status": 503, "code": "SlowDown"},
    "reset": {"drop": True},
    "answer lost": {"lost": True},
    "answer cut": {"cut": True},
}
#: Requests of a run that meet each fault, one in each run: more where stores were asked for.
CASES = 6 if "AIOHAUL_STORES" in os.environ else 1


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries do not pause, and objects are copied in parts of 5 MiB, the smallest there are."""
    for module in (service, verbs):
        monkeypatch.setattr(module, "backoff_delay", lambda *_: 0.01)
    function = inspect.unwrap(S3Transfers.copy_all)
    limits = Limits(copy=7 * MIB, copy_step=5 * MIB)
    defaults = {**(function.__kwdefaults__ or {}), "limits": limits}
    monkeypatch.setattr(function, "__kwdefaults__", defaults)


class Case:
    """A move of files to two places of one bucket, below a directory of its own."""

    def __init__(self, s3: Store, bucket: str, files: Mapping[str, bytes]) -> None:
        self.s3 = s3
        self.bucket = bucket
        self.root = uuid4().hex[:8]
        self.files = files

    def definition(self, *, url: str) -> dict[str, Any]:
        at = {"endpoint_url": url}
        move = {"action": "move", "destination": f"{self.root}/done/"}
        first = source(self.s3, self.bucket, directory=f"{self.root}/src", postCopyAction=move)
        first["protocol"] |= at
        rest = []
        for name, kind in (("one", "push"), ("two", "proxy")):
            flag = {"fullPath": f"{self.root}/{name}.flg"}
            each = to(self.s3, self.bucket, directory=f"{self.root}/{name}", transferType=kind)
            rest.append({**each, "flags": flag, "protocol": {**each["protocol"], **at}})
        return transfer(first, *rest)

    async def fill(self) -> None:
        files = {f"{self.root}/src/{name}": data for name, data in self.files.items()}
        await self.s3.fill(self.bucket, files)

    async def wrong(self, *, in_the_end: bool) -> list[str]:
        """What is not as it must be, whatever happened; or, in the end, exactly as it should be."""
        there = {
            key.removeprefix(f"{self.root}/"): data
            for key, data in (await self.s3.contents(self.bucket)).items()
            if key.startswith(f"{self.root}/")
        }
        places = ("one", "two", "done")
        end = {f"{place}/{name}": data for place in places for name, data in self.files.items()}
        end |= {"one.flg": b"", "two.flg": b""}
        if in_the_end:
            uploads = await self.s3.uploads(self.bucket)
            mine = [each["Key"] for each in uploads if each["Key"].startswith(self.root)]
            return [
                *(f"{key} is missing" for key in end.keys() - there.keys()),
                *(f"{key} is there" for key in there.keys() - end.keys()),
                *(f"{key} has other bytes" for key in end if there.get(key, end[key]) != end[key]),
                *(f"an upload of {key} is open" for key in mine),
            ]
        wrong = []
        for name, data in self.files.items():
            gone = f"src/{name}" not in there
            wrong += [
                f"{place}/{name} is not there" if gone else f"{place}/{name} has other bytes"
                for place in places
                if there.get(f"{place}/{name}", b"-" if gone else data) != data
            ]
            wrong += [
                f"{place}.flg is there, and {place}/{name} is not"
                for place in ("one", "two")
                if f"{place}.flg" in there and f"{place}/{name}" not in there
            ]
        return wrong


async def hauled(case: Case, url: str, journal: Path) -> aiohaul.HaulError | None:
    try:
        await run(case.definition(url=url), journal=journal)
    except aiohaul.NothingFoundError:
        return None  # the run before had done all of it
    except aiohaul.HaulError as error:
        return error
    return None


def spread(total: int, count: int) -> Sequence[int]:
    return [total * each // count for each in range(count)]


@pytest.mark.timeout(900)
@pytest.mark.feature("requests that fail: nothing is lost, a run goes on")
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fault", FAULTS)
async def test_fault_at_some_requests(store_s3: Store, fault: str, tmp_path: Path) -> None:
    bucket = await store_s3.bucket()
    async with gateway(store_s3.url) as way:
        clean = Case(store_s3, bucket, FILES)
        await clean.fill()
        assert await hauled(clean, way.url, tmp_path / "clean.db") is None
        assert await clean.wrong(in_the_end=True) == []
        wrong = []
        for number in spread(len(way.log), CASES):
            case = Case(store_s3, bucket, FILES)
            await case.fill()
            wrong += await failing(way, case, fault, number, tmp_path / f"{number}.db")
    assert not wrong, "\n".join(wrong)


async def failing(way: Gateway, case: Case, fault: str, after: int, journal: Path) -> list[str]:
    """A run in which one request fails, and, where the run fails as well, the run again."""
    rule = way.rule(".", times=1, after=after, **FAULTS[fault])
    error = await hauled(case, way.url, journal)
    way.rules.clear()
    wrong = [] if rule.hits else ["no request met it"]
    wrong += await case.wrong(in_the_end=False)
    if error is not None:
        again = await hauled(case, way.url, journal)
        wrong += [] if again is None else [f"run again: {again}"]
    wrong += await case.wrong(in_the_end=True)
    return [f"{fault} at {rule.hits} ({error}): {each}" for each in wrong]


@pytest.fixture(params=[name for name in asked_for() if STORES[name].can_be_killed])
def killable(request: pytest.FixtureRequest, started_store: Started) -> StoreServer:
    """Each of the stores whose data are still there once it is started again."""
    return started_store(request.param)


@pytest.fixture
async def killable_s3(killable: StoreServer) -> AsyncIterator[Store]:
    async with store(killable.url, killable.name) as made:
        yield made


MANY = {**{f"{number:02}": bytes([number]) * 1000 for number in range(30)}, **FILES}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.feature("killed and back in time: the run ends well")
async def test_store_that_is_killed_and_comes_back_in_time(
    killable: StoreServer, killable_s3: Store, tmp_path: Path
) -> None:
    case = Case(killable_s3, await killable_s3.bucket(), MANY)
    await case.fill()
    enough = asyncio.Event()
    copied: list[str] = []

    def listen(event: aiohaul.Event) -> None:
        if isinstance(event, aiohaul.Copied):
            copied.append(event.source)
            if len(copied) == 10:
                enough.set()

    async with gateway(killable_s3.url) as way, asyncio.TaskGroup() as tasks:
        hauling = tasks.create_task(
            run(case.definition(url=way.url), journal=tmp_path / "j.db", on_progress=listen)
        )
        await enough.wait()
        way.up.clear()
        killable.kill()
        await asyncio.to_thread(killable.serve)
        way.up.set()
        assert (await hauling).ok
    assert await case.wrong(in_the_end=True) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.feature("killed, and gone for long: a later run goes on")
async def test_store_that_is_killed_and_stays_away(
    killable: StoreServer, killable_s3: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (service, verbs):
        monkeypatch.setattr(module, "backoff_delay", lambda *_: 0.01)
    case = Case(killable_s3, await killable_s3.bucket(), MANY)
    await case.fill()
    journal = tmp_path / "journal.db"
    copied: list[str] = []

    def listen(event: aiohaul.Event) -> None:
        if isinstance(event, aiohaul.Copied):
            copied.append(event.source)
            if len(copied) == 10:
                killable.kill()

    with pytest.raises(aiohaul.HaulError):
        await run(case.definition(url=killable_s3.url), journal=journal, on_progress=listen)
    await asyncio.to_thread(killable.serve)
    assert await case.wrong(in_the_end=False) == []
    assert await hauled(case, killable_s3.url, journal) is None
    assert await case.wrong(in_the_end=True) == []


@pytest.mark.timeout(300)
@pytest.mark.feature("three clients at one directory: nothing is lost")
async def test_three_clients_move_the_same_files(store_s3: Store, tmp_path: Path) -> None:
    inbox, out = await store_s3.bucket(), await store_s3.bucket()
    files = {f"{number:03}": str(number).encode() * 100 for number in range(100)}
    files["large"] = FILES["large"]
    await store_s3.fill(inbox, {f"src/{name}": data for name, data in files.items()})
    clients = []
    for number in range(3):
        directory = tmp_path / str(number)
        directory.mkdir()
        definition = transfer(
            source(store_s3, inbox, postCopyAction={"action": "delete"}),
            to(store_s3, out, directory=str(number)),
        )
        clients.append(
            await commands.start("run", commands.written(directory, definition), "--quiet")
        )
    ended = [await commands.ended(each) for each in clients]
    assert {each.code for each in ended} <= {0, 1}, [each.err for each in ended]
    there = await store_s3.contents(out)
    assert [key for key, data in there.items() if data != files[key.partition("/")[2]]] == []
    left = {key.removeprefix("src/") for key in await store_s3.keys(inbox)}
    taken = {key.partition("/")[2] for key in there}
    assert left | taken == files.keys()
    if left:  # who lost a race has failed, and is run again
        await run(
            transfer(
                source(store_s3, inbox, postCopyAction={"action": "delete"}),
                to(store_s3, out, directory="again"),
            )
        )
    assert await store_s3.keys(inbox) == []
    assert await store_s3.uploads(out) == []
