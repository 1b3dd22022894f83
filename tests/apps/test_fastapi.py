"""A FastAPI application with a Session in its lifespan, under uvicorn: the guide's example."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import uvicorn

from tests.support.fake_lambda import FakeLambda, resetting, returning
from tests.support.markdown_files import example


@pytest.fixture
async def functions(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeLambda]:
    async with FakeLambda() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sEcReTkEy")
        yield server


@pytest.fixture
async def url(functions: FakeLambda) -> AsyncIterator[str]:
    guide = example("from fastapi import FastAPI")
    server = uvicorn.Server(uvicorn.Config(guide.app, port=0, log_level="warning"))
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()
    yield f"http://{host}:{port}"
    server.should_exit = True
    await running
    # The lifespan has ended the Session, and with it every connection.
    await functions.until(lambda: not functions.connections)


async def test_requests_share_the_session(functions: FakeLambda, url: str) -> None:
    functions.functions["nightly-report"] = returning(b'{"rows": 7}')
    async with httpx.AsyncClient(base_url=url) as client:
        for _ in range(3):
            answer = await client.post("/reports/2026-01-31")
            assert (answer.status_code, answer.json()) == (200, {"rows": 7})
    assert [each.body for each in functions.invocations] == [b'{"day":"2026-01-31"}'] * 3
    assert functions.accepted == 1


async def test_client_that_goes_away_ends_the_call(functions: FakeLambda, url: str) -> None:
    functions.functions["nightly-report"] = functions.holding()
    async with httpx.AsyncClient(base_url=url) as client:
        request = asyncio.create_task(client.post("/reports/2026-01-31", timeout=60))
        await functions.until(lambda: len(functions.invocations) == 1)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
    await functions.until(lambda: not functions.connections)


async def test_call_of_unknown_outcome_is_told(functions: FakeLambda, url: str) -> None:
    functions.functions["nightly-report"] = resetting
    async with httpx.AsyncClient(base_url=url) as client:
        answer = await client.post("/reports/2026-01-31")
    assert answer.status_code == 502
    assert "may have run" in answer.json()["detail"]
