"""Waiting for a line: in a log group of CloudWatch, and in an object that grows."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import aiohaul
from aiohaul import Session
from aiohaul.s3.watching.tail import Tail
from fake_logs import FakeLogs
from gateway import Gateway
from servers import KEY, REGION, SECRET
from store import Store

FAST: dict[str, Any] = {"timeout": 20, "interval": 0.05}


async def waiting(
    logs: FakeLogs, session: Session, looks: int = 2, **options: Any
) -> asyncio.Task[aiohaul.LogLine]:
    wait = asyncio.ensure_future(session.logs().wait_for("/g", "done", **{**FAST, **options}))
    await logs.until(lambda: len(logs.asked) >= looks)
    return wait


@pytest.mark.smoke
async def test_line_that_is_written_later(logs: FakeLogs, logs_session: Session) -> None:
    wait = await waiting(logs, logs_session)
    logs.write("not yet", time.time())
    logs.write("it is done", time.time())
    line = await wait
    assert line.message == "it is done"
    assert abs(line.time - datetime.now(UTC)) < timedelta(seconds=60)


async def test_lines_of_before_count_only_if_asked_for(
    logs: FakeLogs, logs_session: Session
) -> None:
    logs.write("done long ago", time.time() - 600)
    with pytest.raises(aiohaul.WatchTimeoutError, match="log group /g"):
        await logs_session.logs().wait_for("/g", "done", timeout=0)
    since = datetime.now(UTC) - timedelta(hours=1)
    line = await logs_session.logs().wait_for("/g", "done", since=since, timeout=0)
    assert line.message == "done long ago"


async def test_only_events_that_were_added_are_read(logs: FakeLogs, logs_session: Session) -> None:
    now = time.time()
    for n in range(250):
        logs.write(f"line {n}", now - 900 + n)
    since = datetime.fromtimestamp(now - 1000, UTC)
    wait = await waiting(logs, logs_session, looks=3, since=since, lateness=10)
    await logs.until(lambda: len(logs.asked) >= 8)
    looks = len(logs.asked) - 3  # after the first one, which had three pages
    assert logs.given <= 250 + 11 * looks  # the seconds in which late ones may come
    logs.write("done", now)
    assert (await wait).message == "done"


async def test_event_that_comes_late_is_seen(logs: FakeLogs, logs_session: Session) -> None:
    now = time.time()
    logs.write("later", now + 2)
    wait = await waiting(logs, logs_session, since=datetime.fromtimestamp(now - 60, UTC))
    logs.write("done", now - 20)
    assert (await wait).message == "done"


async def test_clock_of_a_writer_that_is_ahead_hides_nothing(
    logs: FakeLogs, logs_session: Session
) -> None:
    logs.write("from tomorrow", time.time() + 86_400)
    wait = await waiting(logs, logs_session)
    logs.write("done", time.time())
    assert (await wait).message == "done"


async def test_log_watch_outlives_throttling(logs: FakeLogs, logs_session: Session) -> None:
    logs.faults = [(400, "ThrottlingException")] * 5
    logs.write("done", time.time() + 1)
    told: list[aiohaul.Event] = []
    await logs_session.logs().wait_for("/g", "done", on_progress=told.append, **FAST)
    (event,) = told
    assert isinstance(event, aiohaul.Watching)
    assert isinstance(event.failure, aiohaul.ThrottledError)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("ResourceNotFoundException", aiohaul.LogGroupNotFoundError),
        ("AccessDeniedException", aiohaul.AccessDeniedError),
    ],
)
async def test_log_watch_that_may_not_look_ends_at_once(
    logs: FakeLogs, logs_session: Session, code: str, error: type[Exception]
) -> None:
    logs.faults = [(400, code)]
    with pytest.raises(error, match="FilterLogEvents"):
        await logs_session.logs().wait_for("/g", "done", timeout=3600)


async def test_log_group_of_another_server(moto_logs: Any, moto_session: Session) -> None:
    await moto_logs.create_log_group(logGroupName="/g")
    for stream in ("one", "two"):
        await moto_logs.create_log_stream(logGroupName="/g", logStreamName=stream)
    wait = asyncio.ensure_future(
        moto_session.logs().wait_for("/g", r"^done \d", stream_prefix="tw", **FAST)
    )
    for stream, text in (("one", "done 1"), ("two", "not done"), ("two", "done 2")):
        await moto_logs.put_log_events(
            logGroupName="/g",
            logStreamName=stream,
            logEvents=[{"timestamp": round(time.time() * 1000) + 1, "message": text}],
        )
    assert (await wait).message == "done 2"


async def test_line_in_an_object_that_grows(proxied: tuple[Gateway, Store]) -> None:
    gateway, s3 = proxied
    bucket = await s3.bucket()
    keys: dict[str, Any] = {"access_key_id": KEY, "secret_access_key": SECRET, "region": REGION}
    looks: asyncio.Queue[int] = asyncio.Queue()

    async def read(count: int) -> None:
        """Wait for a look that has read so often."""
        async with asyncio.timeout(20):
            while await looks.get() < count:
                pass

    async with Session(endpoint_url=s3.url, **keys) as session:
        wait = asyncio.ensure_future(
            session.s3().wait_for_line(
                *(bucket, "app.log", "^done"),
                at_end=True,
                on_progress=lambda _: looks.put_nowait(gateway.count("GET")),
                **FAST,
            )
        )
        await read(0)
        text = b"not done\n" * 100
        await s3.put(bucket, "app.log", text)
        await read(1)
        await s3.put(bucket, "app.log", text + b"do")
        await read(2)
        await s3.put(bucket, "app.log", text + b"done at last\nand more\n")
        assert await wait == "done at last"
        with pytest.raises(aiohaul.WatchTimeoutError, match=r"app\.log"):
            await session.s3().wait_for_line(bucket, "app.log", "^done", at_end=True, timeout=0)
        with pytest.raises(aiohaul.WatchTimeoutError):
            await session.s3().wait_for_line(bucket, "no.log", "^done", timeout=0)


async def test_chunk_of_many_lines_gives_the_loop_its_turns() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    tail = Tail("b", "k", re.compile("nothing"))
    assert await tail._first(b"a line\n" * 20_000) is None
    counting.cancel()
    assert turns >= 10
