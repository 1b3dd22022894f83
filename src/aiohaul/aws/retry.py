"""Retry rules: the number of attempts, the delays, and which requests are safe to resend."""

from __future__ import annotations

import random
from collections.abc import Mapping

from aiohaul.aws.http.payload import Payload

#: The maximum number of attempts of a request whose errors are retryable.
ATTEMPTS = 5
#: Error codes of expired tokens.
EXPIRED = ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired")
#: The maximum of the first delay, in seconds, and the number of times that this maximum doubles.
_BASE_DELAY = 0.5
_MAX_DOUBLINGS = 5
#: Prefixes of the operations that only read.
_READS = ("describe_", "filter_", "get_", "head_", "list_")
#: Writes that have the same result if AWS carries them out twice.
_IDEMPOTENT_WRITES = frozenset({"copy_object", "put_object", "upload_part", "upload_part_copy"})
#: Conditions of writes, with which the second write may fail because of the first one.
_CONDITIONS = frozenset({"IfMatch", "IfNoneMatch"})


def backoff_delay(attempt: int, retry_after: float | None) -> float:
    """Return the number of seconds to wait before an attempt.

    Without ``retry_after``, the delay is random, up to a maximum that doubles with each attempt. So
    callers that were throttled together do not retry together.

    Args:
        attempt: the number of the attempt, from 2.
        retry_after: the number of seconds that the last response requests, or None.
    """
    if retry_after is not None:
        return retry_after
    bound = _BASE_DELAY * 2 ** min(attempt - 2, _MAX_DOUBLINGS)
    return random.uniform(0, bound)  # noqa: S311  # not a secret


def is_safe_to_resend(operation: str, parameters: Mapping[str, object]) -> bool:
    """Return True if a request that is carried out twice has the same effect as once.

    Args:
        operation: the method of the client, such as ``put_object``.
        parameters: the parameters of the operation.
    """
    if operation.startswith(_READS):
        return True
    return (
        operation in _IDEMPOTENT_WRITES
        and _CONDITIONS.isdisjoint(parameters)
        and isinstance(parameters.get("Body", b""), bytes | bytearray | str | Payload)
    )
