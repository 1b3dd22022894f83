"""Operators that defer at once: from then on they hold no slot of a worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from aiohaul.airflow.attempts import Attempt
from aiohaul.airflow.telling import Json
from aiohaul.airflow.timing import MARGIN, Clock
from aiohaul.airflow.triggers import (
    FargateTrigger,
    HaulTrigger,
    LambdaTrigger,
    TransferTrigger,
)
from aiohaul.errors import DefinitionError
from aiohaul.tasks.definition import Touch, Transfer, parse
from aiohaul.tasks.executions import FargateCall, LambdaCall

#: What another try would only make worse, or find again.
_FINAL = {"DefinitionError", "UnsupportedError", "OutcomeUnknownError"}
#: How Airflow says that a trigger was given up.
_GIVEN_UP = "__fail__"


def judged(event: Mapping[str, Any]) -> Json:
    """The report in a trigger's event.

    Raises:
        AirflowException: the work failed.
        AirflowFailException: it failed, and is not to be tried again.
    """
    if event["ok"]:
        report: Json = event["report"]
        return report
    sentence = f"{event['kind']}: {event['error']}"
    raise (AirflowFailException if event["kind"] in _FINAL else AirflowException)(sentence)


def checked(definition: Any, *kinds: type) -> Mapping[str, Any]:
    """A definition that is right, and of one of these kinds.

    Raises:
        AirflowFailException: it is not.
    """
    if not isinstance(definition, Mapping):
        raise AirflowFailException("definition: it has to be a mapping")
    try:
        task = parse(definition)
    except DefinitionError as error:
        raise AirflowFailException(str(error)) from error
    if not isinstance(task, kinds):
        raise AirflowFailException("definition: it is for another of aiohaul's operators")
    return definition


def seconds(time_: timedelta | float | None) -> float | None:
    """A span of time in seconds."""
    return time_.total_seconds() if isinstance(time_, timedelta) else time_


class HaulOperator(BaseOperator):
    """What the operators have in common.

    The task fails if the work does, or if it is not done in time: within the definition's own
    timeouts, ``timeout``, and ``execution_timeout``, the time in which it is deferred included.

    Args:
        definition: a task definition, as :func:`aiohaul.run` takes it. Templated.
        aws_conn_id: a connection of type ``aws`` for what the definition's ``protocol`` leaves
            open. None is the environment of the triggerer. Templated.
        timeout: for all of the work; a timedelta, or seconds.
        kwargs: those of Airflow's BaseOperator.
    """

    template_fields: Sequence[str] = ("definition", "aws_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"definition": "json"}
    #: What a definition for this operator is.
    kinds: ClassVar[tuple[type, ...]] = ()

    def __init__(
        self,
        *,
        definition: Mapping[str, Any],
        aws_conn_id: str | None = None,
        timeout: timedelta | float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.definition = definition
        self.aws_conn_id = aws_conn_id
        self.timeout = timeout

    def execute(self, context: Context) -> None:
        """Defer until the work is done.

        Raises:
            AirflowFailException: the definition is wrong.
        """
        checked(self.definition, *self.kinds)
        trigger = self.trigger(context)
        self.announce(trigger)
        limit = trigger.clock.limit
        self.defer(
            trigger=trigger,
            method_name="execute_complete",
            timeout=None if limit is None else timedelta(seconds=limit + MARGIN),
        )

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Json:  # noqa: ARG002  # Airflow hands it in
        """Return the report, which becomes the task's XCom.

        Raises:
            AirflowException: the work failed, or was not done in time.
        """
        return judged(event)

    def trigger(self, context: Context) -> HaulTrigger:
        """The trigger that does the work."""
        raise NotImplementedError

    def announce(self, trigger: HaulTrigger) -> None:
        """Write down what the trigger will want to know, if it is started twice."""

    def arguments(self, context: Context) -> dict[str, Any]:
        """The arguments that all triggers take."""
        clock = Clock.of(time.time(), seconds(self.timeout), seconds(self.execution_timeout))
        return {
            "definition": self.definition,
            "attempt": Attempt.of(context["ti"]).as_dict(),
            "clock": clock.as_dict(),
            "aws_conn_id": self.aws_conn_id,
        }


class TransferOperator(HaulOperator):
    """Carries out a transfer, or an S3 execution, in the triggerer.

    A restart of the triggerer carries it out again from the beginning: copies are the same then,
    but a ``postCopyAction`` needs a ``journal`` to be gone on with. Local sides of a transfer are
    directories of the triggerer's machine.

    Args:
        definition: as above.
        journal: a file in which the transfer writes down what it has done, on a disk that all
            triggerers share. Templated.
        kwargs: as above.
    """

    template_fields: Sequence[str] = (*HaulOperator.template_fields, "journal")
    kinds = (Transfer, Touch)

    def __init__(
        self, *, definition: Mapping[str, Any], journal: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(definition=definition, **kwargs)
        self.journal = journal

    def trigger(self, context: Context) -> HaulTrigger:
        """The trigger that does the work."""
        return TransferTrigger(**self.arguments(context), journal=self.journal)


class _RemoteOperator(HaulOperator):
    """Work that goes on at AWS by itself, and has to be stopped there when it is given up."""

    def announce(self, trigger: HaulTrigger) -> None:
        """Leave the first mark of this try."""
        trigger.attempt.announce()

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:
        """Go on after the trigger; if Airflow has given it up, stop the work first."""
        if next_method == _GIVEN_UP:
            try:
                asyncio.run(self._trigger_to_stop(context).stop())
            except Exception:  # the task has failed all the same
                self.log.exception("the work may still be running: stop it by hand")
        return super().resume_execution(next_method, next_kwargs, context)

    def _trigger_to_stop(self, context: Context) -> FargateTrigger | LambdaTrigger:
        raise NotImplementedError


class LambdaOperator(_RemoteOperator):
    """Calls a Lambda function, once for each try of the task.

    If the triggerer restarts while a function is being called, the task fails and is not tried
    again: whether the function ran is not known. Durable functions have no such doubts.

    Args:
        definition: as above.
        durable: the function is a durable one: started once by a name, waited for through
            restarts of the triggerer, and stopped when the task is killed or out of time.
        kwargs: as above.
    """

    kinds = (LambdaCall,)

    def __init__(
        self, *, definition: Mapping[str, Any], durable: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(definition=definition, **kwargs)
        self.durable = durable

    def trigger(self, context: Context) -> HaulTrigger:
        """The trigger that does the work."""
        return self._trigger_to_stop(context)

    def _trigger_to_stop(self, context: Context) -> LambdaTrigger:
        return LambdaTrigger(**self.arguments(context), durable=self.durable)


class FargateOperator(_RemoteOperator):
    """Runs a Fargate task, and stops it when Airflow's task is killed or out of time.

    A restart of the triggerer neither stops it nor starts it again. With
    ``cloudwatchLogGroupName`` the container's log is in the task's log while it runs.

    Args:
        definition: as above.
        kwargs: as above.
    """

    kinds = (FargateCall,)

    def trigger(self, context: Context) -> HaulTrigger:
        """The trigger that does the work."""
        return self._trigger_to_stop(context)

    def _trigger_to_stop(self, context: Context) -> FargateTrigger:
        return FargateTrigger(**self.arguments(context))
