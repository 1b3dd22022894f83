"""Runs one execution, and builds its report and its output, even if the execution failed."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from aiohaul.compute.invocation import InvocationType
from aiohaul.compute.logs import MAX_LINES
from aiohaul.errors import BatchError, FargateTaskError, FunctionError, TransferError
from aiohaul.report import FargateReport, InvocationReport, Report, TouchReport
from aiohaul.results import Invocation, TaskResult, json_text
from aiohaul.s3.objects import uri
from aiohaul.session import Session
from aiohaul.tasks.compute_definition import FargateCall, LambdaCall
from aiohaul.tasks.definition import Execution, Touch

#: The maximum number of bytes of a failed function's response that is shown.
_PAYLOAD_SHOWN = 2048
#: The maximum number of lines of a failed task's log that a console shows; the last ones.
LAST_LINES = 50


#: Called with the report of an execution that was cancelled, and of which something is known.
OnCancelled = Callable[[Report], None]


async def run_execution(
    execution: Execution, session: Session, on_cancelled: OnCancelled | None = None
) -> TouchReport | InvocationReport | FargateReport:
    """Run an execution, and return its report.

    AWS: PutObject, Invoke, or RunTask.

    Args:
        execution: the execution.
        session: the Session to use.
        on_cancelled: called with the report of a Fargate task that was stopped because this call
            was cancelled. Of a Lambda function nothing is known before its response.

    Raises:
        FunctionError: the Lambda function failed.
        FargateTaskError: the Fargate task did not start, failed, or timed out.
        ServiceError: a request failed.
    """
    match execution:
        case Touch():
            return await run_touch(execution, session)
        case LambdaCall():
            return await run_lambda(execution, session)
        case FargateCall():
            return await run_fargate(execution, session, on_cancelled)


async def run_touch(touch: Touch, session: Session) -> TouchReport:
    """Write the empty object of an S3 execution (PutObject).

    Raises:
        ServiceError: the request failed.
    """
    start = anyio.current_time()
    await session.s3(touch.settings).touch(touch.bucket, touch.key, options=touch.options)
    return TouchReport(
        target=uri(touch.bucket, touch.key), seconds=round(anyio.current_time() - start, 3)
    )


async def run_lambda(call: LambdaCall, session: Session) -> InvocationReport:
    """Invoke the Lambda function of an execution (Invoke).

    Raises:
        FunctionError: the function failed.
        OutcomeUnknownError: it is not known whether the function ran.
        ServiceError: the request failed for another reason.
    """
    answer = await session.lambda_(call.settings).invoke(
        call.function,
        call.payload,
        invocation_type=call.invocation_type,
        timeout=call.timeout,
        read_timeout=call.read_timeout,
        retries=call.retries,
        qualifier=call.qualifier,
        client_context=call.client_context,
        tenant_id=call.tenant_id,
    )
    return invocation_report(answer, call.invocation_type)


async def run_fargate(
    call: FargateCall, session: Session, on_cancelled: OnCancelled | None = None
) -> FargateReport:
    """Run the Fargate task of an execution (RunTask, DescribeTasks, StopTask).

    Raises:
        FargateTaskError: the task did not start, failed, or timed out.
        ServiceError: a request failed.
    """

    def report(result: TaskResult) -> None:
        if on_cancelled is not None:
            on_cancelled(fargate_report(result, ok=False))

    result = await session.fargate(call.settings).run(
        call.cluster,
        call.task_family,
        network=call.network,
        overrides=call.overrides,
        container=call.container,
        log_group=call.log_group,
        timeout=call.timeout,
        init_timeout=call.init_timeout,
        retry_start=call.retry_start,
        run_task=call.run_task,
        on_cancelled=None if on_cancelled is None else report,
    )
    return fargate_report(result)


def invocation_report(answer: Invocation, invocation_type: InvocationType) -> InvocationReport:
    """Return the report of an Invoke to which Lambda has responded."""
    return InvocationReport(
        function=answer.function,
        invocation_type=invocation_type,
        status=answer.status,
        payload=answer.payload,
        log_tail=answer.log_tail,
        version=answer.version,
        request_id=answer.request_id,
        seconds=answer.seconds,
        secret=answer.secret,
        function_error=answer.function_error,
        ok=answer.function_error is None,
    )


def fargate_report(result: TaskResult, *, ok: bool = True) -> FargateReport:
    """Return the report of a Fargate task that has ended."""
    return FargateReport(
        task=result.arn,
        cluster=result.cluster,
        container=result.container,
        exit_code=result.exit_code,
        reason=result.reason,
        logs=tuple(line.message for line in result.logs),
        log_problem=result.log_problem,
        seconds=result.seconds,
        ok=ok,
    )


def report_of(error: Exception) -> Report | None:
    """Return the report in an error of a failed task; None if the error has no report."""
    match error:
        case TransferError() | BatchError():
            return error.report
        case FunctionError():
            return invocation_report(error.invocation, "RequestResponse")
        case FargateTaskError(result=TaskResult() as result):
            return fargate_report(result, ok=False)
        case _:
            return None


def output_of(report: Report | None, limit: int = MAX_LINES) -> list[str]:
    """Return the output of a failed Lambda function or Fargate task, as lines for a console or log.

    Args:
        report: the report of the execution that failed or was cancelled.
        limit: the maximum number of lines of a Fargate task's log; the last ones are returned.

    Returns:
        For a Lambda function, the first 2 KiB of the response, and the last lines of the log; no
        lines if the payload is secret. For a Fargate task, the lines of the log. [] for any other
        report, and for an execution that succeeded.
    """
    match report:
        case InvocationReport(ok=False, secret=False):
            payload = json_text(report.payload).encode()[:_PAYLOAD_SHOWN].decode(errors="ignore")
            return [f"payload: {payload}", *(report.log_tail or "").splitlines()]
        case FargateReport(ok=False):
            return list(report.logs[-limit:])
        case _:
            return []
