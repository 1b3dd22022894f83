"""Marks secret values in payloads, and keeps secrets out of messages.

A message repeats a wrong value only by this rule:

1. The value of a secret field, such as a key, a payload or an endpoint, is never repeated.
2. A field with few allowed values repeats a value that resembles one of them, or is very short.
3. Names, paths and regexes are repeated, unless they look like a secret: access key ids, long runs
   of mixed letters and digits, and URLs with a user, a password or a query.
"""

from __future__ import annotations

import difflib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TypeVar, cast

T = TypeVar("T")

#: The text that takes the place of a value that may be secret.
HIDDEN = "the value"
#: The maximum number of characters of a value in a message. Longer values are cut.
_MAX_SHOWN = 60
#: Values up to this length are repeated for fields with few allowed values: no secret is so short.
_TYPO = 5
#: The start of AWS's access key ids.
_KEY_ID = re.compile(r"A(KIA|SIA|BIA|CCA|IDA|ROA)[A-Z2-7]{8}", re.ASCII)
#: A URL with a user or a password, or with a query.
_SECRET_URL = re.compile(r"://[^/\s]*@|://[^\s?]*\?\S")
#: Characters of keys and tokens in base64. A secret access key has 40 of them.
_RUN = re.compile(r"[A-Za-z0-9+/=_-]{32,}", re.ASCII)
_QUERY = re.compile(r"(\w+://[^\s?'\"]+)\?[^\s'\"]+")


def without_queries(text: str) -> str:
    """Return ``text`` without the queries of URLs, because a presigned URL grants access."""
    return _QUERY.sub(r"\1", text)


def looks_secret(text: str) -> bool:
    """Return True for access key ids, keys, tokens, and URLs with a user, password or query."""
    if _KEY_ID.search(text) or _SECRET_URL.search(text):
        return True
    return any(
        each != each.lower() and each != each.upper() and not each.isalpha()
        for each in _RUN.findall(text)
    )


def shown(value: object, allowed: Iterable[str] | None = None) -> str:
    """Return a wrong value for a message, as JSON, or :data:`HIDDEN` if it may be secret.

    Args:
        value: the wrong value. Lists, objects and other types are named, not shown.
        allowed: the allowed values of a field that has few; None for a name, a path or a regex.
    """
    if value is not None and not isinstance(value, str | int | float):
        kinds = ((Mapping, "an object"), (list | tuple, "a list"))
        return next((name for kind, name in kinds if isinstance(value, kind)), HIDDEN)
    if isinstance(value, str):
        long = len(value) > _TYPO
        if allowed is not None and long and not difflib.get_close_matches(value, allowed, n=1):
            return HIDDEN
        if looks_secret(value):
            return HIDDEN
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


class SensitiveValue(ABC):
    """The base class of the values that are secret in a payload."""

    __slots__ = ()

    @property
    @abstractmethod
    def value(self) -> object:
        """The secret value, not masked."""


class Sensitive(SensitiveValue):
    """A secret value that AWS receives, and that no log line, error or repr shows.

    Wrap a whole Lambda payload, any value in a payload at any depth, or any value in the
    ``overrides`` of a Fargate task. Pass :class:`aiohaul.Secret` and :class:`aiohaul.Parameter`
    without a wrapper, because they are secret already.

    A function may repeat its payload in its response. If a payload contains a secret, error
    messages and JSON reports therefore contain neither the response nor the error of the function.
    Only the attributes of :class:`aiohaul.Invocation` contain them, and its repr does not.

    Args:
        value: any JSON value.
    """

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    @property
    def value(self) -> object:
        """The secret value, not masked."""
        return self._value

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Sensitive) else NotImplemented

    def __hash__(self) -> int:
        return hash((Sensitive, self._value))


def reveal(value: T) -> tuple[T, bool]:
    """Return a payload with each SensitiveValue replaced by its value, and True if it had one."""
    found = False

    def plain(each: object) -> object:
        nonlocal found
        match each:
            case SensitiveValue():
                found = True
                return plain(each.value)
            case Mapping():
                return {key: plain(inner) for key, inner in each.items()}
            case list() | tuple():
                return [plain(inner) for inner in each]
            case _:
                return each

    return cast("T", plain(value)), found  # of the same shape
