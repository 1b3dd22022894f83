"""JSON schemas, and their refusals in words: where in the JSON, and what was expected."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from aiohaul.errors import DefinitionError, UnsupportedError
from aiohaul.s3.local import explained

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator, ValidationError

#: A name, not a place: relative references resolve only under a scheme that has paths.
_ROOT = "file:///aiohaul/"
_SECRET = frozenset(
    {
        "secret_access_key",
        "session_token",
        "access_key_id",
        "assume_role_external_id",
        "endpoint_url",  # may hold a password
        "payload",
        "environment",
        "command",
        "variables",
    }
)
#: What stands in quotes in a refusal is cut here.
_SHOWN = 60
#: How many problems a refusal names beside the first.
_MENTIONED = 5
#: What Open Task Framework replaces before it runs a definition.
_TEMPLATE = re.compile(r"\{\{|\{%")
#: Where text is the user's own, and may look like a template.
_FREE = frozenset({"payload", "containerOverrides", "variables", "description"})
#: Numbers beyond this are no size, age or time.
_LARGEST = 2**62

_SURROGATE = re.compile("[\ud800-\udfff]")

Path = tuple[str | int, ...]


def check(schema: str, value: Any, path: Path = ()) -> None:
    """Hold a part of a definition against a schema.

    Args:
        schema: its file below ``schemas/``, such as ``transfer/s3_source.json``.
        value: the part.
        path: where the part stands in the definition.

    Raises:
        DefinitionError: with everything that is wrong; its path is that of the first.
        LocalFileError: the schemas cannot be read at this moment.
    """
    with explained("reading the schemas of", "aiohaul"):
        validator = _validator(schema)
    errors = validator.iter_errors(value)
    # A misspelt key comes before the key that it leaves missing: it explains it.
    order = sorted(errors, key=lambda e: (len(e.path), e.validator != "additionalProperties"))
    problems = [(shown(path + place), problem) for place, problem in map(_explain, order)]
    if not problems:
        return
    (first, problem), *others = problems
    also = "".join(f"; {place or 'definition'}: {other}" for place, other in others[:_MENTIONED])
    more = f" (and {len(others) - _MENTIONED} more)" if len(others) > _MENTIONED else ""
    raise DefinitionError(first, f"{problem}{also}{more}")


def shown(path: Sequence[str | int]) -> str:
    """``("destination", 0, "bucket")`` -> ``destination[0].bucket``."""
    text = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in path)
    return text.removeprefix(".")


@cache
def _validator(schema: str) -> Draft202012Validator:
    # Imported by whoever checks, in a thread: on the event loop it would stand still for so long.
    from jsonschema import Draft202012Validator, FormatChecker  # noqa: PLC0415
    from referencing import Registry, Resource  # noqa: PLC0415

    formats = FormatChecker(formats=())
    formats.checks("regex", raises=(re.error, OverflowError, RecursionError))(_is_regex)
    schemas = ((uri, Resource.from_contents(contents)) for uri, contents in _schemas())
    registry: Registry[Any] = Registry().with_resources(schemas)
    return Draft202012Validator(
        {"$ref": f"{_ROOT}{schema}"}, registry=registry, format_checker=formats
    )


def _schemas() -> Iterator[tuple[str, Any]]:
    for folder in (files("aiohaul.tasks") / "schemas").iterdir():
        for file in folder.iterdir():
            yield f"{_ROOT}{folder.name}/{file.name}", json.loads(file.read_text(encoding="utf-8"))


def _is_regex(value: object) -> bool:
    return not isinstance(value, str) or re.compile(value) is not None


def check_whole(definition: Mapping[str, Any]) -> None:
    """Refuse what JSON can carry but no definition can be.

    Raises:
        DefinitionError: where, and what it is.
        UnsupportedError: a template that is not filled in.
    """
    try:
        check_json(definition)
    except RecursionError as error:
        raise DefinitionError("", "is nested too deeply") from error


def check_json(value: Any, path: Path = ()) -> None:
    """Refuse what JSON can carry but no part of a definition can be.

    Raises:
        DefinitionError: a key that is no text, half of a character, a NUL, or a number that is
            none or beyond all use.
        UnsupportedError: a template that is not filled in.
    """
    problem = _useless(value)
    if problem:
        raise DefinitionError(shown(path), problem)
    if isinstance(value, str) and _TEMPLATE.search(value) and not _FREE.intersection(path):
        raise UnsupportedError(
            shown(path),
            "holds a template: Open Task Framework fills these in. Run the definition with its"
            " task-run, or fill it in first",
        )
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise DefinitionError(shown(path), f"has a key that is no text: {key!r}")
            check_json(inner, (*path, key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            check_json(inner, (*path, index))


def _useless(value: Any) -> str:
    match value:
        case str() if _SURROGATE.search(value):
            return "holds half of a Unicode character"
        case str() if "\0" in value:
            return "holds a NUL character"
        case int() | float() if not -_LARGEST < value < _LARGEST:
            return "is not a number of any use"
        case _:
            return ""


def _explain(error: ValidationError) -> tuple[Path, str]:
    """Where in the part, and what is wrong there."""
    place: Path = tuple(error.absolute_path)
    schema: Mapping[str, Any] = error.schema
    properties: Mapping[str, Any] = schema.get("properties", {})
    match error.validator:
        case "additionalProperties":
            return place, _unknown(sorted(set(error.instance) - set(properties)), properties)
        case "required" | "anyOf" | "dependentRequired" | "not":
            return place, _incomplete(error)
        case _:
            expected = schema.get("description", error.message)
            problem = f"{_value(place, error.instance)} is not {expected}"
            return place, f"{problem}: {error.cause}" if error.cause else problem


def _unknown(keys: Sequence[str], known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(keys[0], known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known))}"
    return f"unknown key {keys[0]!r}; {hint}"


def _incomplete(error: ValidationError) -> str:
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
            return f"{' and '.join(map(repr, rule['required']))} mean the same: keep one"
        case _:
            return f"expected {error.schema.get('description', 'nothing')}"


def _value(place: Path, value: Any) -> str:
    """A refused value, as far as it may be shown: what holds others may hold a secret."""
    if isinstance(value, Mapping | list | tuple):
        return "a list" if isinstance(value, list | tuple) else "an object"
    if _SECRET.intersection(str(each) for each in place):
        return "the value"
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
