"""OTF's caching plugin that stores a variable in Secrets Manager."""

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
    """Write a new version of an existing secret. AWS: DescribeSecret, PutSecretValue.

    Args:
        kwargs: ``name``, the name of the secret, and ``value``. Optional are ``min_cache_age`` and
            ``globals``, which contains credentials and region. If the secret was changed less than
            ``min_cache_age`` seconds ago, this function does not write it.

    Raises:
        CachingPluginError: ``name`` or ``value`` is missing.
        ClientError: writing the secret failed.
    """
    require(kwargs, ("name", "value"), CachingPluginError, f"caching plugin '{CACHE_NAME}'")
    name, age = kwargs["name"], float(kwargs.get("min_cache_age", 0))
    if blocking.call(lookups.write_secret, name, kwargs["value"], age, kwargs.get("globals")):
        logger.info("Wrote the secret %s", name)
    else:
        logger.warning(
            "Not updating the secret %s, because it was updated less than %g s ago", name, age
        )
