"""The plan of a copy: what goes where, and what is refused before anything is copied."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aiohaul
from aiohaul.s3.copying import plan
from aiohaul.s3.copying.plan import Action, Destination, LocalDestination, Rename

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def s3object(key: str, bucket: str = "in", size: int = 1) -> aiohaul.S3Object:
    return aiohaul.S3Object(bucket, key, size, "etag", NOW)


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
    with pytest.raises(aiohaul.PlanError, match="valid key for a file"):
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
