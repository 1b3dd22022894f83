"""What a listing found: a sequence like any other, and gone from the garbage collector's way."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aiohaul
from aiohaul.s3.compact import CompactSequence
from aiohaul.s3.listings.pages import ObjectBlock
from aiohaul.s3.selection import matching
from tests.support.servers import KEY, REGION, SECRET
from tests.support.store import Store

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BUCKET = "bucket"


def an_object(number: int) -> aiohaul.S3Object:
    return aiohaul.S3Object(
        BUCKET,
        f"a/{number:03}" if number % 3 else f"{number}/",
        number,
        f"etag-{number}",
        NOW + timedelta(seconds=number),
        "GLACIER_IR" if number % 5 == 0 else "STANDARD",
    )


@given(st.lists(st.lists(st.integers(0, 99), max_size=7), max_size=7), st.data())
def test_objects_are_a_sequence_as_lists_are(numbers: list[list[int]], data: st.DataObject) -> None:
    blocks = [[*map(an_object, each)] for each in numbers]
    objects = CompactSequence(ObjectBlock.of(BUCKET, each) for each in blocks)
    as_list = [each for block in blocks for each in block]
    assert [*objects] == as_list
    assert len(objects) == len(as_list)
    assert bool(objects) == bool(as_list)
    assert objects == as_list == objects
    assert objects != [*as_list, an_object(1)]
    for index in range(-len(as_list), len(as_list)):
        assert objects[index] == as_list[index]
    chosen = data.draw(st.slices(len(as_list)))
    assert objects[chosen] == as_list[chosen]
    assert [*reversed(objects)] == as_list[::-1]
    assert pickle.loads(pickle.dumps(objects)) == copy.deepcopy(objects) == objects  # noqa: S301
    for index in (len(as_list), -len(as_list) - 1):
        with pytest.raises(IndexError):
            objects[index]


@given(st.lists(st.integers(0, 99)), st.sampled_from([".*", "0", ".*5$", "x"]))
def test_names_are_matched_as_a_watch_matches_them(numbers: list[int], regex: str) -> None:
    objects = [*map(an_object, numbers)]
    pattern = re.compile(regex)
    named = asyncio.run(ObjectBlock.of(BUCKET, objects).named(pattern))
    assert [*named] == matching(objects, pattern)


def test_objects_show_the_first_of_them() -> None:
    few, many = (
        CompactSequence([ObjectBlock.of(BUCKET, map(an_object, range(n)))]) for n in (1, 9)
    )
    assert repr(few).startswith("<1 items: S3Object(bucket='bucket', key='0/'")
    assert repr(few).endswith(")>")
    assert repr(many).startswith("<9 items: S3Object(")
    assert repr(many).endswith(", ...>")
    with pytest.raises(TypeError, match="unhashable"):
        hash(few)


async def test_no_garbage_collection_goes_through_what_is_found(moto_s3: Store) -> None:
    bucket = await moto_s3.bucket()
    await asyncio.gather(*(moto_s3.put(bucket, f"in/{number:03}.csv") for number in range(450)))
    async with aiohaul.Session(
        endpoint_url=moto_s3.url, region=REGION, access_key_id=KEY, secret_access_key=SECRET
    ) as given:
        found = await given.s3().find(bucket, "in", r".*\.csv")
    assert [each.name for each in found] == [f"{number:03}.csv" for number in range(450)]
    gc.collect()
    kept: list[object] = [found]
    for each in kept:  # those that it leads to are added meanwhile
        kept += [
            one
            for one in gc.get_referents(each)
            if gc.is_tracked(one) and not isinstance(one, type) and one not in kept
        ]
    assert len(kept) < 20
