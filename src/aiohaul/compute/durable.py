"""Reads, stops and waits for durable executions of Lambda."""

from __future__ import annotations

import logging
import random

import anyio

from aiohaul.aws import answers
from aiohaul.aws.errors import translated
from aiohaul.aws.service import Service
from aiohaul.cancellation import run_shielded
from aiohaul.compute.invocation import check_durable_arn, decoded
from aiohaul.errors import (
    DurableExecutionError,
    DurableTimeoutError,
    HaulError,
    ServiceError,
)
from aiohaul.results import DurableExecution, redacted_message

#: The seconds between two polls.
INTERVAL = 5.0
#: The maximum seconds of a stop after the wait was cancelled or timed out.
CLEANUP_TIMEOUT = 5.0
#: The maximum seconds between two polls while polls fail.
_MAX_FAILURE_INTERVAL = 60.0
#: The seconds without a successful poll after which the wait fails.
_FAILURE_TIMEOUT = 600.0

_log = logging.getLogger(__name__)


async def get(lambda_: Service, arn: str) -> DurableExecution:
    """Read the state of a durable execution (GetDurableExecution).

    Raises:
        ServiceError: the request failed.
    """

    async def request(*, data: bool) -> answers.DurableExecutionState:
        return await lambda_.call(
            "get_durable_execution", arn, DurableExecutionArn=arn, IncludeExecutionData=data
        )

    # The data includes the payload, up to a megabyte. It is read only after the execution ended.
    answer = await request(data=False)
    if answer.get("Status") != "RUNNING":
        answer = await request(data=True)
    with translated("GetDurableExecution", arn):
        error = answer.get("Error", {})
        parts = error.get("ErrorType"), error.get("ErrorMessage")
        summary = ": ".join(part for part in parts if part)
        summary = summary or error.get("ErrorData", "")
        return DurableExecution(
            arn=arn,
            name=answer["DurableExecutionName"],
            status=answer["Status"],
            result=decoded(answer.get("Result", "").encode()),
            error=summary or None,
            version=answer.get("Version"),
            started=answer["StartTimestamp"],
            ended=answer.get("EndTimestamp"),
        )


async def stop(lambda_: Service, arn: str) -> None:
    """Stop a durable execution (StopDurableExecution).

    Raises:
        FunctionNameError: ``arn`` is not the ARN of a durable execution.
        ServiceError: the request failed.
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
    """Wait until a durable execution ends; see :meth:`LambdaHandler.wait_durable`."""
    check_durable_arn(arn)
    try:
        with anyio.move_on_after(timeout):
            return _result_or_raise(await _poll_until_ended(lambda_, arn, interval), secret=secret)
        # The execution may have ended since the last poll.
        state = await _get_last_state(lambda_, arn)
    except anyio.get_cancelled_exc_class():
        if stop:
            await _ensure_stopped(lambda_, arn)
        raise
    if state is not None and state.status != "RUNNING":
        return _result_or_raise(state, secret=secret)
    outcome = "left running"
    if stop:
        outcome = "stopped" if await _ensure_stopped(lambda_, arn) else "perhaps still running"
    raise DurableTimeoutError(f"{arn} was not done within {timeout:g} s; it is {outcome}", state)


def _result_or_raise(ended: DurableExecution, *, secret: bool) -> DurableExecution:
    if ended.status == "SUCCEEDED":
        return ended
    reason = ended.error or "AWS gives no reason"
    if secret:
        reason = redacted_message("its log, or its history at AWS")
    raise DurableExecutionError(f"{ended.arn} ended as {ended.status}: {reason}", ended)


async def _poll_until_ended(lambda_: Service, arn: str, interval: float) -> DurableExecution:
    failing_since: float | None = None
    pause = interval
    while True:
        try:
            state = await get(lambda_, arn)
        except ServiceError as error:
            now = anyio.current_time()
            failing_since = now if failing_since is None else failing_since
            if not error.retryable or now - failing_since > _FAILURE_TIMEOUT:
                raise
            pause = min(max(pause, 1.0) * 2, max(_MAX_FAILURE_INTERVAL, interval))
            _log.warning("polling %s failed, and aiohaul polls again: %s", arn, error)
        else:
            failing_since, pause = None, interval
            if state.status != "RUNNING":
                return state
        # Random, so that waits that began together do not poll together.
        await anyio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311  # no secret


async def _get_last_state(lambda_: Service, arn: str) -> DurableExecution | None:
    """Read the state once more; return None if the read fails or takes too long."""
    with anyio.move_on_after(CLEANUP_TIMEOUT):
        try:
            return await get(lambda_, arn)
        except HaulError as error:
            _log.warning("reading %s failed, so it counts as running: %s", arn, error)
    return None


async def _ensure_stopped(lambda_: Service, arn: str) -> bool:
    """Stop an execution, even if the caller is cancelled; return True if AWS accepted this."""
    stopped: list[bool] = []

    async def stop_it() -> bool:
        try:
            await stop(lambda_, arn)
        except HaulError as error:
            _log.error(
                "stopping %s failed, and the execution may still be running. Stop it by hand: %s",
                arn,
                error,
            )
            return False
        return True

    try:
        await run_shielded(stop_it, CLEANUP_TIMEOUT, stopped.append, timeout=CLEANUP_TIMEOUT)
    finally:
        if not stopped:
            _log.error("%s was not stopped within %g s: stop it by hand", arn, CLEANUP_TIMEOUT)
    return any(stopped)
