"""Bytes as a row of decisions: who mutates bytes then builds values that nearly fit."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")

#: Texts that have broken parsers before.
TEXTS = (
    "",
    "/",
    "//",
    "..",
    "\0",
    "\ud800",
    "\udcff",
    "é",
    "😀",
    "٣",
    "a\nb",
    "x\n",
    "s3://",
    "s3://b",
    "s3:///k",
    "s3://b/k/",
    "http://[",
    "http://h:99999",
    "http://h:x/",
    "{{ x }}",
    "(a+)+$",
    "(",
    "(?P<a>b)",
    r"\1",
    r"\g<1>",
    r"\g<99999999999>",
    "a{99999999999}",
    "$..*",
    "NaN",
    "-1",
    "1e999",
    "9" * 5000,
    "a" * 1025,
    "ü" * 513,
)
#: Values that have broken readers before.
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    0.5,
    2**31,
    2**63,
    10**400,
    -(10**400),
    1e308,
    float("nan"),
    float("inf"),
    [],
    {},
    [[]],
    [None],
    {"": ""},
    *TEXTS,
)
#: Levels of nesting that end a recursion.
_DEEP = 3000


class Choices:
    """Decisions, taken from bytes one after the other; when they are used up, always the first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def below(self, bound: int) -> int:
        """A number from 0 to ``bound - 1``."""
        made = 0
        for _ in range(1 if bound <= 256 else 2):
            made = made * 256 + (self._data[self._at] if self else 0)
            self._at += 1
        return made % bound

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def rest(self) -> bytes:
        made, self._at = self._data[self._at :], len(self._data)
        return made

    def text(self) -> str:
        """One of the known texts, or a short one of its own."""
        if self.below(3) == 0:
            return self.pick(TEXTS)
        length = self.below(24)
        made, self._at = self._data[self._at : self._at + length], self._at + length
        return made.decode("utf-8", "surrogateescape")

    def value(self) -> Any:
        """Something that JSON can carry."""
        match self.below(4):
            case 0:
                return self.text()
            case _:
                return copy.deepcopy(self.pick(VALUES))

    def mutated(self, value: Any) -> Any:
        """A value with some of its parts replaced, removed, renamed, doubled or wrapped."""
        made = copy.deepcopy(value)
        for _ in range(1 + self.below(3)):
            made = self._mutated_once(made)
        if self.below(64) == 7 and isinstance(made, dict | list) and made:
            # At the end: nothing here that recurses may touch it any more.
            *_, (*above, last) = _places(made, ())
            parent = _at(made, tuple(above))
            parent[last] = nested(self.pick(([], {})), _DEEP)
        return made

    def _mutated_once(self, root: Any) -> Any:
        places = list(_places(root, ()))
        place = self.pick(places)
        if not place:
            return self.value() if self.below(8) == 1 else root
        *above, last = place
        parent = root
        for step in above:
            parent = parent[step]
        match self.below(7):
            case 0:
                del parent[last]
            case 1 if isinstance(parent, dict):
                parent[self.text()] = parent.pop(last)
            case 2:
                parent[last] = [parent[last]]
            case 3:
                parent[last] = self.spliced(str(parent[last]))
            case 4 if isinstance(parent, dict):
                parent[self.text()] = self.value()
            case 5:
                parent[last] = copy.deepcopy(_at(root, self.pick(places)))
            case _:
                parent[last] = self.value()
        return root

    def spliced(self, text: str) -> str:
        """A text with a piece replaced."""
        at = self.below(len(text) + 1)
        return text[:at] + self.text() + text[at + self.below(3) :]

    def damaged(self, data: bytes) -> bytes:
        """Bytes with pieces replaced, removed or repeated."""
        for _ in range(1 + self.below(3)):
            start = self.below(len(data) + 1)
            end = min(start + self.below(16), len(data))
            match self.below(4):
                case 0:
                    piece = b""
                case 1:
                    piece = data[start:end] * (2 + self.below(3))
                case 2:
                    piece = self.text().encode("utf-8", "surrogatepass")
                case _:
                    piece = bytes([self.below(256)])
            data = data[:start] + piece + data[end:]
        return data


def nested(innermost: Any, depth: int) -> Any:
    made = innermost
    for _ in range(depth):
        made = {"a": made} if isinstance(innermost, dict) else [made]
    return made


def as_json(value: Any) -> str:
    """JSON that may hold NaN, Infinity and halves of characters, as Python's own writes it.

    What is nested too deeply for its writer is written by hand.
    """
    try:
        return json.dumps(value)
    except RecursionError:
        return "[" * _DEEP + "]" * _DEEP


def _places(value: Any, path: tuple[Any, ...]) -> Any:
    yield path
    if len(path) > 8:
        return
    if isinstance(value, dict):
        for key in value:
            yield from _places(value[key], (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _places(each, (*path, index))


def _at(root: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        root = root[step]
    return root
