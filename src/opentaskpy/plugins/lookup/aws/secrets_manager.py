"""OTF's lookup plugin for secrets.

Use it as ``{{ lookup('aws.secrets_manager', name='my-secret', value='a.b') }}``.
"""

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
    """Read a secret, or one value of a secret in JSON. AWS: GetSecretValue.

    The environment variable OTF_AWS_SECRETS_LOOKUP_FAILED_IS_ERROR decides what happens if the
    lookup fails. With 1 this function raises an error, else it returns ``LOOKUP_FAILED``.

    Args:
        kwargs: ``name``, the name or ARN of the secret. Optional are ``value``, the JSONPath of a
            value in the secret, and ``globals``, which contains credentials and region.

    Returns:
        The value, escaped for JSON. If the JSONPath matches several values, the first one.

    Raises:
        LookupPluginError: ``name`` is missing; or the value is neither a string nor an integer,
            and the variable is 1.
        ClientError: reading the secret failed, and the variable is 1.
        JSONDecodeError: ``value`` is given, the secret is not JSON, and the variable is 1.
        HaulError: the JSONPath matches nothing, and the variable is 1.
    """
    require(kwargs, ("name",), LookupPluginError, f"lookup plugin '{plugin_name}'")
    name = kwargs["name"]
    path, variables = kwargs.get("value"), kwargs.get("globals")
    source = f"Secrets Manager: {name}"
    try:
        value = blocking.call(lookups.read_secret, name, path, variables, logger)
    except JSONDecodeError as error:
        return failed(logger, source, error, "Secret JSON parsing failed but continuing anyway")
    except HaulError as error:
        warning = "Secrets Manager lookup failed but continuing anyway"
        return failed(logger, source, lookups.for_users(error), warning)
    if not isinstance(value, str | int):
        found = f"JSONPath returned a value of type {type(value)}"
        wrong = LookupPluginError(f"{found}. Expected a string or int")
        return failed(logger, source, wrong, f"{found}. Continuing anyway.")
    logger.log(12, "Read 'REDACTED' from param %s", name)
    return lookups.escaped(value)
