"""Checks definitions against JSON schemas, and describes each wrong value and its path."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, cast

from aiohaul.errors import DefinitionError, UnsupportedError
from aiohaul.json_types import JsonValue
from aiohaul.s3.local import os_errors
from aiohaul.sensitive import HIDDEN, looks_secret, shown
from aiohaul.tasks import schema_check

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator, ValidationError

#: The base of the schemas' URIs. It is not a real path, but relative references need a path.
_ROOT = "file:///aiohaul/"
#: The keys whose values no message repeats. A secret may be under the wrong key of a protocol.
_SECRET_KEYS = frozenset(
    {
        "secret_access_key",
        "session_token",
        "access_key_id",
        "region_name",
        "assume_role_arn",
        "assume_role_external_id",
        "endpoint_url",
        "private_key",
        "payload",
        "clientContext",
        "environment",
        "command",
        "variables",
    }
)
#: The maximum number of problems in an error message, in addition to the first problem.
_MAX_OTHER_PROBLEMS = 5
#: Matches a template, which Open Task Framework renders before it runs a definition.
_TEMPLATE = re.compile(r"\{\{|\{%")
#: The keys under which a string is the user's data, which may look like a template.
_FREE_TEXT_KEYS = frozenset(
    {"payload", "clientContext", "containerOverrides", "variables", "description"}
)
#: The limit of numbers in a definition. All real sizes, ages and times are smaller.
_MAX_NUMBER = 2**62

_SURROGATE = re.compile("[\ud800-\udfff]")

Path = tuple[str | int, ...]


def check(schema: str, value: object, path: Path = ()) -> None:
    """Check a part of a definition against a schema.

    Args:
        schema: the path of the schema below ``schemas/``, such as ``transfer/s3_source.json``.
        value: the part of the definition.
        path: the path of the part in the definition.

    Raises:
        DefinitionError: the part is wrong. The error lists the problems, and has the path of the
            first wrong value.
        LocalFileError: the schema files cannot be read.
    """
    with os_errors("reading the schemas of", "aiohaul"):
        if _accepts(schema, value):
            return
        validator = _validator(schema)
    errors = validator.iter_errors(value)
    # A misspelt key is listed first, because it may be the reason for a missing key.
    order = sorted(errors, key=lambda e: (len(e.path), e.validator != "additionalProperties"))
    problems = [(format_path(path + inner), text) for inner, text in map(_describe_error, order)]
    if not problems:
        return
    (first, problem), *others = problems
    listed = others[:_MAX_OTHER_PROBLEMS]
    also = "".join(f"; {where or 'definition'}: {other}" for where, other in listed)
    more = f" (and {len(others) - len(listed)} more)" if len(others) > len(listed) else ""
    raise DefinitionError(first, f"{problem}{also}{more}")


def format_path(path: Sequence[str | int]) -> str:
    """Return a path as text: ``destination[0].bucket`` for ``("destination", 0, "bucket")``."""
    names = ("…" if isinstance(each, str) and looks_secret(each) else each for each in path)
    text = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in names)
    return text.removeprefix(".")


def _accepts(schema: str, value: object) -> bool:
    """Return True if the value is right; False if jsonschema must find out what is wrong."""
    try:
        return schema_check.is_valid(schema, value)
    except (schema_check.UnknownKeywordError, FileNotFoundError, NotADirectoryError):
        return False  # in a zip file the schemas have no path


@cache
def _validator(schema: str) -> Draft202012Validator:
    # Imported on first use, in a worker thread, because the import would block the event loop.
    from jsonschema import Draft202012Validator, FormatChecker  # noqa: PLC0415
    from referencing import Registry, Resource  # noqa: PLC0415

    formats = FormatChecker(formats=())
    formats.checks("regex", raises=(re.error, OverflowError, RecursionError))(_is_regex)
    schemas = ((uri, Resource.from_contents(contents)) for uri, contents in _schemas())
    registry: Registry[JsonValue] = Registry().with_resources(schemas)
    return Draft202012Validator(
        {"$ref": f"{_ROOT}{schema}"}, registry=registry, format_checker=formats
    )


def _schemas() -> Iterator[tuple[str, JsonValue]]:
    for folder in (files("aiohaul.tasks") / "schemas").iterdir():
        for file in folder.iterdir():
            yield f"{_ROOT}{folder.name}/{file.name}", json.loads(file.read_text(encoding="utf-8"))


def _is_regex(value: object) -> bool:
    return not isinstance(value, str) or re.compile(value) is not None


def check_whole(definition: Mapping[str, object]) -> None:
    """Check that a definition contains only valid values; see :func:`check_json`.

    Raises:
        DefinitionError: a value is not valid, or the definition is nested too deeply.
        UnsupportedError: the definition contains a template.
    """
    try:
        check_json(definition)
    except RecursionError as error:
        raise DefinitionError("", "is nested too deeply") from error


def check_json(value: object, path: Path = ()) -> None:
    """Check a part of a definition for values that JSON allows, but aiohaul does not.

    Args:
        value: the part of the definition.
        path: the path of the part in the definition.

    Raises:
        DefinitionError: a key is not a string, a string contains a surrogate or NUL, or a number
            is NaN or not between -2**62 and 2**62.
        UnsupportedError: a string contains a template.
    """
    problem = _invalid_scalar(value)
    if problem:
        raise DefinitionError(format_path(path), problem)
    if (
        isinstance(value, str)
        and _TEMPLATE.search(value)
        # A payload that is only a template should become an object when the template is rendered.
        and (path == ("payload",) or not _FREE_TEXT_KEYS.intersection(path))
    ):
        raise UnsupportedError(
            format_path(path),
            "contains a template, which only Open Task Framework renders: run the definition with"
            " task-run, or render the template first",
        )
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                problem = f"has a key that is not a string: {shown(key)}"
                raise DefinitionError(format_path(path), problem)
            check_json(inner, (*path, key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            check_json(inner, (*path, index))


def _invalid_scalar(value: object) -> str:
    match value:
        case str() if _SURROGATE.search(value):
            return "contains half of a Unicode character (a surrogate)"
        case str() if "\0" in value:
            return "contains a NUL character"
        case int() | float() if not -_MAX_NUMBER < value < _MAX_NUMBER:
            return "is not a number between -2**62 and 2**62"
        case _:
            return ""


def _describe_error(error: ValidationError) -> tuple[Path, str]:
    """Return the path of an error, relative to the checked part, and the message."""
    path: Path = tuple(error.absolute_path)
    schema: Mapping[str, object] = error.schema
    properties = cast("Mapping[str, object]", schema.get("properties", {}))
    match error.validator:
        case "additionalProperties":
            return path, _unknown_key_problem(
                sorted(set(error.instance) - set(properties)), properties
            )
        case "required" | "anyOf" | "dependentRequired" | "not":
            return path, _missing_key_problem(error)
        case _:
            expected = schema.get("description", error.message)
            value = _format_value(path, error.instance, _allowed_values(schema))
            problem = f"{value} is not {expected}"
            cause = error.cause if value != HIDDEN else None  # re's messages repeat names of groups
            return path, f"{problem}: {cause}" if cause else problem


def _unknown_key_problem(keys: Sequence[str], known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(keys[0], known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known))}"
    return f"unknown key {HIDDEN if looks_secret(keys[0]) else repr(keys[0])}; {hint}"


def _missing_key_problem(error: ValidationError) -> str:
    given = set(error.instance) if isinstance(error.instance, dict) else set()
    rule = error.validator_value
    match error.validator:
        case "required":
            return f"{next(key for key in rule if key not in given)!r} is missing"
        case "dependentRequired":
            key, needed = next(
                (key, needed)
                for key, others in rule.items()
                for needed in others
                if key in given and needed not in given
            )
            return f"{needed!r} is missing: {key!r} needs it"
        case "anyOf":
            first = rule[0].get("required", ["?"])[0]
            others = sorted({key for option in rule for key in option.get("required", ())})
            if len(others) > 1:
                return f"{first!r} is missing ({' or '.join(map(repr, others))} must be given)"
            return f"{first!r} is missing"
        case _ if "required" in rule:
            return f"{' and '.join(map(repr, rule['required']))} mean the same: remove one of them"
        case _:
            return f"expected {error.schema.get('description', 'nothing')}"


def _allowed_values(schema: Mapping[str, object]) -> Iterable[str] | None:
    """Return the texts that a schema allows; None if it allows any text of some form."""
    if "const" in schema or "enum" in schema:
        given = cast("list[object]", schema.get("enum", [schema.get("const")]))
        return [each for each in given if isinstance(each, str)]
    return None if schema.get("type") in (None, "string") else ["true", "false"]


def _format_value(path: Path, value: object, allowed: Iterable[str] | None) -> str:
    """Return a wrong value for a message, by the rule of :mod:`aiohaul.sensitive`."""
    if _SECRET_KEYS.intersection(map(str, path)) and not isinstance(value, Mapping | list | tuple):
        return HIDDEN
    return shown(value, allowed)
