"""The guide's tasks with a timeout, interrupted."""

from __future__ import annotations

import signal
import sys

from tests.apps.applications import Aws
from tests.support.markdown_files import block


async def test_timeouts_and_interrupts_leave_nothing(aws: Aws) -> None:
    nightly = block("asyncio.timeout(60)")
    file = aws.write("nightly.py", nightly)
    aws.put({"a": b"x"})
    async with aws.running(sys.executable, file, "src") as process:
        assert await process.ended() == 0
    assert aws.reports() == {"src/a": b"x"}

    held = aws.hold("CopyObject partNumber=None")
    async with aws.running(sys.executable, file, "src") as process:
        await held(1)
        process.signal(signal.SIGINT)
        assert await process.ended() == -signal.SIGINT
    await aws.let_go()

    file = aws.write("late.py", nightly.replace("timeout(60)", "timeout(2)"))
    async with aws.running(sys.executable, file, "src", "none") as process:
        assert await process.ended() == 0
    assert process.lines == ["too late: src"]
    await aws.let_go()
