"""What lookups and caching have in common."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from aiohaul import installed

# This module is aiohaul's alone: that of another addon is never this one.
installed.warn_once()


def require(
    kwargs: Mapping[str, Any], names: tuple[str, ...], error: type[Exception], plugin: str
) -> None:
    """Make sure that a plugin was given what it needs.

    Raises:
        Exception: ``error``, for the first name that is missing.
    """
    for name in names:
        if name not in kwargs:
            raise error(f"Missing kwarg: '{name}' while trying to run {plugin}")


def failed(logger: logging.Logger, what: str, error: Exception, warning: str) -> str:
    """The value of a variable whose lookup failed: one must not fail every task of a folder.

    Raises:
        Exception: ``error``, where OTF_AWS_SECRETS_LOOKUP_FAILED_IS_ERROR is 1.
    """
    logger.error("Failed to read from %s: %s", what, error)
    if os.environ.get("OTF_AWS_SECRETS_LOOKUP_FAILED_IS_ERROR", "0") == "1":
        raise error
    logger.warning(warning)
    return "LOOKUP_FAILED"
