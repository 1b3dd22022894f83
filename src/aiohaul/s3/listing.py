"""Listings, page by page."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from itertools import compress, repeat
from typing import Any

from aiohaul.aws.direct.listing import columns_of
from aiohaul.aws.errors import translated
from aiohaul.aws.service import Service
from aiohaul.s3.compact import Block
from aiohaul.s3.objects import S3Object, unquoted, uri

#: What a listing tells of every object.
_FIELDS = ("Key", "Size", "ETag", "LastModified")


@dataclass(frozen=True, slots=True)
class ObjectBlock(Block[S3Object]):
    """Some objects of a bucket, field by field: an answer has them in blocks of 200 at most."""

    bucket: str
    keys: tuple[str, ...]
    sizes: tuple[int, ...]
    etags: tuple[str, ...]
    modified: tuple[datetime, ...]
    storage_classes: tuple[str, ...]

    @classmethod
    def of(cls, bucket: str, objects: Iterable[S3Object]) -> ObjectBlock:
        """These objects of a bucket."""
        rows = [
            (each.key, each.size, each.etag, each.last_modified, each.storage_class)
            for each in objects
        ]
        return cls(bucket, *zip(*rows, strict=True)) if rows else cls(bucket, (), (), (), (), ())

    @property
    def size(self) -> int:
        """Bytes of all of them together."""
        return sum(self.sizes)

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[S3Object]:
        return map(S3Object, repeat(self.bucket), *self._columns())

    def __getitem__(self, index: int) -> S3Object:
        return S3Object(self.bucket, *(column[index] for column in self._columns()))

    def only(self, chosen: Sequence[object]) -> ObjectBlock:
        """Those for which there is something true here."""
        if all(chosen):
            return self
        return ObjectBlock(
            self.bucket, *(tuple(compress(each, chosen)) for each in self._columns())
        )

    def named(self, pattern: re.Pattern[str]) -> ObjectBlock:
        """Those that :func:`aiohaul.s3.selection.matching` selects."""
        names = [key.rpartition("/")[2] for key in self.keys]
        return self.only([name and pattern.match(name) for name in names])

    def _columns(self) -> tuple[tuple[Any, ...], ...]:
        return (self.keys, self.sizes, self.etags, self.modified, self.storage_classes)


@dataclass(frozen=True, slots=True)
class Page:
    """An answer of a listing, or a part of one.

    Attributes:
        objects: in key order.
        more: True if a further answer follows this one.
    """

    objects: ObjectBlock
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
        yield Page(block or ObjectBlock.of(bucket, ()), more)
        while block is not None:
            with translated("ListObjectsV2", target):
                block = next(blocks, None)
            if block is not None:
                yield Page(block, more)
        if not more:
            return
        parameters["ContinuationToken"] = token


def _blocks(bucket: str, contents: Any) -> Iterator[ObjectBlock]:
    for keys, sizes, etags, modified, classes in columns_of(contents, _FIELDS, "StorageClass"):
        yield ObjectBlock(
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
