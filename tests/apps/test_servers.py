"""The guide's FastAPI application under uvicorn, and under gunicorn: served, and stopped."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.apps.applications import HUNG, MIB, Aws, Process
from tests.support.markdown_files import block

#: More than the threads for endpoints with ``def``, which are 40.
MANY = 100
SECONDS = "1"
UVICORN = (
    *(sys.executable, "-m", "uvicorn", "more_endpoints:app", "--port", "0"),
    *("--timeout-graceful-shutdown", SECONDS),
)
GUNICORN = (
    *(sys.executable, "-m", "gunicorn", "more_endpoints:app", "--bind", "127.0.0.1:0"),
    *("--worker-class", "workers.Bounded", "--graceful-timeout", "20"),
)
SERVERS = pytest.mark.parametrize(
    "command",
    [
        pytest.param((*UVICORN, "--loop", "asyncio"), id="uvicorn-asyncio"),
        pytest.param((*UVICORN, "--loop", "uvloop"), id="uvicorn-uvloop"),
        pytest.param(GUNICORN, id="gunicorn"),
    ],
)


@asynccontextmanager
async def serving(
    aws: Aws, command: tuple[str, ...]
) -> AsyncIterator[tuple[Process, httpx.AsyncClient]]:
    aws.write("application.py", block("from fastapi import FastAPI"))
    bounded = block("class Bounded(UvicornWorker)")
    assert '"timeout_graceful_shutdown": 10' in bounded
    aws.write("workers.py", bounded.replace(": 10", f": {SECONDS}"))
    async with aws.running(*command) as process:
        url = await process.until(r"(?:running on|Listening at:) (http://127.0.0.1:\d+)")
        await process.until("Application startup complete")
        async with httpx.AsyncClient(base_url=url[1], timeout=HUNG) as client:
            yield process, client


async def served(client: httpx.AsyncClient, *paths: str) -> list[object]:
    """What these answer that are asked together."""
    answers = await asyncio.gather(*map(client.post, paths))
    assert {each.status_code for each in answers} == {200}, [each.text for each in answers]
    return [each.json() for each in answers]


@SERVERS
async def test_endpoints_that_copy_call_and_run_batches(aws: Aws, command: tuple[str, ...]) -> None:
    names = [f"{number}.txt" for number in range(MANY)]
    aws.put({name: name.encode() for name in names})
    async with serving(aws, command) as (process, client):
        answered = await served(client, *(f"/files/{name}" for name in names))
        assert answered == [len(name) for name in names]
        incoming = {each.name: each.read_bytes() for each in (aws.directory / "incoming").iterdir()}
        assert incoming == {name: name.encode() for name in names}

        mixed = [
            *(f"/{kind}/{name}" for name in names[:15] for kind in ("copies", "journals")),
            *(f"/nights/{name}" for name in names[15:30]),
            *("/reports/2026-01-31" for _ in range(15)),
        ]
        answered = await served(client, *mixed)
        assert answered[-1] == {"rows": 7}
        assert sorted(aws.reports()) == sorted(names[:30])
        process.signal(signal.SIGTERM)
        assert await process.ended() in (0, -signal.SIGTERM)
    await aws.let_go()
    assert len(aws.functions.invocations) == 15


@SERVERS
async def test_stop_in_the_middle_of_much(aws: Aws, command: tuple[str, ...]) -> None:
    """Uploads, also of a thread and of a background, a file, a call, a watch."""
    aws.put({"large": bytes(17 * MIB)})
    aws.functions.functions["nightly-report"] = aws.functions.holding()
    held = aws.hold("UploadPart partNumber=2", f"GetObject bytes={8 * MIB}-{16 * MIB - 1}")
    async with serving(aws, command) as (process, client):
        paths = "uploads/1", "threads/2", "backgrounds/3", "files/large", "reports/now", "watches"
        requests = [asyncio.create_task(client.post(f"/{path}")) for path in paths]
        await held(4)
        await aws.functions.until(lambda: bool(aws.functions.invocations))
        process.signal(signal.SIGTERM)
        assert await process.ended() in (0, -signal.SIGTERM)
        await asyncio.gather(*requests, return_exceptions=True)
    assert aws.reports() == {}
    assert not (aws.directory / "incoming" / "large").exists()
    await aws.let_go()
