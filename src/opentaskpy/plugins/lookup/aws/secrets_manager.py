"""Look up a secret: ``{{ lookup('aws.secrets_manager', name='my-secret', value='a.b') }}``."""

from __future__ import annotations

from json import JSONDecodeError
from typing import Any

import opentaskpy.otflogging
from opentaskpy.exceptions import LookupPluginError

from aiohaul import HaulError, blocking
from aiohaul.tasks import lookups
from opentaskpy.addons.aws.plugins import failed, require

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
        HaulError: nothing stands at the path, and that variable is 1.
    """
    require(kwargs, ("name",), LookupPluginError, f"lookup plugin '{plugin_name}'")
    name = kwargs["name"]
    path, variables = kwargs.get("value"), kwargs.get("globals")
    what = f"Secrets Manager: {name}"
    try:
        value = blocking.call(lookups.read_secret, name, path, variables, logger)
    except JSONDecodeError as error:
        return failed(logger, what, error, "Secret JSON parsing failed but continuing anyway")
    except HaulError as error:
        warning = "Secrets Manager lookup failed but continuing anyway"
        return failed(logger, what, lookups.for_users(error), warning)
    if not isinstance(value, str | int):
        found = f"JSONPath returned a value of type {type(value)}"
        wrong = LookupPluginError(f"{found}. Expected a string or int")
        return failed(logger, what, wrong, f"{found}. Continuing anyway.")
    logger.log(12, "Read 'REDACTED' from param %s", name)
    return lookups.escaped(value)
