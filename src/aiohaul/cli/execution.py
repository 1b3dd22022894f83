"""The commands ``aiohaul invoke`` and ``run-task``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping

from aiohaul.cli.runner import run_reported
from aiohaul.compute.invocation import InvocationType, check_function, encoded
from aiohaul.errors import PayloadError, PlanError
from aiohaul.logs import run_scope
from aiohaul.report import InvocationReport, Report
from aiohaul.tasks.compute_definition import FARGATE_EXECUTION, LAMBDA_EXECUTION
from aiohaul.tasks.run import run


def run_invoke(args: argparse.Namespace) -> int:
    """Run ``aiohaul invoke``, and return the exit code.

    AWS: Invoke.

    Raises:
        FunctionNameError: the function is not a valid name or ARN. Nothing was sent.
        PayloadError: the payload is not JSON, or too large. Nothing was sent.
        HaulError: the call failed.
    """
    check_function(args.function)
    if args.retries < 0:
        raise PlanError(f"--retries {args.retries} is negative. Use 0 or more")
    payload = _payload(args.payload)
    kind: InvocationType = "Event" if args.event else "RequestResponse"
    encoded(payload, kind)
    definition = {
        "type": "execution",
        "functionArn": args.function,
        "invocationType": kind,
        "payload": payload,
        "protocol": {"name": LAMBDA_EXECUTION, "max_attempts": args.retries},
        **_given(timeout=args.timeout, qualifier=args.qualifier),
    }
    return _run(args, definition)


def run_task(args: argparse.Namespace) -> int:
    """Run ``aiohaul run-task``, and return the exit code.

    AWS: RunTask, DescribeTasks, DescribeTaskDefinition, GetLogEvents; StopTask if it is cancelled.

    Raises:
        PlanError: the options do not fit together. Nothing was sent.
        HaulError: the task failed.
    """
    if not args.subnet and args.launch_type not in {"EC2", "EXTERNAL"}:
        raise PlanError("a Fargate task needs a network: add --subnet")
    if not args.subnet and (args.security_group or args.public_ip):
        raise PlanError("--security-group and --public-ip need --subnet")
    if args.arguments and not args.container:
        raise PlanError("--command needs --container, the name of its container")
    network = {
        "subnets": args.subnet,
        "securityGroups": args.security_group,
        "assignPublicIp": "ENABLED" if args.public_ip else "DISABLED",
    }
    command = {"name": args.container, "command": args.arguments}
    definition = {
        "type": "execution",
        "clusterName": args.cluster,
        "taskFamily": args.family,
        "protocol": {"name": FARGATE_EXECUTION},
        **_given(
            networkConfiguration={"awsvpcConfiguration": network} if args.subnet else None,
            containerOverrides=command if args.arguments else None,
            containerName=args.container,
            cloudwatchLogGroupName=args.log_group,
            timeout=args.timeout,
            runTask={"launchType": args.launch_type} if args.launch_type else None,
        ),
    }
    return _run(args, definition)


def _run(args: argparse.Namespace, definition: Mapping[str, object]) -> int:
    with run_scope():
        return run_reported(
            args,
            lambda on_progress, on_cancelled: run(
                definition, on_progress=on_progress, on_cancelled=on_cancelled
            ),
            show=_show,
        )


def _show(report: Report) -> None:
    """Print what a function returned; nothing for an event or a task."""
    if isinstance(report, InvocationReport) and report.invocation_type == "RequestResponse":
        sys.stdout.write(f"{json.dumps(report.payload, indent=2)}\n")


def _given(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


def _payload(text: str | None) -> object:
    if text is None:
        return None
    if text == "-":
        text = sys.stdin.read()
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PayloadError(
            f"the payload is not JSON, and nothing was sent: {error}. A text needs quotes of its"
            """ own: '"text"'"""
        ) from error
