"""Parses pages of a listing in a few milliseconds, in short steps.

The 1,000 entries of a page have the same few elements in the same order. This module compiles the
layout of the first entry into a regular expression, which parses the other entries. The expression
matches only plain elements in this order. The XML parser parses all other pages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any
from urllib.parse import unquote_plus

from aiohaul.aws.direct.parser import Answer, Child, Structure, read_body, timestamp
from aiohaul.aws.http.payload import Bytes

#: The number of entries that a step parses in less than 1 ms.
_ENTRIES = 200
#: The maximum number of layouts in a page. The XML parser parses a page with more layouts.
_LAYOUTS = 8
_OPEN, _CLOSE = "<Contents>", "</Contents>"
#: Control characters that an XML parser refuses, and \r, which an XML parser changes.
_CONTROL = bytes({*range(0x20)} - {ord("\t"), ord("\n")})
#: Comments, CDATA, declarations and processing instructions, which need an XML parser.
_SPECIAL = re.compile("<!|(?<!^)<\\?")
#: The start of a page before the first entry: the root element, and plain elements in it.
_HEAD = re.compile(
    r"(<\?xml[^<>]*\?>)?\s*<ListBucketResult(\s[^<>]*[^<>/])?>(\s*<(\w+)>[^<]*</\4>|\s*<\w+\s*/>)*\s*"
)
_FIELD = re.compile(r"(\s*)<(\w+)>([^<]*)</\2>")
_REFERENCE = re.compile("&([^;&<]*)(;?)")
_NAMED = {"amp": "&", "apos": "'", "gt": ">", "lt": "<", "quot": '"'}

#: The members of a page, and of its entries, that encoding-type=url encodes.
_ENCODED = ("Delimiter", "Prefix", "StartAfter")
_ENCODED_IN = (("Contents", "Key"), ("CommonPrefixes", "Prefix"))


_Column = Callable[[Sequence[str]], Sequence[Any]]


class _NotPlainError(Exception):
    """The XML parser must parse this page."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """The fields of the entries in a page, in the order of the XML elements."""

    pattern: re.Pattern[str]
    names: tuple[str, ...]
    columns: tuple[_Column, ...]
    #: the fields whose value is a list, here always of one item
    lists: tuple[str, ...]

    def read(self, rows: list[tuple[str, ...]]) -> list[Sequence[Any]]:
        """Return the values by field. Converting whole columns is three times as fast."""
        texts = zip(*rows, strict=True)
        return [convert(text) for convert, text in zip(self.columns, texts, strict=True)]


class Entries:
    """The entries of a page, stored by column. Iteration makes one dictionary after the other.

    A thousand dictionaries at a time would trigger Python's garbage collection many times.
    """

    def __init__(self) -> None:
        self._blocks: list[tuple[_Layout, list[Sequence[Any]]]] = []

    def add(self, layout: _Layout, rows: list[tuple[str, ...]]) -> None:
        """Add rows with the texts of the elements."""
        if rows:
            self._blocks.append((layout, layout.read(rows)))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for layout, columns in self._blocks:
            for row in zip(*columns, strict=True):
                entry = dict(zip(layout.names, row, strict=True))
                yield entry | {name: [entry[name]] for name in layout.lists}

    def columns(self, names: Sequence[str], last: str) -> Iterator[list[Sequence[Any]]]:
        """Yield the values of some fields, block by block.

        Args:
            names: fields that every entry has, and whose values are not lists.
            last: one more field. If an entry does not have this field, the value is None.

        Raises:
            KeyError: an entry lacks one of ``names``.
        """
        for layout, columns in self._blocks:
            by_name = dict(zip(layout.names, columns, strict=True))
            needed = [by_name[name] for name in names]
            yield [*needed, by_name.get(last) or [None] * len(columns[0])]


def columns_of(
    entries: Entries | Iterable[Mapping[str, Any]], names: Sequence[str], last: str
) -> Iterator[list[Sequence[Any]]]:
    """Yield the values of some fields as :meth:`Entries.columns` does, for any entries."""
    if isinstance(entries, Entries):
        yield from entries.columns(names, last)
        return
    left = iter(entries)
    while block := [*islice(left, _ENTRIES)]:
        yield [[each[name] for each in block] for name in names] + [
            [each.get(last) for each in block]
        ]


def read_page(
    answer: Answer, status: int, body: Bytes, *, decode: bool
) -> Generator[None, None, dict[str, Any]]:
    """Parse a page of a listing, in steps of about a millisecond.

    ``Contents`` in the result is an iterable, not always a list.

    Args:
        answer: the parser of ListObjectsV2.
        status: the HTTP status.
        body: the page.
        decode: True decodes keys that ``encoding-type=url`` has encoded.

    Raises:
        FailedAnswerError: the body is an error, although the status is 200.
        ValueError: the body is malformed.
    """
    try:
        return (yield from _plain_page(answer, status, body, decode=decode))
    except _NotPlainError:
        made = yield from read_body(answer, status, body)
    if decode:
        yield from _decoded(made)
    return made


def _plain_page(
    answer: Answer, status: int, body: Bytes, *, decode: bool
) -> Generator[None, None, dict[str, Any]]:
    text = _plain_text(body)
    start, end = text.find(_OPEN), text.rfind(_CLOSE) + len(_CLOSE)
    entries = answer.body.children.get("Contents") if answer.body is not None else None
    if start < 0 or end < start or entries is None or not isinstance(entries.read, Structure):
        raise _NotPlainError
    around = text[:start] + text[end:]
    if not _HEAD.fullmatch(text, 0, start) or _SPECIAL.search(around):
        raise _NotPlainError
    yield
    made: dict[str, Any] = yield from read_body(answer, status, around.encode())
    if "Contents" in made:
        raise _NotPlainError
    encoded = decode and made.get("EncodingType") == "url"
    yield from _decoded(made if encoded else {})
    made["Contents"] = yield from _entries(text, start, end, entries.read, encoded=encoded)
    return made


def _plain_text(body: Bytes) -> str:
    """Return the page as text, if XML allows all characters and changes none of them."""
    bracketed = b"]" in body and b"]]>" in body
    # U+FFFE and U+FFFF are not allowed; both begin with these bytes.
    beyond = not body.isascii() and b"\xef\xbf" in body
    if bracketed or beyond or body.translate(None, _CONTROL) != body:
        raise _NotPlainError
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise _NotPlainError from None


def _entries(
    text: str, start: int, end: int, structure: Structure, *, encoded: bool
) -> Generator[None, None, Entries]:
    found = Entries()
    rows: list[tuple[str, ...]] = []
    layout = _layout(text, start, structure, encoded=encoded)
    layouts = [layout]
    while start < end:
        match = layout.pattern.match(text, start)
        if match is not None:
            rows.append(match.groups())
            start = match.end()
        if match is None or len(rows) == _ENTRIES:
            found.add(layout, rows)
            rows = []
            yield
        if match is None:
            layout = _next_layout(layouts, text, start, structure, encoded=encoded)
    found.add(layout, rows)
    return found


def _next_layout(
    layouts: list[_Layout], text: str, start: int, structure: Structure, *, encoded: bool
) -> _Layout:
    for layout in layouts:
        if layout.pattern.match(text, start):
            return layout
    if len(layouts) == _LAYOUTS:
        raise _NotPlainError
    layouts.append(_layout(text, start, structure, encoded=encoded))
    return layouts[-1]


def _layout(text: str, start: int, structure: Structure, *, encoded: bool) -> _Layout:
    """Return the layout of the entry at ``start``."""
    end = text.find(_CLOSE, start)
    position = start + len(_OPEN)
    if not text.startswith(_OPEN, start) or end < 0:
        raise _NotPlainError
    parts: list[str] = [_OPEN]
    columns: dict[str, _Column] = {}
    lists: list[str] = []
    while position < end and (field := _FIELD.match(text, position, end)) is not None:
        space, tag = field[1], field[2]
        child = structure.children[tag]
        if child is None or child.name in columns:
            raise _NotPlainError
        columns[child.name] = _column(child, encoded=encoded)
        if child.many:
            lists.append(child.name)
        parts.append(f"{re.escape(space)}<{tag}>([^<]*)</{tag}>")
        position = field.end()
    rest = text[position:end]
    if rest.strip() or not columns:
        raise _NotPlainError
    pattern = re.compile("".join([*parts, re.escape(rest), _CLOSE, r"\s*"]))
    return _Layout(pattern, tuple(columns), tuple(columns.values()), tuple(lists))


def _column(child: Child, *, encoded: bool) -> _Column:
    convert = child.convert
    if convert is None:
        raise _NotPlainError
    if child.name == "Key" and encoded:
        return _decoded_keys
    if convert is str:
        return _unescaped
    if convert is timestamp:
        return _timestamps
    return lambda texts: [convert(text) for text in _unescaped(texts)]


def _decoded_keys(texts: Sequence[str]) -> Sequence[str]:
    return [unquote_plus(key) if "%" in key or "+" in key else key for key in _unescaped(texts)]


def _timestamps(texts: Sequence[str]) -> Sequence[datetime]:
    try:
        made = [datetime.fromisoformat(text) for text in texts]
    except ValueError:
        made = []
    if not made or any(each.tzinfo is None for each in made):
        return [timestamp(text) for text in _unescaped(texts)]
    return made


def _unescaped(texts: Sequence[str]) -> Sequence[str]:
    if "&" not in "".join(texts):
        return texts
    texts = [text.replace("&quot;", '"') for text in texts]  # each ETag has two
    return [_REFERENCE.sub(_referred, text) if "&" in text else text for text in texts]


def _referred(reference: re.Match[str]) -> str:
    named = _NAMED.get(reference[1])
    if named is None or not reference[2]:
        raise _NotPlainError  # a numeric or broken reference
    return named


def _decoded(made: dict[str, Any]) -> Generator[None, None, None]:
    """Decode the keys of a response with ``encoding-type=url``, in steps."""
    if made.get("EncodingType") != "url":
        return
    for name in _ENCODED:
        if name in made:
            made[name] = unquote_plus(made[name])
    for name, inside in _ENCODED_IN:
        for number, entry in enumerate(_list(made.get(name)), 1):
            entry[inside] = unquote_plus(entry[inside])
            if not number % _ENTRIES:
                yield


def _list(value: Any) -> Iterable[dict[str, Any]]:
    return value or ()
