"""Keep a variable in SSM."""

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
    """Write a parameter, as a SecureString.

    Args:
        kwargs: ``name`` and ``value``, and ``globals`` with keys and region if need be.

    Raises:
        CachingPluginError: there is no name or no value.
        ClientError: it cannot be written.
    """
    require(kwargs, ("name", "value"), CachingPluginError, f"caching plugin '{CACHE_NAME}'")
    name = kwargs["name"]
    blocking.call(lookups.write_parameter, name, kwargs["value"], kwargs.get("globals"))
    logger.info("Wrote the SSM parameter %s", name)
