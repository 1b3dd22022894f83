"""Starts a task (RunTask), and finds the task after a cancellation or a lost response."""

from __future__ import annotations

import itertools
import logging
import re
import uuid
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel

from aiohaul.aws.redaction import redacted_messages
from aiohaul.aws.retry import backoff_delay
from aiohaul.aws.service import Send, Service
from aiohaul.cancellation import run_shielded
from aiohaul.compute.task_run import TaskRun, lacks_capacity
from aiohaul.errors import (
    FargateTaskStartError,
    HaulError,
    OutcomeUnknownError,
    ServiceError,
)
from aiohaul.sensitive import shown

#: The maximum seconds that a sent request may still take after the caller was cancelled.
GRACE = 5.0
#: The maximum seconds of ListTasks to find the task of a RunTask without a response.
_FIND_TIMEOUT = 5.0
#: The parameters of RunTask that are not allowed in ``run_task``, and the arguments to use instead.
_RESERVED = {
    "cluster": "cluster",
    "taskDefinition": "task_family",
    "count": "one call for each task",
    "clientToken": "token",
    "startedBy": "token",
    "networkConfiguration": "network",
}

_log = logging.getLogger(__name__)


def check_token(token: str) -> str:
    """Return a token after a check that it is valid as a clientToken and as ``startedBy``.

    Raises:
        FargateTaskStartError: the token is not 1 to 64 letters, digits, "-" and "_".
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", token):
        raise FargateTaskStartError(
            f'token: {shown(token)} is not 1 to 64 letters, digits, "-" and "_"'
        )
    return token


def run_task_request(
    run: TaskRun,
    task_family: str,
    network: Mapping[str, Any] | None,
    overrides: Sequence[Mapping[str, Any]],
    parameters: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the parameters of RunTask.

    Args:
        run: the state of the call.
        task_family: the task definition.
        network: ECS's networkConfiguration.
        overrides: ECS's containerOverrides.
        parameters: more parameters of RunTask. The launch type is FARGATE, unless they contain a
            launchType or a capacityProviderStrategy.

    Raises:
        FargateTaskStartError: ``parameters`` contains one that another argument sets.
    """
    more = dict(parameters)
    for name in _RESERVED.keys() & more.keys():
        raise FargateTaskStartError(f"run_task: {name} is set by the call: use {_RESERVED[name]}")
    if "containerOverrides" in (task_overrides := more.pop("overrides", {})):
        raise FargateTaskStartError("run_task: overrides.containerOverrides: use overrides")
    if not more.keys() & {"launchType", "capacityProviderStrategy"}:
        more["launchType"] = "FARGATE"
    if network:
        more["networkConfiguration"] = network
    return {
        **more,
        "cluster": run.cluster,
        "taskDefinition": task_family,
        "count": 1,
        "clientToken": run.token,
        "startedBy": run.token,
        "overrides": {**task_overrides, "containerOverrides": overrides},
    }


async def start_with_retries(
    ecs: Service, run: TaskRun, request: Mapping[str, Any], give_up_at: float
) -> None:
    """Start the task like :func:`start`, and retry while ECS has no capacity for the task.

    Each attempt has a new clientToken, because ECS repeats its response to a known token. Before
    the first attempt, ListTasks looks for a task with the token as ``startedBy``, which an earlier
    call may have started.

    Args:
        ecs: the client of ECS.
        run: the state of the call.
        request: the parameters of RunTask.
        give_up_at: the time of the event loop after which no attempt begins.

    Raises:
        FargateTaskStartError: ECS had no capacity for the task before ``give_up_at``.
        HaulError: as for :func:`start`.
    """
    await find(ecs, run)
    for attempt in itertools.count(1):
        if run.arn is not None:
            return
        try:
            await start(ecs, run, request)
        except FargateTaskStartError as error:
            pause = backoff_delay(attempt + 1, None)
            if not error.retryable or anyio.current_time() + pause > give_up_at:
                raise
            _log.info("starting a task failed, and is retried: %s", error)
        else:
            return
        await anyio.sleep(pause)
        request = {**request, "clientToken": uuid.uuid4().hex}


async def start(ecs: Service, run: TaskRun, request: Mapping[str, Any]) -> None:
    """Start the task (RunTask), and store its ARN in ``run``.

    If the call is cancelled before RunTask is sent, it ends at once, and no task was started. A
    request that was sent gets five more seconds to return the ARN, so that the task can be stopped.

    Raises:
        FargateTaskStartError: ECS has no capacity for the task.
        OutcomeUnknownError: RunTask got no response, and ListTasks does not show the task.
        ServiceError: ECS refused the request.
    """
    target = f"{request['taskDefinition']} in {run.cluster}"
    try:
        answer = await ecs.call_through(partial(_attempt, run), "run_task", target, **request)
    except ServiceError as error:
        if run.in_doubt:
            await find(ecs, run)
        if run.arn is not None:
            return
        if not run.in_doubt and "Capacity is unavailable" in error.problem:
            raise FargateTaskStartError(
                f"{target} was not started: {error}", retryable=True
            ) from error
        if not run.in_doubt:
            raise
        raise OutcomeUnknownError(
            f"{error.problem} {run.where_to_look[0].upper()}{run.where_to_look[1:]}.",
            operation="RunTask",
            target=target,
            code=error.code,
            status=error.status,
            request_id=error.request_id,
            attempts=error.attempts,
        ) from error
    if run.arn is None:
        failure = (answer.get("failures") or [{}])[0]
        keys = ("reason",) if run.secret else ("reason", "detail")
        reason = ": ".join(failure[key] for key in keys if failure.get(key))
        message = f"{target} was not started: {reason or 'ECS gives no reason'}"
        raise FargateTaskStartError(message, retryable=lacks_capacity(reason))


async def _attempt(run: TaskRun, send: Send) -> Mapping[str, Any]:
    """Send RunTask once. A request that may have reached ECS continues after a cancellation."""
    answers: list[Mapping[str, Any]] = []
    before = run.in_doubt

    def on_send(*, reached: bool) -> None:
        run.in_doubt = before or reached

    async def send_once() -> Mapping[str, Any]:
        await anyio.lowlevel.checkpoint()  # a call that was cancelled just now sends nothing
        try:
            with redacted_messages("RunTask") if run.secret else nullcontext():
                return await send(on_send)
        except HaulError as error:
            on_send(reached=isinstance(error, ServiceError) and error.outcome_unknown)
            raise

    def on_answer(answer: Mapping[str, Any]) -> None:
        run.on_run_task(answer)
        answers.append(answer)

    await run_shielded(send_once, lambda: GRACE if run.in_doubt else 0.0, on_answer)
    return answers[0]


async def find(ecs: Service, run: TaskRun) -> None:
    """Find a task that may have been started (ListTasks), and store its ARN in ``run``.

    Takes at most five seconds. A failure is logged.
    """
    with anyio.move_on_after(_FIND_TIMEOUT):
        try:
            run.on_list_tasks(
                await ecs.call("list_tasks", run.cluster, cluster=run.cluster, startedBy=run.token)
            )
        except HaulError as error:
            _log.warning(
                "a task may be running in cluster %s, but looking for its startedBy %s failed: %s",
                run.cluster,
                run.token,
                error,
            )
