"""Keep a variable in Secrets Manager."""

from __future__ import annotations

from typing import Any

import opentaskpy.otflogging
from opentaskpy.exceptions import CachingPluginError

from aiohaul import blocking
from aiohaul.tasks import lookups
from opentaskpy.addons.aws.plugins import require

logger = opentaskpy.otflogging.init_logging(__name__)

CACHE_NAME = "vc_secretsmanager"


def run(**kwargs: Any) -> None:
    """Write a new version of a secret that exists.

    Args:
        kwargs: ``name`` and ``value``; ``min_cache_age``, seconds since the last change before
            another is made; and ``globals`` with keys and region if need be.

    Raises:
        CachingPluginError: there is no name or no value.
        ClientError: it cannot be written.
    """
    require(kwargs, ("name", "value"), CachingPluginError, f"caching plugin '{CACHE_NAME}'")
    name, age = kwargs["name"], float(kwargs.get("min_cache_age", 0))
    if blocking.call(lookups.write_secret, name, kwargs["value"], age, kwargs.get("globals")):
        logger.info("Wrote the secret %s", name)
    else:
        logger.warning(
            "Not updating secret because secret last updated at most %g s ago: %s", age, name
        )
