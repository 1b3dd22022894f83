"""Values that must not be seen: marked as secret in what is sent, or in the queries of URLs."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

_QUERY = re.compile(r"(\w+://[^\s?'\"]+)\?[^\s'\"]+")


def without_queries(text: str) -> str:
    """``text``, its URLs cut to what stands before the query: that of a presigned URL is a key."""
    return _QUERY.sub(r"\1", text)


class Marked(ABC):
    """What a payload may hold in place of a value, to say that the value is secret."""

    __slots__ = ()

    @property
    @abstractmethod
    def value(self) -> Any:
        """The value itself."""


class Hidden(Marked):
    """A value that is sent as it is, and shown nowhere.

    It may stand for a payload of Lambda, or for any value in one, at any depth; and for any value
    in the ``overrides`` of a Fargate task. What :class:`aiohaul.Secret` and
    :class:`aiohaul.Parameter` hold is hidden already: they may stand there themselves.

    The answer of a function may repeat what it was sent. So with a payload that hides something,
    no error text and no JSON of a report repeats what the function, or Lambda, says:
    :class:`aiohaul.Invocation` alone has it, and does not show it in its repr.

    Args:
        value: any JSON value.
    """

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    @property
    def value(self) -> Any:
        """The value itself."""
        return self._value

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Hidden) else NotImplemented

    def __hash__(self) -> int:
        return hash((Hidden, self._value))


def revealed(value: Any) -> tuple[Any, bool]:
    """What is to be sent, and whether any of it is hidden from whoever looks on."""
    found = False

    def plain(each: Any) -> Any:
        nonlocal found
        match each:
            case Marked():
                found = True
                return plain(each.value)
            case Mapping():
                return {key: plain(inner) for key, inner in each.items()}
            case list() | tuple():
                return [plain(inner) for inner in each]
            case _:
                return each

    return plain(value), found
