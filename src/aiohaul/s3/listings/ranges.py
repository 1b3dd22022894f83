"""A range of keys that is listed with requests of its own."""

from __future__ import annotations

import asyncio
import pickle
import zlib
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import pairwise

from aiohaul.s3.listings.keyspace import KeySpace, common_prefix
from aiohaul.s3.listings.pages import Answer, ObjectBlock

#: An estimate, in pages, for a range whose first pages all lie at its start.
_MANY = 100.0
#: The number of pages after which an estimate forgets earlier ones.
_RECENT = 4.0
#: The number of pages after the end of a range in which keys of the next range must be found.
_PAGES_BEYOND = 2


class DisorderError(Exception):
    """The server does not list keys in order, or does not start after the requested key."""


class MismatchError(Exception):
    """Two ranges do not overlap: the order is not S3's, or most of the keys there changed."""


class KeyRange:
    """The keys after ``start`` up to ``end``, of which the keys up to ``position`` were listed.

    Each range is listed until a key of the next range appears in a page. The pages of the two
    ranges must overlap there. So the ranges together are what one listing from the first key to
    the last would be, if the server has any order at all.

    Args:
        start: the key after which the range starts.
        end: the last possible key; None for the last range.
        bound: an estimate of the end, which may be too low; None if the end is unknown.

    Attributes:
        position: the last key or common prefix that was listed.
        token: the continuation token after the last page.
        is_first: True if the range begins at the start of the listing.
        head: the keys of the first page.
        ready: pages that were listed and not consumed, as blocks or packed.
        finished: True if no request follows.
        task: the request for the next page, which is in flight.
        probe: the request for the first page of the upper part of this range.
        probe_start: the StartAfter of ``probe``.
        remaining: an estimate of the pages after ``position``.
    """

    def __init__(self, start: str, end: str | None, bound: str | None) -> None:
        self.end = end
        self.bound = bound
        self.position = start
        self.token: str | None = None
        self.is_first = False
        self.head: Sequence[str] = ()
        self.ready: deque[list[ObjectBlock] | bytes] = deque()
        self.finished = False
        self.task: asyncio.Task[Answer] | None = None
        self.probe: asyncio.Task[Answer] | None = None
        self.probe_start = ""
        self.remaining = 1.0
        self._pages = 0.0
        self._misses = 0
        #: keys, each with the number of pages before it
        self._first: tuple[str, float] | None = None
        self._middle = (start, 0.0)
        self._shared = start
        self._needs_token = False
        self._beyond: list[str] = []
        self._blocks_beyond: list[ObjectBlock] = []
        self._pages_beyond = 0

    @property
    def can_split(self) -> bool:
        """True if the range may be split now."""
        return not (self.finished or self._beyond or self.probe is not None)

    @property
    def next_request(self) -> tuple[str | None, str | None]:
        """The continuation token and the StartAfter of the next request; one of them is None.

        StartAfter is preferred, because some servers skip a key when they continue with a token
        after a StartAfter. After a common prefix, StartAfter might list this prefix again.
        """
        if self.is_first or self._needs_token:
            return self.token, None
        return None, self.position

    def check(self, answer: Answer, start: str, prefix: str) -> None:
        """Check that a page is in key order, starts after ``start``, and has the prefix.

        Raises:
            DisorderError: it is not so.
        """
        for entries in (answer.keys, answer.prefixes):
            if not entries:
                continue
            # A request may start in the middle of a common prefix.
            inside = entries is answer.prefixes and start.startswith(entries[0])
            if not (entries[0] > start or inside):
                raise DisorderError
            if not all(one < other for one, other in pairwise(entries)):
                raise DisorderError
            if not (entries[0].startswith(prefix) and entries[-1].startswith(prefix)):
                raise DisorderError

    def add(self, answer: Answer, following: KeyRange | None) -> float:
        """Add the next page, up to the end of the range.

        Args:
            answer: the page.
            following: the next range; None if this range is the last one.

        Returns:
            The part of the page that belongs to this range, 0 to 1.

        Raises:
            MismatchError: the page does not overlap with the start of the next range.
        """
        entries = answer.entries
        inside = bisect_right(entries, self.end) if self.end is not None else len(entries)
        part = inside / len(entries) if entries else 0.0
        blocks = [*_up_to(answer.blocks, self.end)]
        if blocks:
            self.ready.append(blocks)
        self.token = answer.token
        self._needs_token = not answer.keys or entries[-1] != answer.keys[-1]
        if entries:
            self.position = entries[-1]
        if inside:
            self._first = self._first or (entries[0], self._pages)
            self._shared = common_prefix(entries[0], entries[inside - 1])
            self._pages += part
            if self._pages - self._middle[1] >= _RECENT:
                # Directories differ in size, so only the last pages show the density of keys.
                self._first, self._middle = self._middle, (entries[inside - 1], self._pages)
            if self.bound is not None and self.position >= self.bound:
                self.bound = self.end  # the estimate was too low
        self.finished = not answer.more
        if following is not None and (inside < len(entries) or not answer.more):
            self._beyond += entries[inside:]
            self._blocks_beyond += _after(answer.blocks, self.end)
            self._pages_beyond += 1
            self._join(following, answer)
        return part

    def add_unchecked(self, answer: Answer) -> None:
        """Add the next page of a listing whose order is not checked."""
        self.token = answer.token
        self.ready.append([*answer.blocks])
        self.finished = not answer.more

    def continue_unchecked(self) -> None:
        """Make this range the rest of the listing: from its position on, with tokens."""
        self.is_first = True
        self.end = None
        if self._blocks_beyond:
            self.ready.append(self._blocks_beyond)
            self._blocks_beyond = []
        if self.token is None:
            self.finished = True

    def pack(self) -> None:
        """Compress the waiting pages to a fifth of their size."""
        for at in reversed(range(len(self.ready))):
            page = self.ready[at]
            if isinstance(page, bytes):
                return  # so are all before it
            self.ready[at] = zlib.compress(pickle.dumps(page), level=1)

    def take(self) -> list[ObjectBlock]:
        """Remove and return the next page."""
        page = self.ready.popleft()
        if isinstance(page, bytes):
            unpacked: list[ObjectBlock] = pickle.loads(zlib.decompress(page))  # noqa: S301  # of pack
            return unpacked
        return page

    def estimate(self, space: KeySpace) -> None:
        """Estimate the remaining pages from the part of the range that was listed."""
        if self.finished or self._first is None:
            self.remaining = 0.0 if self.finished else 1.0
            return
        first, pages_before = self._first
        start = space.shared_length(first, self.bound)
        before = space.fraction(first, start)
        now = space.fraction(self.position, start)
        last = space.fraction(self.bound, start) if self.bound is not None else 1.0
        done, left = now - before, max(last - now, 0.0)
        guess = min(left / done, _MANY) if done > 0 else _MANY
        # A range that does not end has more keys than the estimate says.
        self.remaining = max((self._pages - pages_before) * guess, self._pages * 0.25)

    def split(self, start: str, head: Sequence[str]) -> KeyRange:
        """End this range at ``start``, and return the range of the keys after it.

        Args:
            start: the new end.
            head: the first keys and common prefixes after ``start``.
        """
        upper = KeyRange(start, self.end, self.bound)
        upper.head = head
        self.end = self.bound = start
        self._misses = 0
        return upper

    def split_point(self, space: KeySpace) -> str | None:
        """Return a key at which the rest of this range may be split; None if there is none."""
        by_depth = self._misses % 2 == 1
        return space.split_point(self._shared, self.position, self.bound, by_depth=by_depth)

    def missed(self, space: KeySpace) -> None:
        """Learn from a probe that found no key between its start and the end, or came too late."""
        self._misses += 1
        if self.position < self.probe_start:
            space.learn_gap(self.probe_start, self.bound)
            self.bound = self.probe_start
            self.estimate(space)

    def _join(self, following: KeyRange, answer: Answer) -> None:
        """End the range where its last page overlaps with the next range.

        Keys that both have may be missing on either side if they were written or deleted meanwhile.
        """
        head = set(following.head)
        at = next((at for at, each in enumerate(self._beyond) if each in head), None)
        if at is None:
            if not answer.more or self._pages_beyond >= _PAGES_BEYOND:
                self.finished = False
                raise MismatchError
            return
        if at and following.head[0] == self._beyond[at]:
            # The keys before the overlap are not in the next range: list them here.
            missing = set(self._beyond[:at])
            blocks = [b.only([key in missing for key in b.keys]) for b in self._blocks_beyond]
            self.ready.append([each for each in blocks if len(each)])
        self._beyond, self._blocks_beyond = [], []
        self.finished = True


def _up_to(blocks: Sequence[ObjectBlock], end: str | None) -> Iterator[ObjectBlock]:
    """Yield the objects whose keys are not after ``end``."""
    for block in blocks:
        inside = len(block) if end is None else bisect_right(block.keys, end)
        if inside:
            yield block.only([at < inside for at in range(len(block))])


def _after(blocks: Sequence[ObjectBlock], end: str | None) -> Iterator[ObjectBlock]:
    """Yield the objects whose keys are after ``end``."""
    for block in blocks:
        inside = len(block) if end is None else bisect_right(block.keys, end)
        if inside < len(block):
            yield block.only([at >= inside for at in range(len(block))])
