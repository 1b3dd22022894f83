"""The guide's Celery application, with workers that are forked, and more tasks for it."""

from __future__ import annotations

import asyncio
import importlib
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded, TaskRevokedError

from aiohaul import ObjectNotFoundError, SessionError, TransferError
from tests.apps.applications import HUNG, MIB, Aws, Process
from tests.support.markdown_files import block


@dataclass
class Worker:
    app: Celery
    process: Process

    def send(self, name: str, *arguments: object) -> Any:
        return self.app.send_task(name, arguments)

    async def result(self, sent: Any) -> Any:
        return await asyncio.to_thread(sent.get, timeout=HUNG, interval=0.05)

    async def call(self, name: str, *arguments: object) -> Any:
        return await self.result(self.send(name, *arguments))


@pytest.fixture
async def worker(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Worker]:
    aws.put({"small": b"x"})
    aws.write("tasks.py", block("from celery import Celery"))
    folder = aws.directory / "celery"
    monkeypatch.syspath_prepend(str(aws.directory))
    monkeypatch.setenv("CELERY_FOLDER", str(folder))
    for name in ("more_tasks", "tasks"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    app = importlib.import_module("more_tasks").app  # as it is configured for this test

    command = (
        *(sys.executable, "-m", "celery", "--app", "more_tasks", "worker", "--pool", "prefork"),
        *("--concurrency", "1", "--loglevel", "INFO", "--without-mingle", "--without-gossip"),
    )
    environment = {"CELERY_FOLDER": str(folder), "IN_A_WORKER": "1"}
    async with aws.running(*command, **environment) as process:
        await process.until("ready\\.")
        yield Worker(app, process)
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
    await aws.let_go()


async def test_tasks_and_their_errors(aws: Aws, worker: Worker) -> None:
    assert await worker.call("tasks.night", "src") == 1
    assert aws.reports() == {"small": b"x"}
    for name in ("in_a_session_of_import", "in_a_session_of_its_own", "head"):
        assert await worker.call(f"more_tasks.{name}", "small") == 1
    with pytest.raises(SessionError, match="entered before"):
        await worker.call("more_tasks.in_a_session_of_import", "small")

    with pytest.raises(ObjectNotFoundError) as missing:
        await worker.call("more_tasks.head", "none")
    error = missing.value
    assert (error.operation, error.target, error.status) == (
        "HeadObject",
        "s3://inbox/src/none",
        404,
    )
    with pytest.raises(TransferError) as failed:
        await worker.call("more_tasks.upload", "there-is-none")
    (destination,) = failed.value.report.destinations
    assert [each.kind for each in destination.failures] == ["BucketNotFoundError"]

    # The child is still the one that was forked, and works.
    assert await worker.call("more_tasks.upload", "reports") == 17 * MIB


async def test_task_that_is_revoked_in_the_middle(aws: Aws, worker: Worker) -> None:
    """By the signal of Celery's soft time limits; after SIGTERM, billiard 4.3 may hang."""
    held = aws.hold("UploadPart partNumber=2")
    task = worker.send("more_tasks.upload", "reports")
    await held(1)
    await asyncio.to_thread(worker.app.control.revoke, task.id, terminate=True, signal="SIGUSR1")
    # Whichever of the two Celery notes first.
    with pytest.raises((TaskRevokedError, SoftTimeLimitExceeded)):
        await worker.result(task)
    assert await worker.call("more_tasks.head", "small") == 1
    assert aws.s3.uploads == {}


async def test_worker_that_is_told_to_stop_finishes_its_task(aws: Aws, worker: Worker) -> None:
    held = aws.hold("UploadPart partNumber=2")
    task = worker.send("more_tasks.upload", "reports")
    await held(1)
    worker.process.signal(signal.SIGTERM)
    await worker.process.until("Warm shutdown")
    aws.let_pass()
    assert await worker.result(task) == 17 * MIB
