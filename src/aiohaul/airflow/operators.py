"""Airflow operators that defer at once, so that they occupy no worker slot while they wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from aiohaul.airflow.attempts import Attempt
from aiohaul.airflow.connection import refuse_keys
from aiohaul.airflow.timing import MARGIN, Clock
from aiohaul.airflow.triggers import (
    FargateTrigger,
    HaulTrigger,
    LambdaTrigger,
    TransferTrigger,
)
from aiohaul.airflow.xcom import Json
from aiohaul.errors import DefinitionError
from aiohaul.tasks.compute_definition import FargateCall, LambdaCall, with_parsed_payload
from aiohaul.tasks.definition import Touch, Transfer, parse

#: The errors after which the task must not be tried again. A wrong definition fails again, and work
#: with an unknown outcome could run twice.
_FINAL = {"DefinitionError", "UnsupportedError", "OutcomeUnknownError"}
#: The method name that Airflow passes to an operator whose trigger timed out or failed.
_GIVEN_UP = "__fail__"


def report_or_raise(event: Mapping[str, Any]) -> Json:
    """Return the report in the event of a trigger.

    Raises:
        AirflowException: the work failed. Airflow may try the task again.
        AirflowFailException: the work failed, and must not be tried again.
    """
    if event["ok"]:
        report: Json = event["report"]
        return report
    sentence = f"{event['kind']}: {event['error']}"
    raise (AirflowFailException if event["kind"] in _FINAL else AirflowException)(sentence)


def checked_definition(definition: Any, *kinds: type) -> Mapping[str, Any]:
    """Check a task definition, and return it.

    Args:
        definition: the definition.
        kinds: the classes of tasks that the operator runs.

    Raises:
        AirflowFailException: the definition is wrong or has keys, or another operator runs this
            kind of task.
    """
    if not isinstance(definition, Mapping):
        raise AirflowFailException(
            f"checking the definition failed: the definition must be a mapping, not"
            f" {type(definition).__name__}. Use a dict"
        )
    try:
        refuse_keys(definition)
        task = parse(definition)
    except DefinitionError as error:
        raise AirflowFailException(str(error)) from error
    if not isinstance(task, kinds):
        raise AirflowFailException(
            "checking the definition failed: this operator does not run this type of task. Use"
            " TransferOperator, LambdaOperator or FargateOperator"
        )
    return definition


def seconds(time_: timedelta | float | None) -> float | None:
    """Convert a timedelta or a number of seconds to seconds; None stays None."""
    return time_.total_seconds() if isinstance(time_, timedelta) else time_


class HaulOperator(BaseOperator):
    """The base class of the operators.

    The task fails if the work fails or exceeds a timeout. The timeouts are those of the
    definition, ``timeout``, and Airflow's ``execution_timeout``, which includes the time in which
    the task is deferred.

    Args:
        definition: a task definition, as for :func:`aiohaul.run`, without keys in a ``protocol``:
            Airflow stores the definition in its metadata database. Templated. If a payload is a
            string with the JSON of an object or a list, as the filter ``tojson`` returns, the
            operator sends the object or list.
        aws_conn_id: a connection of type ``aws``, for settings that are missing in the
            ``protocol`` of the definition. With None the credentials of the triggerer's
            environment apply, also with ``aws_default`` if that connection does not exist.
            Templated.
        timeout: the limit for the whole work, as a timedelta or in seconds.
        kwargs: the arguments of Airflow's BaseOperator.

    Raises:
        DefinitionError: a ``protocol`` has a secret key, a session token or an external id.
    """

    template_fields: Sequence[str] = ("definition", "aws_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"definition": "json"}
    #: The classes of tasks that this operator runs.
    kinds: ClassVar[tuple[type, ...]] = ()

    def __init__(
        self,
        *,
        definition: Mapping[str, Any],
        aws_conn_id: str | None = None,
        timeout: timedelta | float | None = None,
        **kwargs: Any,
    ) -> None:
        refuse_keys(definition)  # when the DAG is read: before Airflow stores it
        super().__init__(**kwargs)
        self.definition = definition
        self.aws_conn_id = aws_conn_id
        self.timeout = timeout

    def execute(self, context: Context) -> None:
        """Check the definition, and defer the task until the work has ended.

        Raises:
            AirflowFailException: the definition is wrong.
        """
        if isinstance(self.definition, Mapping):
            self.definition = with_parsed_payload(self.definition)
        checked_definition(self.definition, *self.kinds)
        trigger = self.trigger(context)
        self.save_checkpoint(trigger)
        limit = trigger.clock.limit
        self.defer(
            trigger=trigger,
            method_name="execute_complete",
            timeout=None if limit is None else timedelta(seconds=limit + MARGIN),
        )

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Json:  # noqa: ARG002  # Airflow hands it in
        """Return the report of the work, which Airflow stores as the XCom of the task.

        Raises:
            AirflowException: the work failed, or exceeded a timeout.
        """
        return report_or_raise(event)

    def trigger(self, context: Context) -> HaulTrigger:
        """Return the trigger that does the work of this operator."""
        raise NotImplementedError

    def save_checkpoint(self, trigger: HaulTrigger) -> None:
        """Save a checkpoint, so that a trigger which Airflow starts twice resumes the work.

        The base class saves nothing.
        """

    def arguments(self, context: Context) -> dict[str, Any]:
        """Return the arguments that all triggers have in common."""
        clock = Clock.of(time.time(), seconds(self.timeout), seconds(self.execution_timeout))
        return {
            "definition": self.definition,
            "attempt": Attempt.of(context["ti"]).as_dict(),
            "clock": clock.as_dict(),
            "aws_conn_id": self.aws_conn_id,
        }


class TransferOperator(HaulOperator):
    """Runs a transfer, or an S3 execution, in the triggerer.

    A triggerer that restarts runs the transfer again from the beginning. The copies have the same
    result then, but a ``postCopyAction`` needs a ``journal`` to resume. A local source or
    destination is a directory on the triggerer's machine.

    Args:
        definition: as in :class:`HaulOperator`.
        journal: the file of the transfer's journal, on a disk that all triggerers share.
            Templated.
        kwargs: as in :class:`HaulOperator`.
    """

    template_fields: Sequence[str] = (*HaulOperator.template_fields, "journal")
    kinds = (Transfer, Touch)

    def __init__(
        self, *, definition: Mapping[str, Any], journal: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(definition=definition, **kwargs)
        self.journal = journal

    def trigger(self, context: Context) -> HaulTrigger:
        """Return the trigger that does the work."""
        return TransferTrigger(**self.arguments(context), journal=self.journal)


class _RemoteOperator(HaulOperator):
    """Runs work that continues at AWS without this process.

    If Airflow ends the task before the work has ended, the operator stops the work at AWS.
    """

    def save_checkpoint(self, trigger: HaulTrigger) -> None:
        """Save the first checkpoint of this try, before the trigger starts."""
        trigger.attempt.save_first_checkpoint()

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:
        """Resume the task after its trigger.

        If Airflow resumes the task because the trigger timed out or failed, stop the work at AWS
        first.
        """
        if next_method == _GIVEN_UP:
            try:
                asyncio.run(self._trigger_to_stop(context).stop())
            except Exception:  # the task fails anyway
                self.log.exception(
                    "stopping the work of task %s failed: it may still be running at AWS, so stop"
                    " it by hand",
                    self.task_id,
                )
        return super().resume_execution(next_method, next_kwargs, context)

    def _trigger_to_stop(self, context: Context) -> FargateTrigger | LambdaTrigger:
        raise NotImplementedError


class LambdaOperator(_RemoteOperator):
    """Calls a Lambda function, once for each try of the task.

    If the triggerer restarts during a call, nobody knows whether the function ran. So the task
    fails, and is not tried again. With a durable function the trigger resumes instead.

    AWS: Invoke; for a durable function also GetDurableExecution and StopDurableExecution.

    Args:
        definition: as in :class:`HaulOperator`.
        durable: True if the function is a durable function. The operator starts the function once,
            also if the triggerer restarts, and stops it when a user kills the task or after a
            timeout.
        kwargs: as in :class:`HaulOperator`.
    """

    kinds = (LambdaCall,)

    def __init__(
        self, *, definition: Mapping[str, Any], durable: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(definition=definition, **kwargs)
        self.durable = durable

    def trigger(self, context: Context) -> HaulTrigger:
        """Return the trigger that does the work."""
        return self._trigger_to_stop(context)

    def _trigger_to_stop(self, context: Context) -> LambdaTrigger:
        return LambdaTrigger(**self.arguments(context), durable=self.durable)


class FargateOperator(_RemoteOperator):
    """Runs a Fargate task, and stops it when a user kills Airflow's task or after a timeout.

    A triggerer that restarts neither stops the Fargate task nor starts it again. With
    ``cloudwatchLogGroupName`` the lines of the container are in the log of Airflow's task while
    the container runs.

    Args:
        definition: as in :class:`HaulOperator`.
        kwargs: as in :class:`HaulOperator`.
    """

    kinds = (FargateCall,)

    def trigger(self, context: Context) -> HaulTrigger:
        """Return the trigger that does the work."""
        return self._trigger_to_stop(context)

    def _trigger_to_stop(self, context: Context) -> FargateTrigger:
        return FargateTrigger(**self.arguments(context))
