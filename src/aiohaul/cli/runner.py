"""Runs definitions for the command line, with signals, displays and report files."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TypeVar

from aiohaul.cli.display import best_display, closing_table
from aiohaul.cli.display_batch import ReportRecorder, batch_table, best_batch_display
from aiohaul.cli.screen import Display
from aiohaul.cli.timeline import timeline
from aiohaul.errors import BatchError, HaulError, LocalFileError, TransferError
from aiohaul.logs import current_run, one_line
from aiohaul.progress import OnProgress
from aiohaul.report import BatchReport, Report
from aiohaul.resource_limits import os_error_reason
from aiohaul.storage.private_files import write_private
from aiohaul.tasks.execution import LAST_LINES, OnCancelled, output_of, report_of
from aiohaul.tasks.run import run

T = TypeVar("T")

#: The number of seconds without an answer of the event loop after which a signal ends the process.
_UNHANDLED = 1.0


def run_with_display(display: Display | None, task: Coroutine[object, None, T]) -> T:
    """Run a coroutine while a display shows its progress. Ctrl-C and SIGTERM cancel the coroutine.

    Raises:
        KeyboardInterrupt: Ctrl-C cancelled the coroutine.
        CancelledError: SIGTERM cancelled the coroutine.
    """
    if display is None:
        return asyncio.run(cancelled_by_signals(task))
    with display:
        return asyncio.run(cancelled_by_signals(task))


class _SignalHandler:
    """Passes signals to the event loop, and ends the process if the loop does not handle them.

    Python calls a handler between two instructions of the main thread, also while the loop waits
    for a callback. Handlers of the loop itself would wait for it too.

    Args:
        loop: the event loop.
        on_signal: called by the loop.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_signal: Callable[[signal.Signals], None]
    ) -> None:
        self._loop = loop
        self._on_signal = on_signal
        self._waiting_since: float | None = None

    def __call__(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002  # a handler
        if self._waiting_since is not None:
            # Wrappers send a signal twice at once, to the process and to its group.
            if time.monotonic() - self._waiting_since >= _UNHANDLED:
                os.write(
                    sys.stderr.fileno(),
                    b"aiohaul: the event loop is blocked; the process ends without cleanup\n",
                )
                self._end(signum)
        elif self._loop.is_closed():
            self._end(signum)
        else:
            self._waiting_since = time.monotonic()
        with suppress(RuntimeError):  # the loop was closed since
            self._loop.call_soon_threadsafe(self._handle, signal.Signals(signum))

    def _handle(self, signum: signal.Signals) -> None:
        self._waiting_since = None
        self._on_signal(signum)

    def _end(self, signum: int) -> None:
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)


async def cancelled_by_signals(task: Coroutine[object, None, T]) -> T:
    """Run a coroutine, and cancel it at the first Ctrl-C or SIGTERM.

    Later signals do not interrupt the cleanup of the coroutine. They end the process if the event
    loop has not handled the first one within a second, because something blocks the loop.

    Raises:
        KeyboardInterrupt: Ctrl-C cancelled the coroutine.
        CancelledError: SIGTERM cancelled the coroutine.
    """
    current = asyncio.current_task()
    received: list[signal.Signals] = []

    def cancel(signum: signal.Signals) -> None:
        received.append(signum)
        if len(received) == 1 and current is not None:
            current.cancel()
        elif len(received) == 2:  # noqa: PLR2004  # print the message once
            sys.stderr.write(
                "aiohaul: still cleaning up; press Ctrl-\\ (SIGQUIT) to end the process without"
                " cleanup\n"
            )

    handler = _SignalHandler(asyncio.get_running_loop(), cancel)
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, handler)
    try:
        return await task
    except asyncio.CancelledError:
        if received[:1] == [signal.SIGINT]:
            raise KeyboardInterrupt from None
        raise


def run_reported(
    args: argparse.Namespace,
    work: Callable[[OnProgress | None, OnCancelled], Coroutine[object, None, Report]],
    show: Callable[[Report], None] | None = None,
) -> int:
    """Run one transfer or execution. Then show its result, and write the report.

    Args:
        args: the parsed command line, with ``report``, ``quiet``, and ``json`` if the command has
            this option.
        work: called with the callback for events, or None, and the callback for the report of an
            execution that is cancelled; returns the coroutine to run.
        show: prints the result instead of a table, also with ``quiet``.

    Raises:
        HaulError: the transfer or execution failed, or writing the report failed.
    """
    as_json = getattr(args, "json", False)
    run_id = current_run()
    # Replace an old report, and fail before the run if the folder does not exist.
    write_report(args.report, {"ok": False, "error": "the run did not finish", "run_id": run_id})
    display: Display | None = None if args.quiet else best_display()
    stopped: list[Report] = []
    try:
        report = run_with_display(display, work(display, stopped.append))
    except TransferError as error:
        failed = {**error.report.as_dict(), "error": str(error)}
        if as_json:
            _print_json(failed)
        elif not args.quiet:
            sys.stdout.write(f"{closing_table(error.report)}\n")
        write_report(args.report, failed)
        raise
    except HaulError as error:
        failure = {"error": str(error), "kind": type(error).__name__}
        _write_failure(args, report_of(error), failure)
        raise
    except (KeyboardInterrupt, asyncio.CancelledError):
        _write_failure(args, stopped[0] if stopped else None, {"error": "cancelled"})
        raise
    if as_json:
        _print_json(report.as_dict())
    elif show is not None:
        show(report)
    elif not args.quiet and not isinstance(report, BatchReport):
        sys.stdout.write(f"{closing_table(report)}\n")
    write_report(args.report, report.as_dict())
    return 0


def _write_failure(
    args: argparse.Namespace, report: Report | None, failure: Mapping[str, object]
) -> None:
    """Write the report of what failed or was cancelled, and show its last lines."""
    known: Mapping[str, object] = report.as_dict() if report is not None else {}
    write_report(args.report, {**known, "ok": False, **failure, "run_id": current_run()})
    write_output(report)


def _print_json(report: Mapping[str, object]) -> None:
    sys.stdout.write(f"{json.dumps(_json_safe(report), indent=2, allow_nan=False)}\n")


def write_report(file: Path | None, report: Mapping[str, object]) -> None:
    """Write a report as JSON to a file; do nothing if the file is None.

    Raises:
        LocalFileError: the file cannot be written.
    """
    if file is not None:
        _write(file, f"{json.dumps(_json_safe(report), indent=2, allow_nan=False)}\n", "report")


def _json_safe(value: object) -> object:
    """Return a value in which strings replace NaN and infinity, which JSON does not allow.

    A payload may contain them.
    """
    match value:
        case float() if not math.isfinite(value):
            return json.dumps(value)
        case dict():
            return {key: _json_safe(each) for key, each in value.items()}
        case list() | tuple():
            return [_json_safe(each) for each in value]
        case _:
            return value


def _write(file: Path, text: str, kind: str) -> None:
    try:
        write_private(file, text.encode())
    except FileNotFoundError as error:
        problem = f"writing the {kind} {file} failed: there is no folder {file.parent}. Make it"
        raise LocalFileError(problem) from error
    except OSError as error:
        reason = os_error_reason(error)
        raise LocalFileError(f"writing the {kind} {file} failed: {reason}") from error


def write_output(report: Report | None, prefix: str = "") -> None:
    """Write the last log lines of a failed function or Fargate task to standard error.

    Args:
        report: the report of the function or task; None writes nothing.
        prefix: text before each line.
    """
    for line in output_of(report, LAST_LINES):
        sys.stderr.write(f"{prefix}{one_line(line)}\n")


def run_batch_file(args: argparse.Namespace, definition: Mapping[str, object]) -> None:
    """Run a batch. Then show and write the result of each task, also if the batch is cancelled.

    Args:
        args: the parsed command line.
        definition: the definition of the batch.

    Raises:
        BatchError: a task failed, timed out or was skipped.
        HaulError: the batch could not start, or writing a file failed.
    """
    # Replace the files of an old run, and fail before the run if a folder does not exist.
    run_id = current_run()
    write_report(args.report, {"ok": False, "error": "the run did not finish", "run_id": run_id})
    if args.timeline is not None:
        empty = BatchReport((), datetime.now(UTC), 0.0)
        _write(args.timeline, timeline(empty, f"{args.file.name} did not finish"), "timeline")
    display = None if args.quiet else best_batch_display()
    recorder = ReportRecorder(display)
    tasks = tasks_folder(args, args.file)
    problem: dict[str, object] = {"run_id": run_id}
    try:
        run_with_display(
            display,
            run(
                definition,
                tasks=tasks,
                on_progress=recorder,
                journal=args.journal,
                state=args.state,
                state_age=args.state_age,
                max_concurrency=args.max_concurrency,
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
        _write_results(args, recorder.report, problem)


def _write_results(
    args: argparse.Namespace, report: BatchReport | None, problem: Mapping[str, object]
) -> None:
    if report is None:
        write_report(args.report, {"ok": False, "error": "the run did not finish", **problem})
        return
    if not args.quiet:
        sys.stdout.write(f"{batch_table(report)}\n")
        sys.stdout.flush()
    for _, each in report.all_tasks():
        write_output(each.report, f"{each.name}: ")
    write_report(args.report, {**report.as_dict(), **problem})
    if args.timeline is not None:
        _write(args.timeline, timeline(report, args.file.name), "timeline")


def tasks_folder(args: argparse.Namespace, file: Path) -> Path:
    """Return the folder with the tasks of a batch.

    It is the argument ``--tasks``, or the folder of the definition of the batch.
    """
    folder: Path = args.tasks if args.tasks is not None else file.absolute().parent
    return folder
