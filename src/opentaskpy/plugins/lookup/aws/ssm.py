"""OTF's lookup plugin for SSM parameters: ``{{ lookup('aws.ssm', name='/my/parameter') }}``."""

from __future__ import annotations

from typing import Any

import opentaskpy.otflogging
from opentaskpy.exceptions import LookupPluginError

from aiohaul import HaulError, blocking
from aiohaul.tasks import lookups
from opentaskpy.addons.aws.plugins import failed, require

logger = opentaskpy.otflogging.init_logging(__name__)

plugin_name = "ssm"


def run(**kwargs: Any) -> str | int:
    """Read an SSM parameter. AWS: GetParameter.

    Args:
        kwargs: ``name``, the name of the parameter. Optional is ``globals``, which contains
            credentials and region.

    Returns:
        The value, escaped for JSON; ``LOOKUP_FAILED`` if reading the parameter failed.

    Raises:
        LookupPluginError: ``name`` is missing.
        ClientError: reading the parameter failed, and OTF_AWS_SECRETS_LOOKUP_FAILED_IS_ERROR is 1.
    """
    require(kwargs, ("name",), LookupPluginError, f"lookup plugin '{plugin_name}'")
    name = kwargs["name"]
    try:
        value = blocking.call(lookups.read_parameter, name, kwargs.get("globals"))
    except HaulError as error:
        warning = "SSM parameter lookup failed but continuing anyway"
        return failed(logger, f"SSM parameter: {name}", lookups.for_users(error), warning)
    logger.log(12, "Read 'REDACTED' from param %s", name)
    return lookups.escaped(value)
