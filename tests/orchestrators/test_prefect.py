"""A Prefect flow that awaits the library, in Prefect itself: the guide's example."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from prefect import flow
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

import aiohaul
from tests.support.fake_ecs import FakeEcs
from tests.support.markdown_files import example
from tests.support.store import Store, store

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="session", autouse=True)
def prefect_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        patch.setenv("DO_NOT_TRACK", "1")
        with prefect_test_harness(server_startup_timeout=120):
            yield


@pytest.fixture
async def s3(moto_url: str) -> AsyncIterator[Store]:
    async with store(moto_url, "moto") as made:
        yield made


async def definition(s3: Store) -> tuple[dict[str, Any], str]:
    inbox, outbox = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {"src/a.txt": b"one", "src/b.txt": b"two"})
    task = {
        "type": "transfer",
        "source": {
            "bucket": inbox,
            "directory": "src",
            "fileRegex": r".*\.txt",
            "protocol": s3.protocol(),
        },
        "destination": [{"bucket": outbox, "directory": "in", "protocol": s3.protocol()}],
    }
    return task, outbox


@pytest.mark.smoke
async def test_flow_hauls(s3: Store) -> None:
    guide = example("from prefect import flow")
    task, outbox = await definition(s3)
    assert await guide.night([task, task]) == [2, 2]
    assert await s3.keys(outbox) == ["in/a.txt", "in/b.txt"]


async def test_failed_transfer_fails_the_flow(s3: Store) -> None:
    guide = example("from prefect import flow")
    task, _ = await definition(s3)
    task["source"]["fileRegex"] = "nothing"
    state = await guide.night([task], return_state=True)
    assert state.is_failed()
    with pytest.raises(ExceptionGroup) as failed:
        await state.result()
    assert failed.group_contains(aiohaul.NothingFoundError)


@pytest.mark.smoke
async def test_cancelled_flow_stops_its_fargate_task() -> None:
    async with FakeEcs() as ecs:

        @flow
        async def load() -> None:
            keys: dict[str, Any] = {
                "access_key_id": "AKIDEXAMPLE",
                "secret_access_key": "sEcReTkEy",
            }
            async with aiohaul.Session(region="eu-west-1", endpoint_url=ecs.url, **keys) as session:
                await session.fargate().run("batch", "work")

        run = asyncio.create_task(load())
        await ecs.until(lambda: ecs.calls["DescribeTasks"] > 0)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert ecs.stopped == list(ecs.tasks)


async def test_flow_that_is_told_to_end_stops_its_fargate_task() -> None:
    """As Prefect's runner ends a flow that was cancelled: with SIGTERM to its process."""
    script = (
        "import asyncio, os, aiohaul\n"
        "from prefect import flow\n"
        "@flow\n"
        "async def load():\n"
        "    async with aiohaul.Session(region='eu-west-1') as session:\n"
        "        await session.fargate().run('batch', 'work')\n"
        "asyncio.run(load())\n"
    )
    async with FakeEcs() as ecs:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            script,
            env=os.environ
            | {
                "AWS_ENDPOINT_URL": ecs.url,
                "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
                "AWS_SECRET_ACCESS_KEY": "sEcReTkEy",
                "PREFECT_API_URL": PREFECT_API_URL.value(),
            },
        )
        await ecs.until(lambda: ecs.calls["DescribeTasks"] > 0)
        process.terminate()
        await process.wait()
        assert ecs.stopped == list(ecs.tasks)
