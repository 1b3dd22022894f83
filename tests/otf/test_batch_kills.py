"""What OTF's own batch ends at a timeout: a Fargate task, and a watch.

A Lambda call is in test_handlers_and_lookups.py. A transfer that copies is not ended by OTF.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread
from opentaskpy.config.loader import ConfigLoader
from opentaskpy.taskhandlers.batch import Batch

from tests.support.compute_fixtures import KEYS, REGION
from tests.support.definitions import FARGATE
from tests.support.fake_ecs import FakeEcs
from tests.support.store import Store

pytestmark = pytest.mark.usefixtures("otf", "quick_batches")


async def carried_out(folder: Path, task: dict[str, Any], timeout: float) -> bool:
    """Run a batch of one task as OTF does it."""
    (folder / "work.json").write_text(json.dumps(task))
    (folder / "variables.json").write_text("{}")
    batch = {"type": "batch", "tasks": [{"order_id": 1, "task_id": "work", "timeout": timeout}]}
    loader = await to_thread.run_sync(ConfigLoader, str(folder))
    done: bool = await to_thread.run_sync(Batch(None, "a-batch", batch, loader).run)
    return done


async def test_a_batch_stops_a_fargate_task_and_logs_its_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohaul.compute.fargate._CANCELLED_LOG_TIMEOUT", 30)
    monkeypatch.setattr("aiohaul.blocking.GRACE", 30)
    async with FakeEcs(log=["it began"]) as server:
        protocol = {**FARGATE["protocol"], **KEYS, "region_name": REGION}
        task = {
            **FARGATE,
            "cloudwatchLogGroupName": "/ecs/work",
            "protocol": {**protocol, "endpoint_url": server.url},
        }
        assert await carried_out(tmp_path, task, 4) is False
        assert len(server.tasks) == 1
        assert server.stopped == list(server.tasks)
    own = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert "it began" in own


async def test_a_batch_ends_a_watch(tmp_path: Path, moto_s3: Store) -> None:
    bucket = await moto_s3.bucket()
    task = {
        "type": "transfer",
        "source": {
            "bucket": bucket,
            "directory": "src",
            "fileRegex": ".*",
            "fileWatch": {"timeout": 3600, "sleepTime": 1},
            "protocol": moto_s3.protocol(),
        },
    }
    assert await carried_out(tmp_path, task, 2) is False
