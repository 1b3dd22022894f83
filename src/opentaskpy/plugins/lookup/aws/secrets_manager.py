"""Look up a secret: ``{{ lookup('aws.secrets_manager', name='my-secret', value='a.b') }}``."""

from __future__ import annotations

import os
from json import JSONDecodeError
from typing import Any

import opentaskpy.otflogging
from opentaskpy.exceptions import LookupPluginError

from aiohaul import blocking
from aiohaul.tasks import lookups

logger = opentaskpy.otflogging.init_logging(__name__)

plugin_name = "secretsmanager"


def run(**kwargs: Any) -> str | int:
    """Read a secret, or what stands at a JSONPath of it.

    Args:
        kwargs: ``name``; ``value``, a JSONPath; and ``globals`` with keys and region if need be.

    Returns:
        Its value, escaped for JSON; of a list its first element; ``LOOKUP_FAILED`` if it cannot
        be read.

    Raises:
        LookupPluginError: there is no name; or, where OTF_AWS_SECRETS_LOOKUP_FAILED_IS_ERROR
            is 1, what was found is no text or number.
        ClientError: it cannot be read, and that variable is 1.
        JSONDecodeError: there is a path, it is not JSON, and that variable is 1.
    """
    if "name" not in kwargs:
        raise LookupPluginError(
            f"Missing kwarg: 'name' while trying to run lookup plugin '{plugin_name}'"
        )
    name, failing = kwargs["name"], "Secrets Manager lookup failed but continuing anyway"
    try:
        value = blocking.call(lookups.read_secret, name, kwargs.get("value"), kwargs.get("globals"))
        if isinstance(value, list) and value:
            logger.warning(
                "JSONPath returned a list of length %d. Returning only the first element",
                len(value),
            )
            value = value[0]
        if not isinstance(value, str | int):
            failing = f"JSONPath returned a value of type {type(value)}. Continuing anyway."
            raise LookupPluginError(  # noqa: TRY301  # it fares like all other failures
                f"JSONPath returned a value of type {type(value)}. Expected a string or int"
            )
    except Exception as error:
        if isinstance(error, JSONDecodeError):
            failing = "Secret JSON parsing failed but continuing anyway"
        logger.error("Failed to read from Secrets Manager: %s: %s", name, error)
        if os.environ.get("OTF_AWS_SECRETS_LOOKUP_FAILED_IS_ERROR", "0") == "1":
            raise
        logger.warning(failing)
        return "LOOKUP_FAILED"
    logger.log(12, "Read 'REDACTED' from param %s", name)
    return lookups.escaped(value) if isinstance(value, str) else value
