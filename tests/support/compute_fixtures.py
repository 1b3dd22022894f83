"""Servers and sessions for the tests of compute, parameters and secrets."""

from __future__ import annotations

import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiobotocore.session import AioSession

import aiohaul
from tests.support.fake_ecs import FakeEcs
from tests.support.fake_lambda import FakeLambda

KEYS: dict[str, Any] = {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "sEcReTkEy"}
REGION = "eu-west-1"


@pytest.fixture
async def functions() -> AsyncIterator[FakeLambda]:
    async with FakeLambda() as server:
        yield server


@pytest.fixture
async def lambda_session(functions: FakeLambda) -> AsyncIterator[aiohaul.Session]:
    async with aiohaul.Session(region=REGION, endpoint_url=functions.url, **KEYS) as session:
        yield session


@pytest.fixture
async def ecs() -> AsyncIterator[FakeEcs]:
    async with FakeEcs() as server:
        yield server


@pytest.fixture
async def ecs_session(ecs: FakeEcs) -> AsyncIterator[aiohaul.Session]:
    async with aiohaul.Session(region=REGION, endpoint_url=ecs.url, **KEYS) as session:
        yield session


@pytest.fixture
def moto(moto_url: str) -> str:
    """The moto server, knowing nothing yet."""
    reset = urllib.request.Request(f"{moto_url}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset, timeout=10).close()
    return moto_url


@pytest.fixture
async def moto_session(moto: str) -> AsyncIterator[aiohaul.Session]:
    async with aiohaul.Session(region=REGION, endpoint_url=moto, **KEYS) as session:
        yield session


def _client(service: str, url: str) -> Any:
    return AioSession().create_client(
        service,
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id=KEYS["access_key_id"],
        aws_secret_access_key=KEYS["secret_access_key"],
    )


@pytest.fixture
async def moto_ecs(moto: str) -> AsyncIterator[Any]:
    """A plain client of ECS, with a cluster and a task definition."""
    async with _client("ecs", moto) as client:
        await client.create_cluster(clusterName="batch")
        await client.register_task_definition(
            family="work",
            containerDefinitions=[{"name": "main", "image": "work", "cpu": 1, "memory": 1}],
        )
        yield client


@pytest.fixture
async def moto_secrets(moto: str) -> AsyncIterator[Any]:
    """A plain client of Secrets Manager."""
    async with _client("secretsmanager", moto) as client:
        yield client


@pytest.fixture
async def moto_logs(moto: str) -> AsyncIterator[Any]:
    """A plain client of CloudWatch Logs."""
    async with _client("logs", moto) as client:
        yield client
