"""The command line: its commands and options.

Exit codes: 0 success; 1 failure; 2 wrong definition or command line; 130 or 143 cancelled (128
plus the number of the signal: Ctrl-C, SIGTERM). A batch fails if any of its tasks fails.
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import anyio

from aiohaul.cli.bucket_options import add_bucket_options, bucket_options
from aiohaul.cli.copy_options import add_copy, regular_expression
from aiohaul.cli.display import Bars, Lines, closing_table
from aiohaul.cli.display_watch import ChangeLines, change_display
from aiohaul.cli.doctor_options import add_doctor
from aiohaul.cli.execution_options import add_executions
from aiohaul.cli.listing_options import add_listing
from aiohaul.cli.locations import s3_place
from aiohaul.cli.runner import (
    cancelled_by_signals,
    run_batch_file,
    run_reported,
    run_with_display,
    tasks_folder,
)
from aiohaul.cli.screen import Display
from aiohaul.cli.standard_output import discard_output
from aiohaul.errors import DefinitionError, HaulError
from aiohaul.logs import configure_logging, one_line, report_retries, run_scope
from aiohaul.report import BatchReport
from aiohaul.s3.objects import uri
from aiohaul.session import Session
from aiohaul.storage.private_files import file_type
from aiohaul.tasks.batch_definition import is_batch
from aiohaul.tasks.batch_state import STATE_AGE
from aiohaul.tasks.definition_source import read_definition
from aiohaul.tasks.regex_notes import all_slow_regexes
from aiohaul.tasks.run import clean, run, validate
from aiohaul.version import VERSION

#: What ``aiohaul`` alone shows.
_FIRST = """\
usage: aiohaul COMMAND ...

Begin with one of these:
  aiohaul ls s3://BUCKET/                     list a bucket
  aiohaul copy FILE s3://BUCKET/DIRECTORY     copy a file or a directory
  aiohaul run DEFINITION.json                 run a task definition
  aiohaul demo                                see it work, without an AWS account

aiohaul --help lists all commands, and aiohaul COMMAND --help explains one.
"""
FAILED = 1
WRONG = 2
INTERRUPTED = 130
TERMINATED = 143


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, and return the exit code.

    Args:
        arguments: the arguments of the command line; None uses those of the process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        sys.stderr.write(_FIRST)
        return WRONG
    parser = _parser()
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(_unknown_arguments(args.parser, unknown))
    if getattr(args, "log_level", None) or getattr(args, "log_format", None):
        configure_logging(args.log_level or "info", as_json=args.log_format == "json")
    try:
        code: int = args.command(args)
    except DefinitionError as error:
        return _fail(f"wrong definition: {error}", WRONG)
    except HaulError as error:
        return _fail(f"failed: {error}", FAILED)
    except KeyboardInterrupt:
        return _fail("cancelled", INTERRUPTED)
    except asyncio.CancelledError:
        return _fail("cancelled", TERMINATED)
    return code


class _Version(argparse.Action):
    """Prints the version, and a warning if another package has replaced files of aiohaul."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        sys.stdout.write(f"{VERSION}\n")
        from aiohaul.installed import find_problem  # noqa: PLC0415  # it reads metadata

        if problem := find_problem():
            sys.stderr.write(f"aiohaul: warning: {problem}\n")
        parser.exit()


def _unknown_arguments(parser: argparse.ArgumentParser, unknown: Sequence[str]) -> str:
    """Return the message for arguments that a command does not know, with the nearest option."""
    known = list(parser._option_string_actions)  # noqa: SLF001  # argparse has no public list
    near = difflib.get_close_matches(unknown[0].partition("=")[0], known, n=1)
    hint = f"; did you mean {near[0]}?" if near and unknown[0].startswith("-") else ""
    return f"unrecognized arguments: {' '.join(unknown)}{hint}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aiohaul", description="Run batches on AWS.")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_copy(commands.add_parser)
    add_listing(commands.add_parser)
    add_executions(commands.add_parser, _seconds)

    command = commands.add_parser("run", help="run a task definition")
    command.add_argument("file", type=Path, help="the definition, a JSON file")
    command.add_argument(
        "--report", type=Path, help="write the report, or the error, to this file, as JSON"
    )
    command.add_argument(
        "--journal",
        type=Path,
        help="record progress in this file; a rerun with it copies only what is missing",
    )
    command.add_argument("--quiet", action="store_true", help="show errors only")
    _add_tasks(command)
    command.add_argument(
        "--state",
        type=Path,
        help="record in this file which tasks of a batch succeeded; a rerun skips these tasks",
    )
    command.add_argument(
        "--state-age",
        type=_seconds,
        default=STATE_AGE,
        metavar="S",
        help="with --state: resume a batch that started at most S seconds ago (72000)",
    )
    command.add_argument(
        "--max-concurrency",
        type=_positive,
        metavar="N",
        help="run at most N tasks of a batch at the same time (256)",
    )
    command.add_argument(
        "--timeline",
        type=Path,
        metavar="FILE.svg",
        help="draw the tasks of a batch over time, as SVG",
    )
    command.set_defaults(command=_run)
    _add_logs(command)

    command = commands.add_parser("watch", help="show new and changed objects in S3")
    _add_watch(command)
    _add_logs(command)

    command = commands.add_parser(
        "clean", help="abort the incomplete uploads of a transfer's interrupted runs"
    )
    command.add_argument("file", type=Path, help="the definition of the transfer, a JSON file")
    command.add_argument("--journal", type=Path, required=True, help="the journal of these runs")
    command.add_argument(
        "--list", action="store_true", help="list the incomplete uploads, and abort nothing"
    )
    command.set_defaults(command=_clean)

    command = commands.add_parser("validate", help="check task definitions without any request")
    command.add_argument("file", type=Path, nargs="+", help="a definition, a JSON file")
    _add_tasks(command)
    command.set_defaults(command=_validate)

    command = commands.add_parser(
        "doctor", help="test which operations a bucket, its store and the credentials allow"
    )
    command.add_argument(
        "place",
        type=_bucket_and_directory,
        metavar="s3://bucket/directory",
        help="the directory for test objects, which the doctor deletes at the end",
    )
    add_doctor(command)
    _add_logs(command)

    command = commands.add_parser("demo", help="run a transfer on an embedded S3 server")
    command.add_argument(
        "--objects", type=_positive, default=300, help="number of objects to copy (300)"
    )
    command.set_defaults(command=_demo)
    for each in commands.choices.values():
        each.set_defaults(parser=each)  # for the message of an unknown option
    return parser


def _add_tasks(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--tasks",
        type=Path,
        metavar="DIR",
        help="the folder with the definitions of a batch's tasks, at any depth (folder of FILE)",
    )


def _add_logs(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        help="write log lines to standard error (info if --log-format is given)",
    )
    command.add_argument(
        "--log-format", choices=("text", "json"), help="format of the log lines (text)"
    )


def _add_watch(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "location",
        type=_bucket_and_directory,
        metavar="s3://bucket/directory",
        help="the directory, without subdirectories; without one, the whole bucket, at all depths",
    )
    command.add_argument(
        "--regex",
        type=regular_expression,
        default="",
        help="show only objects whose file name matches, from its start",
    )
    add_bucket_options(command)
    command.add_argument(
        "--new", action="store_true", help="show only objects that appear or change from now on"
    )
    command.add_argument(
        "--interval", type=_seconds, default=10.0, help="seconds between two polls (10)"
    )
    command.add_argument(
        "--queue", metavar="URL", help="an SQS queue that receives the bucket's event notifications"
    )
    command.add_argument(
        "--timeout",
        type=_seconds,
        default=math.inf,
        help="end after this number of seconds, with exit code 0 if an object was shown, else 1",
    )
    command.add_argument("--json", action="store_true", help="write one line of JSON per change")
    command.set_defaults(command=_watch)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not number > 0:  # nor is NaN
        raise argparse.ArgumentTypeError(f"{text!r} must be a positive number of seconds")
    return number


def _bucket_and_directory(text: str) -> tuple[str, str]:
    """Split ``s3://bucket/directory``, with or without "/" at its end, into its two parts."""
    place = s3_place(text, form="s3://bucket/directory")
    return place.bucket or "", place.path


def _run(args: argparse.Namespace) -> int:
    try:
        definition = _load_definition(args, args.file)
    except DefinitionError as error:
        return _fail(f"{args.file}: {error}", WRONG)
    if is_batch(definition):
        with run_scope():
            run_batch_file(args, definition)
        return 0
    for option in ("tasks", "state", "max-concurrency", "timeline"):
        if getattr(args, option.replace("-", "_")) is not None:
            return _fail(
                f"{args.file}: --{option} is for batches only: leave it out for a single task",
                WRONG,
            )
    with run_scope():
        return run_reported(
            args,
            lambda on_progress, on_cancelled: run(
                definition,
                on_progress=on_progress,
                journal=args.journal,
                on_cancelled=on_cancelled,
            ),
        )


def _watch(args: argparse.Namespace) -> int:
    where = uri(*args.location)
    changes = change_display(where, as_json=args.json)
    try:
        with changes, report_retries(changes.on_retry):
            asyncio.run(cancelled_by_signals(_show_changes(args, changes)))
    except BrokenPipeError:
        discard_output()
        return 0
    if changes.counts:
        return 0
    if changes.failure is not None:
        return _fail(f"failed: {changes.failure}", FAILED)
    if not changes.polled and args.queue is None:  # with a queue, not every poll is an event
        problem = f"failed: listing {where} did not finish within {args.timeout:g} s"
        return _fail(f"{problem}: check the endpoint, or use a longer --timeout", FAILED)
    return _fail(f"no objects in {where} within {args.timeout:g} s", FAILED)


async def _show_changes(args: argparse.Namespace, changes: ChangeLines) -> None:
    """Watch the directory, and show its changes until the timeout."""
    bucket, directory = args.location
    async with Session() as session:
        watch = session.s3(options=bucket_options(args)).watch(
            bucket,
            directory,
            args.regex,
            interval=args.interval,
            existing=not args.new,
            queue=args.queue,
            on_progress=changes.on_progress,
        )
        async with watch:
            with anyio.move_on_after(args.timeout):
                async for change in watch:
                    changes(change)


def _clean(args: argparse.Namespace) -> int:
    try:
        if not file_type(args.journal):
            return _fail(
                f"reading the journal {args.journal} failed: the file does not exist. Use the file"
                " of --journal of the interrupted run",
                FAILED,
            )
    except OSError as error:
        return _fail(f"reading {args.journal} failed: {error.strerror}", FAILED)
    try:
        definition = read_definition(args.file)
        validate(definition)
    except DefinitionError as error:
        return _fail(f"{args.file}: {error}", WRONG)
    incomplete = asyncio.run(clean(definition, journal=args.journal, abort=not args.list))
    for name in incomplete:
        sys.stdout.write(f"{one_line(name)}: {'incomplete' if args.list else 'cleaned'}\n")
    return 0


def _validate(args: argparse.Namespace) -> int:
    code = 0
    for file in args.file:
        try:
            definition = _load_definition(args, file)
        except DefinitionError as error:
            code = _fail(f"{file}: {error}", WRONG)
        else:
            tasks = tasks_folder(args, file) if is_batch(definition) else None
            for note in all_slow_regexes(definition, tasks):
                sys.stderr.write(f"aiohaul: {one_line(f'{file}: {note}')}\n")
            sys.stdout.write(f"{file}: valid\n")
    return code


def _demo(args: argparse.Namespace) -> int:
    # The demo must not use the user's AWS account or proxy.
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    try:
        from aiohaul.cli.demo import run_demo  # noqa: PLC0415  # only this command needs moto

        display: Display = Bars() if sys.stderr.isatty() else Lines()
        report = run_with_display(display, run_demo(display, objects=args.objects))
    except ModuleNotFoundError as error:
        return _fail(
            f"starting the demo failed: {error.name} is not installed. Run pip install"
            " 'aiohaul[demo]'",
            FAILED,
        )
    if not isinstance(report, BatchReport):
        sys.stdout.write(f"{closing_table(report)}\n")
    return 0


def _load_definition(args: argparse.Namespace, file: Path) -> Mapping[str, object]:
    """Read and validate a definition. For a batch, also validate its tasks.

    Raises:
        DefinitionError: a definition is wrong.
    """
    definition = read_definition(file)
    validate(definition, tasks=tasks_folder(args, file) if is_batch(definition) else None)
    return definition


def _fail(problem: str, code: int) -> int:
    sys.stderr.write(f"aiohaul: {one_line(problem)}\n")
    return code
