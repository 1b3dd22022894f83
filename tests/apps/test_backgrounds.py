"""The guide's aiohttp application: it copies what arrives, until it is told to stop."""

from __future__ import annotations

import signal
import sys

import pytest

from tests.apps.applications import MIB, Aws
from tests.support.markdown_files import block


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
async def test_stop_in_the_middle_of_a_copy(aws: Aws, sent: signal.Signals) -> None:
    aws.put({"a": b"a", "large": bytes(17 * MIB)})
    held = aws.hold(f"GetObject bytes={8 * MIB}-{16 * MIB - 1}")
    app = block("from aiohttp import web")
    assert "port=8080" in app
    file = aws.write("background.py", app.replace("port=8080", "port=0"))
    async with aws.running(sys.executable, file) as process:
        await held(1)
        process.signal(sent)
        assert await process.ended() == 0
    assert [each.name for each in (aws.directory / "incoming").iterdir()] == ["a"]
    await aws.let_go()
