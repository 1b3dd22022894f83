"""Which of the objects that are there are meant: pure decisions on names, sizes, ages, counts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar


class Candidate(Protocol):
    """An object or a file, as far as a selection looks at it."""

    @property
    def name(self) -> str:
        """The file name."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def last_modified(self) -> datetime:
        """In UTC."""


C = TypeVar("C", bound=Candidate)

#: What ends the literal start of a regex. A backslash is handled apart.
_SPECIAL = frozenset(".^$*+?{}[]|()")
#: What makes the character before it optional.
_OPTIONAL = frozenset("*?{")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What sizes, ages and number the selected files must have; None is no condition.

    Attributes:
        size_gt: bytes that each must exceed.
        size_lt: bytes that each must stay below.
        age_gt: seconds since LastModified that each must exceed.
        age_lt: seconds since LastModified that each must stay below.
        min_count: fewer than this many are none.
        max_count: more than this many are none.
        during_watch: a watch goes on until the conditions are met; otherwise they are applied
            once it has ended.
    """

    size_gt: float | None = None
    size_lt: float | None = None
    age_gt: float | None = None
    age_lt: float | None = None
    min_count: int | None = None
    max_count: int | None = None
    during_watch: bool = False

    def apply(self, found: Sequence[C], now: datetime) -> list[C]:
        """Those of ``found`` that meet the conditions; none if their number does not."""
        met = [each for each in found if self.meets(each, now)]
        return met if self.enough(len(met)) else []

    def enough(self, count: int) -> bool:
        """Whether this many files, each of which meets the conditions, are a right number."""
        return (self.min_count is None or count >= self.min_count) and (
            self.max_count is None or count <= self.max_count
        )

    def meets(self, each: Candidate, now: datetime) -> bool:
        """Whether a file's size and age are right."""
        age = (now - each.last_modified).total_seconds()
        return (
            self._has_size(each)
            and (self.age_gt is None or age > self.age_gt)
            and (self.age_lt is None or age < self.age_lt)
        )

    def come_true_in(self, found: Iterable[Candidate], now: datetime) -> float | None:
        """Seconds until these files, as they are, meet the conditions by getting older.

        Args:
            found: files that do not meet them now, or not in the right number.
            now: the time, in UTC.

        Returns:
            Seconds after which they do (at that very moment, ``age > gt`` may not be true yet);
            None if they never will.
        """
        if self.age_gt is None and self.age_lt is None:
            return None
        older, younger = self.age_gt, self.age_lt
        count = 0
        steps: list[tuple[float, int]] = []
        for each in found:
            age = (now - each.last_modified).total_seconds()
            if not self._has_size(each) or (younger is not None and age >= younger):
                continue
            if older is not None and younger is not None and older >= younger:
                continue
            if older is not None and age <= older:
                steps.append((older - age, 1))
            else:
                count += 1
            if younger is not None:
                steps.append((younger - age, -1))
        for at, (moment, step) in enumerate(steps := sorted(steps)):
            count += step
            more = at + 1 < len(steps) and steps[at + 1][0] == moment
            if count and not more and self.enough(count):
                return moment
        return None

    def _has_size(self, each: Candidate) -> bool:
        return (self.size_gt is None or each.size > self.size_gt) and (
            self.size_lt is None or each.size < self.size_lt
        )


def matching(found: Iterable[C], pattern: re.Pattern[str]) -> list[C]:
    """Those whose name the pattern matches from its start (``re.match``).

    A key that ends in "/" is a console's marker of a folder, not a file.
    """
    return [each for each in found if each.name and pattern.match(each.name)]


def list_prefix(directory: str, pattern: re.Pattern[str]) -> str:
    """The longest prefix under which a listing sees every match in ``directory``.

    "" as the directory means the whole bucket at all depths, where names narrow nothing.
    """
    return f"{directory}/{literal_start(pattern)}" if directory else ""


def literal_start(pattern: re.Pattern[str]) -> str:
    """The characters with which everything that the pattern matches begins.

    It may be shorter than it could be, never longer.
    """
    text = pattern.pattern
    if pattern.flags & (re.IGNORECASE | re.VERBOSE) or "|" in text:
        return ""
    literal: list[str] = []
    at = 1 if text.startswith("^") else 0
    while at < len(text):
        char, width = text[at], 1
        if char == "\\":
            char, width = text[at + 1 : at + 2], 2
            if not char or char.isalnum():  # a class such as \d, or an assertion such as \b
                break
        elif char in _SPECIAL:
            break
        if text[at + width : at + width + 1] in _OPTIONAL:
            break
        literal.append(char)
        at += width
    return "".join(literal)
