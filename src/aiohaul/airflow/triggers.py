"""Triggers: work that is awaited on the triggerer's event loop, thousands of them on one Session.

What ends a trigger, and what that means here:

- A user kills, clears or marks the task: Airflow cancels ``run``, and then calls ``on_kill``,
  which stops what runs at AWS.
- The triggerer ends, or restarts: ``run`` is cancelled, and nothing is stopped. The trigger is
  started again from the beginning, here or elsewhere, and goes on with what runs already.
- The time is up: the trigger stops the work itself, and tells so. Where no trigger is alive to do
  it, the operator does, when Airflow gives the task up.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import anyio
from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.triggers.base import BaseTrigger, TriggerEvent

from aiohaul.airflow.attempts import Attempt
from aiohaul.airflow.connection import connection_settings
from aiohaul.airflow.sharing import shared_session
from aiohaul.airflow.telling import Json, failed, payload, succeeded, told
from aiohaul.airflow.timing import Clock
from aiohaul.cancellation import in_own_task, to_its_end
from aiohaul.compute.logs import LogLine
from aiohaul.errors import (
    DurableTimeoutError,
    HaulError,
    OutcomeUnknownError,
    ServiceError,
)
from aiohaul.hidden import Hidden
from aiohaul.session import Session
from aiohaul.tasks.definition import parse
from aiohaul.tasks.execution import fargate_report, run_lambda
from aiohaul.tasks.executions import FargateCall, LambdaCall
from aiohaul.tasks.run import run


class OutOfTimeError(HaulError):
    """The work was not done within the task's own timeout, and was ended."""


class _Event(TriggerEvent):
    """An event that keeps what a function answered out of the triggerer's log."""

    def __repr__(self) -> str:
        return f"TriggerEvent<ok={self.payload['ok']}>"


class HaulTrigger(BaseTrigger):
    """What the triggers have in common. Everything in them is JSON, and stored encrypted.

    Args:
        definition: the task definition, rendered.
        attempt: the try of the task instance that waits.
        clock: when it began, and its limit.
        aws_conn_id: a connection for what the definition leaves open; None is the environment.
    """

    def __init__(
        self,
        definition: Mapping[str, Any],
        attempt: Mapping[str, Any],
        clock: Mapping[str, Any],
        aws_conn_id: str | None = None,
    ) -> None:
        super().__init__()
        self.definition = definition
        self.attempt = Attempt(**attempt)
        self.clock = Clock(**clock)
        self.aws_conn_id = aws_conn_id

    def __repr__(self) -> str:
        # A definition may hold keys.
        return f"<{type(self).__name__} of {self.attempt.dag_id}.{self.attempt.task_id}>"

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class, and the arguments that make it again."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "definition": dict(self.definition),
            "attempt": self.attempt.as_dict(),
            "clock": self.clock.as_dict(),
            "aws_conn_id": self.aws_conn_id,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Do the work, and yield the one event that says how it ended."""
        yield _Event(await self._outcome())

    @in_own_task
    async def _outcome(self) -> Json:
        try:
            async with shared_session(await connection_settings(self.aws_conn_id)) as session:
                return succeeded(await self._work(session))
        except HaulError as error:
            return failed(error)

    async def _work(self, session: Session) -> Json:
        """Do the work: its report."""
        raise NotImplementedError

    @property
    def _inline(self) -> bool:
        """True in ``airflow dags test``: no triggerer would go on with what is left running."""
        return self.trigger_id is None

    def _left(self, limit: float | None = None) -> float | None:
        """Seconds that are left; None is as long as it takes."""
        left = self.clock.left(time.time(), limit)
        return None if left == math.inf else left


class TransferTrigger(HaulTrigger):
    """Awaits a transfer. Cancelled, it leaves no open upload and no half-written file.

    Args:
        definition: a transfer, or an S3 execution.
        attempt: as above.
        clock: as above.
        aws_conn_id: as above.
        journal: a file in which the transfer writes down what it has done.
    """

    def __init__(
        self,
        definition: Mapping[str, Any],
        attempt: Mapping[str, Any],
        clock: Mapping[str, Any],
        aws_conn_id: str | None = None,
        journal: str | None = None,
    ) -> None:
        super().__init__(definition, attempt, clock, aws_conn_id)
        self.journal = journal

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class, and the arguments that make it again."""
        name, arguments = super().serialize()
        return name, arguments | {"journal": self.journal}

    async def _work(self, session: Session) -> Json:
        with anyio.move_on_after(self._left()):
            definition = self.clock.wound_on(self.definition, time.time())
            journal = Path(self.journal) if self.journal else None
            return told(await run(definition, session=session, journal=journal))
        raise OutOfTimeError(f"the transfer was not done within {self.clock.limit:g} s")


class FileWatchTrigger(TransferTrigger):
    """Awaits a file watch: a transfer without a destination."""


class _RemoteTrigger(HaulTrigger):
    """Work that goes on at AWS whether or not anybody waits for it."""

    #: What was started, once that is known. A next try of the task removes the mark of this one.
    _arn: str | None = None

    async def on_kill(self) -> None:
        """Stop the work at AWS: a user has ended the task.

        Airflow cancels this again every second, and it goes on all the same.
        """
        await to_its_end(self._kill, math.inf, _ignore)

    async def _kill(self) -> None:
        if await self._goes_on():
            self.log.warning("another triggerer goes on with this task: nothing is stopped")
            return
        await self.stop()

    async def _goes_on(self) -> bool:
        """True if this was no kill, but the loss of the trigger to another triggerer."""
        try:
            return await self.attempt.still_deferred()
        except AirflowRuntimeError:
            self.log.exception("Airflow does not say whether this task was killed")
            return False

    async def stop(self) -> None:
        """Stop what this try of the task has started, if it still runs.

        Raises:
            HaulError: AWS cannot be asked to.
        """
        started = self._arn
        if started is None and (mark := await self.attempt.marked()) is not None:
            started = mark.started
        async with shared_session(await connection_settings(self.aws_conn_id)) as session:
            await self._stop(session, started)

    async def _stop(self, session: Session, started: str | None) -> None:
        raise NotImplementedError


class FargateTrigger(_RemoteTrigger):
    """Awaits a Fargate task, which a restart of the triggerer neither stops nor starts again."""

    async def _work(self, session: Session) -> Json:
        call = self._call
        mark = await self.attempt.marked()
        earlier = mark.started if mark else None
        if earlier is not None:
            self._arn = earlier
            self.log.info("going on with %s", earlier)
        # The first look at a container's log tells it from the beginning.
        result = await session.fargate(call.settings).run(
            call.cluster,
            call.task_family,
            network=call.network,
            overrides=call.overrides,
            container=call.container,
            log_group=call.log_group,
            timeout=self._left(call.timeout),
            init_timeout=call.init_timeout,
            on_log=self._tell,
            token=self.attempt.token,
            task=earlier,
            on_start=None if earlier else self._started,
            stop=self._inline,
        )
        return told(fargate_report(result))

    async def _started(self, arn: str) -> None:
        self._arn = arn
        self.log.info("started %s", arn)
        await self.attempt.mark(arn)

    def _tell(self, line: LogLine) -> None:
        self.log.info("%s", line.message)

    async def _stop(self, session: Session, started: str | None) -> None:
        call = self._call
        handler = session.fargate(call.settings)
        if await handler.stop(call.cluster, self.attempt.token, task=started):
            self.log.info("the Fargate task was told to stop")

    @property
    def _call(self) -> FargateCall:
        return cast("FargateCall", parse(self.definition))


class LambdaTrigger(_RemoteTrigger):
    """Awaits a Lambda function, which is never called twice for one try of the task.

    Args:
        definition: a Lambda execution.
        attempt: as above.
        clock: as above.
        aws_conn_id: as above.
        durable: the function is a durable one: it is started by the try's name, waited for
            through restarts, and stopped when the task is killed.
    """

    def __init__(
        self,
        definition: Mapping[str, Any],
        attempt: Mapping[str, Any],
        clock: Mapping[str, Any],
        aws_conn_id: str | None = None,
        *,
        durable: bool = False,
    ) -> None:
        super().__init__(definition, attempt, clock, aws_conn_id)
        self.durable = durable

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class, and the arguments that make it again."""
        name, arguments = super().serialize()
        return name, arguments | {"durable": self.durable}

    async def _work(self, session: Session) -> Json:
        call = cast("LambdaCall", parse(self.definition))
        if self.durable:
            return await self._until_done(session, call)
        mark = await self.attempt.marked()
        if mark is None or mark.begun:
            raise OutcomeUnknownError(
                "it was called before the triggerer restarted, and the answer was lost with it.",
                advice="It was not called again.",
                operation="Invoke",
                target=call.function,
                code="TriggererRestarted",
            )
        await self.attempt.mark()
        return told(await run_lambda(replace(call, timeout=self._left(call.timeout)), session))

    async def _until_done(self, session: Session, call: LambdaCall) -> Json:
        """Start a durable execution, or find the one that was started, and wait for its end."""
        begun = anyio.current_time()
        handler = session.lambda_(call.settings)
        secret = isinstance(call.payload, Hidden)
        arn = await handler.start_durable(
            call.function, self.attempt.token, call.payload, max_attempts=call.max_attempts
        )
        self._arn = arn
        await self.attempt.mark(arn)
        try:
            done = await handler.wait_durable(
                arn, timeout=self._left(call.timeout), stop=self._inline, secret=secret
            )
        except DurableTimeoutError:
            await self._stop(session, arn)
            raise
        return {
            "type": "execution",
            "ok": True,
            "function": call.function,
            "execution": arn,
            "version": done.version,
            "seconds": round(anyio.current_time() - begun, 3),
            **({"payload": None} if secret else payload(done.result)),
        }

    async def _stop(self, session: Session, started: str | None) -> None:
        call = cast("LambdaCall", parse(self.definition))
        if started is None:
            self.log.warning("%s may go on: AWS has no way to stop it", call.function)
            return
        try:
            await session.lambda_(call.settings).stop_durable(started)
        except ServiceError:
            self.log.exception("%s may still be running: stop it by hand", started)
        else:
            self.log.info("%s was told to stop", started)


def _ignore(_: None) -> None:
    pass
