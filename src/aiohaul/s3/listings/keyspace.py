"""Where to split a range of keys: learns from listed keys which characters follow where.

Python compares strings by code point, which is also the order of their UTF-8 bytes.
"""

from __future__ import annotations

import os
import string
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

#: The maximum size of a key in UTF-8, in bytes.
MAX_KEY = 1024
#: The number of keys of a page from which characters are learned.
_SAMPLES = 8
#: The number of characters after the prefix of the listing that are learned.
_LEARNED = 256
#: The maximum number of positions, and of characters at one position, that are remembered.
_POSITIONS, _CHARACTERS = 4096, 512
#: The number of positions with more than one character that an estimate looks at.
_DIGITS = 4
#: The number of positions after the branching position at which a split is looked for.
_BELOW = 8

_DIGITS_10 = frozenset(string.digits)
_LOWER, _UPPER = frozenset(string.ascii_lowercase), frozenset(string.ascii_uppercase)
_HEX, _UPPER_HEX = frozenset("abcdef"), frozenset("ABCDEF")
_SURROGATES = range(0xD800, 0xE000)
_CONTROLS = (range(0x20), range(0x7F, 0xA0), range(0xFFFE, 0x10000))
_LAST = 0x10FFFF

#: The position of a character: the number of "/" before it, and the distance from the last one.
Position = tuple[int, int]


class KeySpace:
    """The characters that keys below a prefix have at each position.

    A split point is a guess. A wrong one costs a request, and never a key.

    Args:
        prefix: the prefix of all keys.
        recursive: False if keys with another "/" after the prefix are not listed.
    """

    def __init__(self, prefix: str, *, recursive: bool = True) -> None:
        self._prefix = prefix
        self._recursive = recursive
        self._seen: dict[Position, set[str]] = {}
        self._absent: dict[Position, set[str]] = {}
        self._alphabets: dict[Position, tuple[str, ...]] = {}

    def learn(self, keys: Sequence[str]) -> None:
        """Learn the characters of some of these keys."""
        if not keys:
            return
        step = max(1, len(keys) // _SAMPLES)
        for key in (*keys[::step], keys[-1]):
            for at, position in self._positions(key):
                seen = self._seen.get(position)
                if seen is None:
                    if len(self._seen) >= _POSITIONS:
                        break
                    seen = self._seen[position] = set()
                if key[at] not in seen and len(seen) < _CHARACTERS:
                    seen.add(key[at])
                    self._alphabets.clear()
                    if key[at] in self._absent.get(position, ()):
                        del self._absent[position]  # the gap is not everywhere

    def learn_gap(self, point: str, bound: str | None) -> None:
        """Learn that no key lies between a split point and the bound of its range."""
        at = len(point) - 1
        for where, position in self._positions(point, at):
            limit = bound[at : at + 1] if bound is not None and bound[:at] == point[:at] else ""
            absent = {
                each
                for each in self._alphabet(position)
                if each >= point[where] and (not limit or each < limit)
            }
            self._absent.setdefault(position, set()).update(absent)
            self._alphabets.clear()

    def split_point(
        self, shared: str, position: str, bound: str | None, *, by_depth: bool = False
    ) -> str | None:
        """Choose a key between two others, so that about half of the keys come after it.

        Args:
            shared: the common prefix of the last keys that were listed.
            position: the last key that was listed.
            bound: no key is expected after this one; None if that is unknown.
            by_depth: True chooses the end of a subtree on the path to ``position``.

        Returns:
            A string greater than ``position`` and less than ``bound``, with the prefix of the
            listing; None if no split is likely to find keys on both sides.
        """
        for candidate in self._candidates(shared, position, bound, by_depth=by_depth):
            if self._is_valid(candidate, position, bound):
                return candidate
        return None

    def fraction(self, key: str, start: int) -> float:
        """Estimate how many of the keys that share ``key[:start]`` come before ``key``, 0 to 1."""
        value, scale, digits = 0.0, 1.0, 0
        for at, position in self._positions(key, start):
            alphabet = self._alphabet(position)
            rank = bisect_left(alphabet, key[at])
            value += scale * rank / max(len(alphabet), 1)
            if rank == len(alphabet) or alphabet[rank] != key[at]:
                break
            if len(alphabet) > 1:
                scale /= len(alphabet)
                digits += 1
            if digits == _DIGITS:
                break
        return value

    def shared_length(self, key: str, bound: str | None) -> int:
        """Return the length of the prefix that all keys from ``key`` to ``bound`` share."""
        if bound is None:
            return len(self._prefix)
        return max(len(self._prefix), len(common_prefix(key, bound)))

    def _candidates(
        self, shared: str, position: str, bound: str | None, *, by_depth: bool
    ) -> Iterator[str]:
        top = self.shared_length(position, bound)
        limit = bound[top : top + 1] if bound is not None else ""
        if by_depth:
            names = [
                at
                for at, where in self._positions(position, top + (bound is not None))
                if at < len(shared)
                and not (position[at].isdigit() and len(self._seen.get(where, ())) > 1)
            ]
            yield from self._after_subtrees(position, names)
        unknown: list[int] = []
        for at, where in self._positions(position, top):
            if at > max(len(shared), top) + _BELOW:
                break
            seen = self._seen.get(where, set())
            if at < len(shared) and len(seen) <= 1:
                # All listed keys have one character here. Digits are likely to count up, and the
                # end of the listing is unknown; other characters belong to a fixed name.
                if bound is None or position[at].isdigit():
                    unknown.append(at)
                continue
            if top < at < len(shared) and not position[at].isdigit():
                continue  # within a name that all the last keys have
            alphabet = self._alphabet(where)
            low = bisect_right(alphabet, position[at])
            high = bisect_left(alphabet, limit) if at == top and limit else len(alphabet)
            if low < high:
                # Above the branching position, first find out whether there are other subtrees.
                yield from self._after_subtrees(position, unknown)
                yield position[:at] + alphabet[(low + high) // 2]
        yield from self._after_subtrees(position, unknown)

    @staticmethod
    def _after_subtrees(position: str, unknown: Sequence[int]) -> Iterator[str]:
        """Yield the end of a subtree in the middle of the path to a key."""
        if unknown:
            at = unknown[len(unknown) // 2]
            following = _next_character(position[at])
            if following is not None:
                yield position[:at] + following

    def _is_valid(self, candidate: str, position: str, bound: str | None) -> bool:
        if not position < candidate or (bound is not None and not candidate < bound):
            return False
        if not self._recursive and "/" in candidate[len(self._prefix) :]:
            return False
        try:
            return len(candidate.encode()) <= MAX_KEY
        except UnicodeEncodeError:  # a surrogate: no key in UTF-8 has one
            return False

    def _alphabet(self, position: Position) -> tuple[str, ...]:
        """Return the characters that may occur at a position, in order."""
        alphabet = self._alphabets.get(position)
        if alphabet is None:
            depth, offset = position
            seen = self._seen.get(position, set())
            near = [self._seen.get((depth, offset + more), set()) for more in range(4)]
            likely = (_completed(seen, near) - self._absent.get(position, set())) | seen
            alphabet = self._alphabets[position] = tuple(sorted(likely))
        return alphabet

    def _positions(self, key: str, start: int | None = None) -> Iterator[tuple[int, Position]]:
        """Yield the index and the position of the characters after the prefix."""
        base = len(self._prefix)
        start = base if start is None else start
        depth = key.count("/", base, start)
        last = max(key.rfind("/", base, start) + 1, base)
        for at in range(start, min(len(key), base + _LEARNED)):
            yield at, (depth, at - last)
            if key[at] == "/":
                depth, last = depth + 1, at + 1


def common_prefix(one: str, other: str) -> str:
    """Return the longest common prefix of two keys."""
    return os.path.commonprefix((one, other))  # noqa: RUF071  # keys, character by character


def _completed(seen: set[str], near: Sequence[set[str]]) -> set[str]:
    """Return the characters at a position, and those that are likely to occur there, too.

    Args:
        seen: the characters at this position.
        near: the characters at this position and at each of the next ones.
    """
    found = set(seen)
    if seen & _DIGITS_10:
        found |= _DIGITS_10
        for letters in (_HEX, _UPPER_HEX):
            is_hex = all(each <= letters | _DIGITS_10 for each in near)
            if is_hex and any(each & letters for each in near):
                found |= letters
    if len(seen) > 1:  # else it may be a fixed name
        for letters in (_LOWER, _UPPER):
            found |= letters if seen & letters else set()
        if not all(map(str.isascii, seen)):
            found |= {each for some in near for each in some if not each.isascii()}
    return found


def _next_character(character: str) -> str | None:
    """Return a greater character that URLs and XML can carry; None after the last one."""
    code = ord(character) + 1
    while code <= _LAST:
        for skipped in (_SURROGATES, *_CONTROLS):
            if code in skipped:
                code = skipped.stop
                break
        else:
            return chr(code)
    return None
