"""Look up a parameter of SSM: ``{{ lookup('aws.ssm', name='/my/parameter') }}``."""

from __future__ import annotations

import os
from typing import Any

import opentaskpy.otflogging
from opentaskpy.exceptions import LookupPluginError

from aiohaul import blocking
from aiohaul.tasks import lookups

logger = opentaskpy.otflogging.init_logging(__name__)

plugin_name = "ssm"


def run(**kwargs: Any) -> str:
    """Read a parameter.

    Args:
        kwargs: ``name``, and ``globals`` with keys and region if need be.

    Returns:
        Its value, escaped for JSON; ``LOOKUP_FAILED`` if it cannot be read.

    Raises:
        LookupPluginError: there is no name.
        ClientError: it cannot be read, and OTF_AWS_SECRETS_LOOKUP_FAILED_IS_ERROR is 1.
    """
    if "name" not in kwargs:
        raise LookupPluginError(
            f"Missing kwarg: 'name' while trying to run lookup plugin '{plugin_name}'"
        )
    try:
        value = blocking.call(lookups.read_parameter, kwargs["name"], kwargs.get("globals"))
    except Exception as error:
        logger.error("Failed to read from SSM parameter: %s: %s", kwargs["name"], error)
        if os.environ.get("OTF_AWS_SECRETS_LOOKUP_FAILED_IS_ERROR", "0") == "1":
            raise
        logger.warning("SSM parameter lookup failed but continuing anyway")
        return "LOOKUP_FAILED"
    logger.log(12, "Read 'REDACTED' from param %s", kwargs["name"])
    return lookups.escaped(value)
