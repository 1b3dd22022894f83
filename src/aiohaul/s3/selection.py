"""Selects objects and files by name, size, age and number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from aiohaul.regexes.bounded import bounded
from aiohaul.threads import run_in_thread_if


class Candidate(Protocol):
    """An object or a file that can be selected."""

    @property
    def name(self) -> str:
        """The file name."""

    @property
    def size(self) -> int:
        """The size in bytes."""

    @property
    def last_modified(self) -> datetime:
        """The time of the last change, in UTC."""


C = TypeVar("C", bound=Candidate)

#: Characters that end the literal prefix of a regex. A backslash is handled separately.
_SPECIAL = frozenset(".^$*+?{}[]|()")
#: Characters that can make the preceding character optional.
_OPTIONAL = frozenset("*?{")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Conditions on the size, age and number of selected objects or files. None is no condition.

    Attributes:
        size_gt: the size in bytes must be greater than this.
        size_lt: the size in bytes must be less than this.
        age_gt: the age, the seconds since LastModified, must be greater than this.
        age_lt: the age, the seconds since LastModified, must be less than this.
        min_count: if fewer objects match, none is selected.
        max_count: if more objects match, none is selected.
        during_watch: in a task definition, True makes the watch wait until the conditions are met;
            False applies the conditions after the watch.
    """

    size_gt: float | None = None
    size_lt: float | None = None
    age_gt: float | None = None
    age_lt: float | None = None
    min_count: int | None = None
    max_count: int | None = None
    during_watch: bool = False

    def apply(self, found: Sequence[C], now: datetime) -> list[C]:
        """Return the objects that meet the conditions on size and age, if their number is allowed.

        Args:
            found: the objects or files.
            now: the time, in UTC.

        Returns:
            The objects; empty if their number does not meet ``min_count`` and ``max_count``.
        """
        met = [each for each in found if self.meets(each, now)]
        return met if self.enough(len(met)) else []

    def enough(self, count: int) -> bool:
        """Return True if ``count`` meets ``min_count`` and ``max_count``."""
        return (self.min_count is None or count >= self.min_count) and (
            self.max_count is None or count <= self.max_count
        )

    def meets(self, each: Candidate, now: datetime) -> bool:
        """Return True if an object meets the conditions on size and age at the time ``now``."""
        age = (now - each.last_modified).total_seconds()
        return (
            self._has_size(each)
            and (self.age_gt is None or age > self.age_gt)
            and (self.age_lt is None or age < self.age_lt)
        )

    def seconds_until_met(self, found: Iterable[Candidate], now: datetime) -> float | None:
        """Return the seconds until unchanged objects meet the conditions because they get older.

        Args:
            found: the objects or files, which do not meet the conditions now.
            now: the time, in UTC.

        Returns:
            The seconds; None if the objects never meet the conditions. At exactly this time, an age
            may be equal to ``age_gt``, so check the conditions shortly after.
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
    """Return the objects or files whose names match (``re.match``).

    A key that ends with "/" never matches. The AWS console creates such a key to show a folder.

    Raises:
        RegexLimitError: the regex refers back to a group, and a name takes too many steps.
    """
    matches = bounded(pattern).matches_name
    return [each for each in found if each.name and matches(each.name)]


async def select_matching(found: Sequence[C], pattern: re.Pattern[str]) -> list[C]:
    """Return what :func:`matching` does. A regex that may take long is matched in a thread.

    Raises:
        RegexLimitError: as :func:`matching` does.
    """
    return await run_in_thread_if(not bounded(pattern).is_fast, matching, found, pattern)


def list_prefix(directory: str, pattern: re.Pattern[str]) -> str:
    """Return the prefix with which a listing finds all keys in ``directory`` whose names match.

    The directory "" is the whole bucket with all subdirectories. Its prefix is "".
    """
    return f"{directory}/{literal_prefix(pattern)}" if directory else ""


def literal_prefix(pattern: re.Pattern[str]) -> str:
    """Return a literal prefix of all strings that the pattern matches.

    The result may be shorter than the longest common prefix.
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
