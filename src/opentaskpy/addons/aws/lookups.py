"""What the lookups have in common."""

from __future__ import annotations

import logging
import os

from opentaskpy.exceptions import LookupPluginError


def name_of(kwargs: dict[str, object], plugin: str) -> str:
    """The name that a lookup is for.

    Raises:
        LookupPluginError: there is none.
    """
    if "name" not in kwargs:
        raise LookupPluginError(
            f"Missing kwarg: 'name' while trying to run lookup plugin '{plugin}'"
        )
    return str(kwargs["name"])


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
