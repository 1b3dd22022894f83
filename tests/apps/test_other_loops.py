"""Where the loop is not asyncio's own, or is not seen: trio, greenback, pytest-asyncio."""

from __future__ import annotations

import sys

from tests.apps.applications import HERE, Aws
from tests.support.markdown_files import block

ONE_MORE = """

async def test_session_is_still_good(session):
    assert await session.s3().head("inbox", "src/a")
"""


async def test_trio_is_told_what_to_do(aws: Aws) -> None:
    aws.put({"a": b"12345"})
    async with aws.running(sys.executable, HERE / "other_loops.py", "trio") as process:
        assert await process.ended() == 0, process.text
    *refused, size = process.lines
    assert len(refused) == 2
    for line in refused:
        assert line.startswith("SessionError aiohaul needs a running event loop of asyncio")
        assert "trio.to_thread" in line
    assert size == "5"


async def test_greenlets_await(aws: Aws) -> None:
    aws.put({"a": b"12345"})
    async with aws.running(sys.executable, HERE / "other_loops.py", "greenback") as process:
        assert await process.ended() == 0, process.text
    assert process.lines == ["too late", "5"]
    await aws.let_go()


async def test_tests_of_pytest_asyncio_share_a_session(aws: Aws) -> None:
    aws.put({"a": b"12345"})
    file = aws.write("test_inbox.py", block("import pytest_asyncio") + ONE_MORE)
    async with aws.running(sys.executable, "-m", "pytest", "-q", file) as process:
        assert await process.ended() == 0, process.text
    assert "2 passed" in process.text
    await aws.let_go()
