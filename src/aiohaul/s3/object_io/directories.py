"""Methods of S3Handler that list a bucket directory by directory: list_directory, walk."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from aiohaul.aws.service import Service
from aiohaul.s3.compact import CompactSequence
from aiohaul.s3.listing import list_pages
from aiohaul.s3.object_io.access import S3Access
from aiohaul.s3.objects import S3Object, uri


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryListing:
    """The objects and the subdirectories of one directory of a bucket.

    Attributes:
        bucket: the bucket.
        prefix: the prefix that was listed, such as ``src/``; "" for the root of the bucket.
        directories: the prefixes of the subdirectories, such as ``src/old/``.
        objects: the objects whose keys have no "/" after the prefix, in key order.
    """

    bucket: str
    prefix: str
    directories: tuple[str, ...]
    objects: Sequence[S3Object]

    @property
    def uri(self) -> str:
        """The URI of the prefix, such as ``s3://bucket/src/``."""
        return uri(self.bucket, self.prefix)


async def list_directory(self: S3Access, bucket: str, prefix: str = "") -> DirectoryListing:
    """List the objects and the subdirectories directly below a prefix.

    AWS: ListObjectsV2 with the delimiter "/", one request per 1,000 keys and subdirectories.

    Args:
        bucket: the bucket.
        prefix: the prefix of the keys. It ends in "/" for a directory, such as ``src/``.

    Returns:
        The objects and the subdirectories; both empty if nothing begins with the prefix.

    Raises:
        BucketNotFoundError: the bucket does not exist.
        AccessDeniedError: the credentials do not allow to list the bucket.
        ServiceError: a request failed for another reason.
    """
    return await _list(await self._s3(), bucket, prefix, self._ignored)


async def walk(
    self: S3Access, bucket: str, prefix: str = ""
) -> AsyncGenerator[DirectoryListing, None]:
    """List a directory and all directories below it, each before its subdirectories.

    For all objects in key order, :meth:`list` needs fewer requests.

    AWS: ListObjectsV2 with the delimiter "/", at least one request per directory.

    Args:
        bucket: the bucket.
        prefix: the prefix of the first directory, such as ``src/``; "" is the root of the bucket.

    Yields:
        One listing per directory, as ``os.walk`` does.

    Raises:
        BucketNotFoundError: the bucket does not exist.
        AccessDeniedError: the credentials do not allow to list the bucket.
        ServiceError: a request failed for another reason.
    """
    s3, remaining = await self._s3(), [prefix]
    while remaining:
        listing = await _list(s3, bucket, remaining.pop(), self._ignored)
        remaining += reversed(listing.directories)
        yield listing


async def _list(s3: Service, bucket: str, prefix: str, ignored: frozenset[str]) -> DirectoryListing:
    directories: list[str] = []
    blocks = []
    listing = list_pages(s3, bucket, prefix, recursive=False, with_prefixes=True)
    async with aclosing(listing) as pages:
        async for page in pages:
            directories += page.prefixes
            blocks.append(page.objects.outside(ignored))
    return DirectoryListing(
        bucket=bucket,
        prefix=prefix,
        directories=tuple(directories),
        objects=CompactSequence(blocks),
    )
