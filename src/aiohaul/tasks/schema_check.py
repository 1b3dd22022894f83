"""Checks values against the schemas without jsonschema, which takes 0.1 s to import.

This check says only yes or no. For a no, jsonschema finds the problems and their paths. A test
holds both equal for generated definitions.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import cast

_SCHEMAS = Path(__file__).with_name("schemas")
#: Keywords that say nothing about a value.
_NOTES = frozenset({"$schema", "$id", "default", "description", "title", "examples"})
#: Keywords that another keyword reads.
_READ_BY_OTHERS = frozenset({"then", "else"})

Schema = Mapping[str, object]


class UnknownKeywordError(Exception):
    """A schema contains a keyword that this module does not know."""


def is_valid(schema: str, value: object) -> bool:
    """Return True if a value matches a schema.

    Args:
        schema: the path of the schema below ``schemas/``, such as ``transfer/s3_source.json``.
        value: the value, as the json module gives it.

    Raises:
        UnknownKeywordError: the schema contains a keyword that this module does not know.
        OSError: the schema cannot be read.
    """
    return _File(schema).matches(value)


@cache
def _read(schema: str) -> Schema | bool:
    schema_content: Schema | bool = json.loads((_SCHEMAS / schema).read_bytes())
    return schema_content


class _File:
    """A schema file, relative to which its references are resolved."""

    def __init__(self, path: str) -> None:
        self._path = path

    def matches(self, value: object) -> bool:
        return self._matches(_read(self._path), value)

    def _matches(self, schema: object, value: object) -> bool:
        if isinstance(schema, bool):
            return schema
        rules = cast("Schema", schema)
        return all(self._keyword(name, rules, value) for name in rules)

    def _keyword(  # noqa: C901, PLR0911  # one case per keyword
        self, name: str, schema: Schema, value: object
    ) -> bool:
        """Return True if the value matches one keyword of a schema."""
        if name in _NOTES or name in _READ_BY_OTHERS:
            return True
        rule = schema[name]
        if name in _SIMPLE:
            return _SIMPLE[name](rule, value)
        match name:
            case "$ref":
                return self._referenced(str(rule)).matches(value)
            case "allOf":
                return all(self._matches(each, value) for each in cast("list[object]", rule))
            case "anyOf":
                return any(self._matches(each, value) for each in cast("list[object]", rule))
            case "not":
                return not self._matches(rule, value)
            case "if":
                branch = "then" if self._matches(rule, value) else "else"
                return branch not in schema or self._matches(schema[branch], value)
            case "items":
                return not isinstance(value, list) or all(
                    self._matches(rule, each) for each in value
                )
            case "properties":
                return not isinstance(value, dict) or all(
                    self._matches(inner, value[key])
                    for key, inner in cast("Schema", rule).items()
                    if key in value
                )
            case "additionalProperties":
                known = cast("Schema", schema.get("properties", {}))
                return not isinstance(value, dict) or all(
                    self._matches(rule, inner) for key, inner in value.items() if key not in known
                )
            case _:
                raise UnknownKeywordError(name)

    def _referenced(self, reference: str) -> _File:
        if "#" in reference or ":" in reference:
            raise UnknownKeywordError(reference)
        return _File(posixpath.normpath(f"{posixpath.dirname(self._path)}/{reference}"))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: dict[object, Callable[[object], bool]] = {
    "array": lambda value: isinstance(value, list),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: (
        (isinstance(value, int) or (isinstance(value, float) and value.is_integer()))
        and not isinstance(value, bool)
    ),
    "null": lambda value: value is None,
    "number": _is_number,
    "object": lambda value: isinstance(value, dict),
    "string": lambda value: isinstance(value, str),
}


def _type(rule: object, value: object) -> bool:
    names = rule if isinstance(rule, list) else [rule]
    return any(_TYPES[name](value) for name in names)


def _equal(one: object, other: object) -> bool:
    """Compare as JSON does, where true is not 1."""
    if isinstance(one, list | dict) or isinstance(other, list | dict):
        raise UnknownKeywordError("a list or an object in enum or const")
    return isinstance(one, bool) is isinstance(other, bool) and one == other


def _enum(rule: object, value: object) -> bool:
    if isinstance(value, list | dict):
        return False
    return any(_equal(each, value) for each in cast("list[object]", rule))


def _format(rule: object, value: object) -> bool:
    if rule != "regex":
        raise UnknownKeywordError(f"format {rule}")
    if not isinstance(value, str):
        return True
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError):
        return False
    return True


def _required(rule: object, value: object) -> bool:
    return not isinstance(value, dict) or all(key in value for key in cast("list[str]", rule))


def _dependent_required(rule: object, value: object) -> bool:
    return not isinstance(value, dict) or all(
        _required(needed, value)
        for key, needed in cast("Mapping[str, object]", rule).items()
        if key in value
    )


def _length(compare: Callable[[int, int], bool]) -> Callable[[object, object], bool]:
    return lambda rule, value: not isinstance(value, str) or compare(len(value), cast("int", rule))


def _limit(compare: Callable[[float, float], bool]) -> Callable[[object, object], bool]:
    return lambda rule, value: (
        not _is_number(value) or compare(cast("float", value), cast("float", rule))
    )


_SIMPLE: dict[str, Callable[[object, object], bool]] = {
    "const": lambda rule, value: _enum([rule], value),
    "dependentRequired": _dependent_required,
    "enum": _enum,
    "exclusiveMaximum": _limit(lambda value, limit: value < limit),
    "exclusiveMinimum": _limit(lambda value, limit: value > limit),
    "format": _format,
    "maxLength": _length(lambda length, limit: length <= limit),
    "maximum": _limit(lambda value, limit: value <= limit),
    "minItems": lambda rule, value: not isinstance(value, list) or len(value) >= cast("int", rule),
    "minLength": _length(lambda length, limit: length >= limit),
    "minimum": _limit(lambda value, limit: value >= limit),
    "pattern": lambda rule, value: (
        not isinstance(value, str) or re.search(str(rule), value) is not None
    ),
    "required": _required,
    "type": _type,
}
