"""File watches in a batch: the wait takes no slot of max_concurrency, the copy does."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import anyio
import pytest

import aiohaul
from aiohaul.cli.timeline import timeline
from tests.support.batches import Functions, Heard, batch, calls, done, failed, states, step
from tests.support.definitions import source, to, transfer
from tests.support.fake_lambda import FakeLambda
from tests.support.servers import KEY, REGION, SECRET
from tests.support.store import Store


def watching(s3: Store, bucket: str, name: str, *destinations: Any, **more: Any) -> dict[str, Any]:
    watch = {"timeout": 60, "sleepTime": 0.2, "directory": "ready", "fileRegex": name, **more}
    made = transfer(source(s3, bucket, fileWatch=watch), *destinations)
    if not destinations:
        del made["destination"]
    return made


def touching(s3: Store, bucket: str, key: str) -> dict[str, Any]:
    return {
        "type": "execution",
        "bucket": bucket,
        "key": key,
        "protocol": s3.protocol(),
    }


@pytest.fixture
def lambdas(functions: FakeLambda) -> Functions:
    return Functions(functions)


@pytest.fixture
async def session(s3: Store) -> Any:
    settings: dict[str, Any] = {"access_key_id": KEY, "secret_access_key": SECRET}
    async with aiohaul.Session(region=REGION, endpoint_url=s3.url, **settings) as made:
        yield made


async def test_a_watch_for_the_file_of_a_later_task_does_not_block_it(
    s3: Store, session: aiohaul.Session
) -> None:
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a.txt", b"1")
    tasks = {
        "only": watching(s3, inbox, "go", watchOnly=True),
        "check": watching(s3, inbox, "go"),
        "copy": watching(s3, inbox, "go", to(s3, out, directory="in")),
        "touch": touching(s3, inbox, "ready/go"),
        "inner": batch(step(1, "only"), step(2, "copy", 1)),
    }
    definition = batch(
        *[step(n, name) for n, name in enumerate(("only", "check", "inner", "copy", "touch"), 1)]
    )
    with anyio.fail_after(30):
        report = await done(definition, tasks=tasks, session=session, max_concurrency=1)
    assert set(states(report).values()) == {"succeeded"}
    assert await s3.keys(out) == ["in/a.txt"]
    assert report.tasks[0].queued == report.tasks[1].queued == 0.0


async def test_more_watches_than_slots_for_files_of_a_later_task(
    rclone_s3: Store, tmp_path: Path
) -> None:
    s3 = rclone_s3
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.put(inbox, "src/a.txt", b"1")
    tasks = {
        f"watch-{n}": watching(s3, inbox, f"go-{n % 3}$", to(s3, out, directory=f"in{n}"))
        for n in range(300)
    }
    tasks |= {f"touch-{n}": touching(s3, inbox, f"ready/go-{n}") for n in range(3)}
    heard = Heard()
    with anyio.fail_after(120):
        report = await done(
            batch(*[step(n, name) for n, name in enumerate(tasks)]),
            tasks=tasks,
            on_progress=heard,
            journal=tmp_path / "journal",
        )
    assert len(await s3.keys(out)) == 300
    assert all(each.queued_since is None or each.queued >= 0 for each in report.tasks)
    starts = [each.task_id for each in heard if isinstance(each, aiohaul.TaskStarted)]
    assert len(starts) == len(set(starts)) == 303


class Queueing:
    """A watch whose file is there, and a function that holds the only slot."""

    def __init__(self, s3: Store, lambdas: Functions, session: aiohaul.Session) -> None:
        self.s3 = s3
        self.lambdas = lambdas
        self.session = session
        self.heard = Heard()

    async def start(self, timeout: float, inner: bool = False) -> asyncio.Task[Any]:
        inbox, self.out = await self.s3.bucket(), await self.s3.bucket()
        await self.s3.fill(inbox, {"src/a.txt": b"1", "ready/go": b""})
        self.lambdas.held("hold")
        copy = watching(self.s3, inbox, "go", to(self.s3, self.out, directory="in"))
        tasks = {**calls("hold"), "copy": copy, "inner": batch(step(1, "copy", timeout=timeout))}
        first = step(1, "inner") if inner else step(1, "copy", timeout=timeout)
        run = asyncio.create_task(
            aiohaul.run(
                batch(first, step(2, "hold")),
                tasks=tasks,
                session=self.session,
                on_progress=self.heard,
                max_concurrency=1,
            )
        )
        await self.heard.until_queued((1, 1) if inner else (1,))
        return run


@pytest.fixture
def queueing(moto_s3: Store, lambdas: Functions, lambda_session: aiohaul.Session) -> Queueing:
    return Queueing(moto_s3, lambdas, lambda_session)


async def test_found_file_is_copied_once_there_is_a_slot(queueing: Queueing) -> None:
    run = await queueing.start(timeout=1.0)
    await asyncio.sleep(1.5)  # longer than the task may take: its timeout stands still
    assert await queueing.s3.keys(queueing.out) == []
    queueing.lambdas.end("hold")
    report = await run
    assert states(report) == {1: "succeeded", 2: "succeeded"}
    assert await queueing.s3.keys(queueing.out) == ["in/a.txt"]
    task = report.tasks[0]
    assert task.queued >= 1.4
    assert task.queued_since >= task.started
    assert task.seconds >= task.queued
    kinds = [type(each).__name__ for each in queueing.heard if getattr(each, "order", 0) == (1,)]
    kinds = [each for each in kinds if each != "TaskProgress"]
    assert kinds == ["TaskStarted", "TaskQueued", "TaskResumed", "TaskEnded"]
    assert report.as_dict()["tasks"][0]["queued_since"] == task.queued_since.isoformat()
    assert ">queued<" in timeline(report)


async def test_timeout_goes_on_after_the_queue(queueing: Queueing) -> None:
    """What was left of it before is left afterwards, and no more."""
    run = await queueing.start(timeout=2.0)
    await asyncio.sleep(2.5)

    async def never(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aiohaul.S3Handler, "find", never)
        queueing.lambdas.end("hold")
        with anyio.fail_after(5), contextlib.suppress(aiohaul.BatchError):
            await run
    task = queueing.heard.report.tasks[0]
    assert task.state == "timed out"
    assert 2.4 <= task.queued <= task.seconds - 1.5


@pytest.mark.parametrize("inner", [False, True])
async def test_cancelled_while_it_is_queued(queueing: Queueing, inner: bool) -> None:
    run = await queueing.start(timeout=300, inner=inner)
    await asyncio.sleep(0.3)
    run.cancel()
    with pytest.raises(asyncio.CancelledError), anyio.fail_after(1):
        await run
    task = queueing.heard.report.tasks[0]
    assert task.state == "cancelled"
    if inner:
        assert isinstance(task.report, aiohaul.BatchReport)
        (task,) = task.report.tasks
        assert task.state == "cancelled"
    assert task.queued >= 0.25
    assert await queueing.s3.keys(queueing.out) == []


async def test_slot_of_a_queued_task_that_is_cancelled_with_its_batch_is_free(
    queueing: Queueing,
) -> None:
    """The inner batch times out while its task is queued: no slot is lost."""
    s3 = queueing.s3
    inbox = await s3.bucket()
    await s3.fill(inbox, {"src/a.txt": b"1", "ready/go": b""})
    queueing.lambdas.held("hold")
    tasks = {
        "hold": calls("hold")["hold"],
        "copy": watching(s3, inbox, "go", to(s3, await s3.bucket())),
        "inner": batch(step(1, "copy")),
        "touch": touching(s3, inbox, "done"),
    }
    run = asyncio.create_task(
        failed(
            batch(step(1, "inner", timeout=1.5), step(2, "hold"), step(3, "touch", 2)),
            tasks=tasks,
            session=queueing.session,
            on_progress=queueing.heard,
            max_concurrency=1,
        )
    )
    await queueing.heard.until_ended([(1,)])
    queueing.lambdas.end("hold")
    assert states(await run) == {1: "timed out", 2: "succeeded", 3: "succeeded"}


async def test_action_of_an_earlier_run_takes_a_slot(
    s3: Store, session: aiohaul.Session, tmp_path: Path
) -> None:
    """What an interrupted run left to do is done before the watch, and the journal is closed."""
    inbox, out = await s3.bucket(), await s3.bucket()
    await s3.fill(inbox, {"src/a.txt": b"1", "ready/go": b""})
    made = watching(s3, inbox, "go", to(s3, out, directory="in"))
    made["source"]["postCopyAction"] = {"action": "delete"}
    journal = tmp_path / "journal"
    definition = batch(step(1, "copy"))

    def stop(event: aiohaul.Event) -> None:
        if isinstance(event, aiohaul.TaskProgress) and isinstance(event.event, aiohaul.Copied):
            raise KeyError

    with pytest.raises(KeyError):
        await aiohaul.run(
            definition, tasks={"copy": made}, session=session, on_progress=stop, journal=journal
        )
    report = await done(definition, tasks={"copy": made}, session=session, journal=journal)
    within = report.tasks[0].report
    assert isinstance(within, aiohaul.TransferReport)
    assert within.destinations[0].already_there + within.destinations[0].objects >= 1
    assert await s3.keys(inbox) == ["ready/go"]
    assert not list(tmp_path.glob("*.lock"))
