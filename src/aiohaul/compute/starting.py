"""RunTask, whose task is lost neither to a cancellation nor to an answer that does not come."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import anyio.lowlevel

from aiohaul.aws.secrecy import without_words
from aiohaul.aws.service import Send, Service
from aiohaul.cancellation import to_its_end
from aiohaul.compute.task import Run
from aiohaul.errors import (
    EndpointError,
    HaulError,
    OutcomeUnknownError,
    ServiceError,
    TaskStartError,
    ThrottledError,
    UnreachableError,
)

#: Seconds that a request under way has once the caller is cancelled, and that finding its task
#: may take after that.
GRACE = 5.0
_FIND_TIMEOUT = 5.0
_SERVER_ERROR = 500

_log = logging.getLogger(__name__)


def check_token(token: str) -> str:
    """Refuse what cannot be both a clientToken and a ``startedBy``.

    Raises:
        TaskStartError: it is not 1 to 64 letters, digits, "-" and "_".
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", token):
        raise TaskStartError(f'{token!r} is not 1 to 64 letters, digits, "-" and "_"')
    return token


async def start(ecs: Service, run: Run, request: Mapping[str, Any]) -> None:
    """Start the task (RunTask): from then on ``run`` has its ARN.

    Cancelled while no request is under way (no slot is free, no connection has come about, or it
    was throttled and pauses), it ends at once, and nothing was started. A request that is under
    way is awaited for some seconds more, so that its task can be stopped.

    Raises:
        TaskStartError: ECS has no room for it.
        OutcomeUnknownError: it was sent, no answer came, and ListTasks does not show the task.
        ServiceError: ECS refused it.
    """
    target = f"{request['taskDefinition']} in {run.cluster}"
    try:
        answer = await ecs.call_through(partial(_attempt, run), "run_task", target, **request)
    except ServiceError as error:
        if run.in_doubt:
            await find(ecs, run)
        if run.arn is not None:
            return
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
        told = answer.get("failures") or [{}]
        shown = ("reason",) if run.secret else ("reason", "detail")
        reason = ": ".join(told[0][key] for key in shown if told[0].get(key))
        raise TaskStartError(f"{target} was not started: {reason or 'ECS gives no reason'}")


async def _attempt(run: Run, send: Send) -> Mapping[str, Any]:
    """Send RunTask once, awaited to its end even if cancelled, once ECS may have got it."""
    answers: list[Mapping[str, Any]] = []
    before = run.in_doubt

    def note(*, reached: bool) -> None:
        run.in_doubt = before or reached

    async def sent() -> Mapping[str, Any]:
        await anyio.lowlevel.checkpoint()  # who was cancelled just when its turn came sends nothing
        try:
            with without_words("RunTask") if run.secret else nullcontext():
                return await send(note)
        except HaulError as error:
            note(reached=_may_have_started(error))
            raise

    def keep(answer: Mapping[str, Any]) -> None:
        run.keep(answer)
        answers.append(answer)

    await to_its_end(sent, lambda: GRACE if run.in_doubt else 0.0, keep)
    return answers[0]


async def find(ecs: Service, run: Run) -> None:
    """Look for a task that may have been started (ListTasks): ``run`` has its ARN if it is there.

    That takes some seconds at most.
    """
    with anyio.move_on_after(_FIND_TIMEOUT):
        try:
            run.found(
                await ecs.call("list_tasks", run.cluster, cluster=run.cluster, startedBy=run.token)
            )
        except HaulError as error:
            _log.warning("%s; it is not known whether a task was started", error)


def _may_have_started(error: HaulError) -> bool:
    """True if the request may have been carried out: no whole answer, or one of a broken server."""
    if not isinstance(error, ServiceError):
        return False
    if isinstance(error, EndpointError):
        return not isinstance(error, UnreachableError)
    broken = error.status is not None and error.status >= _SERVER_ERROR
    return broken and not isinstance(error, ThrottledError)
