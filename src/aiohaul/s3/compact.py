"""Many items in few bytes each: an item is made when it is asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, islice
from operator import eq
from typing import Protocol, TypeVar, overload

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")

#: Items that a ``repr`` shows.
_SHOWN = 3


class Block(Protocol[T_co]):
    """Some items of one kind, kept field by field.

    Python's garbage collector goes through every item that is kept as an object, and through
    nothing here: it leaves out tuples of plain values.
    """

    @property
    def size(self) -> int:
        """Bytes of all of them together."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[T_co]: ...

    def __getitem__(self, index: int, /) -> T_co: ...


class CompactSequence(Sequence[T_co]):
    """Items of one kind. They cannot be changed, and each is made when it is asked for.

    Args:
        blocks: the items, in their order.
    """

    __slots__ = ("_blocks", "_ends")

    def __init__(self, blocks: Iterable[Block[T_co]] = ()) -> None:
        self._blocks = [each for each in blocks if len(each)]
        self._ends = [*accumulate(map(len, self._blocks))]

    @property
    def size(self) -> int:
        """Bytes of all of them together."""
        return sum(each.size for each in self._blocks)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[T_co]:
        return chain.from_iterable(self._blocks)

    @overload
    def __getitem__(self, index: int) -> T_co: ...
    @overload
    def __getitem__(self, index: slice) -> list[T_co]: ...
    def __getitem__(self, index: int | slice) -> T_co | list[T_co]:
        at = range(len(self))[index]  # IndexError, as every sequence raises it
        return [*map(self._at, at)] if isinstance(at, range) else self._at(at)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # as lists have none

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, islice(self, _SHOWN)))
        return f"<{len(self)} items: {shown}{', ...' if len(self) > _SHOWN else ''}>"

    def _at(self, index: int) -> T_co:
        block = bisect_right(self._ends, index)
        return self._blocks[block][index - self._ends[block]]  # counted from the block's end


class _Sized(Protocol):
    @property
    def size(self) -> int:
        """Bytes."""


def unchanging(items: Iterable[T]) -> Sequence[T]:
    """The items as they are now."""
    return items if isinstance(items, CompactSequence) else tuple(items)


def size_of(items: Iterable[_Sized]) -> int:
    """Bytes of all of them together."""
    return items.size if isinstance(items, CompactSequence) else sum(each.size for each in items)


def some_is(items: Sequence[object], kind: type) -> bool:
    """Whether one of the items is of this type."""
    seen = items[:1] if isinstance(items, CompactSequence) else items  # whose items are of one
    return any(isinstance(each, kind) for each in seen)
