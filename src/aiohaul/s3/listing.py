"""Listings of buckets (ListObjectsV2), page by page, or many pages at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from aiohaul.aws.service import Service
from aiohaul.s3.listings.pages import ObjectBlock, Select, fetching
from aiohaul.s3.listings.parallel import BUFFER, ParallelListing
from aiohaul.s3.objects import S3Object

#: The number of pages that are listed one after the other before any request is sent ahead.
_SEQUENTIAL = 8
#: The end of the names of directory buckets, which list in no order and have no StartAfter.
_DIRECTORY_BUCKET = "--x-s3"
#: In ``EndpointSupport.missing`` if the endpoint does not list in order from StartAfter on.
_START_AFTER = "ListObjectsV2.StartAfter"


@dataclass(frozen=True, slots=True)
class Page:
    """Up to 200 objects from the response of one ListObjectsV2 request.

    Attributes:
        objects: the objects, in key order.
        more: True if another response follows this one.
        prefixes: the prefixes of the subdirectories in the response, with the first of its objects;
            empty if they were not requested.
    """

    objects: ObjectBlock
    more: bool
    prefixes: tuple[str, ...] = ()


async def list_objects(
    s3: Service, bucket: str, prefix: str = "", *, recursive: bool = True
) -> AsyncGenerator[S3Object, None]:
    """Yield the objects below a prefix one by one, as :func:`list_pages` lists them."""
    async with aclosing(list_pages(s3, bucket, prefix, recursive=recursive)) as pages:
        async for page in pages:
            for each in page.objects:
                yield each


async def list_pages(
    s3: Service,
    bucket: str,
    prefix: str = "",
    *,
    recursive: bool = True,
    select: Select | None = None,
    buffer: int | None = BUFFER,
    with_prefixes: bool = False,
) -> AsyncGenerator[Page, None]:
    """List the objects below a prefix (ListObjectsV2, pages of 1,000 keys), in key order.

    The first eight pages are listed one after the other. If more follow, many pages are listed at a
    time, if the server lists in the order of the keys' UTF-8 bytes, as S3 does.

    An object that exists during the whole listing is yielded once. An object that is written or
    deleted meanwhile is yielded at most once.

    Args:
        s3: the client.
        bucket: the bucket.
        prefix: the prefix of the keys.
        recursive: False omits keys with another "/" after the prefix.
        select: returns the wanted objects of a block, in the same order; None keeps all.
        buffer: the maximum number of pages that wait for the caller; None if the caller keeps all
            selected objects.
        with_prefixes: True lists one page after the other, with the prefixes of subdirectories.

    Raises:
        BucketNotFoundError: the bucket does not exist.
        ServiceError: a request failed for another reason.
    """
    fetch = fetching(s3, bucket, prefix, recursive=recursive, select=select)
    parallel = ParallelListing(fetch, prefix, recursive=recursive, buffer=buffer)
    can_be_parallel = not (
        with_prefixes or _START_AFTER in s3.support.missing or bucket.endswith(_DIRECTORY_BUCKET)
    )
    token: str | None = None
    pages = 0
    while pages < _SEQUENTIAL or not (can_be_parallel and parallel.is_parallel):
        answer = await fetch(token, None)
        prefixes = tuple(answer.prefixes) if with_prefixes else ()
        for block in answer.blocks or (ObjectBlock.of(bucket, ()),):
            yield Page(block, answer.more, prefixes)
            prefixes = ()
        if not answer.more:
            return
        token = answer.token
        pages += 1
        if can_be_parallel and pages <= _SEQUENTIAL:
            parallel.add_first(answer)
    async with aclosing(parallel.blocks()) as blocks:
        async for block, more in blocks:
            yield Page(block, more)
    if not parallel.in_order:
        s3.support.missing.add(_START_AFTER)
