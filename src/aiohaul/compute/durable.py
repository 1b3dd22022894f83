"""Durable executions: looked at until they are done, and stopped when nobody waits any more."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import anyio

from aiohaul.aws.errors import translated
from aiohaul.aws.service import Service
from aiohaul.cancellation import to_its_end
from aiohaul.compute.invocation import check_durable_arn, decoded, withheld
from aiohaul.errors import (
    DurableExecutionError,
    DurableTimeoutError,
    HaulError,
    ServiceError,
)

#: Seconds between two looks.
INTERVAL = 5.0
#: Seconds that stopping may take once the wait is cancelled or timed out.
CLEANUP_TIMEOUT = 5.0
#: The longest pause while looks fail, and how long they may go on failing, in seconds.
_LONGEST_PAUSE = 60.0
_PATIENCE = 600.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DurableExecution:
    """A durable execution at the last look.

    Attributes:
        arn: its ARN.
        name: the name under which it was started.
        status: ``RUNNING``, ``SUCCEEDED``, ``FAILED``, ``TIMED_OUT`` or ``STOPPED``.
        result: what it returned, decoded. Not in a repr.
        error: type and message of its failure, or None. Not in a repr.
        version: the version of the function.
        started: when, in UTC.
        ended: when, in UTC; None while it runs.
    """

    arn: str
    name: str
    status: str
    result: Any = field(repr=False)
    error: str | None = field(repr=False)
    version: str | None
    started: datetime
    ended: datetime | None


async def look(lambda_: Service, arn: str) -> DurableExecution:
    """Look at an execution (GetDurableExecution).

    Raises:
        ServiceError: or one of its kinds.
    """
    look_at = partial(lambda_.call, "get_durable_execution", arn, DurableExecutionArn=arn)
    # With its data every look would bring back the payload, a megabyte perhaps.
    answer = await look_at(IncludeExecutionData=False)
    if answer.get("Status") != "RUNNING":
        answer = await look_at(IncludeExecutionData=True)
    with translated("GetDurableExecution", arn):
        told = answer.get("Error", {})
        says = ": ".join(told[key] for key in ("ErrorType", "ErrorMessage") if told.get(key))
        return DurableExecution(
            arn=arn,
            name=answer["DurableExecutionName"],
            status=answer["Status"],
            result=decoded(answer.get("Result", "").encode()),
            error=says or None,
            version=answer.get("Version"),
            started=answer["StartTimestamp"],
            ended=answer.get("EndTimestamp"),
        )


async def stop(lambda_: Service, arn: str) -> None:
    """Stop an execution (StopDurableExecution).

    Raises:
        FunctionNameError: that is not the ARN of a durable execution.
        ServiceError: or one of its kinds.
    """
    check_durable_arn(arn)
    await lambda_.call("stop_durable_execution", arn, DurableExecutionArn=arn)


async def wait(
    lambda_: Service,
    arn: str,
    timeout: float | None,
    interval: float,
    *,
    stop: bool,
    secret: bool = False,
) -> DurableExecution:
    """Look again and again until an execution is done; see :meth:`LambdaHandler.wait_durable`."""
    check_durable_arn(arn)
    try:
        with anyio.move_on_after(timeout):
            return _judged(await _until_ended(lambda_, arn, interval), secret=secret)
        seen = await _look_soon(lambda_, arn)  # it may have ended since the last look
    except anyio.get_cancelled_exc_class():
        if stop:
            await _stop_for_good(lambda_, arn)
        raise
    if seen is not None and seen.status != "RUNNING":
        return _judged(seen, secret=secret)
    fate = "left running"
    if stop:
        fate = "stopped" if await _stop_for_good(lambda_, arn) else "perhaps still running"
    raise DurableTimeoutError(f"{arn} was not done within {timeout:g} s; it is {fate}", seen)


def _judged(ended: DurableExecution, *, secret: bool) -> DurableExecution:
    if ended.status == "SUCCEEDED":
        return ended
    says = ended.error or "it gives no reason"
    if secret:
        says = withheld("its log, or its history at AWS")
    raise DurableExecutionError(f"{ended.arn} ended as {ended.status}: {says}", ended)


async def _until_ended(lambda_: Service, arn: str, interval: float) -> DurableExecution:
    failing_since: float | None = None
    pause = interval
    while True:
        try:
            state = await look(lambda_, arn)
        except ServiceError as error:
            now = anyio.current_time()
            failing_since = now if failing_since is None else failing_since
            if not error.retryable or now - failing_since > _PATIENCE:
                raise
            pause = min(max(pause, 1.0) * 2, max(_LONGEST_PAUSE, interval))
            _log.warning("%s; another look follows", error)
        else:
            failing_since, pause = None, interval
            if state.status != "RUNNING":
                return state
        # Waits that began together must not go on looking together.
        await anyio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311  # no secret


async def _look_soon(lambda_: Service, arn: str) -> DurableExecution | None:
    """Look once more, if that can be had soon."""
    with anyio.move_on_after(CLEANUP_TIMEOUT):
        try:
            return await look(lambda_, arn)
        except HaulError as error:
            _log.warning("%s; it counts as running", error)
    return None


async def _stop_for_good(lambda_: Service, arn: str) -> bool:
    """Stop an execution whatever happens to the caller: True if AWS took the request."""
    stopped: list[bool] = []

    async def stop_it() -> bool:
        try:
            await stop(lambda_, arn)
        except HaulError as error:
            _log.error("%s; it may still be running: stop it by hand", error)
            return False
        return True

    try:
        await to_its_end(stop_it, CLEANUP_TIMEOUT, stopped.append, within=CLEANUP_TIMEOUT)
    finally:
        if not stopped:
            _log.error("%s was not stopped within %g s: stop it by hand", arn, CLEANUP_TIMEOUT)
    return any(stopped)
