"""The options of ``aiohaul doctor``, without the imports of its work."""

from __future__ import annotations

import argparse
from pathlib import Path

from aiohaul.cli.bucket_options import add_bucket_options


def add_doctor(command: argparse.ArgumentParser) -> None:
    """Add the options of ``aiohaul doctor`` to its parser, and the function that runs it."""
    command.add_argument("--role", metavar="ARN", help="the IAM role to assume")
    command.add_argument(
        "--endpoint-url", metavar="URL", help="the endpoint of a store other than AWS"
    )
    command.add_argument("--region", help="the region, such as eu-west-1")
    command.add_argument(
        "--ca-bundle",
        metavar="FILE",
        help="the certificates that are trusted instead of those of the system",
    )
    add_bucket_options(command)
    command.add_argument(
        "--definition",
        type=Path,
        metavar="FILE",
        help="check the permissions that this definition needs, with its credentials",
    )
    command.add_argument(
        "--tasks",
        type=Path,
        metavar="DIR",
        help="the folder with the definitions of a batch's tasks, at any depth (folder of FILE)",
    )
    command.add_argument(
        "--unlocked",
        action="store_true",
        help="write although the doctor cannot check for a default retention of Object Lock",
    )
    command.add_argument("--json", action="store_true", help="write all findings as JSON")
    command.set_defaults(command=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    from aiohaul.cli.doctor import run_doctor  # noqa: PLC0415  # no other command needs it

    return run_doctor(args)
