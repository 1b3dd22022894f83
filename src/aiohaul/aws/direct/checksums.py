"""Pure: the digests of a request's body."""

from __future__ import annotations

import base64
import hashlib
import importlib
import zlib
from collections.abc import Callable
from typing import Any

from botocore.compat import HAS_CRT

from aiohaul.aws.direct.payload import Bytes

#: What botocore's extra "crt" installs: CRCs that Python's own library lacks.
_crt: Any = importlib.import_module("awscrt.checksums") if HAS_CRT else None

_Digest = Callable[[Bytes], bytes]


def _crc32(data: Bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big")


def _sha1(data: Bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()


def _sha256(data: Bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _crc32c(data: Bytes) -> bytes:
    return int(_crt.crc32c(data)).to_bytes(4, "big")


def _crc64nvme(data: Bytes) -> bytes:
    return int(_crt.crc64nvme(data)).to_bytes(8, "big")


_DIGESTS: dict[str, _Digest] = {"crc32": _crc32, "sha1": _sha1, "sha256": _sha256}
if _crt is not None:
    _DIGESTS["crc32c"] = _crc32c
    if hasattr(_crt, "crc64nvme"):
        _DIGESTS["crc64nvme"] = _crc64nvme


def known(algorithm: str) -> bool:
    """True if :func:`checksum` can compute this one here."""
    return algorithm in _DIGESTS


def checksum(algorithm: str, data: Bytes) -> str:
    """A body's checksum as ``x-amz-checksum-…`` carries it.

    Args:
        algorithm: such as ``crc32``; one that is :func:`known`.
        data: the body.
    """
    return base64.b64encode(_DIGESTS[algorithm](data)).decode()
