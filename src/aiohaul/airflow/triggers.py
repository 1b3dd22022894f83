"""Airflow triggers that await work on the event loop of the triggerer.

Thousands of triggers share one Session. A trigger ends before its work in three cases:

- A user kills, clears or marks the task. Airflow cancels ``run``, and then calls ``on_kill``, which
  stops the work at AWS.
- The triggerer ends or restarts. Airflow cancels ``run``, and the work at AWS continues. Then
  Airflow starts the trigger again, in any triggerer, and the trigger resumes the work.
- The work exceeds a timeout. The trigger stops the work, and fails the task. If no triggerer runs,
  the operator stops the work when Airflow's own timeout ends the task.
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
from aiohaul.airflow.connection import connection_settings, refuse_keys
from aiohaul.airflow.session_pool import shared_session
from aiohaul.airflow.timing import Clock
from aiohaul.airflow.xcom import Json, failed, payload, short_report, succeeded
from aiohaul.cancellation import in_own_task, run_shielded
from aiohaul.errors import (
    DurableTimeoutError,
    FargateTaskError,
    HaulError,
    OutcomeUnknownError,
    ServiceError,
)
from aiohaul.logs import one_line, warnings_to
from aiohaul.results import LogLine
from aiohaul.sensitive import Sensitive
from aiohaul.session import Session
from aiohaul.tasks.compute_definition import FargateCall, LambdaCall
from aiohaul.tasks.definition import parse
from aiohaul.tasks.execution import fargate_report, output_of, report_of, run_lambda
from aiohaul.tasks.run import run


class OutOfTimeError(HaulError):
    """The work exceeded the timeout of the task, and the trigger stopped the work."""


class _Event(TriggerEvent):
    """An event whose repr contains no response of a function, because the triggerer logs it."""

    def __repr__(self) -> str:
        return f"TriggerEvent<ok={self.payload['ok']}>"


class HaulTrigger(BaseTrigger):
    """The base class of the triggers.

    The arguments of a trigger are JSON. Airflow stores them encrypted in its database.

    Args:
        definition: the task definition, with all templates rendered.
        attempt: the try of the task instance, as ``Attempt.as_dict`` returns it.
        clock: the start and the time limit of the work, as ``Clock.as_dict`` returns them.
        aws_conn_id: a connection for settings that are missing in the definition. With None the
            credentials of the environment apply.

    Raises:
        DefinitionError: a ``protocol`` has a secret key, a session token or an external id.
    """

    def __init__(
        self,
        definition: Mapping[str, Any],
        attempt: Mapping[str, Any],
        clock: Mapping[str, Any],
        aws_conn_id: str | None = None,
    ) -> None:
        refuse_keys(definition)
        super().__init__()
        self.definition = definition
        self.attempt = Attempt(**attempt)
        self.clock = Clock(**clock)
        self.aws_conn_id = aws_conn_id

    def __repr__(self) -> str:
        # The definition is left out, because its payload may be secret.
        return f"<{type(self).__name__} of {self.attempt.dag_id}.{self.attempt.task_id}>"

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the import path of this class, and the arguments to make the trigger again."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "definition": dict(self.definition),
            "attempt": self.attempt.as_dict(),
            "clock": self.clock.as_dict(),
            "aws_conn_id": self.aws_conn_id,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Do the work, and yield one event with the report or the error."""
        yield _Event(await self._outcome())

    @in_own_task
    async def _outcome(self) -> Json:
        try:
            with warnings_to(self.log.warning):
                async with shared_session(await connection_settings(self.aws_conn_id)) as session:
                    return succeeded(await self._work(session))
        except HaulError as error:
            # _log_line has logged the lines of a Fargate task already.
            for line in [] if isinstance(error, FargateTaskError) else output_of(report_of(error)):
                self.log.warning("%s", one_line(line))
            return failed(error)

    async def _work(self, session: Session) -> Json:
        """Do the work, and return its report."""
        raise NotImplementedError

    @property
    def _inline(self) -> bool:
        """True in ``airflow dags test``, where no triggerer could resume the work later."""
        return self.trigger_id is None

    def _remaining(self, limit: float | None = None) -> float | None:
        """Return the seconds that remain until the time limit; None if there is no limit."""
        remaining = self.clock.remaining(time.time(), limit)
        return None if remaining == math.inf else remaining


class TransferTrigger(HaulTrigger):
    """Runs a transfer. If Airflow cancels the trigger, the transfer aborts its multipart uploads.

    A cancelled transfer also leaves no partly written file.

    Args:
        definition: a transfer, or an S3 execution.
        attempt: as in :class:`HaulTrigger`.
        clock: as in :class:`HaulTrigger`.
        aws_conn_id: as in :class:`HaulTrigger`.
        journal: the file of the transfer's journal; None uses no journal.
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
        """Return the import path of this class, and the arguments to make the trigger again."""
        name, arguments = super().serialize()
        return name, arguments | {"journal": self.journal}

    async def _work(self, session: Session) -> Json:
        with anyio.move_on_after(self._remaining()):
            definition = self.clock.with_remaining_time(self.definition, time.time())
            journal = Path(self.journal) if self.journal else None
            return short_report(await run(definition, session=session, journal=journal))
        raise OutOfTimeError(
            f"the transfer did not finish within its timeout of {self.clock.limit:g} s, and was"
            " stopped. Use a longer timeout, or copy fewer objects"
        )


class FileWatchTrigger(TransferTrigger):
    """Runs a file watch, which is a transfer without a destination."""


class _RemoteTrigger(HaulTrigger):
    """Awaits work that continues at AWS without this process."""

    #: The ARN of the Fargate task or durable execution that was started. It is stored here too,
    #: because Airflow removes the checkpoint when the next try of the task begins.
    _arn: str | None = None

    async def on_kill(self) -> None:
        """Stop the work at AWS. Airflow calls this method when a user has ended the task.

        Airflow cancels the call every second. The call ignores the cancellation until the work is
        stopped.
        """
        await run_shielded(self._kill, math.inf)

    async def _kill(self) -> None:
        if await self._is_resumed_elsewhere():
            self.log.warning("the work at AWS continues, because another triggerer resumes it")
            return
        await self.stop()

    async def _is_resumed_elsewhere(self) -> bool:
        """Return True if another triggerer runs this trigger now, so no user has ended the task."""
        try:
            return await self.attempt.still_deferred()
        except AirflowRuntimeError:
            self.log.exception(
                "reading the state of task %s from Airflow failed: stopping its work at AWS, as if"
                " a user had killed the task",
                self.attempt.task_id,
            )
            return False

    async def stop(self) -> None:
        """Stop the work of this try of the task at AWS, if the work still runs.

        AWS: StopTask, or StopDurableExecution.

        Raises:
            HaulError: the work cannot be stopped.
        """
        started = self._arn
        if started is None and (checkpoint := await self.attempt.load_checkpoint()) is not None:
            started = checkpoint.started
        async with shared_session(await connection_settings(self.aws_conn_id)) as session:
            await self._stop(session, started)

    async def _stop(self, session: Session, started: str | None) -> None:
        raise NotImplementedError


class FargateTrigger(_RemoteTrigger):
    """Runs a Fargate task, and awaits its end.

    A triggerer that restarts neither stops the Fargate task nor starts it again.
    """

    async def _work(self, session: Session) -> Json:
        call = self._call
        checkpoint = await self.attempt.load_checkpoint()
        earlier = checkpoint.started if checkpoint else None
        if earlier is not None:
            self._arn = earlier
            self.log.info("resuming the Fargate task %s", earlier)
        # A trigger that resumes also reads the log of the container from the beginning.
        result = await session.fargate(call.settings).run(
            call.cluster,
            call.task_family,
            network=call.network,
            overrides=call.overrides,
            container=call.container,
            log_group=call.log_group,
            timeout=self._remaining(call.timeout),
            init_timeout=call.init_timeout,
            retry_start=call.retry_start,
            run_task=call.run_task,
            on_log=self._log_line,
            token=self.attempt.token,
            task=earlier,
            on_start=None if earlier else self._started,
            stop=self._inline,
        )
        return short_report(fargate_report(result))

    async def _started(self, arn: str) -> None:
        self._arn = arn
        self.log.info("started the Fargate task %s", arn)
        await self.attempt.save_checkpoint(arn)

    def _log_line(self, line: LogLine) -> None:
        self.log.info("%s", line.message)

    async def _stop(self, session: Session, started: str | None) -> None:
        call = self._call
        handler = session.fargate(call.settings)
        if await handler.stop(call.cluster, self.attempt.token, task=started):
            self.log.info("sent StopTask for the Fargate task of %s", call.task_family)

    @property
    def _call(self) -> FargateCall:
        return cast("FargateCall", parse(self.definition))


class LambdaTrigger(_RemoteTrigger):
    """Calls a Lambda function, once for each try of the task, and awaits the response.

    Args:
        definition: a Lambda execution.
        attempt: as in :class:`HaulTrigger`.
        clock: as in :class:`HaulTrigger`.
        aws_conn_id: as in :class:`HaulTrigger`.
        durable: True if the function is a durable function. The durable execution is named after
            the Airflow try, so a triggerer that restarts finds the same durable execution, and does
            not start another one. The durable execution is stopped when a user kills the task.
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
        """Return the import path of this class, and the arguments to make the trigger again."""
        name, arguments = super().serialize()
        return name, arguments | {"durable": self.durable}

    async def _work(self, session: Session) -> Json:
        call = cast("LambdaCall", parse(self.definition))
        if self.durable:
            return await self._until_done(session, call)
        checkpoint = await self.attempt.load_checkpoint()
        if checkpoint is None or checkpoint.begun:
            raise OutcomeUnknownError(
                "the triggerer restarted during the call, so the response of the function is lost.",
                advice="The function was not called again: check whether its work is done.",
                operation="Invoke",
                target=call.function,
                code="TriggererRestarted",
            )
        await self.attempt.save_checkpoint()
        return short_report(
            await run_lambda(replace(call, timeout=self._remaining(call.timeout)), session)
        )

    async def _until_done(self, session: Session, call: LambdaCall) -> Json:
        """Start a durable execution, or find the one that runs already, and wait for its end."""
        begun = anyio.current_time()
        handler = session.lambda_(call.settings)
        secret = isinstance(call.payload, Sensitive)
        arn = await handler.start_durable(
            call.function,
            self.attempt.token,
            call.payload,
            qualifier=call.qualifier,
            retries=call.retries,
        )
        self._arn = arn
        await self.attempt.save_checkpoint(arn)
        try:
            done = await handler.wait_durable(
                arn, timeout=self._remaining(call.timeout), stop=self._inline, secret=secret
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
            self.log.warning(
                "the function %s may still be running, because AWS cannot stop a function",
                call.function,
            )
            return
        try:
            await session.lambda_(call.settings).stop_durable(started)
        except ServiceError:
            self.log.exception(
                "stopping the durable execution %s failed: it may still be running, so stop it by"
                " hand",
                started,
            )
        else:
            self.log.info("sent StopDurableExecution for %s", started)
