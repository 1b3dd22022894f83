"""LambdaHandler: invokes Lambda functions at most once, and waits until they end."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio

from aiohaul.aws import answers
from aiohaul.aws.clients import Clients
from aiohaul.aws.retry import backoff_delay
from aiohaul.aws.service import Service
from aiohaul.cancellation import in_own_task
from aiohaul.compute import durable
from aiohaul.compute.invocation import (
    UNKNOWN,
    InvocationType,
    check_durable_name,
    check_function,
    check_status,
    encoded,
    encoded_context,
    invocation_from,
    may_send_again,
    outcome_unknown_error,
)
from aiohaul.errors import FunctionError, OutcomeUnknownError, ServiceError, UnreachableError
from aiohaul.pickling import NotPicklable
from aiohaul.results import DurableExecution, Invocation
from aiohaul.settings import Settings
from aiohaul.telemetry.requests import record_failed_attempt

#: The default timeout of an Invoke in seconds. Lambda ends a function after 15 minutes, and one
#: more minute is for the start of the function and the network.
DEFAULT_TIMEOUT = 15 * 60.0 + 60.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Call:
    """One Invoke, with its retries.

    Attributes:
        function: the name or ARN of the function.
        payload: the payload as JSON.
        parameters: the parameters of Invoke, without the payload.
        timeout: the maximum seconds of all attempts and pauses.
        read_timeout: the seconds without a byte after which the connection is closed.
        secret: True if the payload has sensitive values.
        retries: the maximum number of retries after attempts that did not start the function.
        attempts: the number of attempts so far.
        sent: True if the request may have reached the function.
        begun: the time of the event loop when the call began.
    """

    function: str
    payload: bytes = field(repr=False)
    parameters: dict[str, Any]
    timeout: float
    read_timeout: float
    retries: int
    secret: bool
    attempts: int = 0
    sent: bool = False
    begun: float = field(default_factory=anyio.current_time)

    @property
    def seconds(self) -> float:
        """The seconds since the call began."""
        return anyio.current_time() - self.begun

    def on_send(self, *, reached: bool) -> None:
        """Record whether the request may have reached the function."""
        self.sent = reached


class LambdaHandler(NotPicklable):
    """Invokes Lambda functions with one set of credentials.

    Created by :meth:`aiohaul.Session.lambda_`. A handler is cheap to create, because equal handlers
    share clients and connections.
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
        retries: int = 0,
        qualifier: str | None = None,
        client_context: Mapping[str, Any] | None = None,
        tenant_id: str | None = None,
        log_tail: bool = True,
    ) -> Invocation:
        """Invoke a function and return its response.

        AWS: Invoke, sent once. With ``retries``, Invoke is sent again only if the function
        certainly did not start: there was no connection, Lambda throttled the request (429), or
        Lambda refused the request before the start, for example because the function is Pending
        (409) or its network is not ready (502). If this is not certain, Invoke is not sent again. A
        cancelled call closes the connection at once. If the function has started, it continues at
        AWS, because AWS has no operation to stop a function.

        Args:
            function: the name or ARN of the function, optionally with a version or alias.
            payload: any JSON value. A value in a :class:`aiohaul.Sensitive` is not in any log or
                error. The response of the function is then only in :class:`aiohaul.Invocation`.
            invocation_type: ``RequestResponse`` waits for the response, ``Event`` queues the
                invocation, and ``DryRun`` only checks the permission.
            timeout: the maximum seconds of the call, including the wait for a free connection and
                the pauses between attempts; None for 16 minutes, which is Lambda's limit of 15
                minutes and one minute more.
            read_timeout: the seconds without a byte after which the connection is closed; None for
                ``timeout``.
            retries: the maximum number of retries, within ``timeout``.
            qualifier: a version or alias.
            client_context: the ClientContext, a JSON object that the function gets in addition to
                the payload (only for ``RequestResponse``); at most 3,583 bytes as base64.
            tenant_id: the tenant id, for a function with tenant isolation.
            log_tail: request the last 4 KB of the log (only for ``RequestResponse``).

        Returns:
            The response of a function that succeeded.

        Raises:
            FunctionNameError: ``function`` is not a valid name or ARN. Nothing was sent.
            PayloadError: the payload or the context is not JSON, or ``invocation_type`` does not
                allow a context. Nothing was sent.
            PayloadTooLargeError: the payload or the context is larger than Lambda's limit. Nothing
                was sent.
            FunctionError: the function failed. The error has the response.
            FunctionNotFoundError: the function, version or alias does not exist.
            AccessDeniedError: the credentials do not allow Invoke on this function.
            ThrottledError: Lambda has no capacity. The function did not run.
            UnreachableError: nothing was sent, because there was no connection in time.
            OutcomeUnknownError: Invoke was sent, and no clear response came in time. Or the
                status of the response belongs to another invocation type, such as 202 for
                RequestResponse.
            ServiceError: Lambda refused the request for another reason.
        """
        check_function(function)
        body, secret = encoded(payload, invocation_type)
        parameters: dict[str, Any] = {
            "FunctionName": function,
            "InvocationType": invocation_type,
        }
        if qualifier is not None:
            parameters["Qualifier"] = qualifier
        if tenant_id is not None:
            parameters["TenantId"] = tenant_id
        if client_context is not None:
            context, secret_context = encoded_context(client_context, invocation_type)
            parameters["ClientContext"] = context
            secret = secret or secret_context
        if log_tail and invocation_type == "RequestResponse":
            parameters["LogType"] = "Tail"
        timeout = DEFAULT_TIMEOUT if timeout is None else timeout
        return await self._invoke(
            _Call(
                function=function,
                payload=body,
                parameters=parameters,
                timeout=timeout,
                read_timeout=timeout if read_timeout is None else read_timeout,
                retries=retries,
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
        retries: int = 0,
    ) -> str:
        """Start a durable execution, or find the earlier execution with this name.

        AWS: Invoke (``Event``) with DurableExecutionName. The name makes the call idempotent. After
        an unknown outcome or a cancellation, call this method again with the same name and payload.

        Args:
            function: the name or ARN of a durable function, with its version or alias.
            name: the name of the execution: 1 to 64 letters, digits, "-" and "_".
            payload: any JSON value. Secret values in it must be in :class:`aiohaul.Sensitive`.
            qualifier: a version or alias, if ``function`` has none.
            timeout: the maximum seconds of the call; None for 16 minutes.
            retries: the maximum number of retries, as for :meth:`invoke`.

        Returns:
            The ARN of the execution, for :meth:`wait_durable`.

        Raises:
            FunctionNameError: the name of the function or of the execution is not valid.
            PayloadError: the payload is not JSON, or is too large.
            ServiceError: the request failed, as for :meth:`invoke`. The code is
                ``DurableExecutionAlreadyStartedException`` if the name was used with another
                payload, and ``NotDurable`` if the function is not durable.
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
        started = await self._invoke(
            _Call(
                function=function,
                payload=body,
                parameters=parameters,
                timeout=timeout,
                read_timeout=timeout,
                retries=retries,
                secret=secret,
            )
        )
        if started.durable_arn is None:
            raise ServiceError(
                "the function was invoked, and may still run, but it is not a durable function:"
                " there is no durable execution to wait for.",
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
        """Wait until a durable execution ends, even if this takes many hours.

        AWS: GetDurableExecution about every ``interval`` seconds, and StopDurableExecution if the
        wait is cancelled or times out. If the process is killed, the execution continues. Call this
        method again with the ARN to wait for its end.

        Args:
            arn: the ARN that :meth:`start_durable` returned.
            timeout: the maximum seconds of the wait; None for no limit.
            interval: the seconds between two polls, with a random deviation of up to 20 %.
            stop: stop the execution if the wait is cancelled or times out. False leaves it running.
            secret: True if the payload has sensitive values. Then no error contains the error
                message of the function, which may contain these values.

        Returns:
            The state of an execution that succeeded.

        Raises:
            FunctionNameError: ``arn`` is not the ARN of a durable execution.
            DurableExecutionError: the execution failed, exceeded its own time limit, or was
                stopped.
            DurableTimeoutError: the execution did not end within ``timeout``.
            ServiceError: the state of the execution cannot be read.
            SessionError: the Session ended. The execution was stopped, unless ``stop`` is False.
        """
        async with self._clients.cancel_on_close(f"{arn} was done"):
            return await durable.wait(
                await self._clients.service("lambda", self._settings),
                arn,
                timeout,
                interval,
                stop=stop,
                secret=secret,
            )
        raise AssertionError  # pragma: no cover  # cancel_on_close raises if it swallows

    async def stop_durable(self, arn: str) -> None:
        """Stop a durable execution. AWS: StopDurableExecution.

        Raises:
            FunctionNameError: ``arn`` is not the ARN of a durable execution.
            ServiceError: the request failed.
        """
        await durable.stop(await self._clients.service("lambda", self._settings), arn)

    async def _invoke(self, call: _Call) -> Invocation:
        """Invoke the function within the timeout; log a cancellation if the function may go on."""
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
                        f" {invocation.error_summary}",
                        invocation,
                    )
                check_status(invocation, call.parameters["InvocationType"])
                return invocation
        except anyio.get_cancelled_exc_class():
            if call.sent:
                _log.warning(
                    "the invocation of %s was cancelled after %.1f s, and its connection was"
                    " closed. The function may continue at AWS",
                    call.function,
                    call.seconds,
                )
            raise
        raise _timeout_error(call)


async def _send(service: Service, call: _Call) -> tuple[bytes, answers.Invoked]:
    """Send an Invoke; send it again only if the function certainly did not run."""
    for attempt in itertools.count(1):
        call.attempts = attempt
        try:
            return await service.invoke(
                call.function,
                call.payload,
                read_timeout=call.read_timeout,
                observer=call.on_send,
                attempt=attempt,
                secret=call.secret,
                **call.parameters,
            )
        except ServiceError as error:
            error.attempts = attempt
            in_doubt = error.operation == "Invoke" and error.outcome_unknown
            if in_doubt and call.parameters["InvocationType"] != "DryRun":
                raise outcome_unknown_error(error) from error
            call.sent = False
            pause = backoff_delay(attempt + 1, error.retry_after)
            late = call.seconds + pause >= call.timeout
            if not may_send_again(error) or attempt > call.retries or late:
                record_failed_attempt("lambda", error, None)
                raise
            record_failed_attempt("lambda", error, pause)
        await anyio.sleep(pause)
    raise AssertionError  # pragma: no cover  # the loop returns or raises


def _timeout_error(call: _Call) -> ServiceError:
    if not call.sent:
        return UnreachableError(
            f"the request was not sent within {call.timeout:g} s, because there was no free"
            " connection, no network, or no credentials.",
            advice="Raise the Session's max_invocations or the timeout, and check the network.",
            operation="Invoke",
            target=call.function,
            code="Timeout",
            attempts=call.attempts,
            retryable=True,
        )
    return OutcomeUnknownError(
        f"no response came within {call.timeout:g} s. {UNKNOWN}",
        operation="Invoke",
        target=call.function,
        code="Timeout",
        attempts=call.attempts,
    )
