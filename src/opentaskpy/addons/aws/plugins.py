"""Functions that the lookup and caching plugins share."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from aiohaul import installed

# Warns if otf-addons-aws is installed too. That addon has no module of this name, so it cannot
# replace this module.
installed.warn_once()


def require(
    kwargs: Mapping[str, Any], names: tuple[str, ...], error: type[Exception], plugin: str
) -> None:
    """Check that the required arguments of a plugin are given.

    Args:
        kwargs: the arguments that OTF passes to the plugin.
        names: the names of the required arguments.
        error: the class of the exception to raise.
        plugin: the name of the plugin, for the message.

    Raises:
        Exception: an argument is missing. The class is ``error``.
    """
    for name in names:
        if name not in kwargs:
            raise error(f"Missing kwarg: '{name}' while trying to run {plugin}")


def failed(logger: logging.Logger, source: str, error: Exception, warning: str) -> str:
    """Log a failed lookup, and return ``LOOKUP_FAILED`` as the value of the variable.

    OTF evaluates the variables of a whole folder, so an exception would fail every task in it.

    Args:
        logger: the logger of the plugin.
        source: the parameter or secret, for the log line.
        error: the error of the lookup.
        warning: the text of a second log line.

    Raises:
        Exception: ``error``, if OTF_AWS_SECRETS_LOOKUP_FAILED_IS_ERROR is 1.
    """
    logger.error("Failed to read from %s: %s", source, error)
    if os.environ.get("OTF_AWS_SECRETS_LOOKUP_FAILED_IS_ERROR", "0") == "1":
        raise error
    logger.warning(warning)
    return "LOOKUP_FAILED"
