"""A call of everything public that is awaited, on servers of the tests' own; and what there is."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import aiohaul
from aiohaul import Action, Destination, LocalDestination, Settings, Stream
from aiohaul.s3.copying.plan import Source
from aiohaul.s3.local import stat_file
from tests.support.compute_fixtures import KEYS, REGION
from tests.support.fake_ecs import Ecs
from tests.support.fake_lambda import FakeLambda, returning
from tests.support.fake_listings import FakeS3
from tests.support.fake_logs import FakeLogs
from tests.support.fake_sqs import FakeSqs
from tests.support.quick import PART
from tests.support.secrets_of_moto import create_secret
from tests.support.servers import KEY, SECRET
from tests.support.store import store
from tests.support.world import World

_DURABLE = "arn:aws:lambda:eu-west-1:111122223333:function:work:1/durable-execution/name/id"
#: What is awaited by "await", "async for" and "async with".
_AWAITED = {"__anext__", "__aenter__", "__aexit__"}
_FOREVER = 3600.0


class Stage:
    """Servers, and a Session to reach each of them.

    Args:
        directory: for files.
        moto: the URL of a moto server that has been reset.
    """

    def __init__(self, directory: Path, moto: str) -> None:
        self.world = World(directory)
        self.functions, self.ecs, self.logs = FakeLambda(), Ecs(), FakeLogs()
        self.sqs, self.listed = FakeSqs(), FakeS3()
        self.directory = directory
        self._moto = moto
        self._stack = AsyncExitStack()
        self.sessions: dict[str, aiohaul.Session] = {}

    async def __aenter__(self) -> Self:
        enter = self._stack.enter_async_context
        await enter(self.world)
        urls = {"moto": self._moto}
        servers = {
            "lambda": self.functions,
            "ecs": self.ecs,
            "logs": self.logs,
            "sqs": self.sqs,
            "listed": self.listed,
        }
        for name, server in servers.items():
            urls[name] = (await enter(server)).url
        for name, front in zip(("home", "away"), self.world.fronts, strict=True):
            urls[name] = front.url
        for name, url in urls.items():
            session = aiohaul.Session(region=REGION, endpoint_url=url, **KEYS)
            self.sessions[name] = await enter(session)
        await self._fill()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _fill(self) -> None:
        for s3, bucket in ((self.world.home, "inbox"), (self.world.away, "partner")):
            s3.buckets |= {bucket, "direct"}
        self.world.target.mkdir(parents=True)
        self.world.home.put("inbox", "src/small", b"small")
        self.world.home.put("inbox", "src/large", b"x" * (2 * PART + 1000))
        self.world.home.put("inbox", "log", b"one\ntwo\n")
        self.listed.put("b", "src/one")
        self.functions.functions["work"] = returning(
            b"1", headers={"x-amz-durable-execution-arn": _DURABLE}
        )
        self.functions.functions["queued"] = returning(
            b"", status=202, headers={"x-amz-durable-execution-arn": _DURABLE}
        )
        self.functions.states[_DURABLE] = [{"Status": "RUNNING"}]
        self.task = "arn:aws:ecs:eu-west-1:000000000000:task/batch/running"
        self.ecs.tasks[self.task] = {"startedBy": "token", "containers": []}
        (self.directory / "file").write_bytes(b"y" * 100_000)
        await self.sessions["moto"].ssm().put("name", "value")
        async with store(self._moto, "moto") as made:
            await made.bucket("tagged")
        await self.sessions["moto"].s3().write("tagged", "a", b"")
        create_secret(self._moto, "name", "value")
        create_secret(self._moto, "bytes", b"value")
        self.moved = await self.home.head("inbox", "src/small")

    @property
    def home(self) -> aiohaul.S3Handler:
        return self.sessions["home"].s3()

    def away(self, directory: str = "") -> Destination:
        """Another server: what goes there goes through this process."""
        url = self.world.fronts[1].url
        settings = Settings(endpoint_url=url)
        return Destination(bucket="partner", directory=directory, settings=settings)

    async def sources(self) -> Sequence[aiohaul.S3Object]:
        return await self.home.find("inbox", "src")

    def victim(self) -> aiohaul.S3Object:
        """An object that may go."""
        self.world.home.put("inbox", self.moved.key, b"small")
        return self.moved

    def definition(self) -> dict[str, Any]:
        protocol: dict[str, Any] = {
            "name": "opentaskpy.addons.aws.remotehandlers.s3.S3Transfer",
            "access_key_id": KEY,
            "secret_access_key": SECRET,
            "region_name": REGION,
        }
        home, away = (protocol | {"endpoint_url": each.url} for each in self.world.fronts)
        return {
            "type": "transfer",
            "source": {"bucket": "inbox", "directory": "src", "fileRegex": ".*", "protocol": home},
            "destination": [
                {"bucket": "partner", "flags": {"fullPath": "all.flg"}, "protocol": away},
                {"directory": str(self.world.target), "protocol": {"name": "local"}},
            ],
        }

    @property
    def batch(self) -> dict[str, Any]:
        tasks = [{"order_id": 1, "task_id": "one"}, {"order_id": 2, "task_id": "two"}]
        return {"type": "batch", "tasks": tasks}


Call = Callable[[Stage], Awaitable[Any]]
#: By what is called, some methods of a class perhaps, and how, where there is more than one way.
CALLS: dict[str, Call] = {}


def _call(name: str) -> Callable[[Call], Call]:
    def add(call: Call) -> Call:
        CALLS[name] = call
        return call

    return add


def _calls(calls: dict[str, Call]) -> None:
    CALLS.update(calls)


def called() -> set[str]:
    """The names of everything that is called."""
    names = set()
    for each in CALLS:
        owner, dot, methods = each.partition(":")[0].rpartition(".")
        names |= {f"{owner}{dot}{method}" for method in methods.split()}
    return names


def awaited() -> Iterator[str]:
    """The names of everything public that is awaited: functions, and methods of classes."""
    for name in aiohaul.__all__:
        thing = getattr(aiohaul, name)
        if _is_awaited(thing):
            yield name
        if isinstance(thing, type):
            for attribute in dir(thing):
                if not attribute.startswith("_") or attribute in _AWAITED:
                    value = inspect.getattr_static(thing, attribute)
                    if _is_awaited(value):
                        yield f"{name}.{attribute}"


def _is_awaited(thing: Any) -> bool:
    function = inspect.unwrap(thing) if callable(thing) else thing
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


_calls(
    {
        "S3Handler.find": lambda stage: stage.home.find("inbox", "src"),
        "S3Handler.head": lambda stage: stage.home.head("inbox", "log"),
        "S3Handler.read": lambda stage: stage.home.read("inbox", "log", offset=2),
        "S3Handler.info": lambda stage: stage.home.info("inbox", "log"),
        "S3Handler.exists": lambda stage: stage.home.exists("inbox", "log"),
        "S3Handler.write": lambda stage: stage.home.write("direct", "one", b"one"),
        "S3Handler.list_directory": lambda stage: stage.home.list_directory("inbox"),
        "S3Handler.delete_keys": lambda stage: stage.home.delete_keys("direct", ["one", "two"]),
        "S3Handler.get_tags": lambda stage: stage.home.get_tags("inbox", "log"),
        "S3Handler.put_tags": lambda stage: (
            stage.sessions["moto"].s3().put_tags("tagged", "a", {"b": "c"})
        ),
        "S3Handler.touch": lambda stage: stage.home.touch("direct", "flag"),
        "S3Handler.wait_for": lambda stage: stage.home.wait_for(
            "inbox", "src", "never", timeout=_FOREVER, interval=0.01
        ),
        "S3Handler.wait_for_line": lambda stage: stage.home.wait_for_line(
            "inbox", "log", "never", timeout=_FOREVER, interval=0.01
        ),
        "LambdaHandler.invoke": lambda stage: (
            stage.sessions["lambda"].lambda_().invoke("work", [1])
        ),
        "LambdaHandler.start_durable": lambda stage: (
            stage.sessions["lambda"].lambda_().start_durable("queued", "name", [1])
        ),
        "LambdaHandler.wait_durable": lambda stage: (
            stage.sessions["lambda"].lambda_().wait_durable(_DURABLE, interval=0.01)
        ),
        "LambdaHandler.stop_durable": lambda stage: (
            stage.sessions["lambda"].lambda_().stop_durable(_DURABLE)
        ),
        "FargateHandler.run": lambda stage: (
            stage.sessions["ecs"].fargate(interval=0.01).run("batch", "work")
        ),
        "FargateHandler.stop": lambda stage: (
            stage.sessions["ecs"].fargate().stop("batch", "token", task=stage.task)
        ),
        "LogsHandler.wait_for": lambda stage: (
            stage.sessions["logs"].logs().wait_for("g", "never", timeout=_FOREVER, interval=0.01)
        ),
        "SSMHandler.get": lambda stage: stage.sessions["moto"].ssm().get("name"),
        "SSMHandler.get_many": lambda stage: stage.sessions["moto"].ssm().get_many(["name"]),
        "SSMHandler.get_by_path": lambda stage: stage.sessions["moto"].ssm().get_by_path("/"),
        "SSMHandler.put": lambda stage: stage.sessions["moto"].ssm().put("name", "value"),
        "SecretsHandler.get_bytes": lambda stage: (
            stage.sessions["moto"].secrets().get_bytes("bytes")
        ),
        "SecretsHandler.create": lambda stage: (
            stage.sessions["moto"].secrets().create(uuid4().hex, "value")
        ),
        "SecretsHandler.put": lambda stage: stage.sessions["moto"].secrets().put("name", "value"),
        "SecretsHandler.get": lambda stage: stage.sessions["moto"].secrets().get("name"),
        "run": lambda stage: aiohaul.run(stage.definition(), session=stage.sessions["home"]),
    }
)


@_call("run: a journal")
async def _(stage: Stage) -> None:
    journal = stage.directory / "journal.db"
    await aiohaul.run(stage.definition(), session=stage.sessions["home"], journal=journal)


@_call("run: a batch, and a Session of its own")
async def _(stage: Stage) -> None:
    tasks = {"one": stage.definition(), "two": stage.definition()}
    await aiohaul.run(stage.batch, tasks=tasks, state=stage.directory / "state.db")


@_call("clean")
async def _(stage: Stage) -> None:
    journal = stage.directory / "clean.db"
    await aiohaul.clean(stage.definition(), journal=journal, session=stage.sessions["home"])


@_call("S3Handler.list")
async def _(stage: Stage) -> None:
    async for _each in stage.home.list("inbox"):
        pass


@_call("S3Handler.read_many")
async def _(stage: Stage) -> None:
    async for _each in stage.home.read_many("inbox", ["log", "src/small"] * 20):
        pass


@_call("S3Handler.stream")
async def _(stage: Stage) -> None:
    async with aclosing(stage.home.stream("inbox", "src/large", chunk_size=PART // 4)) as chunks:
        async for _each in chunks:
            pass


@_call("S3Handler.open")
async def _(stage: Stage) -> None:
    await (await stage.home.open("inbox", "log")).aclose()


@_call("ObjectFile.__aenter__ __aexit__ __anext__ read readline seek tell aclose")
async def _(stage: Stage) -> None:
    async with await stage.home.open("inbox", "src/large", block_size=PART // 2) as file:
        await file.seek(100)
        await file.read(PART // 4)
        await file.readline()
        await file.seek(await file.tell() // 2)
        async for _line in file:
            pass
        await file.seek(0)
        await file.read()


@_call("S3Handler.write: in parts")
async def _(stage: Stage) -> None:
    await stage.home.write("direct", "many", b"x" * (2 * PART + 1000))


@_call("S3Handler.write: an iterator")
async def _(stage: Stage) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * PART

    await stage.home.write("direct", "many", chunks())


@_call("S3Handler.list_versions")
async def _(stage: Stage) -> None:
    async for _each in stage.sessions["moto"].s3().list_versions("tagged"):
        pass


@_call("S3Handler.walk")
async def _(stage: Stage) -> None:
    async for _each in stage.home.walk("inbox"):
        pass


@_call("S3Handler.copy")
async def _(stage: Stage) -> None:
    sources: list[Source] = [*await stage.sources(), stat_file(stage.directory / "file")]
    await stage.home.copy(sources, [stage.away(), LocalDestination(directory=stage.world.target)])


@_call("S3Handler.copy: by S3")
async def _(stage: Stage) -> None:
    await stage.home.copy(await stage.sources(), [Destination(bucket="direct", directory="in")])


@_call("S3Handler.copy: a journal, and read back")
async def _(stage: Stage) -> None:
    journal = stage.directory / "copy.db"
    await stage.home.copy(await stage.sources(), [stage.away()], journal=journal, reread=True)


@_call("S3Handler.copy: a stream")
async def _(stage: Stage) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * PART

    await stage.home.copy([Stream("stream", chunks())], [stage.away("streams")])


@_call("S3Handler.check")
async def _(stage: Stage) -> None:
    await stage.home.check(await stage.sources(), [stage.away()])


@_call("S3Handler.act")
async def _(stage: Stage) -> None:
    action = Action(kind="move", bucket="direct", prefix="old/")
    await stage.home.act([stage.victim()], action)


@_call("S3Handler.delete")
async def _(stage: Stage) -> None:
    await stage.home.delete([stage.victim()])


@_call("S3Handler.wait_for: a queue")
async def _(stage: Stage) -> None:
    s3 = stage.sessions["listed"].s3()
    await s3.wait_for("b", "src", "never", timeout=_FOREVER, queue=stage.sqs.queue)


@_call("Watch.__anext__ __aenter__ __aexit__ aclose wait_woken cursor")
async def _(stage: Stage) -> None:
    watch = stage.sessions["listed"].s3().watch("b", "src", interval=0.01)
    async with watch:
        await anext(watch)
        json.dumps(await watch.cursor())
        await anext(watch)  # which comes never


@_call("Watch.__anext__: a queue")
async def _(stage: Stage) -> None:
    s3 = stage.sessions["listed"].s3()
    async with s3.watch("b", "src", queue=stage.sqs.queue) as watch:
        async for _each in watch:
            pass


@_call("Session.__aenter__ __aexit__")
async def _(stage: Stage) -> None:
    url = stage.world.fronts[0].url
    async with aiohaul.Session(region=REGION, endpoint_url=url, **KEYS) as session:
        await session.s3().head("inbox", "log")
