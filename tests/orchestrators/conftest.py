"""Real orchestrators, each in an environment of its own: `nox -s airflow integrations`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.orchestrators.real_airflow import Airflow, airflow, ready
from tests.support import servers
from tests.support.fake_ecs import FakeEcs
from tests.support.fake_lambda import FakeLambda


@pytest.fixture(autouse=True, scope="session")
def no_aws_around() -> Iterator[None]:
    """No variable, file or metadata service of the machine reaches a test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_CONFIG_FILE", "/nowhere/config")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere/credentials")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    with airflow(tmp_path_factory.mktemp("airflow")) as made:
        yield made


@pytest.fixture
async def real(running: Airflow) -> AsyncIterator[Airflow]:
    """A whole Airflow that knows the DAGs."""
    async for _ in ready(running):
        yield running


@pytest.fixture
async def ecs() -> AsyncIterator[FakeEcs]:
    async with FakeEcs() as server:
        yield server


@pytest.fixture
async def functions() -> AsyncIterator[FakeLambda]:
    async with FakeLambda() as server:
        yield server


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    with servers.moto() as url:
        yield url
