"""Sends a write with another checksum algorithm if the store refuses the first one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohaul.aws.advice import may_refuse_checksum
from aiohaul.aws.service import Service
from aiohaul.errors import ServiceError
from aiohaul.s3.streaming.checksums import Algorithm

T = TypeVar("T")


async def with_algorithm(
    s3: Service,
    algorithm: Algorithm | None,
    fallback: Algorithm | None,
    send: Callable[[Algorithm | None], Awaitable[T]],
) -> T:
    """Send a write with a checksum algorithm, or with the fallback if the store refuses the first.

    Some stores refuse CRC64NVME, which is newer than the other algorithms. A store refuses an
    algorithm if the same write succeeds with the fallback; all later writes to the endpoint use the
    fallback at once. AWS supports all algorithms, so there is no second attempt.

    Args:
        s3: the client of the store.
        algorithm: the preferred algorithm; None for no checksum.
        fallback: the algorithm for stores that refuse the first; None for no checksum.
        send: sends the write with the algorithm in its argument.

    Returns:
        The result of ``send``.

    Raises:
        ServiceError: the write failed.
    """
    if algorithm is None or algorithm == fallback or s3.is_aws:
        return await send(algorithm)
    refused = s3.support.refused_checksums
    if algorithm.name in refused:
        return await send(fallback)
    try:
        return await send(algorithm)
    except ServiceError as error:
        if not may_refuse_checksum(error.code, error.problem):
            raise
        try:
            result = await send(fallback)
        except ServiceError as second:
            if second.code == error.code:
                raise error from None  # the checksum is not the cause
            raise
        refused.add(algorithm.name)
        return result
