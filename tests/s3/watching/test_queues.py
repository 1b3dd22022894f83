"""Watches that listen to a queue: hints are followed, messages go once they are handed over."""

from __future__ import annotations

import asyncio
import random
from typing import Any, cast
from urllib.parse import quote

import pytest

import aiohaul
from aiohaul import Session, WatchPolled
from aiohaul.s3.watching.queues import Queue, queue_settings
from aiohaul.settings import Settings
from tests.support.fake_listings import FakeS3
from tests.support.fake_sqs import TEST_EVENT, FakeSqs, direct, through_eventbridge, through_sns

Told = list[tuple[str, str]]


async def take(watch: aiohaul.Watch, count: int) -> Told:
    found: Told = []
    async with asyncio.timeout(20):
        while len(found) < count:
            change = await anext(watch)
            found.append((change.kind, change.object.key))
    return found


async def listening(watch: aiohaul.Watch, sqs: FakeSqs) -> asyncio.Task[Any]:
    """A step of a watch that has looked, found nothing and waits for a message."""
    polls = sqs.calls["ReceiveMessage"]
    step = asyncio.ensure_future(anext(watch))
    await sqs.until(lambda: sqs.open > 0 and sqs.calls["ReceiveMessage"] > polls)
    return step


async def drop(*steps: asyncio.Task[Any]) -> None:
    for step in steps:
        step.cancel()
    await asyncio.wait(steps)


@pytest.mark.smoke
async def test_event_is_a_hint_and_the_object_is_looked_at(
    listed: FakeS3, watching: Session, sqs: FakeSqs
) -> None:
    listed.put("b", "src/old")
    watch = watching.s3().watch("b", "src", queue=sqs.queue)
    assert await take(watch, 1) == [("appeared", "src/old")]
    for number, body in enumerate(
        (
            direct("b", "src/0", "01"),
            through_sns(direct("b", "src/1", "01")),
            through_eventbridge("b", "src/2"),
        )
    ):
        listed.put("b", f"src/{number}")
        await sqs.send(body)
        assert await take(watch, 1) == [("appeared", f"src/{number}")]
    assert len(listed.lists) == 1  # at the start; the next one reconciles in minutes
    assert listed.heads == ["src/0", "src/1", "src/2"]


@pytest.mark.parametrize("directory", ["src", "in here"])
async def test_eventbridge_key_is_found_encoded_or_not(
    listed: FakeS3, watching: Session, sqs: FakeSqs, directory: str
) -> None:
    """AWS sends the key as it is, LocalStack percent-encodes it."""
    watch = watching.s3().watch("b", directory, queue=sqs.queue)
    keys = (f"{directory}/a b+.csv", f"{directory}/100%25.csv")
    for key, sent in zip(keys, (quote(keys[0]), keys[1]), strict=True):
        step = await listening(watch, sqs)
        listed.put("b", key)
        await sqs.send(through_eventbridge("b", sent))
        async with asyncio.timeout(10):
            assert (await step).object.key == key
    assert len(listed.lists) == 1
    step = await listening(watch, sqs)
    assert len(sqs.deleted) == len(keys)
    await drop(step)


async def test_message_is_deleted_only_after_what_it_says_was_handed_over(
    listed: FakeS3, watching: Session, sqs: FakeSqs
) -> None:
    watch = watching.s3().watch("b", "src", queue=sqs.queue)
    step = await listening(watch, sqs)
    listed.put("b", "src/a")
    await sqs.send(direct("b", "src/a", "01"))
    assert (await step).object.key == "src/a"
    # Its handler is at work: it may fail yet.
    assert sqs.deleted == []
    assert sqs.calls["DeleteMessageBatch"] == 0
    step = await listening(watch, sqs)
    assert sqs.deleted == [direct("b", "src/a", "01")]
    await drop(step)


async def test_message_of_a_handler_that_was_cancelled_comes_again(
    listed: FakeS3, watching: Session, sqs: FakeSqs
) -> None:
    cursors: list[Any] = []
    handling = asyncio.Event()

    async def work() -> None:
        async with watching.s3().watch("b", "src", queue=sqs.queue) as watch:
            cursors.append(await watch.cursor())
            async for _ in watch:
                handling.set()
                await asyncio.Event().wait()

    task = asyncio.ensure_future(work())
    await sqs.until(lambda: sqs.open > 0)
    listed.put("b", "src/a")
    await sqs.send(direct("b", "src/a", "01"))
    await handling.wait()
    await drop(task)
    assert sqs.deleted == []
    await sqs.expire()
    again = watching.s3().watch("b", "src", queue=sqs.queue, since=cursors[0])
    assert await take(again, 1) == [("appeared", "src/a")]
    step = asyncio.ensure_future(anext(again))
    await sqs.until(lambda: len(sqs.deleted) == 1)
    await drop(step)


async def test_leaving_the_block_well_deletes_the_last_message(
    listed: FakeS3, watching: Session, sqs: FakeSqs
) -> None:
    async with watching.s3().watch("b", "src", queue=sqs.queue) as watch:
        step = await listening(watch, sqs)
        listed.put("b", "src/a")
        await sqs.send(direct("b", "src/a", "01"))
        await step
    assert len(sqs.deleted) == 1


async def test_duplicates_and_events_out_of_order_tell_nothing_twice(
    listed: FakeS3, watching: Session, sqs: FakeSqs
) -> None:
    watch = watching.s3().watch("b", "src", queue=sqs.queue)
    step = await listening(watch, sqs)
    listed.put("b", "src/a", b"3")
    # All of them are there before the first is received.
    later, earlier = direct("b", "src/a", "03"), direct("b", "src/a", "02")
    await sqs.send(later, earlier, later)
    assert (await step).kind == "appeared"
    assert listed.heads == ["src/a"]
    step = await listening(watch, sqs)
    await sqs.send(later, earlier)
    await sqs.until(lambda: len(sqs.deleted) == 5)
    assert listed.heads == ["src/a"]
    listed.put("b", "src/a", b"4")
    await sqs.send(direct("b", "src/a", "04"))
    assert (await step).kind == "changed"


async def test_duplicate_of_what_waits_to_be_handed_over_stays_as_long(
    listed: FakeS3, watching: Session, sqs: FakeSqs
) -> None:
    watch = watching.s3().watch("b", "src", queue=sqs.queue)
    step = await listening(watch, sqs)
    for name in "ab":
        listed.put("b", f"src/{name}")
    await sqs.send(direct("b", "src/a", "01"), direct("b", "src/b", "01"))
    await step  # its handler is at work, and the other waits
    other_step = await listening(watching.s3().watch("b", "other", queue=sqs.queue), sqs)
    await sqs.expire()
    await sqs.until(lambda: len(sqs.flying) == 2 and sqs.open > 0)
    assert sqs.deleted == []
    assert len(await take(watch, 1)) == 1
    step = asyncio.ensure_future(anext(watch))
    await sqs.until(lambda: len(sqs.deleted) == 2)
    await drop(step, other_step)


async def test_test_event_goes_and_foreign_messages_stay(
    listed: FakeS3, watching: Session, sqs: FakeSqs, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = ["hello", '{"Records": [{"eventSource": "aws:sqs"}]}', direct("c", "src/a", "01")]
    watch = watching.s3().watch("b", "src", queue=sqs.queue)
    step = await listening(watch, sqs)
    await sqs.send(TEST_EVENT, through_sns(TEST_EVENT), *foreign, direct("b", "elsewhere", "01"))
    await sqs.until(lambda: len(sqs.deleted) == 3)
    listed.put("b", "src/a")
    await sqs.send(direct("b", "src/a", "01"))
    assert (await step).object.key == "src/a"
    assert not set(foreign) & set(sqs.deleted)
    assert sorted(set(sqs.flying.values()) & set(foreign)) == sorted(foreign)
    assert caplog.text.count("they stay in the queue") == 1


async def test_object_that_is_gone_when_it_is_looked_at(watching: Session, sqs: FakeSqs) -> None:
    watch = watching.s3().watch("b", "src", queue=sqs.queue)
    step = await listening(watch, sqs)
    await sqs.send(direct("b", "src/a", "01"))
    await sqs.until(lambda: len(sqs.deleted) == 1)
    await drop(step)


async def test_object_that_may_not_be_looked_at_is_listed(
    listed: FakeS3, watching: Session, sqs: FakeSqs
) -> None:
    listed.head_status = 403
    watch = watching.s3().watch("b", "src", queue=sqs.queue)
    step = await listening(watch, sqs)
    listed.put("b", "src/a")
    await sqs.send(direct("b", "src/a", "01"))
    assert (await step).object.key == "src/a"
    assert sqs.deleted == []
    step = await listening(watch, sqs)
    assert len(sqs.deleted) == 1
    await drop(step)


async def test_listing_reconciles_what_no_event_told(
    listed: FakeS3, watching: Session, sqs: FakeSqs
) -> None:
    watch = watching.s3().watch("b", "src", queue=sqs.queue, reconcile=0.1)
    step = await listening(watch, sqs)
    listed.put("b", "src/a")
    assert (await step).object.key == "src/a"


async def test_all_watches_of_a_queue_share_one_long_poll(
    listed: FakeS3, watching: Session, sqs: FakeSqs
) -> None:
    s3 = watching.s3()
    watches = [s3.watch("b", f"{n}", queue=sqs.queue) for n in range(20)]
    steps = [asyncio.ensure_future(anext(each)) for each in watches]
    wait = asyncio.ensure_future(s3.wait_for("b", "w", timeout=60, queue=sqs.queue))
    await listed.until(lambda: len(listed.lists) == 21)
    await sqs.until(lambda: sqs.open > 0)
    for n in range(20):
        listed.put("b", f"{n}/x")
    listed.put("b", "w/x")
    await sqs.send(*(direct("b", f"{n}/x", "01") for n in range(20)), direct("b", "w/x", "01"))
    async with asyncio.timeout(10):
        found = await asyncio.gather(*steps)
        assert [each.key for each in await wait] == ["w/x"]
    assert [each.object.key for each in found] == [f"{n}/x" for n in range(20)]
    assert len(listed.lists) == 22


async def test_when_the_one_who_receives_is_cancelled_the_next_one_does(
    listed: FakeS3, watching: Session, sqs: FakeSqs
) -> None:
    s3 = watching.s3()
    first = await listening(s3.watch("b", "one", queue=sqs.queue), sqs)
    second = asyncio.ensure_future(anext(s3.watch("b", "two", queue=sqs.queue)))
    await listed.until(lambda: len(listed.lists) == 2)
    await drop(first)
    await sqs.until(lambda: sqs.calls["ReceiveMessage"] == 2)
    listed.put("b", "two/x")
    await sqs.send(direct("b", "two/x", "01"))
    assert (await second).object.key == "two/x"


async def test_wait_receives_nothing_until_it_has_listed(
    listed: FakeS3, watching: Session, sqs: FakeSqs
) -> None:
    """A receive that is cancelled takes its messages along, until they are visible again."""
    listed.put("b", "src/a")
    listed.hold = asyncio.Event()
    await sqs.send(direct("b", "src/a", "01"))
    wait = asyncio.ensure_future(watching.s3().wait_for("b", "src", timeout=60, queue=sqs.queue))
    await listed.until(lambda: bool(listed.lists))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await sqs.until(lambda: sqs.calls["ReceiveMessage"] > 0)
    listed.hold.set()
    assert [each.key for each in await wait] == ["src/a"]
    assert sqs.calls["ReceiveMessage"] == 0
    assert len(sqs.waiting) == 1


async def test_wait_ends_with_an_event(listed: FakeS3, watching: Session, sqs: FakeSqs) -> None:
    wait = asyncio.ensure_future(
        watching.s3().wait_for("b", "src", r".*\.txt", timeout=60, queue=sqs.queue)
    )
    await sqs.until(lambda: sqs.open > 0)
    await sqs.send(direct("b", "src/other", "01"))
    await sqs.until(lambda: len(sqs.deleted) == 1)
    listed.put("b", "src/a.txt")
    await sqs.send(direct("b", "src/a.txt", "01"))
    assert [each.key for each in await wait] == ["src/a.txt"]
    assert len(listed.lists) == 2
    assert len(sqs.deleted) == 2


async def test_wait_times_out_beside_a_silent_queue(
    listed: FakeS3, watching: Session, sqs: FakeSqs
) -> None:
    with pytest.raises(aiohaul.WatchTimeoutError):
        await watching.s3().wait_for("b", "src", timeout=0.2, queue=sqs.queue)
    assert len(listed.lists) == 2
    assert not watching._polling._directories


async def test_queue_that_fails_for_a_while_is_replaced_by_listings(
    listed: FakeS3, watching: Session, sqs: FakeSqs
) -> None:
    told: list[aiohaul.Event] = []
    sqs.faults = [(500, "InternalError")] * 10_000
    watch = watching.s3().watch("b", "src", queue=sqs.queue, interval=0.05, on_progress=told.append)
    step = asyncio.ensure_future(anext(watch))
    await listed.until(lambda: len(listed.lists) >= 2)
    listed.put("b", "src/a")
    assert (await step).object.key == "src/a"
    assert any(isinstance(each, WatchPolled) and each.failure for each in told)
    sqs.faults.clear()
    listed.put("b", "src/b")
    await sqs.send(direct("b", "src/b", "01"))
    assert await take(watch, 1) == [("appeared", "src/b")]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("QueueDoesNotExist", aiohaul.QueueNotFoundError),
        ("AccessDeniedException", aiohaul.AccessDeniedError),
    ],
)
async def test_queue_that_cannot_be_read_ends_the_watches_at_once(
    watching: Session, sqs: FakeSqs, code: str, error: type[Exception]
) -> None:
    s3 = watching.s3()
    sqs.faults = [(400, code)] * 2
    with pytest.raises(error, match="ReceiveMessage"):
        await anext(s3.watch("b", "src", queue=sqs.queue))
    with pytest.raises(error):
        await s3.wait_for("b", "src", timeout=3600, queue=sqs.queue)


async def test_queue_that_is_no_url(watching: Session) -> None:
    with pytest.raises(aiohaul.SettingsError, match="not the URL"):
        await watching.s3().wait_for("b", queue="events")


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.us-east-2.amazonaws.com/1/q", "us-east-2"),
        ("https://vpce-1.sqs.cn-north-1.vpce.amazonaws.com.cn/1/q", "cn-north-1"),
        ("http://127.0.0.1:4566/1/q", "eu-west-1"),
    ],
)
def test_queue_is_read_where_its_url_says(url: str, region: str) -> None:
    settings = queue_settings(Settings(region="eu-west-1", endpoint_url="http://s3.invalid"), url)
    assert settings.endpoint_url == url.rpartition("/1/")[0]
    assert settings.region == region


async def test_nothing_is_missed_and_nothing_told_twice(
    listed: FakeS3, watching: Session, sqs: FakeSqs
) -> None:
    """Duplicates, any order, events of other keys, and messages that come again."""
    order = random.Random(7)  # noqa: S311  # no secret
    watch = watching.s3().watch("b", "src", queue=sqs.queue, reconcile=0.3)
    bodies = []
    for n in range(300):
        body = direct("b", f"src/{n}", f"{n:04X}")
        bodies += [body] * order.choice((1, 1, 2, 3))
        bodies.append(direct("b", f"other/{n}", f"{n:04X}"))
    order.shuffle(bodies)

    async def feed() -> None:
        for n in range(300):
            listed.put("b", f"src/{n}")
            part = len(bodies) // 300 + 1
            await sqs.send(*bodies[n * part : (n + 1) * part])
            if n % 20 == 0:
                await asyncio.sleep(0.01)
                await sqs.expire()

    feeding = asyncio.ensure_future(feed())
    found = await take(watch, 300)
    await feeding
    assert sorted(found) == sorted(("appeared", f"src/{n}") for n in range(300))
    step = asyncio.ensure_future(anext(watch))
    async with asyncio.timeout(60):
        while sqs.waiting or sqs.flying:  # the visibility timeout of what a cancelled step received
            await asyncio.sleep(1)  # longer than a busy machine takes to delete what it received
            await sqs.expire()
    assert not step.done()
    await drop(step)


async def test_session_that_has_ended_is_an_error_of_its_own_and_no_group() -> None:
    class Ended:
        async def call(self, *_: Any, **__: Any) -> None:
            raise aiohaul.SessionError("this Session has ended: make a new one")

    queue = Queue(cast("Any", Ended()), "http://127.0.0.1/0/events")
    queue._to_delete += ["receipt"] * 11
    with pytest.raises(aiohaul.SessionError):
        await queue.delete_acked()
    queue._receives = 2
    with pytest.raises(aiohaul.SessionError):
        await queue._receive_many(2)
