"""What is selected: by the name, by size and age, and by how many there are."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from aiohaul.s3.listings.pages import ObjectBlock
from aiohaul.s3.objects import S3Object
from aiohaul.s3.selection import (
    Conditions,
    list_prefix,
    literal_prefix,
    matching,
    select_matching,
)
from aiohaul.s3.watching.tail import Tail

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@dataclass(frozen=True)
class File:
    name: str
    size: int = 0
    last_modified: datetime = NOW


@pytest.mark.parametrize(
    ("regex", "start"),
    [
        (r"report-\d+\.csv", "report-"),
        (r"^a\.b\.c$", "a.b.c"),
        (".*", ""),
        ("abc*", "ab"),
        ("abc?", "ab"),
        ("abc{0,2}", "ab"),
        ("abc+", "abc"),
        ("ab|cd", ""),
        ("a(b|c)", ""),
        ("(?i)abc", ""),
        (r"\bab", ""),
        (r"a\-b", "a-b"),
        ("a[bc]", "a"),
        ("", ""),
        ("^", ""),
    ],
)
def test_literal_start(regex: str, start: str) -> None:
    assert literal_prefix(re.compile(regex)) == start


def test_flags_that_change_the_meaning_of_letters_narrow_nothing() -> None:
    assert literal_prefix(re.compile("abc", re.IGNORECASE)) == ""
    assert literal_prefix(re.compile("a b", re.VERBOSE)) == ""


@pytest.mark.filterwarnings("ignore::FutureWarning")  # re's own, of odd but valid regexes
@given(st.data())
def test_whatever_matches_begins_with_the_literal_start(data: st.DataObject) -> None:
    text = st.text(alphabet=r"ab.\*+?()[]{}|^$-0d1,", min_size=1, max_size=8)
    try:
        pattern = re.compile(data.draw(text))
    except re.error:
        reject()
    name = data.draw(st.from_regex(pattern) | st.text(alphabet="ab.-01", max_size=6))
    if pattern.match(name):
        assert name.startswith(literal_prefix(pattern))


def test_list_prefix() -> None:
    assert list_prefix("src", re.compile("ab.*")) == "src/ab"
    assert list_prefix("", re.compile("ab.*")) == ""


def test_matching_is_from_the_start_of_the_name_and_leaves_folder_markers_out() -> None:
    files = [File(name) for name in ("", "a.txt", "ba.txt")]
    assert matching(files, re.compile("a")) == [File("a.txt")]
    assert matching(files, re.compile("")) == [File("a.txt"), File("ba.txt")]


sizes = st.integers(0, 20)


@given(st.lists(sizes), sizes, sizes)
def test_size_conditions_are_strict(found: list[int], low: int, high: int) -> None:
    files = [File("x", size) for size in found]
    met = Conditions(size_gt=low, size_lt=high).apply(files, NOW)
    assert [file.size for file in met] == [size for size in found if low < size < high]


@given(st.lists(sizes), sizes, sizes)
def test_age_conditions_are_strict(found: list[int], low: int, high: int) -> None:
    files = [File("x", 0, NOW - timedelta(seconds=age)) for age in found]
    met = Conditions(age_gt=low, age_lt=high).apply(files, NOW)
    assert len(met) == sum(low < age < high for age in found)


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6))
def test_count_conditions_take_all_or_nothing(count: int, least: int, most: int) -> None:
    met = Conditions(min_count=least, max_count=most).apply([File("x")] * count, NOW)
    assert len(met) == (count if least <= count <= most else 0)


def test_count_is_that_of_what_meets_the_other_conditions() -> None:
    files = [File("x", size) for size in (1, 2, 3)]
    assert Conditions(size_gt=2, min_count=2).apply(files, NOW) == []


LIMITS = st.none() | st.integers(0, 20)


@given(
    st.lists(st.integers(0, 20), max_size=6),
    st.builds(
        Conditions, age_gt=LIMITS, age_lt=LIMITS, min_count=LIMITS, max_count=LIMITS, size_gt=LIMITS
    ),
)
def test_conditions_come_true_at_the_first_moment_at_which_they_are_met(
    ages: list[int], conditions: Conditions
) -> None:
    files = [
        File(str(n), 10, last_modified=NOW - timedelta(seconds=age)) for n, age in enumerate(ages)
    ]
    shortly = 0.5  # between two whole seconds nothing changes

    def met(seconds: float) -> bool:
        return bool(conditions.apply(files, NOW + timedelta(seconds=seconds)))

    told = conditions.seconds_until_met(files, NOW)
    later = next((n for n in range(1, 45) if met(n + shortly)), None)
    if conditions.age_gt is None and conditions.age_lt is None:
        assert told is None
    elif not met(shortly) and not met(0):
        assert told == later


def test_names_that_python_would_match_for_ever_are_selected_soon() -> None:
    names = ["a" * 40, "a" * 40 + "!"]
    began = time.monotonic()
    found = matching([File(each) for each in names], re.compile("(a+)+$"))
    assert [each.name for each in found] == names[:1]
    assert time.monotonic() - began < 2


#: For each, Python's own matcher, or the one in its place, takes long for many names.
SLOW = ("(a+)+$", "a*a*a*a*b")


@pytest.mark.parametrize("regex", SLOW)
async def test_other_tasks_go_on_while_names_are_matched(regex: str) -> None:
    pattern = re.compile(regex)
    names = [f"in/{'a' * 500}{number}!" for number in range(50)]
    objects = [S3Object("bucket", key, 1, "e", NOW) for key in names]
    block = ObjectBlock.of("bucket", objects)

    async def lines() -> object:
        return await Tail("bucket", "key", pattern)._first_match("\n".join(names).encode())

    for work in (lambda: select_matching(objects, pattern), lambda: block.named(pattern), lines):
        turns = await turns_during(work)
        assert turns >= 2  # 1 at most, if the loop itself matches


async def turns_during(work: Callable[[], Awaitable[object]]) -> int:
    """How often another task runs until this work is done."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    await asyncio.sleep(0)
    turns = 0
    await work()
    counting.cancel()
    return turns
