"""The command line: ``aiohaul run``, ``watch``, ``clean``, ``validate`` and ``demo``.

Exit codes: 0 done, 1 failed, 2 a definition (or the command line) is wrong, 130 or 143 cancelled
(128 and the number of the signal: Ctrl-C, SIGTERM). A batch fails if any of its tasks does.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import re
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import anyio

from aiohaul.display import Bars, Lines, best_display, closing_table
from aiohaul.display_watch import Changes, changes_shown
from aiohaul.errors import (
    DefinitionError,
    HaulError,
    PlanError,
    TransferError,
)
from aiohaul.installed import find_problem
from aiohaul.logs import current_run, listen, one_line, retries_heard, run_scope
from aiohaul.report import BatchReport
from aiohaul.running import (
    cancelled_by_signals,
    run_batch_file,
    shown,
    tasks_folder,
    write_report,
)
from aiohaul.s3.copying.plan import checked_directory
from aiohaul.s3.objects import uri
from aiohaul.screen import Display
from aiohaul.session import Session
from aiohaul.tasks.batch_state import STATE_AGE
from aiohaul.tasks.batches import is_batch
from aiohaul.tasks.library import read
from aiohaul.tasks.run import clean, run, validate

FAILED = 1
WRONG = 2
INTERRUPTED = 130
TERMINATED = 143


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line, and return the exit code."""
    chosen = _parser().parse_args(arguments)
    if getattr(chosen, "log_level", None) or getattr(chosen, "log_format", None):
        listen(chosen.log_level or "info", as_json=chosen.log_format == "json")
    try:
        code: int = chosen.command(chosen)
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
    """Show the version, and what is wrong with the installation if anything is."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        sys.stdout.write(f"{version('aiohaul')}\n")
        if problem := find_problem():
            sys.stderr.write(f"aiohaul: warning: {problem}\n")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aiohaul", description="AWS batch work on one loop.")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("run", help="carry out a task definition")
    command.add_argument("file", type=Path, help="a JSON file")
    command.add_argument(
        "--report", type=Path, help="write the report, or what failed, to this file, as JSON"
    )
    command.add_argument(
        "--journal",
        type=Path,
        help="write what is done to this file; run again, only what is missing is copied",
    )
    command.add_argument("--quiet", action="store_true", help="show errors only")
    _add_tasks(command)
    command.add_argument(
        "--state",
        type=Path,
        help="write down which tasks of a batch succeeded; run again, only the others are run",
    )
    command.add_argument(
        "--state-age",
        type=_seconds,
        default=STATE_AGE,
        metavar="S",
        help="with --state: seconds after its begin in which a batch is gone on with (72000)",
    )
    command.add_argument(
        "--at-once",
        type=_positive,
        metavar="N",
        help="how many tasks of a batch run at once (256)",
    )
    command.add_argument(
        "--timeline", type=Path, metavar="FILE.svg", help="draw who ran when in a batch"
    )
    command.set_defaults(command=_run)
    _add_logs(command)

    command = commands.add_parser("watch", help="show what appears and changes in S3")
    _add_watch(command)
    _add_logs(command)

    command = commands.add_parser(
        "clean", help="abort the uploads that interrupted runs of a transfer left"
    )
    command.add_argument("file", type=Path, help="a JSON file")
    command.add_argument("--journal", type=Path, required=True, help="the file that they wrote")
    command.add_argument("--list", action="store_true", help="only say what was left")
    command.set_defaults(command=_clean)

    command = commands.add_parser("validate", help="check task definitions without any request")
    command.add_argument("file", type=Path, nargs="+", help="a JSON file")
    _add_tasks(command)
    command.set_defaults(command=_validate)

    command = commands.add_parser("demo", help="watch and haul on an embedded S3 server")
    command.add_argument("--objects", type=_positive, default=300, help="how many to haul")
    command.set_defaults(command=_demo)
    return parser


def _add_tasks(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--tasks",
        type=Path,
        metavar="DIR",
        help="where the tasks of a batch are, at any depth (the folder of FILE)",
    )


def _add_logs(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        help="write log lines to standard error (info, where --log-format is given)",
    )
    command.add_argument("--log-format", choices=("text", "json"), help="their form (text)")


def _add_watch(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "place",
        type=_place,
        metavar="s3://bucket/directory",
        help="what is directly in there; without a directory, the whole bucket, at all depths",
    )
    command.add_argument(
        "--regex", type=_regex, default="", help="matched from the start of an object's name"
    )
    command.add_argument("--new", action="store_true", help="leave out what is there already")
    command.add_argument(
        "--interval", type=_seconds, default=10.0, help="seconds between two looks (10)"
    )
    command.add_argument(
        "--queue", metavar="URL", help="an SQS queue that gets the bucket's notifications"
    )
    command.add_argument(
        "--timeout",
        type=_seconds,
        default=math.inf,
        help="end after so many seconds: with 0 if anything was seen, else 1",
    )
    command.add_argument("--json", action="store_true", help="a line of JSON for each change")
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
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return number


def _regex(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regex: {error}") from error


def _place(text: str) -> tuple[str, str]:
    """Bucket and directory of a URI, which may end in "/" as everybody writes it."""
    parts = re.fullmatch(r"s3://([^/\s]+)(?:/(.*))?", text, re.DOTALL)
    if parts is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not s3://bucket/directory")
    directory = (parts[2] or "").removesuffix("/")
    try:
        checked_directory(directory)
    except PlanError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error
    return parts[1], directory


def _run(chosen: argparse.Namespace) -> int:
    try:
        definition = _checked(chosen, chosen.file)
    except DefinitionError as error:
        return _fail(f"{chosen.file}: {error}", WRONG)
    if is_batch(definition):
        with run_scope():
            run_batch_file(chosen, definition)
        return 0
    for option in ("tasks", "state", "at-once", "timeline"):
        if getattr(chosen, option.replace("-", "_")) is not None:
            return _fail(f"{chosen.file}: --{option} is for batches", WRONG)
    with run_scope():
        return _run_told(chosen, definition)


def _run_told(chosen: argparse.Namespace, definition: Any) -> int:
    run_id = current_run()
    # An old report must not pass for the new one, and a place for it must be there.
    write_report(chosen.report, {"ok": False, "error": "it did not end", "run_id": run_id})
    display: Display | None = None if chosen.quiet else best_display()
    try:
        report = shown(display, run(definition, on_progress=display, journal=chosen.journal))
    except TransferError as error:
        if not chosen.quiet:
            sys.stdout.write(f"{closing_table(error.report)}\n")
        write_report(chosen.report, {**error.report.as_dict(), "error": str(error)})
        raise
    except HaulError as error:
        failure = {"ok": False, "error": str(error), "kind": type(error).__name__}
        failure["run_id"] = run_id
        write_report(chosen.report, failure)
        raise
    except (KeyboardInterrupt, asyncio.CancelledError):
        write_report(chosen.report, {"ok": False, "error": "cancelled", "run_id": run_id})
        raise
    if not chosen.quiet and not isinstance(report, BatchReport):
        sys.stdout.write(f"{closing_table(report)}\n")
    write_report(chosen.report, report.as_dict())
    return 0


def _watch(chosen: argparse.Namespace) -> int:
    where = uri(*chosen.place)
    changes = changes_shown(where, as_json=chosen.json)
    try:
        with changes, retries_heard(changes.hear_retry):
            asyncio.run(cancelled_by_signals(_watched(chosen, changes)))
    except BrokenPipeError:
        # Whoever read the changes has seen enough. What Python has not written yet goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if changes.kinds:
        return 0
    if changes.failure is not None:
        return _fail(f"failed: {changes.failure}", FAILED)
    if not changes.looked and chosen.queue is None:  # with a queue, not every look is told of
        problem = f"failed: no look into {where} ended in {chosen.timeout:g} s"
        return _fail(f"{problem}: check the endpoint, or give it more time", FAILED)
    return _fail(f"nothing was seen in {where} in {chosen.timeout:g} s", FAILED)


async def _watched(chosen: argparse.Namespace, shown: Changes) -> None:
    """Show what happens until the time is up."""
    bucket, directory = chosen.place
    async with Session() as session:
        watch = session.s3().watch(
            bucket,
            directory,
            chosen.regex,
            interval=chosen.interval,
            existing=not chosen.new,
            queue=chosen.queue,
            on_progress=shown.hear,
        )
        async with watch:
            with anyio.move_on_after(chosen.timeout):
                async for change in watch:
                    shown(change)


def _clean(chosen: argparse.Namespace) -> int:
    if not chosen.journal.exists():
        return _fail(f"there is no journal {chosen.journal}", FAILED)
    try:
        definition = read(chosen.file)
        validate(definition)
    except DefinitionError as error:
        return _fail(f"{chosen.file}: {error}", WRONG)
    left = asyncio.run(clean(definition, journal=chosen.journal, abort=not chosen.list))
    for name in left:
        sys.stdout.write(f"{one_line(name)}: {'left open' if chosen.list else 'cleaned'}\n")
    return 0


def _validate(chosen: argparse.Namespace) -> int:
    code = 0
    for file in chosen.file:
        try:
            _checked(chosen, file)
        except DefinitionError as error:
            code = _fail(f"{file}: {error}", WRONG)
        else:
            sys.stdout.write(f"{file}: valid\n")
    return code


def _demo(chosen: argparse.Namespace) -> int:
    # The demo needs no account, and must meet none: neither keys, nor a profile, nor a proxy.
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    try:
        from aiohaul.demo import run_demo  # noqa: PLC0415  # the other commands need no moto

        display: Display = Bars() if sys.stderr.isatty() else Lines()
        report = shown(display, run_demo(display, objects=chosen.objects))
    except ModuleNotFoundError as error:
        return _fail(f"{error.name} is not installed: pip install 'aiohaul[demo]'", FAILED)
    if not isinstance(report, BatchReport):
        sys.stdout.write(f"{closing_table(report)}\n")
    return 0


def _checked(chosen: argparse.Namespace, file: Path) -> Any:
    """The definition in a file, with those of its tasks if it is a batch, found to be right."""
    definition = read(file)
    validate(definition, tasks=tasks_folder(chosen, file) if is_batch(definition) else None)
    return definition


def _fail(problem: str, code: int) -> int:
    sys.stderr.write(f"aiohaul: {one_line(problem)}\n")
    return code
