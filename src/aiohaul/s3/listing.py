"""Listings: page by page, and what they found, in few bytes for each object."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, chain, compress, islice, repeat
from operator import eq
from typing import Any, overload

from aiohaul.aws.direct.listing import columns_of
from aiohaul.aws.errors import translated
from aiohaul.aws.service import Service
from aiohaul.s3.objects import S3Object, unquoted, uri

#: What a listing tells of every object.
_FIELDS = ("Key", "Size", "ETag", "LastModified")
#: Objects that a ``repr`` shows.
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Block:
    """Some objects of a bucket, field by field: an answer has them in blocks of 200 at most.

    Python's garbage collector goes through all the S3Objects that are kept, and through none of
    these: it leaves out tuples of plain values.
    """

    bucket: str
    keys: tuple[str, ...]
    sizes: tuple[int, ...]
    etags: tuple[str, ...]
    modified: tuple[datetime, ...]
    storage_classes: tuple[str, ...]

    @classmethod
    def of(cls, bucket: str, objects: Iterable[S3Object]) -> Block:
        """These objects of a bucket."""
        rows = [
            (each.key, each.size, each.etag, each.last_modified, each.storage_class)
            for each in objects
        ]
        return cls(bucket, *zip(*rows, strict=True)) if rows else cls(bucket, (), (), (), (), ())

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[S3Object]:
        return map(S3Object, repeat(self.bucket), *self._columns())

    def __getitem__(self, index: int) -> S3Object:
        return S3Object(self.bucket, *(column[index] for column in self._columns()))

    def only(self, chosen: Sequence[object]) -> Block:
        """Those for which there is something true here."""
        if all(chosen):
            return self
        return Block(self.bucket, *(tuple(compress(each, chosen)) for each in self._columns()))

    def named(self, pattern: re.Pattern[str]) -> Block:
        """Those that :func:`aiohaul.s3.selection.matching` selects."""
        names = [key.rpartition("/")[2] for key in self.keys]
        return self.only([name and pattern.match(name) for name in names])

    def _columns(self) -> tuple[tuple[Any, ...], ...]:
        return (self.keys, self.sizes, self.etags, self.modified, self.storage_classes)


class Objects(Sequence[S3Object]):
    """Objects that were found. It cannot be changed, and makes each S3Object when it is asked for.

    Args:
        blocks: the objects, in their order.
    """

    __slots__ = ("_blocks", "_ends")

    def __init__(self, blocks: Iterable[Block] = ()) -> None:
        self._blocks = [each for each in blocks if len(each)]
        self._ends = [*accumulate(map(len, self._blocks))]

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[S3Object]:
        return chain.from_iterable(self._blocks)

    @overload
    def __getitem__(self, index: int) -> S3Object: ...
    @overload
    def __getitem__(self, index: slice) -> list[S3Object]: ...
    def __getitem__(self, index: int | slice) -> S3Object | list[S3Object]:
        at = range(len(self))[index]  # IndexError, as every sequence raises it
        return [*map(self._at, at)] if isinstance(at, range) else self._at(at)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # as lists have none

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, islice(self, _SHOWN)))
        return f"<{len(self)} objects: {shown}{', ...' if len(self) > _SHOWN else ''}>"

    def _at(self, index: int) -> S3Object:
        block = bisect_right(self._ends, index)
        return self._blocks[block][index - self._ends[block]]  # counted from the block's end


@dataclass(frozen=True, slots=True)
class Page:
    """An answer of a listing, or a part of one.

    Attributes:
        objects: in key order.
        more: True if a further answer follows this one.
    """

    objects: Block
    more: bool


async def list_objects(
    s3: Service, bucket: str, prefix: str = "", *, recursive: bool = True
) -> AsyncGenerator[S3Object, None]:
    """List the objects below a prefix, in key order: :func:`list_pages`, one by one."""
    async with aclosing(list_pages(s3, bucket, prefix, recursive=recursive)) as pages:
        async for page in pages:
            for each in page.objects:
                yield each


async def list_pages(
    s3: Service, bucket: str, prefix: str = "", *, recursive: bool = True
) -> AsyncGenerator[Page, None]:
    """List the objects below a prefix (ListObjectsV2, pages of 1,000 keys), in key order.

    Args:
        s3: the way to S3.
        bucket: the bucket.
        prefix: what the keys begin with.
        recursive: False leaves out keys with a further ``/`` behind the prefix.

    Raises:
        BucketNotFoundError: there is no such bucket.
        ServiceError: or another of its kinds.
    """
    parameters: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix}
    target = uri(bucket, prefix)
    if not recursive:
        parameters["Delimiter"] = "/"
    while True:
        page = await s3.call("list_objects_v2", target, **parameters)
        with translated("ListObjectsV2", target):
            more = page["IsTruncated"]  # what is no listing says nothing of it
            token = page["NextContinuationToken"] if more else None
            if more and token == parameters.get("ContinuationToken"):
                raise ValueError("the page that follows is the same one")
            blocks = _blocks(bucket, page.get("Contents", ()))
            block = next(blocks, None)
        yield Page(block or Block.of(bucket, ()), more)
        while block is not None:
            with translated("ListObjectsV2", target):
                block = next(blocks, None)
            if block is not None:
                yield Page(block, more)
        if not more:
            return
        parameters["ContinuationToken"] = token


def _blocks(bucket: str, contents: Any) -> Iterator[Block]:
    for keys, sizes, etags, modified, classes in columns_of(contents, _FIELDS, "StorageClass"):
        yield Block(
            bucket,
            tuple(keys),
            tuple(sizes),
            tuple(map(unquoted, etags)),
            tuple(modified),
            _repeated(tuple(each or "STANDARD" for each in classes)),
        )


def _repeated(values: tuple[str, ...]) -> tuple[str, ...]:
    """The same values: one string where all are equal."""
    return values[:1] * len(values) if len({*values}) == 1 else values
