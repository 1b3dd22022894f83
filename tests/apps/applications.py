"""What the applications stand on: servers on the test's own loop, and processes beside it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Self

from tests.support.fake_lambda import FakeLambda, returning
from tests.support.front import Front
from tests.support.servers import KEY, REGION, SECRET
from tests.support.strict_s3 import Call, Reply, StrictS3, Thing, md5

HERE = Path(__file__).parent
MIB = 2**20
#: Seconds after which something hangs.
HUNG = 60.0
#: What a process has no reason to write on its standard error.
_COMPLAINTS = re.compile(
    r"Task was destroyed|never retrieved|never awaited|Unclosed|ResourceWarning|AssertionError"
)


class Process:
    """A process of an application.

    Attributes:
        lines: that it has written so far, to its standard output and its standard error.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._news = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            async with self._news:
                self.lines.append(line.decode().rstrip("\n"))
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    async def until(self, pattern: str) -> re.Match[str]:
        """Wait until it has written this."""

        def found() -> re.Match[str] | None:
            return re.search(pattern, self.text)

        async with asyncio.timeout(HUNG), self._news:
            await self._news.wait_for(lambda: found() or self._reading.done())
        match = found()
        assert match, self.text
        return match

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end, and see that it has complained of nothing."""
        async with asyncio.timeout(HUNG):
            code = await self.process.wait()
            await self._reading
        assert not _COMPLAINTS.search(self.text), self.text
        return code

    async def kill(self) -> None:
        """End it, and all that it has started."""
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()
        await self._reading


class Aws:
    """S3 and Lambda as an application reaches them, and a directory for it.

    Attributes:
        s3: buckets, objects and open uploads; there are ``inbox`` and ``reports``.
        front: the way to them.
        functions: Lambda, with the function ``nightly-report``.
        directory: where applications run.
        environment: of their processes.
    """

    def __init__(self, directory: Path) -> None:
        self.s3 = StrictS3()
        self.front = Front("s3", self._answer)
        self._held: frozenset[str] = frozenset()
        self._holding = 0
        self._listings = 0
        self._go = asyncio.Event()
        self._news = asyncio.Condition()
        self.functions = FakeLambda()
        self.functions.functions["nightly-report"] = returning(b'{"rows": 7}')
        self.directory = directory
        self.environment: dict[str, str] = {}
        self._stack = AsyncExitStack()

    async def _answer(self, call: Call) -> Reply:
        if call.operation == "ListObjectsV2":
            async with self._news:
                self._listings += 1
                self._news.notify_all()
        detail = call.headers.get("range") or f"partNumber={call.query.get('partNumber')}"
        if f"{call.operation} {detail}" in self._held:
            async with self._news:
                self._holding += 1
                self._news.notify_all()
            await self._go.wait()
        return self.s3.answer(call)

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.front.serving())
        await self._stack.enter_async_context(self.functions)
        self.s3.buckets |= {"inbox", "reports"}
        scripts = str(Path(sys.executable).parent)
        self.environment = {
            **os.environ,
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(self.directory), str(HERE)]),
            "HOME": str(self.directory),
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "default::ResourceWarning",
            "AWS_ENDPOINT_URL_S3": self.front.url,
            "AWS_ENDPOINT_URL_LAMBDA": self.functions.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
        }
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def put(self, objects: Mapping[str, bytes]) -> None:
        """Put objects below ``src/`` into the inbox."""
        for name, data in objects.items():
            self.s3.objects["inbox", f"src/{name}"] = Thing(data, md5(data))

    def reports(self) -> dict[str, bytes]:
        """What is in the bucket ``reports``."""
        return {
            key: each.data for (bucket, key), each in self.s3.objects.items() if bucket == "reports"
        }

    def hold(self, *requests: str) -> Callable[[int], Awaitable[None]]:
        """Hold these requests, named by operation and part or range.

        They end with their clients, or go on once they are let pass.

        Returns:
            Waits until there are so many of them.
        """
        self._held = frozenset(requests)

        async def until(count: int) -> None:
            async with asyncio.timeout(HUNG), self._news:
                await self._news.wait_for(lambda: self._holding >= count)

        return until

    async def listed(self) -> None:
        """Wait for a listing."""
        async with asyncio.timeout(HUNG), self._news:
            await self._news.wait_for(lambda: self._listings > 0)

    def let_pass(self) -> None:
        """Hold nothing any more."""
        self._go.set()

    async def let_go(self) -> None:
        """See that nothing is left: no open request, no open upload, no file in the making."""
        await self.front.idle()
        async with asyncio.timeout(HUNG):
            await self.functions.until(lambda: not self.functions.connections)
        assert self.s3.uploads == {}
        left = [
            each.name for each in self.directory.rglob("*") if each.name.startswith(".aiohaul-")
        ]
        assert left == []

    def write(self, name: str, text: str) -> Path:
        """Write a block of the guide down as a file."""
        file = self.directory / name
        file.write_text(text, encoding="utf-8")
        return file

    @asynccontextmanager
    async def running(self, *command: object, **more: str) -> AsyncIterator[Process]:
        """A process of this environment, which is killed if it is still there in the end."""
        process = await asyncio.create_subprocess_exec(
            *map(str, command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=self.directory,
            env={**self.environment, **more},
            start_new_session=True,
        )
        made = Process(process)
        try:
            yield made
        finally:
            await made.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port
