"""A Lambda endpoint of the tests' own: it speaks Invoke and the durable operations.

What a function does stands in ``functions``; one that is not there does not exist. Run as a
module, it serves ``hold`` (it answers after the seconds of the payload) and prints its address.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.support.fake_http import FakeServer, Headers, Request, head

Function = Callable[[Request], Awaitable[None]]


@dataclass(eq=False)
class FakeLambda(FakeServer):
    """Counts what reaches it.

    Attributes:
        functions: by name.
        invocations: every Invoke that came, in order.
        states: of durable executions by ARN: what each look shows, the last one for ever.
        looks: how many GetDurableExecution came.
        stopped: the ARNs of StopDurableExecution.
        release: lets held invocations go on.
        running: invocations under way.
        most: how many have been under way at once.
    """

    functions: dict[str, Function] = field(default_factory=dict)
    invocations: list[Request] = field(default_factory=list)
    states: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    looks: int = 0
    stopped: list[str] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    running: int = 0
    most: int = 0

    async def serve(self, request: Request) -> None:
        parts = urlsplit(request.path).path.strip("/").split("/")
        match parts:
            case ["2015-03-31", "functions", name, "invocations"]:
                await self._invoke(unquote(name), request)
            case ["2025-12-01", "durable-executions", *arn]:
                await self._durable(unquote("/".join(arn)), request)
            case _:
                await request.connection.answer(404)

    async def _invoke(self, name: str, request: Request) -> None:
        self.invocations.append(request)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.tell()
            if name in self.functions:
                await self.functions[name](request)
            else:
                problem = f"Function not found: {name}"
                await refuse(404, "ResourceNotFoundException", problem)(request)
        finally:
            self.running -= 1

    async def _durable(self, arn: str, request: Request) -> None:
        if arn.endswith("/stop"):
            self.stopped.append(arn.removesuffix("/stop"))
            await request.connection.answer(200, b'{"StopTimestamp": 1750000000}')
        elif arn not in self.states:
            await refuse(404, "ResourceNotFoundException", "no such execution")(request)
        else:
            states = self.states[arn]
            state = states.pop(0) if len(states) > 1 else states[0]
            self.looks += 1
            known = {
                "DurableExecutionArn": arn,
                "DurableExecutionName": arn.split("/")[-2],
                "FunctionArn": arn.partition("/")[0],
                "StartTimestamp": 1750000000,
            }
            if (status := state.get("http")) is not None:
                await refuse(status, state["code"], "try again")(request)
            else:
                await request.connection.answer(200, json.dumps(known | state).encode())
        await self.tell()

    def holding(self, body: bytes = b'"done"') -> Function:
        """Silent until ``release`` is set, or the client is gone."""

        async def function(request: Request) -> None:
            gone = asyncio.ensure_future(request.connection.until_gone())
            released = asyncio.ensure_future(self.release.wait())
            try:
                await asyncio.wait({gone, released}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                dropped = gone.done()
                for task in (gone, released):
                    task.cancel()
                await asyncio.wait({gone, released})
            if not dropped:
                await request.connection.answer(200, body)

        return function


def returning(body: bytes = b"null", status: int = 200, headers: Headers | None = None) -> Function:
    async def function(request: Request) -> None:
        usual = {"x-amz-executed-version": "$LATEST", "x-amzn-requestid": "fake-request"}
        await request.connection.answer(status, body, usual | dict(headers or {}))

    return function


def failing(error: Mapping[str, Any], log: str = "") -> Function:
    """A function that raises: Lambda answers 200, with the error as the payload."""
    return returning(
        json.dumps(error).encode(),
        headers={
            "x-amz-function-error": "Unhandled",
            "x-amz-log-result": base64.b64encode(log.encode()).decode(),
        },
    )


def refuse(status: int, code: str, message: str, headers: Headers | None = None) -> Function:
    """Lambda itself refuses."""

    async def function(request: Request) -> None:
        body = json.dumps({"Type": "User", "message": message}).encode()
        usual = {"x-amzn-errortype": code, "content-type": "application/json"}
        await request.connection.answer(status, body, usual | dict(headers or {}))

    return function


async def resetting(request: Request) -> None:
    """The connection breaks before the answer."""
    request.connection.reset()


async def closing(request: Request) -> None:
    """The connection ends in order, without an answer."""
    request.connection.writer.close()


async def cutting(request: Request) -> None:
    """The connection ends in the middle of the answer."""
    request.connection.writer.write(head(200, 1000, {}) + b'{"half": ')
    await request.connection.writer.drain()
    request.connection.writer.close()


async def stalling(request: Request) -> None:
    """The answer begins and does not go on."""
    request.connection.writer.write(head(200, 1000, {}) + b'{"half": ')
    await request.connection.writer.drain()
    await request.connection.until_gone()


async def echoing(request: Request) -> None:
    await returning(request.body)(request)


async def _main() -> None:
    async def hold(request: Request) -> None:
        await asyncio.sleep(json.loads(request.body))
        await returning(b'"done"')(request)

    async with FakeLambda(functions={"hold": hold}) as server:
        print(server.url, flush=True)  # noqa: T201  # the address, for whoever started it
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
