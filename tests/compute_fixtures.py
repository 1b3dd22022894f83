"""Servers and sessions for the tests of compute, parameters and secrets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.error import URLError

import pytest
from aiobotocore.session import AioSession

import aiohaul
from fake_ecs import FakeEcs
from fake_lambda import FakeLambda

KEYS: dict[str, Any] = {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "sEcReTkEy"}
REGION = "eu-west-1"


@pytest.fixture(autouse=True)
def _no_aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


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


@pytest.fixture(scope="session")
def moto_process() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{url}/moto-api/", timeout=1).close()
                break
            except (URLError, OSError):
                time.sleep(0.1)
        else:
            pytest.fail("moto does not answer")
        yield url
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def moto(moto_process: str) -> str:
    """A moto server that knows nothing yet."""
    reset = urllib.request.Request(f"{moto_process}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset, timeout=10).close()
    return moto_process


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
