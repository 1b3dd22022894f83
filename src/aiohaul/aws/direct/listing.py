"""Pure: pages of a listing, read in a few milliseconds and in short steps.

A thousand objects are a thousand times the same few elements. Their layout is taken from the
first, and the others are read by one regular expression each. It matches plain elements in that
very order and nothing else: whatever is not as plain is left to the parser of XML.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any
from urllib.parse import unquote_plus

from aiohaul.aws.direct.answers import Answer, Child, Structure, read_body, timestamp
from aiohaul.aws.direct.payload import Bytes

#: Entries that are read at a stretch: under 1 ms.
_ENTRIES = 200
#: Layouts that are looked for before a page counts as one of no common layout.
_LAYOUTS = 8
_OPEN, _CLOSE = "<Contents>", "</Contents>"
#: Control characters: those that it refuses, and the one that it changes at the ends of lines.
_CONTROL = bytes({*range(0x20)} - {ord("\t"), ord("\n")})
#: What only such a parser can read: comments, CDATA, declarations and instructions.
_SPECIAL = re.compile("<!|(?<!^)<\\?")
#: A page up to its first object: the root, and plain elements directly in it.
_HEAD = re.compile(
    r"(<\?xml[^<>]*\?>)?\s*<ListBucketResult(\s[^<>]*[^<>/])?>(\s*<(\w+)>[^<]*</\4>|\s*<\w+\s*/>)*\s*"
)
_FIELD = re.compile(r"(\s*)<(\w+)>([^<]*)</\2>")
_REFERENCE = re.compile("&([^;&<]*)(;?)")
_NAMED = {"amp": "&", "apos": "'", "gt": ">", "lt": "<", "quot": '"'}

#: Members whose values S3 encodes on request, and those of the entries of lists.
_ENCODED = ("Delimiter", "Prefix", "StartAfter")
_ENCODED_IN = (("Contents", "Key"), ("CommonPrefixes", "Prefix"))


_Column = Callable[[Sequence[str]], Sequence[Any]]


class _NotPlainError(Exception):
    """This page, or this part of it, is for a parser of XML."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Which fields the entries of a page have, in their order."""

    pattern: re.Pattern[str]
    names: tuple[str, ...]
    columns: tuple[_Column, ...]
    #: Those whose value is a list, here always of one.
    lists: tuple[str, ...]

    def read(self, rows: list[tuple[str, ...]]) -> list[Sequence[Any]]:
        """The values of each field: converting these is three times as fast as one by one."""
        texts = zip(*rows, strict=True)
        return [convert(text) for convert, text in zip(self.columns, texts, strict=True)]


class Entries:
    """The entries of a page, each made into a dictionary only when it is asked for.

    Until then there is one list for each field of many, instead of a dictionary for each entry:
    a thousand of these at a time would have Python collect its garbage again and again.
    """

    def __init__(self) -> None:
        self._blocks: list[tuple[_Layout, list[Sequence[Any]]]] = []

    def add(self, layout: _Layout, rows: list[tuple[str, ...]]) -> None:
        """Add these rows of texts."""
        if rows:
            self._blocks.append((layout, layout.read(rows)))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for layout, columns in self._blocks:
            for row in zip(*columns, strict=True):
                entry = dict(zip(layout.names, row, strict=True))
                yield entry | {name: [entry[name]] for name in layout.lists}

    def columns(self, names: Sequence[str], last: str) -> Iterator[list[Sequence[Any]]]:
        """The values of these fields, and of a last one that need not be there, block by block.

        None of them is one whose value is a list.

        Raises:
            KeyError: an entry has not all of them.
        """
        for layout, columns in self._blocks:
            by_name = dict(zip(layout.names, columns, strict=True))
            needed = [by_name[name] for name in names]
            yield [*needed, by_name.get(last) or [None] * len(columns[0])]


def columns_of(
    entries: Entries | Iterable[Mapping[str, Any]], names: Sequence[str], last: str
) -> Iterator[list[Sequence[Any]]]:
    """The same of a page, however it was read."""
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
    """What a page of a listing says, in steps of about a millisecond.

    Its ``Contents`` can be iterated, and need not be a list.

    Args:
        answer: how answers of ListObjectsV2 are read.
        status: the HTTP status.
        body: the page.
        decode: undo the encoding of keys that was asked for.

    Raises:
        FailedAnswerError: it is an error, though the status says otherwise.
        ValueError: it cannot be understood.
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
    """The page, if every character in it is one that XML allows and leaves alone."""
    bracketed = b"]" in body and b"]]>" in body
    # Two of the characters beyond ASCII are refused, and both begin with these bytes.
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
    """The layout of the entry that starts here."""
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
    texts = [text.replace("&quot;", '"') for text in texts]  # two in each ETag
    return [_REFERENCE.sub(_referred, text) if "&" in text else text for text in texts]


def _referred(reference: re.Match[str]) -> str:
    named = _NAMED.get(reference[1])
    if named is None or not reference[2]:
        raise _NotPlainError  # by a number, or not at all
    return named


def _decoded(made: dict[str, Any]) -> Generator[None, None, None]:
    """Decode the keys of a listing that was asked for with ``encoding-type=url``, in steps."""
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
