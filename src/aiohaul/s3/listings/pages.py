"""Pages of objects (ListObjectsV2): one request, its response, and the objects as blocks."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from heapq import merge
from itertools import compress, repeat
from typing import Any

from aiohaul.aws.direct.listing import columns_of
from aiohaul.aws.errors import translated
from aiohaul.aws.service import Service
from aiohaul.concurrency import yield_if_busy
from aiohaul.regexes.bounded import bounded
from aiohaul.s3.compact import Block
from aiohaul.s3.objects import S3Object, unquoted, uri
from aiohaul.threads import run_in_thread_if

#: The fields that every object in a listing must have.
_FIELDS = ("Key", "Size", "ETag", "LastModified")


@dataclass(frozen=True, slots=True)
class ObjectBlock(Block[S3Object]):
    """Up to 200 objects of a bucket, stored as one tuple per field."""

    bucket: str
    keys: tuple[str, ...]
    sizes: tuple[int, ...]
    etags: tuple[str, ...]
    modified: tuple[datetime, ...]
    storage_classes: tuple[str, ...]
    root: str | None = None

    @classmethod
    def of(cls, bucket: str, objects: Iterable[S3Object]) -> ObjectBlock:
        """Return a block of these objects."""
        rows = [
            (each.key, each.size, each.etag, each.last_modified, each.storage_class)
            for each in objects
        ]
        columns: tuple[Any, ...] = (*zip(*rows, strict=True),) if rows else ((), (), (), (), ())
        keys, sizes, etags, modified, storage_classes = columns
        return cls(bucket, keys, sizes, etags, modified, storage_classes)

    @property
    def size(self) -> int:
        """The total size in bytes."""
        return sum(self.sizes)

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[S3Object]:
        return map(
            S3Object,
            repeat(self.bucket),
            self.keys,
            self.sizes,
            self.etags,
            self.modified,
            self.storage_classes,
            repeat(self.root),
        )

    def __getitem__(self, index: int) -> S3Object:
        return S3Object(
            self.bucket,
            self.keys[index],
            self.sizes[index],
            self.etags[index],
            self.modified[index],
            self.storage_classes[index],
            self.root,
        )

    def only(self, chosen: Sequence[object]) -> ObjectBlock:
        """Return a block of the objects whose entry in ``chosen`` is true."""
        if all(chosen):
            return self
        return ObjectBlock(
            self.bucket,
            tuple(compress(self.keys, chosen)),
            tuple(compress(self.sizes, chosen)),
            tuple(compress(self.etags, chosen)),
            tuple(compress(self.modified, chosen)),
            tuple(compress(self.storage_classes, chosen)),
            self.root,
        )

    def below(self, root: str | None) -> ObjectBlock:
        """Return a block of the same objects with this ``root``."""
        return replace(self, root=root)

    def outside(self, storage_classes: Collection[str]) -> ObjectBlock:
        """Return a block of the objects that have none of these storage classes."""
        if not storage_classes:
            return self
        return self.only([each not in storage_classes for each in self.storage_classes])

    async def named(self, pattern: re.Pattern[str]) -> ObjectBlock:
        """Return a block of the objects that :func:`aiohaul.s3.selection.matching` would select.

        A regex that may take long is matched in a thread.
        """
        return await run_in_thread_if(not bounded(pattern).is_fast, self._named, pattern)

    def _named(self, pattern: re.Pattern[str]) -> ObjectBlock:
        names = [key.rpartition("/")[2] for key in self.keys]
        matches = bounded(pattern).matches_name
        return self.only([name and matches(name) for name in names])


@dataclass(frozen=True, slots=True)
class Answer:
    """The response of one ListObjectsV2 request.

    Attributes:
        blocks: the selected objects, in the order of the response, at most 200 in each block.
        keys: the keys of all objects.
        prefixes: the common prefixes.
        more: True if the response is truncated, so that another one follows.
        token: the continuation token for the next request; None if the response is not truncated.
    """

    blocks: Sequence[ObjectBlock]
    keys: Sequence[str]
    prefixes: Sequence[str]
    more: bool
    token: str | None

    @property
    def entries(self) -> Sequence[str]:
        """The keys and the common prefixes, in order if the server lists them in order."""
        return [*merge(self.keys, self.prefixes)] if self.prefixes else self.keys


#: Returns the wanted objects of a block, in the same order.
Select = Callable[[ObjectBlock], Awaitable[ObjectBlock]]
#: Sends a request with this continuation token, or else with this StartAfter.
Fetch = Callable[[str | None, str | None], Awaitable[Answer]]


def fetching(
    s3: Service,
    bucket: str,
    prefix: str,
    *,
    recursive: bool = True,
    select: Select | None = None,
) -> Fetch:
    """Return a function that requests one page of the objects below a prefix (ListObjectsV2).

    Args:
        s3: the client.
        bucket: the bucket.
        prefix: the prefix of the keys.
        recursive: False omits keys with another "/" after the prefix.
        select: returns the wanted objects of a block, in the same order; None keeps all.

    The function raises BucketNotFoundError if the bucket does not exist, and ServiceError if the
    request failed for another reason.
    """
    target = uri(bucket, prefix)
    parameters: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix}
    if not recursive:
        parameters["Delimiter"] = "/"

    async def fetch(token: str | None, start_after: str | None) -> Answer:
        where: dict[str, Any] = {}
        if token is not None:
            where["ContinuationToken"] = token
        elif start_after is not None:
            where["StartAfter"] = start_after
        page = await s3.call("list_objects_v2", target, **parameters, **where)
        blocks: list[ObjectBlock] = []
        keys: list[str] = []
        with translated("ListObjectsV2", target):
            more = page["IsTruncated"]  # KeyError if the response is not a listing
            following = page["NextContinuationToken"] if more else None
            if more and following == token:
                raise ValueError("the server returned the same continuation token again")
            prefixes = [each["Prefix"] for each in page.get("CommonPrefixes") or ()]
            steps = _blocks(bucket, page.get("Contents", ()))
        while True:
            with translated("ListObjectsV2", target):
                block = next(steps, None)
            if block is None:
                break
            keys += block.keys
            blocks.append(block if select is None else await select(block))
            await yield_if_busy()
        return Answer(blocks, keys, prefixes, more, following)

    return fetch


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
    """Return the values; if all are equal, as one string object that repeats."""
    return values[:1] * len(values) if len({*values}) == 1 else values
