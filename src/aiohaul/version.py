"""The version of this package."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version


def own_version() -> str:
    """The version that is installed, read once; ``unknown`` while that cannot be told."""
    try:
        return _read()
    except (PackageNotFoundError, OSError):  # not installed, or no file descriptor is left
        return "unknown"


@lru_cache(maxsize=1)
def _read() -> str:
    return version("aiohaul")
