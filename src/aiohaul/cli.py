"""The command line: ``aiohaul run``, ``watch``, ``clean``, ``validate`` and ``demo``.

Exit codes: 0 done, 1 failed, 2 a definition (or the command line) is wrong, 130 or 143 cancelled.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import re
import signal
import sys
from collections.abc import Coroutine, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import anyio

from aiohaul.display import Bars, Display, Lines, best_display, closing_table
from aiohaul.display_watch import Changes, changes_shown
from aiohaul.errors import (
    DefinitionError,
    HaulError,
    LocalFileError,
    PlanError,
    TransferError,
)
from aiohaul.report import Report
from aiohaul.s3.copying.plan import checked_directory
from aiohaul.s3.objects import uri
from aiohaul.session import Session
from aiohaul.tasks.run import clean, run, validate

FAILED = 1
WRONG = 2
INTERRUPTED = 130
TERMINATED = 143

T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line, and return the exit code."""
    chosen = _parser().parse_args(arguments)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aiohaul", description="AWS batch work on one loop.")
    parser.add_argument("--version", action="version", version=version("aiohaul"))
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
    command.set_defaults(command=_run)

    _add_watch(commands.add_parser("watch", help="show what appears and changes in S3"))

    command = commands.add_parser(
        "clean", help="abort the uploads that interrupted runs of a transfer left"
    )
    command.add_argument("file", type=Path, help="a JSON file")
    command.add_argument("--journal", type=Path, required=True, help="the file that they wrote")
    command.add_argument("--list", action="store_true", help="only say what was left")
    command.set_defaults(command=_clean)

    command = commands.add_parser("validate", help="check task definitions without any request")
    command.add_argument("file", type=Path, nargs="+", help="a JSON file")
    command.set_defaults(command=_validate)

    command = commands.add_parser("demo", help="watch and haul on an embedded S3 server")
    command.add_argument("--objects", type=_positive, default=300, help="how many to haul")
    command.set_defaults(command=_demo)
    return parser


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
    number = float(text)
    if not number > 0:  # nor is NaN
        raise argparse.ArgumentTypeError("must be more than 0 seconds")
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
        definition = _read(chosen.file)
        validate(definition)
    except DefinitionError as error:
        return _fail(f"{chosen.file}: {error}", WRONG)
    # An old report must not pass for the new one, and a place for it must be there.
    _write_report(chosen.report, {"ok": False, "error": "it did not end"})
    display: Display | None = None if chosen.quiet else best_display()
    try:
        report = _shown(display, run(definition, on_progress=display, journal=chosen.journal))
    except TransferError as error:
        if not chosen.quiet:
            sys.stdout.write(f"{closing_table(error.report)}\n")
        _write_report(chosen.report, {**error.report.as_dict(), "error": str(error)})
        raise
    except HaulError as error:
        failure = {"ok": False, "error": str(error), "kind": type(error).__name__}
        _write_report(chosen.report, failure)
        raise
    except (KeyboardInterrupt, asyncio.CancelledError):
        _write_report(chosen.report, {"ok": False, "error": "cancelled"})
        raise
    if not chosen.quiet:
        sys.stdout.write(f"{closing_table(report)}\n")
    _write_report(chosen.report, report.as_dict())
    return 0


def _watch(chosen: argparse.Namespace) -> int:
    where = uri(*chosen.place)
    shown = changes_shown(where, as_json=chosen.json)
    try:
        with shown:
            asyncio.run(_cancelled_by_sigterm(_watched(chosen, shown)))
    except BrokenPipeError:
        # Whoever read the changes has seen enough. What Python has not written yet goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if shown.kinds:
        return 0
    if shown.failure is not None:
        return _fail(f"failed: {shown.failure}", FAILED)
    if not shown.looked and chosen.queue is None:  # with a queue, not every look is told of
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
        definition = _read(chosen.file)
        validate(definition)
    except DefinitionError as error:
        return _fail(f"{chosen.file}: {error}", WRONG)
    left = asyncio.run(clean(definition, journal=chosen.journal, abort=not chosen.list))
    for name in left:
        sys.stdout.write(f"{name}: {'left open' if chosen.list else 'cleaned'}\n")
    return 0


def _validate(chosen: argparse.Namespace) -> int:
    code = 0
    for file in chosen.file:
        try:
            validate(_read(file))
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
        report = _shown(display, run_demo(display, objects=chosen.objects))
    except ModuleNotFoundError as error:
        return _fail(f"{error.name} is not installed: pip install 'aiohaul[demo]'", FAILED)
    sys.stdout.write(f"{closing_table(report)}\n")
    return 0


def _shown(display: Display | None, task: Coroutine[Any, Any, Report]) -> Report:
    if display is None:
        return asyncio.run(_cancelled_by_sigterm(task))
    with display:
        return asyncio.run(_cancelled_by_sigterm(task))


async def _cancelled_by_sigterm(task: Coroutine[Any, Any, T]) -> T:
    """Let SIGTERM cancel as Ctrl-C does, so that everything is tidied up."""
    current = asyncio.current_task()
    if current is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, current.cancel)
    return await task


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DefinitionError("", f"it cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DefinitionError("", f"it is not JSON: {error}") from error


def _write_report(file: Path | None, report: dict[str, Any]) -> None:
    if file is not None:
        text = json.dumps(_finite(report), indent=2, allow_nan=False)
        try:
            file.write_text(f"{text}\n", encoding="utf-8")
        except OSError as error:
            raise LocalFileError(f"writing the report {file} failed: {error.strerror}") from error


def _finite(value: Any) -> Any:
    """A value in which numbers that JSON has no form for are texts: functions may answer such."""
    match value:
        case float() if not math.isfinite(value):
            return json.dumps(value)
        case dict():
            return {key: _finite(each) for key, each in value.items()}
        case list() | tuple():
            return [_finite(each) for each in value]
        case _:
            return value


def _fail(problem: str, code: int) -> int:
    sys.stderr.write(f"aiohaul: {problem}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
