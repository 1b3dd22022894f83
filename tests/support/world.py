"""The whole state of everything that a run can change, and what of it must hold when."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohaul
from aiohaul import progress
from aiohaul.session import Session
from tests.support.front import Front, Trouble
from tests.support.servers import KEY, REGION, SECRET
from tests.support.store import PROTOCOL
from tests.support.strict_s3 import Call, Reply, StrictS3

#: Where something is: "s3://bucket/key" (no two servers have buckets of one name), or a path.
State = dict[str, bytes]

_SHOWN = 8
#: Runs that share a Session.
_RENEWED_AFTER = 10


@dataclass(frozen=True)
class Scenario:
    """What is to be done, and what is to come of it.

    Attributes:
        name: of the operation, for tables.
        definition: the task.
        start: what is there before.
        copies: where each source is to be copied and moved to.
        flags: of each flag, what must be there before it may be.
        keeps: the sources stay.
    """

    name: str
    definition: dict[str, Any]
    start: State
    copies: Mapping[str, Sequence[str]]
    flags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    keeps: bool = False

    @property
    def end(self) -> State:
        """What must be there in the end, and nothing else."""
        copied = {
            target: self.start[source]
            for source, targets in self.copies.items()
            for target in targets
        }
        kept = {
            place: data
            for place, data in self.start.items()
            if self.keeps or place not in self.copies
        }
        return {**kept, **copied, **dict.fromkeys(self.flags, b"")}


class Victims:
    """Makes processes that run a definition: one at a time, to be killed."""

    def __init__(self, maker: asyncio.subprocess.Process) -> None:
        self._maker = maker

    async def start(self, file: Path, journal: Path) -> int:
        """Start one, and give its id."""
        assert self._maker.stdin is not None
        self._maker.stdin.write(json.dumps([str(file), str(journal)]).encode() + b"\n")
        return await self._number()

    async def ended(self) -> int:
        """Wait for its end, and give its status."""
        return await self._number()

    async def _number(self) -> int:
        assert self._maker.stdout is not None
        return int(await self._maker.stdout.readline())

    async def end(self) -> None:
        assert self._maker.stdin is not None
        self._maker.stdin.close()
        await self._maker.wait()


class World:
    """Two S3 servers behind fronts, and some directories.

    Args:
        directory: for files, and for the journal.
    """

    def __init__(self, directory: Path) -> None:
        self.home, self.away = StrictS3(), StrictS3()
        self.fronts = [_front("home", self.home), _front("away", self.away)]
        self.inbox, self.target = directory / "inbox", directory / "target"
        self.state = directory / "state"
        self.journal = self.state / "journal.db"
        self.trouble = Trouble()
        self._stack = AsyncExitStack()
        self._session: Session | None = None
        self._victims: Victims | None = None
        self._uses = 0

    async def __aenter__(self) -> Self:
        for front in self.fronts:
            await self._stack.enter_async_context(front.serving())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end_session()
        if self._victims is not None:
            await self._victims.end()
        await self._stack.aclose()

    async def victims(self) -> Victims:
        """What makes processes to be killed."""
        if self._victims is None:
            self._victims = Victims(
                await asyncio.create_subprocess_exec(
                    *(sys.executable, str(Path(__file__).with_name("victim.py"))),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.DEVNULL,
                )
            )
        return self._victims

    async def session(self) -> Session:
        """The Session of these runs: one for many of them, and from time to time a new one.

        What a cancelled or failed run leaves in it, the next one has to live with. The first
        requests of a new one go by botocore, the later ones past it.
        """
        return self._session or await self._begin_session()

    async def _begin_session(self) -> Session:
        self._session = Session()
        await self._session.__aenter__()
        return self._session

    async def _end_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.__aexit__(None, None, None)

    def protocol(self, front: Front) -> dict[str, Any]:
        return {
            "name": PROTOCOL,
            "access_key_id": KEY,
            "secret_access_key": SECRET,
            "region_name": REGION,
            "endpoint_url": front.url,
        }

    async def set_up(self, scenario: Scenario) -> None:
        """Begin anew, with what the scenario starts from."""
        self._uses += 1
        if self._uses % _RENEWED_AFTER == 0:
            await self._end_session()
        for s3, buckets in ((self.home, HOME), (self.away, AWAY)):
            s3.reset()
            s3.buckets |= buckets
        for directory in (self.inbox, self.target, self.state):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
        for place, data in scenario.start.items():
            if place.startswith("s3://"):
                bucket, _, key = place.removeprefix("s3://").partition("/")
                (self.home if bucket in HOME else self.away).put(bucket, key, data)
            else:
                Path(place).write_bytes(data)
        await self.troubled(Trouble())

    async def troubled(self, trouble: Trouble) -> None:
        """From now on this happens."""
        self.trouble = trouble
        for front in self.fronts:
            front.trouble = trouble
            await front.listen()

    async def idle(self) -> None:
        for front in self.fronts:
            await front.idle()

    def now(self) -> State:
        """Everything that is there under its name."""
        there = {
            f"s3://{bucket}/{key}": thing.data
            for s3 in (self.home, self.away)
            for (bucket, key), thing in s3.objects.items()
        }
        for path in self._files():
            if not path.name.endswith(".part"):
                there[str(path)] = path.read_bytes()
        return there

    def _files(self) -> list[Path]:
        return [path for where in (self.inbox, self.target) for path in where.iterdir()]

    def left_open(self) -> list[str]:
        """What is there that no reader sees: uploads and partial files."""
        uploads = [
            f"an upload of s3://{'/'.join(each.place)}"
            for s3 in (self.home, self.away)
            for each in s3.uploads.values()
        ]
        return uploads + [str(path) for path in self._files() if path.name.endswith(".part")]

    def without_acl(self) -> list[str]:
        """What the code under test wrote without the ACL."""
        return [
            f"s3://{'/'.join(place)}"
            for s3 in (self.home, self.away)
            for place, count in s3.writes.items()
            if count
            and place in s3.objects
            and s3.objects[place].kept.get("x-amz-acl") != "bucket-owner-full-control"
        ]


HOME = {"inbox", "direct", "archive"}
AWAY = {"partner"}


def _front(name: str, s3: StrictS3) -> Front:
    async def answer(call: Call) -> Reply:
        return s3.answer(call)

    return Front(name, answer)


def wrong_meanwhile(scenario: Scenario, now: State) -> list[str]:
    """What must never be, whatever has just gone wrong."""
    wrong = [
        f"{place} is {_what(data, {**scenario.start, **scenario.end}.get(place))}"
        for place, data in now.items()
        if data not in (scenario.end.get(place), scenario.start.get(place))
    ]
    for source, targets in scenario.copies.items():
        missing = [target for target in targets if target not in now]
        if source not in now and missing:
            wrong.append(f"{source} is gone, and {', '.join(missing)} is not there")
    for flag, needed in scenario.flags.items():
        missing = [target for target in needed if target not in now]
        if flag in now and missing:
            wrong.append(f"the flag {flag} is there, and {', '.join(missing)} is not")
    return wrong


def wrong_told(scenario: Scenario, now: State, events: Sequence[aiohaul.Event]) -> list[str]:
    """What was told and is not so."""
    wrong = []
    for event in events:
        match event:
            case progress.Copied() if event.target not in now:
                wrong.append(f"{event.target} was reported and is not there")
            case progress.FlagWritten() if event.target not in now:
                wrong.append(f"the flag {event.target} was reported and is not there")
            case progress.SourceActionDone() if not scenario.keeps and event.source in now:
                wrong.append(f"{event.source} was reported as gone and is there")
    return wrong


def wrong_in_the_end(scenario: Scenario, now: State) -> list[str]:
    """What is not exactly as it should be once everything is done."""
    end = scenario.end
    wrong = [f"{place} is missing" for place in end.keys() - now.keys()]
    wrong += [f"{place} should not be there" for place in now.keys() - end.keys()]
    wrong += [
        f"{place} is {_what(now[place], end[place])}"
        for place in end.keys() & now.keys()
        if now[place] != end[place]
    ]
    return wrong


def _what(data: bytes, expected: bytes | None) -> str:
    if expected is None:
        return f"nobody's ({len(data)} bytes)"
    if len(data) != len(expected):
        return f"{len(data)} bytes where {len(expected)} belong"
    at = next(i for i, (a, b) in enumerate(zip(data, expected, strict=True)) if a != b)
    return f"damaged at {at}: {data[at : at + _SHOWN]!r} where {expected[at : at + _SHOWN]!r}"
