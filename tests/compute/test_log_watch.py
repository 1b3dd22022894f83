"""Waiting for a line in a log group of CloudWatch."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import aiohaul
from aiohaul import Session
from tests.support.fake_logs import FakeLogs

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
    assert isinstance(event, aiohaul.WatchPolled)
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
