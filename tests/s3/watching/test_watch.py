"""Watching without an end: what counts as new, what a cursor remembers, what is never missed."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aiohaul
from aiohaul import S3Object, Session, WatchPolled
from aiohaul.s3.listing import Page
from aiohaul.s3.listings.pages import ObjectBlock
from aiohaul.s3.watching import changes, polling
from aiohaul.s3.watching.changes import SeenVersions, pack, restore
from tests.support.fake_listings import FakeS3

FAST: dict[str, Any] = {"interval": 0.05}
Told = list[tuple[str, str]]


async def take(watch: aiohaul.Watch, count: int) -> Told:
    """The next changes, which have to come."""
    found: Told = []
    async with asyncio.timeout(10):
        while len(found) < count:
            change = await anext(watch)
            found.append((change.kind, change.object.key))
    return found


async def nothing_more(watch: aiohaul.Watch, listed: FakeS3) -> None:
    """Two whole looks show nothing new."""
    looks = len(listed.lists)
    step = asyncio.ensure_future(anext(watch))
    done = asyncio.ensure_future(listed.until(lambda: len(listed.lists) >= looks + 3))
    await asyncio.wait({step, done}, return_when=asyncio.FIRST_COMPLETED)
    assert not step.done(), step.result()
    step.cancel()
    await asyncio.wait({step, done})


@pytest.mark.smoke
async def test_what_appears_and_changes(listed: FakeS3, watching: Session) -> None:
    listed.put("b", "src/a.txt", b"1")
    listed.put("b", "src/a.csv", b"1")
    watch = watching.s3().watch("b", "src", r".*\.txt", **FAST)
    assert await take(watch, 1) == [("appeared", "src/a.txt")]
    listed.put("b", "src/b.txt", b"1")
    assert await take(watch, 1) == [("appeared", "src/b.txt")]
    listed.put("b", "src/a.txt", b"2")
    assert await take(watch, 1) == [("changed", "src/a.txt")]
    await nothing_more(watch, listed)


async def test_same_content_written_again_is_a_change(listed: FakeS3, watching: Session) -> None:
    listed.put("b", "src/go", age=60)
    watch = watching.s3().watch("b", "src", **FAST)
    assert await take(watch, 1) == [("appeared", "src/go")]
    listed.put("b", "src/go")
    assert await take(watch, 1) == [("changed", "src/go")]


async def test_object_that_comes_back_has_appeared(listed: FakeS3, watching: Session) -> None:
    stored = listed.put("b", "src/go")
    watch = watching.s3().watch("b", "src", **FAST)
    assert await take(watch, 1) == [("appeared", "src/go")]
    del listed.buckets["b"]["src/go"]
    await nothing_more(watch, listed)
    listed.buckets["b"]["src/go"] = stored
    assert await take(watch, 1) == [("appeared", "src/go")]


async def test_what_is_there_already_can_be_left_out(listed: FakeS3, watching: Session) -> None:
    listed.put("b", "src/old")
    watch = watching.s3().watch("b", "src", existing=False, **FAST)
    await nothing_more(watch, listed)
    listed.put("b", "src/new")
    assert await take(watch, 1) == [("appeared", "src/new")]


async def test_first_look_that_fails_half_way_reports_nothing_old_later(
    listed: FakeS3, watching: Session
) -> None:
    listed.page = 2
    for n in range(4):
        listed.put("b", f"src/{n}")
    listed.faults = [(500, "InternalError")] * 5
    looked = asyncio.Event()

    def tell(event: aiohaul.Event) -> None:
        if isinstance(event, WatchPolled) and event.failure is None:
            looked.set()

    watch = watching.s3().watch("b", "src", existing=False, on_progress=tell, **FAST)
    step = asyncio.ensure_future(anext(watch))
    await looked.wait()
    listed.put("b", "src/new")
    assert (await step).object.key == "src/new"


async def test_watches_that_share_a_listing_draw_one_moment_for_the_next_look(
    listed: FakeS3, watching: Session
) -> None:
    told = 0
    all_told = asyncio.Event()

    def tell(_: aiohaul.Event) -> None:
        nonlocal told
        told += 1
        if told == 10:
            all_told.set()

    s3 = watching.s3()
    watches = [s3.watch("b", "src", str(n), interval=3600, on_progress=tell) for n in range(10)]
    steps = [asyncio.ensure_future(anext(watch)) for watch in watches]
    async with asyncio.timeout(10):
        await all_told.wait()
    moments = {watch.due for watch in watches}
    for step in steps:
        step.cancel()
    await asyncio.wait(steps)
    assert len(listed.lists) == 1
    assert len(moments) == 1


async def test_step_that_is_cancelled_loses_nothing(listed: FakeS3, watching: Session) -> None:
    watch = watching.s3().watch("b", "src", **FAST)
    for n in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.12):
                await anext(watch)
        listed.put("b", f"src/{n}")
        assert await take(watch, 1) == [("appeared", f"src/{n}")]
    assert not watching._polling._directories


async def test_cancelled_handler_of_a_found_object_sees_it_again_from_its_last_cursor(
    listed: FakeS3, watching: Session
) -> None:
    for name in "abc":
        listed.put("b", f"src/{name}")
    handled: list[str] = []
    stored: list[Mapping[str, object]] = []
    handling, done = asyncio.Event(), asyncio.Event()

    async def work(since: dict[str, Any] | None) -> None:
        watch = watching.s3().watch("b", "src", since=since, **FAST)
        async for change in watch:
            if change.object.name == "b" and not handling.is_set():
                handling.set()
                await asyncio.Event().wait()
            handled.append(change.object.name)
            stored.append(await watch.cursor())
            if len(handled) == len("abc"):
                done.set()

    first = asyncio.ensure_future(work(None))
    await handling.wait()
    first.cancel()
    await asyncio.wait({first})
    assert handled == ["a"]
    second = asyncio.ensure_future(work(json.loads(json.dumps(stored[-1]))))
    async with asyncio.timeout(10):
        await done.wait()
    assert handled == ["a", "b", "c"]
    second.cancel()
    await asyncio.wait({second})


async def test_cursor_brings_back_what_happened_meanwhile(
    listed: FakeS3, watching: Session
) -> None:
    for n in range(5):
        listed.put("b", f"src/{n}", b"1")
    watch = watching.s3().watch("b", "src", **FAST)
    await take(watch, 3)
    cursor = json.loads(json.dumps(await watch.cursor()))
    await watch.aclose()
    listed.put("b", "src/0", b"2")
    listed.put("b", "src/old", b"1", age=86400)  # a replica, or a long upload
    del listed.buckets["b"]["src/1"]
    again = watching.s3().watch("b", "src", since=cursor, **FAST)
    assert await take(again, 4) == [
        ("changed", "src/0"),
        ("appeared", "src/3"),
        ("appeared", "src/4"),
        ("appeared", "src/old"),
    ]
    await nothing_more(again, listed)


async def test_cursor_leaves_out_a_change_that_was_not_handed_over(
    listed: FakeS3, watching: Session
) -> None:
    for n in range(2):
        listed.put("b", f"src/{n}", b"1")
    watch = watching.s3().watch("b", "src", **FAST)
    await take(watch, 2)
    for n in range(2):
        listed.put("b", f"src/{n}", b"2")
    assert await take(watch, 1) == [("changed", "src/0")]
    again = watching.s3().watch("b", "src", since=await watch.cursor(), **FAST)
    assert await take(again, 1) == [("changed", "src/1")]
    await nothing_more(again, listed)


async def test_cursor_with_a_horizon_holds_young_objects_only(
    listed: FakeS3, watching: Session
) -> None:
    for n in range(100):
        listed.put("b", f"src/{n}", age=7200)
    listed.put("b", "src/young")
    watch = watching.s3().watch("b", "src", horizon=3600, **FAST)
    await take(watch, 101)
    await nothing_more(watch, listed)
    cursor = await watch.cursor()
    assert len(cursor["seen"]) < 30
    again = watching.s3().watch("b", "src", since=cursor, horizon=3600, **FAST)
    await nothing_more(again, listed)
    listed.put("b", "src/new")
    assert await take(again, 1) == [("appeared", "src/new")]


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"bucket": "c"}, {"directory": "x"}, {"seen": "?"}, {"seen": "AAAA"}],
)
async def test_cursor_that_cannot_be_used_is_refused(
    watching: Session, change: dict[str, Any]
) -> None:
    cursor = {**(await watching.s3().watch("b", "src").cursor()), **change}
    with pytest.raises(aiohaul.CursorError):
        watching.s3().watch("b", "src", since=cursor)


async def test_look_that_shows_too_much_goes_on_later(
    listed: FakeS3, watching: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohaul.s3.watching.watch._MAX_PENDING", 10)
    listed.page = 7
    for n in range(40):
        listed.put("b", f"src/{n:02}")
    watch = watching.s3().watch("b", "src", interval=3600)
    assert await take(watch, 40) == [("appeared", f"src/{n:02}") for n in range(40)]


async def test_failures_are_told_and_outlived_or_raised(listed: FakeS3, watching: Session) -> None:
    told: list[aiohaul.Event] = []
    listed.faults = [(500, "InternalError")] * 5
    watch = watching.s3().watch("b", "src", on_progress=told.append, **FAST)
    listed.put("b", "src/a")
    assert await take(watch, 1) == [("appeared", "src/a")]
    (event,) = told
    assert isinstance(event, WatchPolled)
    assert isinstance(event.failure, aiohaul.ServiceError)
    listed.faults = [(403, "AccessDenied")]
    with pytest.raises(aiohaul.AccessDeniedError):
        await anext(watch)
    listed.put("b", "src/b")
    assert await take(watch, 1) == [("appeared", "src/b")]


async def test_closing_ends_the_iteration_of_whoever_waits(
    listed: FakeS3, watching: Session
) -> None:
    async with watching.s3().watch("b", "src", **FAST) as watch:
        step = asyncio.ensure_future(anext(watch))
        await listed.until(lambda: len(listed.lists) >= 2)
        with pytest.raises(RuntimeError, match="already waits for the next change"):
            await anext(watch)
    with pytest.raises(StopAsyncIteration):
        await step
    assert [change async for change in watch] == []
    assert not watching._polling._directories


async def test_waits_and_watches_share_their_listings(listed: FakeS3, watching: Session) -> None:
    s3 = watching.s3()
    steps = [asyncio.ensure_future(anext(s3.watch("b", "src", "x", **FAST))) for _ in range(20)]
    wait = asyncio.ensure_future(s3.wait_for("b", "src", "x", timeout=60, interval=0.05))
    await listed.until(lambda: len(listed.lists) >= 4)
    listed.put("b", "src/x")
    for each in [*steps, wait]:
        await each
    assert len(listed.lists) < 20


async def test_watch_that_is_dropped_leaves_nothing(listed: FakeS3, watching: Session) -> None:
    listed.put("b", "src/a")
    async for _ in watching.s3().watch("b", "src", **FAST):
        break
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, aiohaul.Watch)]


def listing(*objects: S3Object, seen: SeenVersions, cutoff: float = 0.0) -> list[tuple[str, str]]:
    seen.start()
    noted = [(each.key, seen.record(each, cutoff)) for each in objects]
    seen.end(cutoff)
    return [(key, told[0]) for key, told in noted if told is not None]


START = datetime(2026, 1, 2, tzinfo=UTC)
OBJECTS = st.dictionaries(
    st.text(max_size=3),
    st.builds(
        lambda etag, seconds: (etag, START + timedelta(seconds=seconds)),
        st.sampled_from("ab"),
        st.integers(0, 3),
    ),
    max_size=6,
)


@given(st.lists(OBJECTS, max_size=5), st.integers(0, 4))
def test_every_version_is_told_once_and_a_cursor_changes_nothing(
    looks: list[dict[str, tuple[str, datetime]]], restart: int
) -> None:
    seen, known = SeenVersions(), dict[str, tuple[str, datetime]]()
    for number, look in enumerate(looks):
        told = listing(
            *(S3Object("b", key, 1, etag, at) for key, (etag, at) in look.items()), seen=seen
        )
        expected = [
            (key, "changed" if key in known else "appeared")
            for key, version in look.items()
            if known.get(key) != version
        ]
        assert told == expected
        known = dict(look)
        if number == restart:
            stored = changes.cursor("b", "src", seen.cutoff, pack(seen))
            seen = restore(json.loads(json.dumps(stored)), "b", "src")


def test_objects_of_one_second_are_told_apart() -> None:
    """Equal timestamps: nothing hides behind one that was seen."""
    seen = SeenVersions()
    one, other = (S3Object("b", key, 1, "e", START) for key in ("1", "2"))
    assert listing(one, seen=seen) == [("1", "appeared")]
    assert listing(one, other, seen=seen) == [("2", "appeared")]


class Counting(polling.Subscriber):
    """Counts the versions that are new to it."""

    def __init__(self, seeing: Callable[[], None] = lambda: None) -> None:
        super().__init__("b", "d", re.compile(""), 0.05)
        self.versions = changes.SeenVersions()
        self.new = 0
        self.looks = 0
        self._seeing = seeing

    def on_start(self) -> None:
        self.versions.start()

    def on_objects(self, objects: Sequence[aiohaul.S3Object]) -> None:
        self._seeing()
        self.new += sum(self.versions.record(each) is not None for each in objects)

    def on_end(self) -> None:
        self.looks += 1
        self.versions.end(-math.inf)

    def on_error(self, error: aiohaul.HaulError) -> None:
        raise AssertionError(error)


async def test_who_leaves_during_a_look_and_comes_back_is_told_nothing_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = datetime.now(UTC)
    objects = [aiohaul.S3Object("b", f"d/{n:04}", 1, "e", now) for n in range(600)]

    async def pages(*_: Any, **__: Any) -> AsyncIterator[Page]:
        yield Page(ObjectBlock.of("b", objects), more=False)

    def leave() -> None:
        if all(each.looks for each in viewers) and not left:
            left.append(asyncio.create_task(come_back()))

    async def come_back() -> None:
        following[-1].cancel()
        await asyncio.wait([following[-1]])
        for _ in range(25):  # turns of the loop, in which the look goes on
            await asyncio.sleep(0)
        following.append(asyncio.create_task(shared.follow(s3, viewers[-1])))

    monkeypatch.setattr(polling, "list_pages", pages)
    monkeypatch.setattr(polling, "_MAX_BLOCKING", -1)  # yields to the loop after each subscriber
    left: list[asyncio.Task[None]] = []
    shared, s3 = polling.Polling(), cast("Any", object())
    viewers = [Counting(leave), *(Counting() for _ in range(21))]
    following = [asyncio.create_task(shared.follow(s3, each)) for each in viewers]
    async with asyncio.timeout(20):
        while not left or viewers[-1].looks < 4:  # noqa: ASYNC110  # the viewers are plain
            await asyncio.sleep(0.01)
    for each in following:
        each.cancel()
    await asyncio.wait(following)
    assert viewers[-1].new == len(objects)
