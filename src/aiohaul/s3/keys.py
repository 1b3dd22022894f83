"""Checks that texts are valid keys, or directories of a bucket."""

from __future__ import annotations

import re

from aiohaul.errors import PlanError
from aiohaul.sensitive import shown

#: The maximum length of a key, in bytes of UTF-8.
MAX_KEY = 1024
_SURROGATE = re.compile("[\ud800-\udfff]")


def checked_key(key: str) -> str:
    """Return ``key`` if S3 accepts it as the key of a file.

    Raises:
        PlanError: the key is empty, begins or ends with "/", is not valid UTF-8, or is longer than
            1,024 bytes.
    """
    size = len(key.encode("utf-8", "surrogatepass"))
    encodable = key.isascii() or not _SURROGATE.search(key)
    if not encodable or not key or key.startswith("/") or key.endswith("/") or size > MAX_KEY:
        length = "" if size <= MAX_KEY else f" ({size} bytes)"
        raise PlanError(
            f"nothing was copied: {shown(key)}{length} is not a valid key for a file. A key must"
            f" have 1 to {MAX_KEY} bytes of valid UTF-8, and must not begin or end with '/'"
        )
    return key


def directory_prefix(directory: str) -> str:
    """Return the prefix of the keys in a directory: ``src/`` for ``src``, and "" for ""."""
    return f"{directory}/" if directory else ""


def checked_directory(directory: str) -> str:
    """Return ``directory`` if the text neither begins nor ends with "/".

    Raises:
        PlanError: the text begins or ends with "/".
    """
    if directory.startswith("/") or directory.endswith("/"):
        raise PlanError(
            f"{shown(directory)} is not a directory of a bucket. Leave out the '/' at the start"
            " and end"
        )
    return directory
