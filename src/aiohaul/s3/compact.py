"""Sequences that hold many items in little memory, and create an item when it is accessed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, islice
from operator import eq
from typing import Protocol, TypeVar, overload

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")

#: The number of items in a repr.
_SHOWN = 3


class Block(Protocol[T_co]):
    """Items of one class, stored as one tuple per field.

    Python's garbage collector would scan every item that is stored as an object. It does not scan
    tuples of plain values.
    """

    @property
    def size(self) -> int:
        """The total size in bytes."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[T_co]: ...

    def __getitem__(self, index: int, /) -> T_co: ...


class CompactSequence(Sequence[T_co]):
    """An immutable sequence of items of one class, which are created when they are accessed.

    Args:
        blocks: the blocks with the items, in order.
    """

    __slots__ = ("_blocks", "_ends")

    def __init__(self, blocks: Iterable[Block[T_co]] = ()) -> None:
        self._blocks = [each for each in blocks if len(each)]
        self._ends = [*accumulate(map(len, self._blocks))]

    @property
    def size(self) -> int:
        """The total size in bytes."""
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
        at = range(len(self))[index]  # raises IndexError
        return [*map(self._at, at)] if isinstance(at, range) else self._at(at)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # unhashable, as a list

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, islice(self, _SHOWN)))
        return f"<{len(self)} items: {shown}{', ...' if len(self) > _SHOWN else ''}>"

    def _at(self, index: int) -> T_co:
        block = bisect_right(self._ends, index)
        return self._blocks[block][index - self._ends[block]]  # negative, from the block's end


class _Sized(Protocol):
    @property
    def size(self) -> int:
        """The size in bytes."""


def frozen(items: Iterable[T]) -> Sequence[T]:
    """Return the items as an immutable sequence."""
    return items if isinstance(items, CompactSequence) else tuple(items)


def total_size(items: Iterable[_Sized]) -> int:
    """Return the total size of the items in bytes."""
    return items.size if isinstance(items, CompactSequence) else sum(each.size for each in items)


def any_of_type(items: Sequence[object], kind: type) -> bool:
    """Return True if one of the items has this type."""
    some = items[:1] if isinstance(items, CompactSequence) else items  # all have the same class
    return any(isinstance(each, kind) for each in some)
