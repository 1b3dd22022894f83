"""The quick check of schemas says yes exactly where jsonschema does."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aiohaul.tasks import schema, schema_check
from tests.support.samples import DEFINITIONS

SCHEMAS = sorted(
    file.relative_to(schema_check._SCHEMAS).as_posix()
    for file in schema_check._SCHEMAS.rglob("*.json")
)


def parts(value: Any) -> Iterator[Any]:
    """A value, and all that is in it."""
    yield value
    for inner in (
        value.values() if isinstance(value, dict) else value if type(value) is list else ()
    ):
        yield from parts(inner)


PARTS = [part for definition in DEFINITIONS for part in parts(definition)]
KEYS = sorted({key for part in PARTS if isinstance(part, dict) for key in part})
junk = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 1.0, 0.5, 2**70, "", " ", "a", "(", "(a+)+$", "x" * 300, "0644"]),
    st.sampled_from([[], {}, [{}], [""], {"": ""}, {"gt": 1}, float("inf"), "local", True]),
    st.integers(-5, 50_000),
    st.text(max_size=5),
)


@st.composite
def changed(draw: st.DrawFn) -> Any:
    """A part of a right definition, with up to three changes."""
    value = copy.deepcopy(draw(st.sampled_from(PARTS)))
    for _ in range(draw(st.integers(0, 3))):
        places = [each for each in parts(value) if isinstance(each, dict | list) and each]
        if not places:
            return draw(junk)
        place = draw(st.sampled_from(places))
        where = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else [0]))
        match draw(st.sampled_from(["replace", "remove", "add"])):
            case "replace":
                place[where] = copy.deepcopy(draw(junk))
            case "remove":
                del place[where]
            case _ if isinstance(place, dict):
                added = draw(st.one_of(junk, st.sampled_from(PARTS)))
                place[draw(st.sampled_from(KEYS))] = copy.deepcopy(added)
            case _:
                place.append(copy.deepcopy(draw(junk)))
    return value


@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from(SCHEMAS), value=changed())
@example(name="transfer/transfer.json", value=True)
def test_both_agree(name: str, value: Any) -> None:
    assert schema_check.is_valid(name, value) == schema._validator(name).is_valid(value)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_part_of_right_definitions_is_judged_alike(name: str) -> None:
    """Also: every keyword of every schema is known."""
    judged = [
        (schema_check.is_valid(name, part), schema._validator(name).is_valid(part))
        for part in PARTS
    ]
    assert all(quick == slow for quick, slow in judged)


def test_right_definitions_are_accepted() -> None:
    for definition in DEFINITIONS:
        assert any(schema_check.is_valid(name, definition) for name in SCHEMAS)


def test_unknown_keyword_is_left_to_jsonschema(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "x").mkdir()
    for keyword in (
        {"uniqueItems": True},
        {"format": "date"},
        {"enum": [[1]]},
        {"$ref": "#/$defs/x"},
        {"$ref": "https://example.com/x.json"},
    ):
        (tmp_path / "x" / "new.json").write_text(json.dumps(keyword))
        monkeypatch.setattr(schema_check, "_SCHEMAS", tmp_path)
        schema_check._read.cache_clear()
        with pytest.raises(schema_check.UnknownKeywordError):
            schema_check.is_valid("x/new.json", "value")
    schema_check._read.cache_clear()
