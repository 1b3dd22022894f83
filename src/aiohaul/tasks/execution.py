"""One execution."""

from __future__ import annotations

import anyio

from aiohaul.compute.task import TaskResult
from aiohaul.report import FargateReport, InvocationReport, TouchReport
from aiohaul.s3.objects import uri
from aiohaul.session import Session
from aiohaul.tasks.definition import Execution, Touch
from aiohaul.tasks.executions import FargateCall, LambdaCall


async def run_execution(
    execution: Execution, session: Session
) -> TouchReport | InvocationReport | FargateReport:
    """Carry out an execution.

    Raises:
        FunctionError: the function failed.
        TaskError: the Fargate task failed, or was not done in time.
        ServiceError: or one of its kinds.
    """
    match execution:
        case Touch():
            return await run_touch(execution, session)
        case LambdaCall():
            return await run_lambda(execution, session)
        case FargateCall():
            return await run_fargate(execution, session)


async def run_touch(touch: Touch, session: Session) -> TouchReport:
    """Write the empty object.

    Raises:
        ServiceError: or one of its kinds.
    """
    start = anyio.current_time()
    await session.s3(touch.settings).touch(
        touch.bucket, touch.key, bucket_owner_full_control=touch.bucket_owner_full_control
    )
    return TouchReport(
        target=uri(touch.bucket, touch.key), seconds=round(anyio.current_time() - start, 3)
    )


async def run_lambda(call: LambdaCall, session: Session) -> InvocationReport:
    """Call the function.

    Raises:
        FunctionError: it failed.
        OutcomeUnknownError: whether it ran is not known.
        ServiceError: or another of its kinds.
    """
    answer = await session.lambda_(call.settings).invoke(
        call.function,
        call.payload,
        invocation_type=call.invocation_type,
        timeout=call.timeout,
        read_timeout=call.read_timeout,
        max_attempts=call.max_attempts,
    )
    return InvocationReport(
        function=answer.function,
        invocation_type=call.invocation_type,
        status=answer.status,
        payload=answer.payload,
        log_tail=answer.log_tail,
        version=answer.version,
        request_id=answer.request_id,
        seconds=answer.seconds,
        secret=answer.secret,
    )


async def run_fargate(call: FargateCall, session: Session) -> FargateReport:
    """Run the task.

    Raises:
        TaskError: it was not started, failed, or was not done in time.
        ServiceError: or one of its kinds.
    """
    result = await session.fargate(call.settings).run(
        call.cluster,
        call.task_family,
        network=call.network,
        overrides=call.overrides,
        container=call.container,
        log_group=call.log_group,
        timeout=call.timeout,
        init_timeout=call.init_timeout,
    )
    return fargate_report(result)


def fargate_report(result: TaskResult) -> FargateReport:
    """The report of a task that ended well."""
    return FargateReport(
        task=result.arn,
        cluster=result.cluster,
        container=result.container,
        exit_code=result.exit_code,
        reason=result.reason,
        logs=tuple(line.message for line in result.logs),
        log_problem=result.log_problem,
        seconds=result.seconds,
    )
