"""Checksums of request bodies."""

from __future__ import annotations

import base64
import hashlib
import importlib
import os
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from aiohaul.aws.http.payload import Bytes

_Digest = Callable[[Bytes], bytes]


def _crc32(data: Bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big")


def _sha1(data: Bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()


def _sha256(data: Bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _crc32c(data: Bytes) -> bytes:
    return int(_crt().crc32c(data)).to_bytes(4, "big")


def _crc64nvme(data: Bytes) -> bytes:
    return int(_crt().crc64nvme(data)).to_bytes(8, "big")


_DIGESTS: dict[str, _Digest] = {
    "crc32": _crc32,
    "crc32c": _crc32c,
    "crc64nvme": _crc64nvme,
    "sha1": _sha1,
    "sha256": _sha256,
}
#: The algorithms that need the extra "crt".
_OF_CRT = frozenset({"crc32c", "crc64nvme"})


@lru_cache(maxsize=1)
def _crt() -> Any:
    """Return awscrt, which has CRCs that Python's own library does not have; None without it."""
    if os.environ.get("BOTO_DISABLE_CRT", "false").lower() == "true":  # as botocore reads it
        return None
    try:
        return importlib.import_module("awscrt.checksums")
    except ImportError:
        return None


def known(algorithm: str) -> bool:
    """Return True if :func:`checksum` can compute this algorithm on this machine."""
    return algorithm in _DIGESTS and (algorithm not in _OF_CRT or hasattr(_crt(), algorithm))


def checksum(algorithm: str, data: Bytes) -> str:
    """Compute a checksum in the form of the header ``x-amz-checksum-…``.

    Args:
        algorithm: the algorithm, such as ``crc32``, for which :func:`known` returns True.
        data: the body.
    """
    return base64.b64encode(_DIGESTS[algorithm](data)).decode()
