"""The options of ``aiohaul invoke`` and ``run-task``, without the imports of their work."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def add_executions(
    add_parser: Callable[..., argparse.ArgumentParser], seconds: Callable[[str], float]
) -> None:
    """Add the commands ``invoke`` and ``run-task`` to the command line."""
    command = add_parser(
        "invoke",
        help="call a Lambda function, and print what it returns",
        epilog="""example: aiohaul invoke nightly-report '{"day": "2026-01-31"}'""",
    )
    command.add_argument("function", metavar="FUNCTION", help="the name or ARN of the function")
    command.add_argument(
        "payload",
        nargs="?",
        metavar="JSON",
        help="the payload, as JSON; - reads it from standard input (null)",
    )
    command.add_argument(
        "--event", action="store_true", help="queue the call, and do not wait for its end"
    )
    command.add_argument("--qualifier", help="a version or an alias of the function")
    command.add_argument(
        "--retries",
        type=int,
        default=0,
        metavar="N",
        help="call again up to N times, if the function certainly did not start (0)",
    )
    _add_reports(command, seconds, "end the call after S seconds (960)")
    command.set_defaults(command=_invoke)
    command = add_parser(
        "run-task",
        help="run a Fargate task, and wait for its end",
        epilog="example: aiohaul run-task batch nightly --subnet subnet-1a2b --container app"
        " --command python report.py",
    )
    command.add_argument("cluster", metavar="CLUSTER", help="the name or ARN of the ECS cluster")
    command.add_argument("family", metavar="FAMILY", help="the family of the task definition")
    command.add_argument(
        "--subnet", action="append", default=[], help="a subnet of the task; may be repeated"
    )
    command.add_argument(
        "--security-group",
        action="append",
        default=[],
        metavar="GROUP",
        help="a security group of the task; may be repeated",
    )
    command.add_argument("--public-ip", action="store_true", help="give the task a public address")
    command.add_argument(
        "--launch-type", choices=("FARGATE", "EC2", "EXTERNAL"), help="where the task runs"
    )
    command.add_argument(
        "--container", metavar="NAME", help="the container whose exit code and command count"
    )
    command.add_argument(
        "--command",
        nargs=argparse.REMAINDER,
        default=[],
        dest="arguments",
        metavar="ARGUMENT",
        help="the command of --container; all that follows belongs to it",
    )
    command.add_argument(
        "--log-group", metavar="NAME", help="the CloudWatch log group with the task's log"
    )
    _add_reports(command, seconds, "stop the task after S seconds (no limit)")
    command.set_defaults(command=_run_task)


def _add_reports(
    command: argparse.ArgumentParser, seconds: Callable[[str], float], timeout: str
) -> None:
    command.add_argument("--timeout", type=seconds, metavar="S", help=timeout)
    command.add_argument(
        "--report", type=Path, help="write the report, or the error, to this file, as JSON"
    )
    command.add_argument("--json", action="store_true", help="print the whole report as JSON")
    command.add_argument("--quiet", action="store_true", help="show no progress")


def _invoke(args: argparse.Namespace) -> int:
    from aiohaul.cli.execution import run_invoke  # noqa: PLC0415  # no other command needs it

    return run_invoke(args)


def _run_task(args: argparse.Namespace) -> int:
    from aiohaul.cli.execution import run_task  # noqa: PLC0415  # as above

    return run_task(args)
