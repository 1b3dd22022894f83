"""A server of listings, and a session that looks at it, for the tests of watches."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import aiohaul
from tests.support.compute_fixtures import KEYS, REGION
from tests.support.fake_listings import FakeS3
from tests.support.fake_logs import FakeLogs
from tests.support.fake_sqs import FakeSqs


@pytest.fixture
async def listed() -> AsyncIterator[FakeS3]:
    async with FakeS3() as server:
        server.buckets["b"] = {}
        yield server


@pytest.fixture
async def watching(listed: FakeS3) -> AsyncIterator[aiohaul.Session]:
    async with aiohaul.Session(region=REGION, endpoint_url=listed.url, **KEYS) as session:
        await session.s3().find("b", "none")  # the client is made: what starts now starts together
        listed.lists.clear()
        listed.times.clear()
        listed.came = 0
        yield session


@pytest.fixture
async def sqs() -> AsyncIterator[FakeSqs]:
    async with FakeSqs() as server:
        yield server


@pytest.fixture
async def logs() -> AsyncIterator[FakeLogs]:
    async with FakeLogs() as server:
        yield server


@pytest.fixture
async def logs_session(logs: FakeLogs) -> AsyncIterator[aiohaul.Session]:
    async with aiohaul.Session(region=REGION, endpoint_url=logs.url, **KEYS) as session:
        yield session
