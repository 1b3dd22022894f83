"""The command line: ``aiohaul run``, ``clean``, ``validate`` and ``demo``.

Exit codes: 0 done, 1 failed, 2 a definition (or the command line) is wrong, 130 or 143 cancelled.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aiohaul.display import Bars, Display, Lines, best_display, closing_table
from aiohaul.errors import DefinitionError, HaulError, LocalFileError, TransferError
from aiohaul.report import Report
from aiohaul.tasks.run import clean, run, validate

FAILED = 1
WRONG = 2
INTERRUPTED = 130
TERMINATED = 143


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


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


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


async def _cancelled_by_sigterm(task: Coroutine[Any, Any, Report]) -> Report:
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
        text = json.dumps(report, indent=2)
        try:
            file.write_text(f"{text}\n", encoding="utf-8")
        except OSError as error:
            raise LocalFileError(f"writing the report {file} failed: {error.strerror}") from error


def _fail(problem: str, code: int) -> int:
    sys.stderr.write(f"aiohaul: {problem}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
