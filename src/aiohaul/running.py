"""What the commands that run something share: signals, reports, and batches."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import signal
import sys
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from aiohaul.display_batch import Remembering, batch_table, best_batch_display
from aiohaul.errors import BatchError, HaulError, LocalFileError
from aiohaul.logs import current_run
from aiohaul.report import BatchReport
from aiohaul.s3.private import write_private
from aiohaul.screen import Display
from aiohaul.shortage import explained_shortage
from aiohaul.tasks.run import run
from aiohaul.timeline import timeline

T = TypeVar("T")


def shown(display: Display | None, task: Coroutine[Any, Any, T]) -> T:
    """Run something, and show it; Ctrl-C and SIGTERM cancel it."""
    if display is None:
        return asyncio.run(cancelled_by_signals(task))
    with display:
        return asyncio.run(cancelled_by_signals(task))


async def cancelled_by_signals(task: Coroutine[Any, Any, T]) -> T:
    """Let Ctrl-C and SIGTERM cancel a task, once: the next ones do not cut its cleanup short.

    Raises:
        KeyboardInterrupt: it was Ctrl-C.
        CancelledError: it was SIGTERM.
    """
    current = asyncio.current_task()
    loop = asyncio.get_running_loop()
    came: list[signal.Signals] = []

    def cancel(what: signal.Signals) -> None:
        came.append(what)
        if len(came) == 1 and current is not None:
            current.cancel()
        elif len(came) == 2:  # noqa: PLR2004  # to be said once
            sys.stderr.write("aiohaul: stopping what runs; SIGQUIT (Ctrl-\\) ends it at once\n")

    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, cancel, each)
    try:
        return await task
    except asyncio.CancelledError:
        if came[:1] == [signal.SIGINT]:
            raise KeyboardInterrupt from None
        raise


def write_report(file: Path | None, report: Mapping[str, Any]) -> None:
    """Write a report as JSON, if a file was named.

    Raises:
        LocalFileError: it cannot be written.
    """
    if file is not None:
        _write(file, f"{json.dumps(_finite(report), indent=2, allow_nan=False)}\n", "report")


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


def _write(file: Path, text: str, what: str) -> None:
    try:
        write_private(file, text.encode())
    except FileNotFoundError as error:
        raise LocalFileError(f"there is no folder {file.parent} for the {what} {file}") from error
    except OSError as error:
        reason = explained_shortage(error)
        raise LocalFileError(f"writing the {what} {file} failed: {reason}") from error


def run_batch_file(chosen: argparse.Namespace, definition: Mapping[str, Any]) -> None:
    """Run a batch; whatever ends it, show and write what each of its tasks was.

    Raises:
        BatchError: not every task did its work.
        HaulError: it could not be run, or what was to be written could not.
    """
    # Old ones must not pass for the new ones, and a place for these must be there.
    run_id = current_run()
    write_report(chosen.report, {"ok": False, "error": "it did not end", "run_id": run_id})
    if chosen.timeline is not None:
        nothing = BatchReport((), datetime.now(UTC), 0.0)
        _write(chosen.timeline, timeline(nothing, f"{chosen.file.name} did not end"), "timeline")
    display = None if chosen.quiet else best_batch_display()
    heard = Remembering(display)
    tasks = tasks_folder(chosen, chosen.file)
    problem: dict[str, Any] = {"run_id": run_id}
    try:
        shown(
            display,
            run(
                definition,
                tasks=tasks,
                on_progress=heard,
                journal=chosen.journal,
                state=chosen.state,
                state_age=chosen.state_age,
                at_once=chosen.at_once,
            ),
        )
    except HaulError as error:
        problem |= {"ok": False, "error": str(error)}
        if not isinstance(error, BatchError):
            problem["kind"] = type(error).__name__
        raise
    except (KeyboardInterrupt, asyncio.CancelledError):
        problem |= {"ok": False, "error": "cancelled"}
        raise
    finally:
        _tell_of_the_end(chosen, heard.report, problem)


def _tell_of_the_end(
    chosen: argparse.Namespace, report: BatchReport | None, problem: Mapping[str, Any]
) -> None:
    if report is None:
        write_report(chosen.report, {"ok": False, "error": "it did not end", **problem})
        return
    if not chosen.quiet:
        sys.stdout.write(f"{batch_table(report)}\n")
        sys.stdout.flush()
    write_report(chosen.report, {**report.as_dict(), **problem})
    if chosen.timeline is not None:
        _write(chosen.timeline, timeline(report, chosen.file.name), "timeline")


def tasks_folder(chosen: argparse.Namespace, file: Path) -> Path:
    """Where the tasks of a batch are: where the command line says, or beside it."""
    folder: Path = chosen.tasks if chosen.tasks is not None else file.absolute().parent
    return folder
