"""Waiting for objects: polls that are shared, times that are each watch's own, and failures."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

import aiohaul
from aiohaul import Conditions, Session, WatchPolled
from tests.support.fake_listings import FakeS3


def no_watch_is_left(session: Session) -> bool:
    return not session._polling._directories


async def started(*waits: Any) -> list[asyncio.Task[Any]]:
    return [asyncio.ensure_future(each) for each in waits]


async def ended(tasks: list[asyncio.Task[Any]]) -> list[Any]:
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_watches_of_one_directory_share_a_listing(listed: FakeS3, watching: Session) -> None:
    s3 = watching.s3()
    listed.put("b", "src/there.txt")
    waits = await started(
        *(s3.wait_for("b", "src", rf"{n}\.csv", timeout=60, interval=0.05) for n in range(50)),
    )
    await listed.until(lambda: len(listed.lists) >= 4)
    assert not any(each.done() for each in waits)
    for n in range(50):
        listed.put("b", f"src/{n}.csv")
    found = await ended(waits)
    assert [[each.key for each in one] for one in found] == [[f"src/{n}.csv"] for n in range(50)]
    # a watch of its own each would have made 50 for every one
    assert len(listed.lists) < 50
    assert no_watch_is_left(watching)


async def test_handlers_of_equal_settings_share_and_others_do_not(
    listed: FakeS3, watching: Session
) -> None:
    other = aiohaul.Settings(access_key_id="AKIDOTHER", secret_access_key="other")
    handlers = [watching.s3(), watching.s3(), watching.s3(other)]
    for each in handlers:  # clients are made once
        await each.find("b", "none")
    listed.lists.clear()
    results = await ended(
        await started(*(each.wait_for("b", "src", timeout=0) for each in handlers))
    )
    assert [type(each) for each in results] == [aiohaul.WatchTimeoutError] * 3
    assert listed.lists == ["src/", "src/"]


async def test_listing_is_narrowed_to_what_all_have_in_common(
    listed: FakeS3, watching: Session
) -> None:
    s3 = watching.s3()
    await ended(
        await started(
            s3.wait_for("b", "src", r"in-a\d", timeout=0),
            s3.wait_for("b", "src", r"in-b\d", timeout=0),
        )
    )
    assert listed.lists == ["src/in-"]


async def test_regex_that_takes_too_many_steps_ends_its_own_watch_alone(
    listed: FakeS3, watching: Session
) -> None:
    s3 = watching.s3()
    listed.put("b", f"src/{'a' * 90}")
    slow, quick = await started(
        s3.wait_for("b", "src", r"(a*)(a*)(a*)(a*)(a*)\1\2\3\4\5b", timeout=60, interval=0.05),
        s3.wait_for("b", "src", r"it\.csv", timeout=60, interval=0.05),
    )
    with pytest.raises(aiohaul.RegexLimitError):
        await slow
    assert not quick.done()
    listed.put("b", "src/it.csv")
    assert [each.key for each in await quick] == ["src/it.csv"]
    assert no_watch_is_left(watching)


async def test_watches_of_a_large_directory_list_what_each_can_match(
    listed: FakeS3, watching: Session
) -> None:
    s3 = watching.s3()
    listed.page = 10
    for n in range(25):
        listed.put("b", f"src/m{n:02}")
    waits = await started(
        s3.wait_for("b", "src", "a", timeout=60, interval=0.05),
        s3.wait_for("b", "src", "z", timeout=60, interval=0.05),
    )
    await listed.until(lambda: len(listed.lists) >= 6)
    assert listed.lists[0] == "src/"
    assert set(listed.lists[1:]) == {"src/a", "src/z"}
    listed.put("b", "src/a")
    listed.put("b", "src/z")
    assert [[each.key for each in one] for one in await ended(waits)] == [["src/a"], ["src/z"]]


async def test_joint_listing_that_is_denied_is_replaced_by_those_that_are_not(
    listed: FakeS3, watching: Session
) -> None:
    s3 = watching.s3()
    listed.denied = {"src/", "src/z"}
    listed.put("b", "src/a")
    one, other = await ended(
        await started(
            s3.wait_for("b", "src", "a", timeout=60), s3.wait_for("b", "src", "z", timeout=60)
        )
    )
    assert [each.key for each in one] == ["src/a"]
    assert isinstance(other, aiohaul.AccessDeniedError)


async def test_interval_of_a_watch_is_kept_beside_a_slower_one(
    listed: FakeS3, watching: Session
) -> None:
    s3 = watching.s3()
    slow = asyncio.ensure_future(s3.wait_for("b", "src", "slow", timeout=3600, interval=3600))
    await listed.until(lambda: len(listed.lists) == 1)
    fast = asyncio.ensure_future(s3.wait_for("b", "src", "fast", timeout=60, interval=0.05))
    await listed.until(lambda: len(listed.lists) >= 5)
    listed.put("b", "src/fast")
    await fast
    count = len(listed.lists)
    # What the fast one needed has ended with it.
    await asyncio.sleep(0.2)
    assert len(listed.lists) == count
    slow.cancel()
    await ended([slow])


async def test_slower_watch_costs_no_listing_of_its_own(listed: FakeS3, watching: Session) -> None:
    s3 = watching.s3()
    waits = await started(
        *(s3.wait_for("b", "src", "x", timeout=60, interval=0.2 * n) for n in (1, 2, 3, 4))
    )
    await listed.until(lambda: len(listed.lists) >= 8)
    # On its own each would have looked at other moments: the eighth look after 0.8 s.
    assert listed.times[7] - listed.times[0] > 1.2
    listed.put("b", "src/x")
    await ended(waits)


async def test_each_look_begins_after_the_watch_did(listed: FakeS3, watching: Session) -> None:
    """A listing that was under way may have passed what was just written."""
    s3 = watching.s3()
    listed.hold = asyncio.Event()
    early = asyncio.ensure_future(s3.wait_for("b", "src", "x", timeout=60, interval=3600))
    await listed.until(lambda: len(listed.lists) == 1)
    late = asyncio.ensure_future(s3.wait_for("b", "src", "x", timeout=60, interval=3600))
    await asyncio.sleep(0)
    listed.hold.set()
    await listed.until(lambda: len(listed.lists) == 2)
    listed.put("b", "src/x")
    for each in (early, late):
        each.cancel()
    await ended([early, late])


async def test_when_the_one_who_looks_is_cancelled_the_next_one_looks(
    listed: FakeS3, watching: Session
) -> None:
    s3 = watching.s3()
    listed.hold = asyncio.Event()
    waits = await started(
        *(s3.wait_for("b", "src", "x", timeout=60, interval=0.05) for _ in range(3))
    )
    for turn in range(2):  # the one on duty is the first
        await listed.until(lambda turn=turn: len(listed.lists) == turn + 1)  # type: ignore[misc]
        waits[turn].cancel()
    await listed.until(lambda: len(listed.lists) == 3)
    listed.put("b", "src/x")
    listed.hold.set()
    *cancelled, found = await ended(waits)
    assert [type(each) for each in cancelled] == [asyncio.CancelledError] * 2
    assert [each.key for each in found] == ["src/x"]
    assert no_watch_is_left(watching)


async def test_when_the_one_who_looks_has_found_something_the_next_one_looks(
    listed: FakeS3, watching: Session
) -> None:
    s3 = watching.s3()
    first, second = await started(
        s3.wait_for("b", "src", "first", timeout=60, interval=0.05),
        s3.wait_for("b", "src", "second", timeout=60, interval=0.05),
    )
    listed.put("b", "src/first")
    await first
    listed.put("b", "src/second")
    assert [each.key for each in await second] == ["src/second"]


async def test_a_server_that_fails_every_third_request(listed: FakeS3, watching: Session) -> None:
    s3 = watching.s3()
    listed.every, listed.page = 3, 2
    for n in range(9):
        listed.put("b", f"src/{n}")
    waits = await started(
        *(
            s3.wait_for("b", "src", rf"[{n}x]", timeout=60, interval=0.05, conditions=c)
            for n, c in enumerate([Conditions(min_count=2)] * 5)
        )
    )
    await listed.until(lambda: listed.failed >= 2)
    listed.put("b", "src/x")
    for n, found in enumerate(await ended(waits)):
        assert [each.key for each in found] == [f"src/{n}", "src/x"]


async def test_failing_listings_are_told_and_put_up_with_until_the_timeout(
    listed: FakeS3, watching: Session
) -> None:
    s3 = watching.s3()
    listed.faults = [(500, "InternalError")] * 5  # all attempts of one look
    listed.put("b", "src/x")
    told: list[aiohaul.Event] = []
    # The interval is long: a look that failed is repeated earlier.
    await s3.wait_for("b", "src", timeout=3600, interval=3600, on_progress=told.append)
    (event,) = told
    assert isinstance(event, WatchPolled)
    assert isinstance(event.failure, aiohaul.ServiceError)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ((403, "AccessDenied"), aiohaul.AccessDeniedError),
        ((404, "NoSuchBucket"), aiohaul.BucketNotFoundError),
        ((403, "InvalidAccessKeyId"), aiohaul.CredentialsError),
    ],
)
async def test_what_does_not_pass_by_itself_ends_all_watches_at_once(
    listed: FakeS3, watching: Session, fault: tuple[int, str], error: type[Exception]
) -> None:
    s3 = watching.s3()
    listed.faults = [fault]
    results = await ended(
        await started(*(s3.wait_for("b", "src", "x", timeout=3600) for _ in range(3)))
    )
    assert [type(each) for each in results] == [error] * 3
    assert len(listed.lists) == 1


async def test_each_watch_has_its_own_deadline(listed: FakeS3, watching: Session) -> None:
    s3 = watching.s3()
    timeouts = (0, 0.2, 0.4, 3600)
    waits = await started(
        *(s3.wait_for("b", "src", "x", timeout=each, interval=3600) for each in timeouts)
    )
    first, second, third, last = waits
    for wait, timeout in ((first, 0), (second, 1), (third, 1)):
        with pytest.raises(aiohaul.WatchTimeoutError, match=f"within {timeout} s"):
            await wait
        assert not last.done()
    assert len(listed.lists) == 3  # each of them looked once more when its time was up
    last.cancel()
    await ended([last])


async def test_object_that_comes_in_the_last_moment_is_found(
    listed: FakeS3, watching: Session
) -> None:
    s3 = watching.s3()
    wait = asyncio.ensure_future(s3.wait_for("b", "src", "x", timeout=0.3, interval=3600))
    await listed.until(lambda: len(listed.lists) == 1)
    listed.put("b", "src/x")
    assert [each.key for each in await wait] == ["src/x"]


async def test_server_without_an_answer_is_no_empty_directory(
    listed: FakeS3, watching: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohaul.polling.GRACE", 0.1)
    listed.hold = asyncio.Event()
    with pytest.raises(aiohaul.EndpointError, match="no complete response"):
        await watching.s3().wait_for("b", "src", "x", timeout=0.1)
    assert no_watch_is_left(watching)


async def test_age_that_comes_true_is_waited_for_and_not_for_the_interval(
    listed: FakeS3, watching: Session
) -> None:
    listed.put("b", "src/old", age=7200)
    young = listed.put("b", "src/young")
    found = await watching.s3().wait_for(
        "b",
        "src",
        timeout=3600,
        interval=3600,
        conditions=Conditions(age_gt=1.5, min_count=2),
    )
    assert [each.key for each in found] == ["src/old", "src/young"]
    assert len(listed.lists) == 2
    assert (found[1].last_modified - young.modified).total_seconds() <= 0


async def test_all_of_a_whole_listing_are_returned(listed: FakeS3, watching: Session) -> None:
    listed.page = 10
    for n in range(35):
        listed.put("b", f"src/{n:02}")
    s3 = watching.s3()
    assert len(await s3.wait_for("b", "src")) == 35
    listed.lists.clear()
    early = await s3.wait_for("b", "src", early=True)
    assert 1 <= len(early) <= 10
    assert len(listed.lists) == 1
    early = await s3.wait_for("b", "src", early=True, conditions=Conditions(min_count=15))
    assert 15 <= len(early) <= 20
    most = Conditions(max_count=100)
    assert len(await s3.wait_for("b", "src", early=True, conditions=most)) == 35


async def test_early_end_of_one_watch_leaves_the_whole_listing_to_the_other(
    listed: FakeS3, watching: Session
) -> None:
    listed.page = 10
    for n in range(35):
        listed.put("b", f"src/{n:02}")
    s3 = watching.s3()
    early, whole = await ended(
        await started(s3.wait_for("b", "src", early=True), s3.wait_for("b", "src"))
    )
    assert len(early) <= 10
    assert len(whole) == 35
    assert len({each.key for each in whole}) == 35


async def test_what_a_watch_raises_from_its_progress_is_its_own(
    listed: FakeS3, watching: Session
) -> None:
    s3 = watching.s3()

    def fail(_: aiohaul.Event) -> None:
        raise ValueError("of my own")

    other, mine = await started(
        s3.wait_for("b", "src", "x", timeout=60, interval=0.05),
        s3.wait_for("b", "src", "x", timeout=60, interval=0.05, on_progress=fail),
    )
    with pytest.raises(ValueError, match="of my own"):
        await mine
    listed.put("b", "src/x")
    assert [each.key for each in await other] == ["src/x"]


async def test_watches_end_with_their_session(listed: FakeS3) -> None:
    keys: dict[str, Any] = {"access_key_id": "a", "secret_access_key": "b", "region": "eu-west-1"}
    async with Session(endpoint_url=listed.url, **keys) as session:
        waits = await started(
            *(session.s3().wait_for("b", "src", "x", timeout=60, interval=0.05) for _ in range(3))
        )
        await listed.until(lambda: len(listed.lists) >= 2)
    assert [type(each) for each in await ended(waits)] == [aiohaul.SessionError] * 3


async def test_ten_thousand_cancelled_watches_leave_nothing(
    listed: FakeS3, watching: Session
) -> None:
    s3 = watching.s3()
    waits = await started(
        *(s3.wait_for("b", f"{n % 100}", rf"{n}\.csv", timeout=3600) for n in range(10_000))
    )
    await listed.until(lambda: len(listed.lists) >= 100)
    for each in waits:
        each.cancel()
    async with asyncio.timeout(10):
        done, _ = await asyncio.wait(waits)
    assert all(each.cancelled() for each in done)
    assert no_watch_is_left(watching)
    del waits, done, each
    gc.collect()
    assert not [each for each in gc.get_objects() if type(each).__name__ == "Wait"]
    listed.put("b", "src/x")
    assert len(await s3.wait_for("b", "src")) == 1
