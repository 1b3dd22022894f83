"""The public classes, and an instance of each, made from the types of its fields."""

from __future__ import annotations

import collections.abc
import importlib
import inspect
import re
import types
import typing
from collections.abc import AsyncIterator
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ForwardRef, Literal, Union, get_args, get_origin, get_type_hints

import aiohaul
from aiohaul import errors

#: Those whose ``__all__`` an application uses, and those of what it is handed. Not the operators
#: of Airflow: it is not installed here.
MODULES = (
    "aiohaul",
    "aiohaul.dask",
    "aiohaul.logs",
    "aiohaul.errors",
    "aiohaul.progress",
    "aiohaul.report",
    "aiohaul.tasks.definition",
    "aiohaul.tasks.execution",
    "aiohaul.tasks.batch_definition",
)

#: What annotations name without it being there at run time.
NAMES = {name: getattr(aiohaul, name) for name in aiohaul.__all__}


class Chunks:
    """A source of bytes that can be sent elsewhere, unlike a generator."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"bytes"


def classes() -> list[type]:
    """Each class that is public, once."""
    found = []
    for name in MODULES:
        module = importlib.import_module(name)
        promised = getattr(module, "__all__", None)
        for each in promised or vars(module):
            value = getattr(module, each)
            is_own = promised or getattr(value, "__module__", None) == name
            if inspect.isclass(value) and is_own and not each.startswith("_"):
                found.append(value)
    return list(dict.fromkeys(found))


def example(cls: type) -> Any:
    """An instance with something in every field.

    Raises:
        TypeError: it has a field of a type that is not known here.
    """
    if is_dataclass(cls):
        hints = get_type_hints(cls)
        given = [each.name for each in fields(cls) if each.init]
        return cls(**{name: FORMED.get(name) or value(hints[name]) for name in given})
    construct: Any = cls.__init__  # type: ignore[misc]  # of this very class
    if construct is Exception.__init__:
        return cls("it did not work")
    signature = inspect.signature(cls)
    hints = get_type_hints(construct, localns=NAMES)
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for name, parameter in signature.parameters.items():
        if name not in hints and parameter.default is not parameter.empty:
            continue  # of a class of the standard library
        if parameter.kind is parameter.KEYWORD_ONLY:
            named[name] = value(hints[name])
        else:
            positional.append(value(hints[name]))
    return cls(*positional, **named)


#: Fields whose values have a form of their own.
FORMED = {
    "expected_bucket_owner": "123456789012",
    "role_arn": "arn:aws:iam::123456789012:role/name",
    "endpoint_url": "https://host.example",
}
PLAIN = {
    str: "name",
    int: 500,
    float: 1.5,
    bool: True,
    bytes: b"bytes",
    type(None): None,
    Any: {"day": ["2026-01-31", 1]},
    object: "object",
    datetime: datetime(2026, 1, 31, 12, tzinfo=UTC),
    Path: Path("directory"),
    re.Pattern: re.compile("a+", re.IGNORECASE),
    BaseException: ValueError("a value"),
    Exception: errors.NothingFoundError("nothing there"),
}


def value(annotation: Any) -> Any:  # noqa: C901, PLR0911  # one for each kind
    """A value of a type, as full as can be."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, typing.TypeVar):
        return value(annotation.__bound__ or Any)
    if annotation == ForwardRef("JsonValue"):  # within itself
        return value(Any)
    if origin in {Union, types.UnionType}:
        return value(next(each for each in inner if each is not type(None)))
    if origin is Literal:
        return inner[-1]
    if origin is tuple:
        return (value(inner[0]),) if inner[-1] is ... else tuple(map(value, inner))
    if origin in {collections.abc.Mapping, dict}:
        return {value(inner[0]): value(inner[1])}
    if origin in {collections.abc.Sequence, list}:
        return [value(inner[0])]
    if origin in {frozenset, set, collections.abc.Collection}:
        return (set if origin is set else frozenset)([value(inner[0])])
    if origin is collections.abc.AsyncIterable:
        return Chunks()
    if origin is re.Pattern:
        return PLAIN[re.Pattern]
    if annotation in PLAIN:
        return PLAIN[annotation]
    if inspect.isclass(annotation) and annotation.__module__.startswith("aiohaul"):
        return example(annotation)
    raise TypeError(f"no value of the type {annotation!r} is known")
