"""Large listings, with many pages at a time: every key once, in order, whatever the server does."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import aiohaul
from aiohaul.s3.listing import list_objects, list_pages
from aiohaul.s3.listings.keyspace import MAX_KEY, KeySpace, common_prefix
from aiohaul.s3.listings.pages import ObjectBlock
from aiohaul.s3.listings.parallel import BUFFER, ParallelListing
from tests.support.page_server import PageServer, StartAfter, by_bytes
from tests.support.servers import KEY, REGION, SECRET
from tests.support.store import Store

#: Pages that are listed one after the other at first.
SEQUENTIAL = 8


async def listed(server: PageServer, prefix: str = "", **more: Any) -> list[str]:
    """The keys of a listing."""
    async with aclosing(list_pages(cast("Any", server), "bucket", prefix, **more)) as pages:
        return [key async for page in pages for key in page.objects.keys]


def sequential(server: PageServer, prefix: str = "") -> list[str]:
    """What a listing with tokens alone shows."""
    return sorted((key for key in server.keys if key.startswith(prefix)), key=server.order)


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311  # no secret


def uuids(count: int) -> Iterable[str]:
    chance = seeded(1)
    return (str(UUID(int=chance.getrandbits(128))) for _ in range(count))


def dates(count: int) -> Iterable[str]:
    chance = seeded(2)
    for _ in range(count):
        day = chance.randrange(2000)
        yield (
            f"logs/{2018 + day // 365}/{day % 365 // 31 + 1:02}/{day % 31 + 1:02}/"
            f"{chance.getrandbits(40):010x}.gz"
        )


def long_prefix(count: int) -> Iterable[str]:
    return (f"data/{'very-long-name/' * 12}{each}" for each in uuids(count))


def directories(count: int) -> Iterable[str]:
    chance = seeded(3)
    sizes = [count // (each + 8) for each in range(1000)]
    chance.shuffle(sizes)
    return (f"dir{d:03}/{n:06}" for d, size in enumerate(sizes) for n in range(size))


def emoji(count: int) -> Iterable[str]:
    chance = seeded(4)
    return (
        "".join(chr(chance.randrange(0x1F300, 0x1F64F)) for _ in range(4)) for _ in range(count)
    )


def numbers(count: int) -> Iterable[str]:
    return (f"one/report-{number:08}.csv" for number in range(count))


@pytest.mark.parametrize("buffer", [BUFFER, None])
@pytest.mark.parametrize("kind", [uuids, dates, long_prefix, directories, emoji, numbers])
async def test_many_pages_at_a_time_whatever_the_keys_look_like(
    kind: Callable[[int], Iterable[str]], buffer: int | None
) -> None:
    server = PageServer({*kind(5000)}, page=10)
    assert await listed(server, buffer=buffer) == sequential(server)
    pages = -(-len(server.keys) // server.page)
    assert server.requests <= 1.15 * pages
    assert server.most >= 4


@pytest.mark.parametrize("pages", [1, 2, 5, SEQUENTIAL])
async def test_small_listings_cost_no_request_more(pages: int) -> None:
    server = PageServer({*numbers(pages * 5)}, page=5)
    assert await listed(server) == sequential(server)
    assert (server.requests, server.most, server.starts) == (pages, 1, [])


KEYS = st.text(st.sampled_from("ab/0127-~é中😀\x7f\uffff"), min_size=1, max_size=6)


@given(st.sets(KEYS, max_size=150), st.integers(1, 7), st.integers(), st.sampled_from([None, 4]))
@example({f"{n:03}" for n in range(150)}, 1, 0, None)
async def test_any_set_of_keys_and_any_page_size(
    keys: set[str], page: int, seed: int, buffer: int | None
) -> None:
    server = PageServer(keys, page, seed=seed)
    assert await listed(server, buffer=buffer) == sequential(server)
    pages = max(-(-len(keys) // page), 1)
    assert server.requests == pages if pages <= SEQUENTIAL else server.requests <= 1.7 * pages


@given(
    st.sets(KEYS, max_size=150), st.integers(1, 7), st.integers(), st.sampled_from(["", "a", "0/"])
)
async def test_one_directory_without_those_below_it(
    keys: set[str], page: int, seed: int, prefix: str
) -> None:
    server = PageServer(keys, page, seed=seed)
    expected = [key for key in sequential(server, prefix) if "/" not in key[len(prefix) :]]
    # A key that ends with "/" is part of its own common prefix.
    assert await listed(server, prefix, recursive=False, buffer=None) == expected


@given(
    st.sets(KEYS, max_size=120),
    st.sets(KEYS, max_size=60),
    st.integers(1, 7),
    st.integers(),
    st.sampled_from([None, 4]),
)
async def test_keys_that_appear_and_vanish_meanwhile(
    stable: set[str], others: set[str], page: int, seed: int, buffer: int | None
) -> None:
    chance = seeded(seed)
    others -= stable
    server = PageServer(stable | {each for each in sorted(others) if chance.random() < 0.5}, page)
    server.seed, server.changes = seed, True

    def change(_: int) -> None:
        for each in sorted(others):
            if chance.random() < 0.2:
                server.keys ^= {each}

    server.on_request = change
    found = await listed(server, buffer=buffer)
    assert found == sorted(found, key=by_bytes)
    assert max(Counter(found).values(), default=1) == 1
    assert stable <= {*found} <= stable | others


def utf16(key: str) -> Any:
    return key.encode("utf-16-be")


def backwards(key: str) -> Any:
    return [-each for each in key.encode()]


def case_blind(key: str) -> Any:
    return key.casefold(), key


def directories_last(key: str) -> Any:
    return [("/" in key, key)]


ORDERS = [by_bytes, utf16, backwards, case_blind, directories_last]
STARTS: list[StartAfter] = [
    "exclusive", "inclusive", "ignored", "refused", "skips", "nothing", "late",
]  # fmt: skip
ODD_KEYS = st.text(st.sampled_from("aAbBzZ/01~\uff5e\U0001f600"), min_size=1, max_size=5)


@given(
    st.sets(ODD_KEYS, max_size=150),
    st.tuples(st.integers(1, 7), st.sampled_from(ORDERS), st.sampled_from(STARTS), st.integers()),
    st.sampled_from([None, 4]),
)
async def test_servers_that_do_not_list_as_s3_does(
    keys: set[str], kind: tuple[int, Callable[[str], Any], StartAfter, int], buffer: int | None
) -> None:
    page, order, start_after, seed = kind
    server = PageServer(keys, page, order, start_after, seed=seed)
    assert await listed(server, buffer=buffer) == sequential(server)


@pytest.mark.parametrize("start_after", ["ignored", "inclusive"])
async def test_a_server_that_is_found_out_is_not_tried_again(start_after: StartAfter) -> None:
    server = PageServer({*uuids(900)}, 5, start_after=start_after)
    assert await listed(server) == sequential(server)
    first, server.requests, server.starts = server.starts, 0, []
    assert await listed(server) == sequential(server)
    assert first
    assert (server.requests, server.starts) == (180, [])


async def test_the_order_of_utf_16_is_found_out_where_no_page_shows_it() -> None:
    """Each range alone is in order; only the end of one beside the start of the next is not."""
    keys = {f"a\U0001f600{n:03}" for n in range(200)} | {f"a\uff5e{n:03}" for n in range(200)}
    server = PageServer(keys | {f"a{n:03}" for n in range(200)}, 5, utf16)
    assert await listed(server) == sequential(server)


async def test_directory_buckets_are_listed_sequentially() -> None:
    server = PageServer({*uuids(300)}, 5)
    async with aclosing(list_pages(cast("Any", server), "name--use1-az4--x-s3")) as pages:
        assert sum([len(page.objects) async for page in pages]) == 300
    assert (server.requests, server.most) == (60, 1)


async def test_truncated_without_token_fails_as_before() -> None:
    server = PageServer({*uuids(300)}, 5, no_token=True)
    with pytest.raises(aiohaul.ServiceError, match="NextContinuationToken"):
        await listed(server)
    assert server.requests == 1


@pytest.mark.parametrize("number", [3, 10, 40])
async def test_a_request_that_fails_ends_the_listing_and_the_other_requests(number: int) -> None:
    server = PageServer({*uuids(3000)}, 10, fails=[number])
    with pytest.raises(aiohaul.ServiceError, match="by the test"):
        await listed(server)
    assert server.running == 0


@pytest.mark.parametrize("buffer", [BUFFER, None])
async def test_cancelled_amid_many_requests(buffer: int | None) -> None:
    server = PageServer({*uuids(3000)}, 10, hold=(100, asyncio.Event()))
    task = asyncio.create_task(listed(server, buffer=buffer))
    for _ in range(3000):
        await asyncio.sleep(0)
    assert server.running > 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.running == 0


async def test_a_caller_that_stops_leaves_no_request() -> None:
    server = PageServer({*uuids(3000)}, 10)
    async with aclosing(list_objects(cast("Any", server), "bucket")) as objects:
        count = 0
        async for _ in objects:
            count += 1
            if count == 500:
                break
    assert server.running == 0


async def test_a_caller_that_does_not_go_on_stops_the_requests() -> None:
    server = PageServer({*uuids(6000)}, 5)
    buffer = 30
    async with aclosing(list_pages(cast("Any", server), "bucket", buffer=buffer)) as pages:
        taken = 0
        async for page in pages:
            taken += 1
            assert page.objects.keys
            for _ in range(30):  # longer than all answers take
                await asyncio.sleep(0)
            assert server.requests <= 1.3 * taken + buffer + 64
            if taken == 600:
                break
    assert server.most >= 4


async def test_pages_that_wait_long_are_packed_and_come_out_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aiohaul.s3.listings.parallel._PLAIN", 3)
    packed: list[int] = []
    pack = ParallelListing._take_next

    def spy(self: ParallelListing, *arguments: Any) -> None:
        pack(self, *arguments)
        packed.append(sum(isinstance(p, bytes) for each in self._ranges for p in each.ready))

    monkeypatch.setattr(ParallelListing, "_take_next", spy)
    server = PageServer({*uuids(3000)}, 10)
    async with aclosing(list_objects(cast("Any", server), "bucket")) as objects:
        found = [each async for each in objects]
    assert [each.key for each in found] == sequential(server)
    assert all(each.etag == each.key and each.size == len(each.key) for each in found)
    assert max(packed) > 3


async def test_selected_objects_alone() -> None:
    server = PageServer({*directories(3000)}, 10)

    async def select(block: ObjectBlock) -> ObjectBlock:
        return block.only([key.endswith("7") for key in block.keys])

    found = await listed(server, select=select, buffer=None)
    assert found == [key for key in sequential(server) if key.endswith("7")]


async def test_subdirectories_of_a_large_directory() -> None:
    names = [f"{n:03}" for n in range(200)]
    server = PageServer({*names, *(f"{name}/below" for name in names)}, 5)
    found: list[str] = []
    pages = list_pages(
        cast("Any", server), "bucket", recursive=False, with_prefixes=True, buffer=None
    )
    async with aclosing(pages):
        async for page in pages:
            found += [*page.objects.keys, *page.prefixes]
    assert sorted(found) == sorted([*names, *(f"{name}/" for name in names)])
    assert Counter(found).most_common(1)[0][1] == 1


@given(st.tuples(KEYS, KEYS, KEYS), st.booleans(), st.booleans(), st.lists(KEYS, max_size=30))
def test_a_split_point_lies_between(
    names: tuple[str, str, str], deep: bool, by_depth: bool, seen: list[str]
) -> None:
    prefix, one, other = names
    space = KeySpace(prefix, recursive=deep)
    space.learn([prefix + each for each in sorted(seen)])
    position, bound = sorted([prefix + one, prefix + other])
    for end in (bound, None):
        shared = common_prefix(position, bound)
        point = space.split_point(shared, position, end, by_depth=by_depth)
        assert point is None or (position < point and point.startswith(prefix))
        assert point is None or end is None or point < end
        assert point is None or deep or "/" not in point[len(prefix) :]


def test_no_split_point_is_longer_than_a_key_can_be() -> None:
    space = KeySpace("")
    keys = ["\U0001f600" * (MAX_KEY // 4) + "", "\U0001f601" * (MAX_KEY // 4)]
    space.learn(keys)
    for by_depth in (False, True):
        point = space.split_point(keys[0], keys[0], None, by_depth=by_depth)
        assert point is not None
        assert len(point.encode()) <= MAX_KEY


class SmallPages:
    """A Service whose pages have a few keys."""

    def __init__(self, s3: Any, size: int) -> None:
        self._s3, self._size = s3, size
        self.support = s3.support
        self.starts: list[str] = []

    async def call(self, operation: str, target: str, /, **parameters: Any) -> Any:
        self.starts += [parameters["StartAfter"]] if "StartAfter" in parameters else []
        return await self._s3.call(operation, target, MaxKeys=self._size, **parameters)


@pytest.fixture
async def session(s3: Store) -> AsyncIterator[aiohaul.Session]:
    async with aiohaul.Session(
        endpoint_url=s3.url, region=REGION, access_key_id=KEY, secret_access_key=SECRET
    ) as made:
        yield made


async def check_on(s3: Store, session: aiohaul.Session) -> SmallPages:
    """List keys of all kinds on a server that others wrote, and see that it is done in parallel."""
    bucket = await s3.bucket()
    names = [f"{n:02}" for n in range(40)] + ["a b+c%d", "é", "中文", "😀", "~", "&<>", "x=1?y"]
    keys = [f"{top}/{name}" for top in ("in", "in/below", "other") for name in names]
    await s3.fill(bucket, dict.fromkeys(keys, b""))
    small = SmallPages(await session.s3()._s3(), 4)
    for prefix, recursive in (("", True), ("in/", False), ("in/", True)):
        async with aclosing(
            list_pages(cast("Any", small), bucket, prefix, recursive=recursive)
        ) as pages:
            found = [key async for page in pages for key in page.objects.keys]
        expected = sorted(
            key
            for key in keys
            if key.startswith(prefix) and (recursive or "/" not in key[len(prefix) :])
        )
        assert [key for key in found if not key.endswith("/")] == expected
    return small


async def test_on_servers_that_others_wrote(s3: Store, session: aiohaul.Session) -> None:
    small = await check_on(s3, session)
    assert small.starts


async def test_on_stores_that_others_wrote(store_s3: Store) -> None:
    async with aiohaul.Session(
        endpoint_url=store_s3.url, region=REGION, access_key_id=KEY, secret_access_key=SECRET
    ) as session:
        small = await check_on(store_s3, session)
    assert small.starts
