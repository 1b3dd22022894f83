"""OTF's caching plugin that stores a variable in an SSM parameter."""

from __future__ import annotations

from typing import Any

import opentaskpy.otflogging
from opentaskpy.exceptions import CachingPluginError

from aiohaul import blocking
from aiohaul.tasks import lookups
from opentaskpy.addons.aws.plugins import require

logger = opentaskpy.otflogging.init_logging(__name__)

CACHE_NAME = "vc_ssm"


def run(**kwargs: Any) -> None:
    """Write an SSM parameter as a SecureString. AWS: PutParameter.

    Args:
        kwargs: ``name``, the name of the parameter, and ``value``. Optional is ``globals``, which
            contains credentials and region.

    Raises:
        CachingPluginError: ``name`` or ``value`` is missing.
        ClientError: writing the parameter failed.
    """
    require(kwargs, ("name", "value"), CachingPluginError, f"caching plugin '{CACHE_NAME}'")
    name = kwargs["name"]
    blocking.call(lookups.write_parameter, name, kwargs["value"], kwargs.get("globals"))
    logger.info("Wrote the SSM parameter %s", name)
