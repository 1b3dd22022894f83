"""Lambda and Fargate under the campaign: one run, or an error that says that nobody knows."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import aiohaul
from aiohaul.compute.task_stopper import TaskStopper
from tests.faults import campaign
from tests.faults.campaign import (
    AT_ONCE,
    CANCELLED,
    CANCELLED_ACTED,
    KILLED,
    KILLED_ACTED,
    Case,
    Verdict,
)
from tests.support import front as faults
from tests.support import leaks
from tests.support.compute_fixtures import KEYS, REGION
from tests.support.fake_ecs import Ecs
from tests.support.fake_http import FakeServer, Request
from tests.support.fake_lambda import FakeLambda, Function
from tests.support.front import Front, Point, Trouble
from tests.support.strict_s3 import Call, Reply

_ARN = "arn:aws:lambda:eu-west-1:111122223333:function:work"
#: Seconds that a task may take; it takes two looks.
_TIMEOUT = 3.0
_INTERVAL = 0.02
#: Calls of a function whose runs are remembered.
_REMEMBERED = 100


class Captured:
    """Stands where a fake server's connection stands, and keeps the answer."""

    def __init__(self) -> None:
        self.reply = Reply(500)

    async def answer(
        self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        self.reply = Reply(status, dict(headers or {}), body)


def _refusals(**more: Reply) -> dict[str, Reply]:
    return {
        faults.INTERNAL: _refusal(500, "ServiceException"),
        faults.EXPIRED: _refusal(403, "ExpiredTokenException"),
        **more,
    }


def _refusal(status: int, code: str) -> Reply:
    body = json.dumps({"__type": code, "message": "by the test"}).encode()
    return Reply(status, {"x-amzn-errortype": code}, body)


def _name(call: Call) -> str:
    target = call.headers.get("x-amz-target", "")
    return target.rpartition(".")[2] or "Invoke"


@dataclass
class Stage:
    """One way to run something elsewhere.

    Attributes:
        name: of the operation.
        front: the way to the server.
        session: a Session that leads there.
    """

    name: str
    front: Front
    session: aiohaul.Session
    not_here: frozenset[str] = frozenset({KILLED, KILLED_ACTED})

    async def points(self) -> dict[Point, bool]:
        """The requests of a run in which nothing goes wrong, and whether they have a body."""
        for _ in range(2):  # the first one makes the clients, and may be too late for the log
            self.begin(Trouble())
            await self.run()
        trouble = self.front.trouble
        return {point: point.name in trouble.bodies for point in sorted(trouble.order)}

    def can(self, case: Case) -> bool:
        """Whether this can happen here."""
        return case.fault not in self.not_here

    async def judge(self, case: Case) -> Verdict:
        """Carry out one case."""
        await self.front.listen()
        held = {CANCELLED: faults.HELD, CANCELLED_ACTED: faults.HELD_ACTED}
        self.begin(Trouble(held.get(case.fault, case.fault), case.point, case.for_ever))
        task = asyncio.ensure_future(self.run())
        wrong = []
        error: BaseException | None = None
        try:
            if case.fault in held and await _reached(self.front.trouble, task):
                took = await campaign.cancelled(task)
                if took > self.at_once(case):
                    wrong.append(f"cancelled, it took {took:.2f} s to end")
            await task
        except (aiohaul.HaulError, asyncio.CancelledError) as raised:
            error = raised
        except Exception as raised:  # noqa: BLE001  # it is told
            wrong.append(f"it raised {raised!r}")
        if not self.front.trouble.hits:
            wrong.append("the request never came")
        wrong += self.wrong(case, error)
        await self.front.idle()
        wrong += leaks.held_connections(self.session)
        return Verdict(case, error is None, type(error).__name__ if error else "", tuple(wrong))

    def at_once(self, case: Case) -> float:  # noqa: ARG002  # others take longer
        """Seconds within which a cancelled run has ended."""
        return AT_ONCE

    def begin(self, trouble: Trouble) -> None:
        raise NotImplementedError

    async def run(self) -> None:
        raise NotImplementedError

    def wrong(self, case: Case, error: BaseException | None) -> list[str]:
        raise NotImplementedError


async def _reached(trouble: Trouble, task: asyncio.Task[None]) -> bool:
    waiter = asyncio.ensure_future(trouble.reached.wait())
    await asyncio.wait([task, waiter], return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    await asyncio.wait([waiter])
    return not task.done()


@dataclass
class LambdaStage(Stage):
    """A function that is called once."""

    retries: int = 0
    server: FakeLambda = field(default_factory=FakeLambda)
    number: int = 0
    counted: Counter[int] = field(default_factory=Counter)

    @property
    def runs(self) -> int:
        """How often the function ran for the last call; it may yet do so after that has ended."""
        return self.counted[self.number]

    def begin(self, trouble: Trouble) -> None:
        self.front.trouble = trouble
        self.number += 1
        # A record of everything would grow for as long as a soak lasts.
        self.server.invocations.clear()
        del self.counted[self.number - _REMEMBERED]

    async def work(self, request: Request) -> None:
        # It stands there three times: one of them may have been damaged on its way.
        told = Counter(re.findall(rb"\d+", request.body))
        self.counted[int(max(told, key=told.__getitem__))] += 1
        await request.connection.answer(200, b'{"done": true}')

    async def run(self) -> None:
        functions = self.session.lambda_()
        await functions.invoke(_ARN, [self.number] * 3, read_timeout=0.5, retries=self.retries)

    def wrong(self, case: Case, error: BaseException | None) -> list[str]:
        wrong = [f"it ran {self.runs} times"] if self.runs > 1 else []
        if error is None and not self.runs:
            wrong.append("it did not run, and that is not said")
        unsure = aiohaul.OutcomeUnknownError | asyncio.CancelledError
        # A damaged answer may look like that of a function that failed.
        failed = isinstance(error, aiohaul.FunctionError) and case.fault == faults.DAMAGED_ANSWER
        if self.runs and error is not None and not (isinstance(error, unsure) or failed):
            wrong.append(f"it ran, and that is not said: {error!r}")
        return wrong


@dataclass
class LambdaDefinitionStage(LambdaStage):
    """The same, by a definition with max_attempts."""

    async def run(self) -> None:
        protocol = {
            "name": "opentaskpy.addons.aws.remotehandlers.lambda.LambdaExecution",
            "botocoreReadTimeout": 0.5,
            "max_attempts": self.retries,
        }
        definition = {
            "type": "execution",
            "functionArn": _ARN,
            "invocationType": "RequestResponse",
            "payload": [self.number] * 3,
            "protocol": protocol,
        }
        await aiohaul.run(definition, session=self.session)


@dataclass
class FargateStage(Stage):
    """A task that is run once, and followed to its end."""

    ecs: Ecs = field(default_factory=Ecs)

    def begin(self, trouble: Trouble) -> None:
        self.front.trouble = trouble
        # Stops that failed slow down later ones, in other cases as well.
        self.session._stopper = TaskStopper()
        self.ecs.tasks.clear()
        self.ecs.log = ["one", "two"]

    async def run(self) -> None:
        handler = self.session.fargate(interval=_INTERVAL)
        await handler.run("batch", "work", log_group="/ecs/work", timeout=_TIMEOUT)

    def at_once(self, case: Case) -> float:
        # A RunTask under way is awaited, and then looked up.
        return 12.0 if case.point.name.endswith("RunTask") else AT_ONCE

    def wrong(self, case: Case, error: BaseException | None) -> list[str]:
        tasks = self.ecs.tasks
        wrong = [f"{len(tasks)} tasks were started"] if len(tasks) > 1 else []
        if error is None and not tasks:
            wrong.append("none was started, and that is not said")
        running = [arn for arn, each in tasks.items() if each["lastStatus"] != "STOPPED"]
        told = isinstance(error, aiohaul.OutcomeUnknownError)
        cut_off = case.for_ever and case.fault in (faults.REFUSED, faults.EXPIRED)
        if running and not told and not cut_off:
            wrong.append(f"it still runs, after {error!r}")
        return wrong


def _answer(server: FakeServer) -> faults.Answer:
    async def answer(call: Call) -> Reply:
        captured = Captured()
        connection: Any = captured
        await server.serve(Request(call.method, call.target, call.headers, call.body, connection))
        return captured.reply

    return answer


@asynccontextmanager
async def _lambda(name: str, retries: int, stage: type[LambdaStage]) -> AsyncIterator[Stage]:
    functions: dict[str, Function] = {}
    server = FakeLambda(functions=functions)
    refusals = _refusals(**{faults.SLOW_DOWN: _refusal(429, "TooManyRequestsException")})
    front = Front("lambda", _answer(server), naming=_name, refusals=refusals)
    async with front.serving(), _session(front) as session:
        not_here = frozenset({KILLED, KILLED_ACTED, faults.FALSE_200})
        made = stage(name, front, session, not_here, retries, server)
        functions[_ARN] = made.work
        yield made


@asynccontextmanager
async def _fargate() -> AsyncIterator[Stage]:
    server = Ecs()
    refusals = _refusals(
        **{
            faults.SLOW_DOWN: _refusal(400, "ThrottlingException"),
            faults.FALSE_200: Reply(200, {}, b'{"__type": "ServerException"}'),
        }
    )
    front = Front("ecs", _answer(server), naming=_name, refusals=refusals)
    async with front.serving(), _session(front) as session:
        yield FargateStage("fargate", front, session, ecs=server)


def _session(front: Front) -> aiohaul.Session:
    return aiohaul.Session(region=REGION, endpoint_url=front.url, **KEYS)


ALL: dict[str, Callable[[], AbstractAsyncContextManager[Stage]]] = {
    "lambda": partial(_lambda, "lambda", 0, LambdaStage),
    "lambda, 2 retries": partial(_lambda, "lambda, 2 retries", 2, LambdaStage),
    "lambda, max_attempts 2": partial(_lambda, "lambda, max_attempts 2", 2, LambdaDefinitionStage),
    "fargate": _fargate,
}
