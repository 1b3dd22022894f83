"""The library's patience and sizes, scaled down so that a campaign has time for thousands of runs.

Retries pause for no time, silence is given up after half a second, and objects have parts from
one MiB on, and are copied in parts from one and a half.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from aiohaul.aws import clients, service
from aiohaul.compute import fargate, task_stopper
from aiohaul.s3 import objects
from aiohaul.s3.copying import actions, engine, jobs, resume
from aiohaul.s3.streaming import parts, tags
from aiohaul.s3.transfers import S3Transfers

PART = 2**20
LIMITS = parts.Limits(copy=PART * 3 // 2, copy_step=PART)
#: Seconds of silence.
PATIENCE = 0.5

Set = Callable[[Any, str, Any], None]


def quicken(set_to: Set) -> None:
    """Scale everything down; ``set_to`` is setattr, or that of a MonkeyPatch."""
    for module in (parts, jobs, resume):
        set_to(module, "PART_SIZE", PART)
    for module in (service, objects):
        set_to(module, "backoff_delay", _no_pause)
    set_to(engine, "_PAUSE", 0.0)
    set_to(clients, "READ_TIMEOUT", PATIENCE)
    set_to(fargate, "_LOG_LAG", 0.0)
    set_to(fargate, "_LOG_TIMEOUT", 2.0)
    set_to(task_stopper, "_GIVE_UP_AFTER", 2.0)
    set_to(tags, "_SAMPLES", 1_000_000)  # else their order decides whose tags are read
    for function in (inspect.unwrap(S3Transfers.copy_all), actions.apply_to_objects):
        defaults = {**(function.__kwdefaults__ or {}), "limits": LIMITS}
        set_to(function, "__kwdefaults__", defaults)


def wait_longer(set_to: Set) -> None:
    """Give up no silence: who is held is to be killed, and not to ask again before."""
    set_to(clients, "READ_TIMEOUT", 60.0)


def _no_pause(attempt: int, retry_after: float | None) -> float:  # noqa: ARG001
    return 0.0
