"""Batches for the tests: definitions, a server whose functions end when a test says, events."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import aiohaul
from tests.support.compute_fixtures import KEYS, REGION
from tests.support.fake_http import Request
from tests.support.fake_lambda import FakeLambda, failing, returning

LAMBDA = {"name": "opentaskpy.addons.aws.remotehandlers.lambda.LambdaExecution"}


def call(name: str, **more: Any) -> dict[str, Any]:
    """A Lambda call that waits for its answer."""
    return {
        "type": "execution",
        "functionArn": name,
        "invocationType": "RequestResponse",
        "protocol": LAMBDA,
        **more,
    }


def calls(*names: str) -> dict[str, dict[str, Any]]:
    """Tasks that call the function of their name."""
    return {name: call(name) for name in names}


def step(order_id: int, task_id: str, *dependencies: int, **more: Any) -> dict[str, Any]:
    waits = {"dependencies": list(dependencies)} if dependencies else {}
    return {"order_id": order_id, "task_id": task_id, **waits, **more}


def batch(*steps: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "batch", "tasks": list(steps)}


def states(report: aiohaul.BatchReport) -> dict[int, str]:
    return {each.order_id: each.state for each in report.tasks}


async def failed(*arguments: Any, **more: Any) -> aiohaul.BatchReport:
    """The report of a run that has to fail."""
    try:
        await aiohaul.run(*arguments, **more)
    except aiohaul.BatchError as error:
        return error.report
    raise AssertionError("the batch did not fail")


async def done(*arguments: Any, **more: Any) -> aiohaul.BatchReport:
    """The report of a run that has to succeed."""
    report = await aiohaul.run(*arguments, **more)
    assert isinstance(report, aiohaul.BatchReport)
    return report


class Functions:
    """Functions of a fake Lambda, each held until it is told to end."""

    def __init__(self, server: FakeLambda) -> None:
        self.server = server
        self._may_end: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def held(self, *names: str) -> None:
        for name in names:
            self.server.functions[name] = self._held

    def plain(self, *names: str) -> None:
        for name in names:
            self.server.functions[name] = returning()

    def broken(self, *names: str) -> None:
        for name in names:
            self.server.functions[name] = failing({"errorMessage": f"no {name} today"})

    async def _held(self, request: Request) -> None:
        may_end = asyncio.ensure_future(self._may_end[called(request)].wait())
        gone = asyncio.ensure_future(request.connection.until_gone())
        await asyncio.wait({may_end, gone}, return_when=asyncio.FIRST_COMPLETED)
        answered = not gone.done()
        for task in (may_end, gone):
            task.cancel()
        await asyncio.wait({may_end, gone})
        if answered:
            await returning()(request)

    def end(self, name: str) -> None:
        self._may_end[name].set()

    @property
    def called(self) -> list[str]:
        return [called(request) for request in self.server.invocations]

    async def until_called(self, *names: str) -> None:
        async with asyncio.timeout(30):
            await self.server.until(lambda: set(names) <= set(self.called))

    async def until_dropped(self) -> None:
        """Until no caller holds a connection any more."""
        async with asyncio.timeout(30):
            await self.server.until(lambda: not self.server.connections)


def called(request: Request) -> str:
    return request.path.split("/")[3]


class Heard(list[aiohaul.Event]):
    """What a batch told; called with every event."""

    def __init__(self) -> None:
        self._news = asyncio.Event()

    def __call__(self, event: aiohaul.Event) -> None:
        self.append(event)
        self._news.set()

    def ends(self) -> dict[tuple[int, ...], str]:
        return {each.order: each.state for each in self if isinstance(each, aiohaul.TaskEnded)}

    @property
    def report(self) -> aiohaul.BatchReport:
        (found,) = [each.report for each in self if isinstance(each, aiohaul.BatchEnded)]
        return found

    async def until_queued(self, order: tuple[int, ...]) -> None:
        async with asyncio.timeout(30):
            while order not in [
                each.order for each in self if isinstance(each, aiohaul.TaskQueued)
            ]:
                self._news.clear()
                await self._news.wait()

    async def until_ended(self, orders: Iterable[tuple[int, ...]]) -> None:
        wanted = set(orders)
        async with asyncio.timeout(30):
            while not wanted <= self.ends().keys():
                self._news.clear()
                await self._news.wait()


def there(definition: Mapping[str, Any], url: str) -> dict[str, Any]:
    protocol = {**definition["protocol"], **KEYS, "region_name": REGION, "endpoint_url": url}
    return {**definition, "protocol": protocol}


def folder(
    place: Path, url: str, definition: Mapping[str, Any], more: Mapping[str, Any] | None = None
) -> Path:
    """The file of a batch, beside its tasks a, b and c."""
    tasks = {name: there(call(name), url) for name in ("a", "b", "c")} | dict(more or {})
    for name, task in {**tasks, "night": definition}.items():
        (place / f"{name}.json").write_text(json.dumps(task))
    return place / "night.json"
