"""LambdaHandler: Lambda functions, called once, and awaited for as long as they take."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass, field
from typing import Any

import anyio

from aiohaul.aws.clients import Clients
from aiohaul.aws.retry import pause_before
from aiohaul.aws.service import Service
from aiohaul.cancellation import in_own_task
from aiohaul.compute import durable
from aiohaul.compute.durable import DurableExecution
from aiohaul.compute.invocation import (
    UNKNOWN,
    Invocation,
    InvocationType,
    check_durable_name,
    check_function,
    check_status,
    encoded,
    in_doubt,
    invocation_from,
    never_ran,
    outcome_unknown,
)
from aiohaul.errors import FunctionError, OutcomeUnknownError, ServiceError, UnreachableError
from aiohaul.pickling import NotPicklable
from aiohaul.settings import Settings
from aiohaul.telemetry.requests import failed_attempt

#: Lambda ends a function after 15 minutes; the margin is for its start and its answer's way.
DEFAULT_TIMEOUT = 15 * 60.0 + 60.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Call:
    """One call of a function while it is under way.

    Attributes:
        function: its name or ARN.
        payload: as JSON.
        parameters: of Invoke, but for the payload.
        timeout: seconds for all of it.
        read_timeout: seconds of silence before the connection is given up.
        secret: the payload hides something.
        max_attempts: how often it may be sent, where it did not reach the function before.
        attempts: how often it was sent.
        sent: the function may have been reached.
        begun: when, on the clock of the event loop.
    """

    function: str
    payload: bytes = field(repr=False)
    parameters: dict[str, Any]
    timeout: float
    read_timeout: float
    max_attempts: int
    secret: bool
    attempts: int = 0
    sent: bool = False
    begun: float = field(default_factory=anyio.current_time)

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return anyio.current_time() - self.begun

    def note(self, *, reached: bool) -> None:
        """Note whether the function may have been reached."""
        self.sent = reached


class LambdaHandler(NotPicklable):
    """Lambda as one identity sees it. Cheap to make: equal ones share clients and connections.

    Made by :meth:`aiohaul.Session.lambda_`.
    """

    def __init__(self, clients: Clients, settings: Settings | None = None) -> None:
        self._clients = clients
        self._settings = settings

    @in_own_task
    async def invoke(
        self,
        function: str,
        payload: Any = None,
        *,
        invocation_type: InvocationType = "RequestResponse",
        timeout: float | None = None,
        read_timeout: float | None = None,
        max_attempts: int = 1,
        qualifier: str | None = None,
        log_tail: bool = True,
    ) -> Invocation:
        """Call a function and wait for its answer.

        AWS: Invoke. It is sent once. With more attempts it is sent again only where the function
        provably did not run: no connection came about, or Lambda throttled it (429). On any doubt
        it is not. Cancelling drops the connection at once; a function that was reached goes on at
        AWS, which offers no way to stop it.

        Args:
            function: a name or an ARN, with a version or alias if need be.
            payload: any JSON value. What stands in a :class:`aiohaul.Hidden` is shown nowhere, nor
                is what the function answers to it, but for the :class:`aiohaul.Invocation` itself.
            invocation_type: ``RequestResponse`` waits for what the function returns; ``Event``
                queues the call; ``DryRun`` only checks that it would be permitted.
            timeout: seconds for the whole call, the wait for a slot and the pauses between
                attempts included; None is Lambda's 15 minutes and a minute.
            read_timeout: seconds of silence on the connection before it is given up; None leaves
                that to ``timeout``.
            max_attempts: how often it may be sent in all.
            qualifier: a version or alias.
            log_tail: ask for the last 4 KB of the log (``RequestResponse`` only).

        Returns:
            The answer. A function that failed is never returned, always raised.

        Raises:
            FunctionNameError: no function can have this name; nothing was sent.
            PayloadError: the payload is not JSON; nothing was sent.
            PayloadTooLargeError: it is over Lambda's limit; nothing was sent.
            FunctionError: the function failed; carries the answer.
            FunctionNotFoundError: there is no such function, version or alias.
            AccessDeniedError: the credentials may not call it.
            ThrottledError: Lambda has no room for it; the function did not run.
            UnreachableError: nothing was sent: no connection, or no slot in time.
            OutcomeUnknownError: it was sent, and no clear answer came in time, or ever; or the
                answer is not that to this type of invocation, such as 202 for RequestResponse.
            ServiceError: another refusal.
        """
        check_function(function)
        body, secret = encoded(payload, invocation_type)
        parameters: dict[str, Any] = {
            "FunctionName": function,
            "InvocationType": invocation_type,
        }
        if qualifier is not None:
            parameters["Qualifier"] = qualifier
        if log_tail and invocation_type == "RequestResponse":
            parameters["LogType"] = "Tail"
        timeout = DEFAULT_TIMEOUT if timeout is None else timeout
        return await self._make(
            _Call(
                function=function,
                payload=body,
                parameters=parameters,
                timeout=timeout,
                read_timeout=timeout if read_timeout is None else read_timeout,
                max_attempts=max_attempts,
                secret=secret,
            )
        )

    @in_own_task
    async def start_durable(
        self,
        function: str,
        name: str,
        payload: Any = None,
        *,
        qualifier: str | None = None,
        timeout: float | None = None,
        max_attempts: int = 1,
    ) -> str:
        """Start a durable execution, or find the one of this name that was started before.

        AWS: Invoke (``Event``) with DurableExecutionName. The name makes it idempotent: after an
        unknown outcome or a cancellation, start it again with the same name and payload.

        Args:
            function: a durable function, with its version or alias.
            name: 1 to 64 letters, digits, "-" and "_".
            payload: any JSON value, secret parts of it in :class:`aiohaul.Hidden`.
            qualifier: a version or alias, if ``function`` names none.
            timeout: seconds for the whole call.
            max_attempts: how often it may be sent, as for :meth:`invoke`.

        Returns:
            The execution's ARN, for :meth:`wait_durable`.

        Raises:
            FunctionNameError: the function or the execution cannot have this name.
            PayloadError: the payload is not JSON, or too large.
            ServiceError: or one of its kinds, as for :meth:`invoke`; of code
                ``DurableExecutionAlreadyStartedException`` if the name was used with another
                payload, ``NotDurable`` if the function is not a durable one.
        """
        check_function(function)
        check_durable_name(name)
        body, secret = encoded(payload, "Event")
        parameters: dict[str, Any] = {
            "FunctionName": function,
            "InvocationType": "Event",
            "DurableExecutionName": name,
        }
        if qualifier is not None:
            parameters["Qualifier"] = qualifier
        timeout = DEFAULT_TIMEOUT if timeout is None else timeout
        started = await self._make(
            _Call(
                function=function,
                payload=body,
                parameters=parameters,
                timeout=timeout,
                read_timeout=timeout,
                max_attempts=max_attempts,
                secret=secret,
            )
        )
        if started.durable_arn is None:
            raise ServiceError(
                "it was queued, but no durable execution was started: it is no durable function.",
                operation="Invoke",
                target=function,
                code="NotDurable",
                status=started.status,
                request_id=started.request_id,
            )
        return started.durable_arn

    @in_own_task
    async def wait_durable(
        self,
        arn: str,
        *,
        timeout: float | None = None,
        interval: float = durable.INTERVAL,
        stop: bool = True,
        secret: bool = False,
    ) -> DurableExecution:
        """Wait until a durable execution is done, for hours if need be.

        AWS: GetDurableExecution about every ``interval``, and StopDurableExecution when the wait
        is cancelled or times out. A process that ends without either leaves it running: wait for
        it again by its ARN.

        Args:
            arn: what :meth:`start_durable` returned.
            timeout: seconds; None waits as long as it takes.
            interval: seconds between two looks, give or take a fifth.
            stop: False leaves it running when the wait is cancelled or times out.
            secret: its payload hides something: an error does not repeat what it says.

        Raises:
            FunctionNameError: that is not the ARN of a durable execution.
            DurableExecutionError: it failed, timed out by its own limit, or was stopped.
            DurableTimeoutError: it was not done within ``timeout``.
            ServiceError: it cannot be looked at.
            SessionError: the Session ended; the execution was stopped unless told otherwise.
        """
        async with self._clients.undoable(f"{arn} was done"):
            return await durable.wait(
                await self._clients.service("lambda", self._settings),
                arn,
                timeout,
                interval,
                stop=stop,
                secret=secret,
            )
        raise AssertionError  # pragma: no cover  # undoable raises where it swallows

    async def stop_durable(self, arn: str) -> None:
        """Stop a durable execution. AWS: StopDurableExecution.

        Raises:
            FunctionNameError: that is not the ARN of a durable execution.
            ServiceError: or one of its kinds.
        """
        await durable.stop(await self._clients.service("lambda", self._settings), arn)

    async def _make(self, call: _Call) -> Invocation:
        """Make a call within its time, and say what becomes of it if it is cancelled."""
        try:
            with anyio.move_on_after(call.timeout):
                service = await self._clients.service("lambda", self._settings, once=True)
                body, answer = await _send(service, call)
                invocation = invocation_from(
                    call.function, body, answer, call.seconds, secret=call.secret
                )
                if invocation.function_error is not None:
                    raise FunctionError(
                        f"{call.function} failed ({invocation.function_error}):"
                        f" {invocation.complaint}",
                        invocation,
                    )
                check_status(invocation, call.parameters["InvocationType"])
                return invocation
        except anyio.get_cancelled_exc_class():
            if call.sent:
                _log.warning(
                    "the call of %s was cancelled after %.1f s and its connection dropped; the"
                    " function may go on at AWS",
                    call.function,
                    call.seconds,
                )
            raise
        raise _out_of_time(call)


async def _send(service: Service, call: _Call) -> tuple[bytes, dict[str, Any]]:
    """Send a call, and again only where the function provably did not run."""
    for attempt in itertools.count(1):
        call.attempts = attempt
        try:
            return await service.invoke(
                call.function,
                call.payload,
                read_timeout=call.read_timeout,
                note=call.note,
                attempt=attempt,
                secret=call.secret,
                **call.parameters,
            )
        except ServiceError as error:
            error.attempts = attempt
            if call.parameters["InvocationType"] != "DryRun" and in_doubt(error):
                raise outcome_unknown(error) from error
            call.sent = False
            pause = pause_before(attempt + 1, error.retry_after)
            late = call.seconds + pause >= call.timeout
            if not never_ran(error) or attempt >= call.max_attempts or late:
                failed_attempt("lambda", error, None)
                raise
            failed_attempt("lambda", error, pause)
        await anyio.sleep(pause)
    raise AssertionError  # pragma: no cover  # the loop returns or raises


def _out_of_time(call: _Call) -> ServiceError:
    if not call.sent:
        return UnreachableError(
            f"it was not sent within {call.timeout:g} s: no slot was free, no credentials came, or"
            " no connection came about.",
            advice="Raise the Session's max_invocations or the timeout, and check the network.",
            operation="Invoke",
            target=call.function,
            code="Timeout",
            attempts=call.attempts,
            retryable=True,
        )
    return OutcomeUnknownError(
        f"no answer came within {call.timeout:g} s. {UNKNOWN}",
        operation="Invoke",
        target=call.function,
        code="Timeout",
        attempts=call.attempts,
    )
