"""Methods of S3Handler that read objects and their metadata: read, read_many, info, exists."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from functools import partial

from aiohaul.aws.http.payload import Bytes, computed
from aiohaul.aws.service import Service
from aiohaul.errors import (
    HaulError,
    ObjectNotFoundError,
    PlanError,
    PreconditionFailedError,
    ServiceError,
    VerificationError,
)
from aiohaul.s3.object_io.access import S3Access, checked_limit
from aiohaul.s3.object_io.details import (
    ObjectData,
    ObjectDetails,
    check_range,
    details_of,
    range_header,
)
from aiohaul.s3.object_io.prefetch import Job, prefetched
from aiohaul.s3.objects import S3Object, quoted, uri
from aiohaul.s3.streaming.checksums import full_object_checksum
from aiohaul.user_code import user_code

#: The default maximum of objects that read_many reads at the same time.
MANY = 256
#: S3's response to a range that begins after the end of the object.
_OUTSIDE = "InvalidRange"
_NOT_SATISFIABLE = 416

OnReadError = Callable[[str, HaulError], object]


async def read(
    self: S3Access,
    bucket: str,
    key: str,
    *,
    offset: int = 0,
    length: int | None = None,
    version_id: str | None = None,
    if_match: str | None = None,
    verify: bool = False,
) -> ObjectData:
    """Read an object, or a range of it, into memory, in one request.

    For large objects, :meth:`stream` takes less memory, and is faster.

    AWS: GetObject. HeadObject if the range has no bytes.

    Args:
        bucket: the bucket.
        key: the key.
        offset: the first byte; a negative number reads that many last bytes of the object.
        length: the number of bytes; None for all bytes from ``offset``. If the object ends before,
            the result is shorter.
        version_id: the version to read; None reads the current version.
        if_match: the ETag that the object must have; None for any.
        verify: True compares the bytes of a whole object with its full-object checksum, if it has
            one. This takes more CPU time. TLS alone detects bytes that are damaged in transit.

    Returns:
        The bytes, and the metadata of the object.

    Raises:
        ObjectNotFoundError: the object, the version or the bucket does not exist.
        PreconditionFailedError: the object has another ETag than ``if_match``.
        AccessDeniedError: the credentials do not allow to read the object.
        PlanError: ``length`` is negative, or is given with a negative offset.
        VerificationError: the bytes do not match the checksum of the object.
        ServiceError: the request failed for another reason.
    """
    check_range(offset, length)
    return await read_object(
        await self._s3(),
        bucket,
        key,
        offset=offset,
        length=length,
        version_id=version_id,
        if_match=if_match,
        verify=verify,
    )


async def read_many(
    self: S3Access,
    bucket: str,
    objects: Iterable[str | S3Object],
    *,
    max_concurrency: int = MANY,
    on_error: OnReadError | None = None,
) -> AsyncGenerator[ObjectData, None]:
    """Read many small objects of a bucket, many at the same time.

    AWS: GetObject, one request per object.

    Args:
        bucket: the bucket.
        objects: keys, or objects from :meth:`list` or :meth:`find`, of which exactly the listed
            versions are read. The iterable is read as the requests are sent.
        max_concurrency: the maximum number of objects that are being read, or have been read and
            are not yet yielded. All of them are in memory.
        on_error: called with the key and the error of each object that cannot be read; the other
            objects are read nevertheless. None raises the first error.

    Yields:
        The objects, in the order of ``objects``. Requests that are still open are cancelled when
        the iterator is closed (``aclose``, or ``contextlib.aclosing``).

    Raises:
        ObjectNotFoundError: an object or the bucket does not exist, and ``on_error`` is None.
        PlanError: ``max_concurrency`` is below 1, or an object is in another bucket.
        ServiceError: a request failed for another reason, and ``on_error`` is None.
    """
    width = checked_limit("max_concurrency", max_concurrency)
    s3, callback = await self._s3(), on_error

    async def job(each: str | S3Object) -> ObjectData | tuple[str, HaulError]:
        key, etag = (each, None) if isinstance(each, str) else (each.key, each.etag)
        try:
            return await read_object(s3, bucket, key, if_match=etag)
        except HaulError as error:
            if callback is None:
                raise
            return key, error

    jobs: Iterator[Job[ObjectData | tuple[str, HaulError]]] = (
        (1, partial(job, each)) for each in _checked(bucket, objects)
    )
    async with aclosing(prefetched(jobs, width)) as results:
        async for result in results:
            if isinstance(result, ObjectData):
                yield result
            elif callback is not None:
                with user_code("on_error"):
                    callback(*result)


def _checked(bucket: str, objects: Iterable[str | S3Object]) -> Iterator[str | S3Object]:
    """Yield the objects of an application's iterable; raise PlanError for another bucket's."""
    remaining = iter(objects)
    while True:
        with user_code("the iterable of objects"):
            each = next(remaining, None)
        if each is None:
            return
        if isinstance(each, S3Object) and each.bucket != bucket:
            raise PlanError(
                f"reading {each.uri} failed: read_many reads objects of one bucket, here of"
                f" {bucket}. Call read_many for each bucket"
            )
        yield each


async def info(
    self: S3Access,
    bucket: str,
    key: str,
    *,
    version_id: str | None = None,
    if_match: str | None = None,
) -> ObjectDetails:
    """Read the metadata of an object: headers, user metadata, version and encryption.

    AWS: HeadObject.

    Args:
        bucket: the bucket.
        key: the key.
        version_id: the version; None for the current version.
        if_match: the ETag that the object must have; None for any.

    Returns:
        The metadata, with checksums if the endpoint returns them.

    Raises:
        ObjectNotFoundError: the object, the version or the bucket does not exist.
        PreconditionFailedError: the object has another ETag than ``if_match``.
        AccessDeniedError: the credentials do not allow to read the object.
        ServiceError: the request failed for another reason.
    """
    answer = await (await self._s3()).call(
        "head_object",
        uri(bucket, key),
        Bucket=bucket,
        Key=key,
        ChecksumMode="ENABLED",
        **version_parameters(version_id, if_match),
    )
    details = details_of(answer, bucket, key, operation="HeadObject")
    check_etag(details, if_match, operation="HeadObject")
    return details


async def exists(self: S3Access, bucket: str, key: str, *, version_id: str | None = None) -> bool:
    """Return True if an object exists.

    AWS: HeadObject, whose response does not tell a missing object from a missing bucket.

    Args:
        bucket: the bucket.
        key: the key.
        version_id: the version; None for the current version.

    Raises:
        AccessDeniedError: the credentials do not allow to read the object. Without permission to
            list the bucket, S3 answers so for an object that does not exist, too.
        ServiceError: the request failed for another reason.
    """
    s3, condition = await self._s3(), version_parameters(version_id, None)
    try:
        await s3.call("head_object", uri(bucket, key), Bucket=bucket, Key=key, **condition)
    except ObjectNotFoundError:
        return False
    return True


def check_etag(details: ObjectDetails, if_match: str | None, *, operation: str) -> None:
    """Check the ETag of a response, because some servers ignore ``If-Match``.

    Raises:
        PreconditionFailedError: the object has another ETag than ``if_match``.
    """
    if if_match is not None and details.etag != if_match:
        raise PreconditionFailedError(
            f"the object has the ETag {details.etag}, and not {if_match}. Find the object again.",
            operation=operation,
            target=details.uri,
            code="PreconditionFailed",
        )


async def read_object(
    s3: Service,
    bucket: str,
    key: str,
    *,
    offset: int = 0,
    length: int | None = None,
    version_id: str | None = None,
    if_match: str | None = None,
    verify: bool = False,
) -> ObjectData:
    """Read an object or a range of it. For the arguments and errors, see :func:`read`."""
    target, condition = uri(bucket, key), version_parameters(version_id, if_match)
    if length == 0:
        return await _nothing(s3, bucket, key, condition)
    asked = range_header(offset, length)
    more = {} if asked is None else {"Range": asked}
    if verify and asked is None:
        more["ChecksumMode"] = "ENABLED"
    try:
        data, answer = await s3.read(target, length, Bucket=bucket, Key=key, **condition, **more)
    except ServiceError as error:
        if asked is None or (error.code != _OUTSIDE and error.status != _NOT_SATISFIABLE):
            raise
        return await _nothing(s3, bucket, key, condition)
    details = details_of(answer, bucket, key, operation="GetObject")
    check_etag(details, if_match, operation="GetObject")
    if verify and asked is None:
        await check_content(target, data, answer)
    return ObjectData(data=bytes(data), details=details)


async def check_content(target: str, data: Bytes, answer: Mapping[str, object]) -> None:
    """Compare all bytes of an object with the checksum in a response, if there is one.

    Raises:
        VerificationError: the bytes were damaged.
    """
    checksum = full_object_checksum(answer)
    if checksum is None:
        return
    algorithm = checksum.algorithm
    if algorithm.encode(await computed(algorithm.of, data)) != checksum.value:
        raise VerificationError(
            f"reading {target} failed: the {algorithm.name} of the bytes is not that of the object."
            " Read again"
        )


async def _nothing(s3: Service, bucket: str, key: str, condition: Mapping[str, str]) -> ObjectData:
    answer = await s3.call("head_object", uri(bucket, key), Bucket=bucket, Key=key, **condition)
    return ObjectData(data=b"", details=details_of(answer, bucket, key, operation="HeadObject"))


def version_parameters(version_id: str | None, if_match: str | None) -> dict[str, str]:
    """Return the version and the ETag of a read as parameters of a request."""
    made = {} if version_id is None else {"VersionId": version_id}
    return made if if_match is None else {**made, "IfMatch": quoted(if_match)}
