"""The pure decisions: selection, plan, part sizes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

import aiohaul
from aiohaul.s3.copying import plan
from aiohaul.s3.copying.plan import Action, Destination, LocalDestination, Rename
from aiohaul.s3.selection import Conditions, list_prefix, literal_start, matching

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@dataclass(frozen=True)
class File:
    name: str
    size: int = 0
    last_modified: datetime = NOW


def s3object(key: str, bucket: str = "in", size: int = 1) -> aiohaul.S3Object:
    return aiohaul.S3Object(bucket, key, size, "etag", NOW)


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
    assert literal_start(re.compile(regex)) == start


def test_flags_that_change_the_meaning_of_letters_narrow_nothing() -> None:
    assert literal_start(re.compile("abc", re.IGNORECASE)) == ""
    assert literal_start(re.compile("a b", re.VERBOSE)) == ""


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
        assert name.startswith(literal_start(pattern))


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


def check(
    sources: list[aiohaul.S3Object],
    *destinations: plan.AnyDestination,
    action: Action | None = None,
) -> None:
    ends = [(each, "" if isinstance(each, LocalDestination) else "aws") for each in destinations]
    plan.check(sources, "aws", ends, action)


def test_plan_without_collisions() -> None:
    check(
        [s3object("src/a"), s3object("src/b")],
        Destination(bucket="out", flag="f"),
        Destination(bucket="out2", flag="f"),
        LocalDestination(directory=Path("/x"), flag=Path("/y/f")),
        action=Action(kind="move", prefix="old/"),
    )


@pytest.mark.parametrize(
    ("keys", "destination", "action"),
    [
        (["a/x", "b/x"], Destination(bucket="out"), None),
        (["a/x", "b/x"], LocalDestination(directory=Path("/d")), None),
        (["a/x"], Destination(bucket="in", directory="a"), None),
        (
            ["a/x", "a/y"],
            Destination(bucket="in", directory="a", rename=Rename(re.compile("x"), "y")),
            None,
        ),
        (["a/x", "a/y"], Destination(bucket="out", rename=Rename(re.compile("x|y"), "z")), None),
        (["a/x"], Destination(bucket="out", directory="d", flag="d/x"), None),
        (["a/x"], Destination(bucket="out", flag="x"), None),
        (
            ["a/x", "b/x"],
            Destination(bucket="out", directory="d"),
            Action(kind="move", prefix="o/"),
        ),
        (
            ["a/x", "b/y"],
            Destination(bucket="out", flag="f"),
            Action(kind="move", bucket="out", prefix="", rename=Rename(re.compile("x"), "y")),
        ),
        (
            ["a/x", "a/y"],
            Destination(bucket="out"),
            Action(kind="rename", prefix="a/", rename=Rename(re.compile("x"), "y")),
        ),
    ],
)
def test_collisions(
    keys: list[str], destination: plan.AnyDestination, action: Action | None
) -> None:
    with pytest.raises(aiohaul.CollisionError, match="nothing was copied"):
        check([s3object(key) for key in keys], destination, action=action)


def test_same_bucket_name_elsewhere_is_another_place() -> None:
    plan.check([s3object("a/x")], "aws", [(Destination(bucket="in", directory="a"), "http://x")])


def test_same_source_in_two_ways_on_one_key_is_no_collision() -> None:
    out = Destination(bucket="out")
    check([s3object("a/x")], out, out, action=Action(kind="move", bucket="out"))


def test_many_collisions_are_counted_not_all_named() -> None:
    sources = [s3object(f"{n}/x") for n in range(100)]
    with pytest.raises(aiohaul.CollisionError, match="and 94 more") as raised:
        check(sources, Destination(bucket="out"))
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("name", ["..", ".", "a\0b"])
def test_name_that_no_file_can_have(name: str) -> None:
    with pytest.raises(aiohaul.PlanError, match="nothing was copied"):
        check([s3object(f"src/{name}")], LocalDestination(directory=Path("/d")))


@pytest.mark.parametrize("sub", ["../x", "/etc/x", "d/x", ""])
def test_rename_that_leaves_the_directory(sub: str) -> None:
    rename = Rename(re.compile("^.*$"), sub)
    with pytest.raises(aiohaul.PlanError):
        check([s3object("src/a")], LocalDestination(directory=Path("/d"), rename=rename))


@pytest.mark.parametrize("sub", ["", "/x", "x/", "x" * 1025, "ü" * 513])
def test_key_that_s3_does_not_take(sub: str) -> None:
    rename = Rename(re.compile("^.*$"), sub)
    with pytest.raises(aiohaul.PlanError, match="key of a file"):
        check([s3object("src/a")], Destination(bucket="out", rename=rename))


@given(
    st.lists(st.text(min_size=1, max_size=4), unique=True), st.text(max_size=3), st.text(max_size=3)
)
def test_a_plan_that_passes_puts_every_source_on_a_key_of_its_own(
    keys: list[str], letter: str, sub: str
) -> None:
    out = Destination(
        bucket="out", rename=Rename(re.compile(re.escape(letter)), sub.replace("\\", ""))
    )
    sources = [s3object(key) for key in keys]
    try:
        check(sources, out)
    except aiohaul.PlanError:
        return
    targets = [out.key(source.name) for source in sources]
    assert len(set(targets)) == len(targets)
    assert not any(target.startswith("/") or not target for target in targets)


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

    told = conditions.come_true_in(files, NOW)
    later = next((n for n in range(1, 45) if met(n + shortly)), None)
    if conditions.age_gt is None and conditions.age_lt is None:
        assert told is None
    elif not met(shortly) and not met(0):
        assert told == later
