"""A kernel of Jupyter: awaits at the top of cells, and an interrupt in the middle of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from jupyter_client.manager import AsyncKernelManager

from tests.apps.applications import HUNG, MIB, Aws
from tests.support.markdown_files import block

#: Through this process, in two parts.
UPLOAD = """
from aiohaul import Destination, Stream
async def megabytes():
    for _ in range(17):
        yield bytes(2**20)
report = await s3.copy([Stream("large", megabytes())], [Destination(bucket="reports")])
print(report.size)
"""


@dataclass
class Kernel:
    manager: Any
    client: Any
    said: list[str] = field(default_factory=list)

    async def run(self, code: str) -> dict[str, Any]:
        """Run a cell, and give its reply."""
        async with asyncio.timeout(HUNG):
            reply = await self.client.execute_interactive(
                code, output_hook=self._hear, allow_stdin=False
            )
        content: dict[str, Any] = reply["content"]
        return content

    def _hear(self, message: Any) -> None:
        content = message["content"]
        self.said += content.get("traceback") or filter(None, [content.get("text")])


@pytest.fixture(params=["signal", "message"])
async def kernel(aws: Aws, request: pytest.FixtureRequest) -> AsyncIterator[Kernel]:
    """One for each way in which it is interrupted."""
    manager: Any = AsyncKernelManager(kernel_name="python3")
    await manager.start_kernel(env=aws.environment, cwd=str(aws.directory))
    manager.kernel_spec.interrupt_mode = request.param
    client = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=HUNG)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)


async def test_interrupt_ends_the_cell_and_not_the_session(aws: Aws, kernel: Kernel) -> None:
    aws.put({"first": b"x"})
    done = await kernel.run(block("await stack.enter_async_context(Session())"))
    assert done["status"] == "ok", kernel.said
    assert (await kernel.run("print(len(found))"))["status"] == "ok"
    assert kernel.said[-1] == "1\n"

    held = aws.hold("UploadPart partNumber=2")
    cell = asyncio.create_task(kernel.run(UPLOAD))
    await held(1)
    await kernel.manager.interrupt_kernel()
    while not cell.done():  # ipykernel 7 acts at the loop's next event, whatever is awaited
        kernel.client.kernel_info()
        await asyncio.sleep(0.1)
    interrupted = await cell
    assert interrupted["status"] == "error"
    assert interrupted["ename"] in {"KeyboardInterrupt", "CancelledError"}
    assert "deadline" not in "".join([*kernel.said, str(interrupted)])
    assert aws.s3.uploads == {}

    aws.let_pass()
    kernel.said.clear()
    assert (await kernel.run(UPLOAD))["status"] == "ok", kernel.said
    assert kernel.said[-1] == f"{17 * MIB}\n"
    assert (await kernel.run("await stack.aclose()"))["status"] == "ok"
    await aws.let_go()


async def test_interrupt_of_a_blocking_call(aws: Aws, kernel: Kernel) -> None:
    """As it is made where nothing is awaited."""
    watch = (
        "from aiohaul import blocking\n"
        "async def arrived(session):\n"
        "    return await session.s3().wait_for('inbox', 'src', timeout=900, interval=0.1)\n"
        "print(len(blocking.call(arrived)))\n"
    )
    cell = asyncio.create_task(kernel.run(watch))
    await aws.listed()
    await kernel.manager.interrupt_kernel()
    assert (await cell)["ename"] == "KeyboardInterrupt"
    assert "deadline" not in "".join(kernel.said)
    aws.put({"first": b"x"})
    assert (await kernel.run(watch))["status"] == "ok", kernel.said
    assert kernel.said[-1] == "1\n"
