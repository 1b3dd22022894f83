"""Shows a transfer or execution as lines or progress bars, and its report as a table."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from aiohaul.cli.screen import Display, LineDisplay, LiveDisplay, choose_display
from aiohaul.logs import one_line
from aiohaul.progress import (
    Copied,
    Event,
    Failed,
    FlagWritten,
    Found,
    SourceActionDone,
    WatchPolled,
)
from aiohaul.report import (
    FargateReport,
    InvocationReport,
    SingleReport,
    TouchReport,
    TransferReport,
)

if TYPE_CHECKING:
    from rich.progress import TaskID

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024


class Lines(LineDisplay):
    """Writes the main events of a task as lines of text, for logs and terminals without rich.

    Args:
        stream: the stream to write to; None is standard error.
        prefix: text before each line.
    """

    def __init__(self, stream: TextIO | None = None, prefix: str = "") -> None:
        super().__init__(stream if stream is not None else sys.stderr)
        self._prefix = prefix
        self._watching = False
        self._messages: set[str] = set()

    def __call__(self, event: Event) -> None:
        """Write a line for a watch, found objects, a written flag or a failure."""
        match event:
            case WatchPolled(where, seconds_left, None) if not self._watching:
                self._watching = True
                limit = (
                    "" if math.isinf(seconds_left) else f" for at most {seconds_left:.0f} s more"
                )
                self._line(f"watching {where}{limit}")
            case WatchPolled(where, seconds_left, failure) if failure is not None:
                self._line_once(f"listing {where} failed, trying again: {failure}")
            case Found(objects, size, destinations):
                targets = f", copying to {', '.join(destinations)}" if destinations else ""
                self._line(f"found {objects} objects ({format_bytes(size)}){targets}")
            case FlagWritten(target):
                self._line(f"wrote the flag {target}")
            case Failed(source, destination, error):
                self._line_once(f"failed: {destination}: {error}", f" (first: {source})")
            case _:
                pass

    def _line_once(self, text: str, detail: str = "") -> None:
        """Write a line if no earlier line had the same text.

        An error of a whole destination has the same text for every object.
        """
        if text not in self._messages:
            self._messages.add(text)
            self._line(f"{text}{detail}")

    def _line(self, text: str) -> None:
        self._write(f"{self._prefix}{one_line(text)}")


class Bars(LiveDisplay):
    """Shows a progress bar for each destination on a terminal. Needs rich."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415  # rich comes with aiohaul[cli]
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )
        from rich.table import Column  # noqa: PLC0415

        self._progress = self._view = Progress(
            SpinnerColumn(),
            # Markup is off, because a key may contain brackets.
            TextColumn(
                "{task.description}", markup=False, table_column=Column(no_wrap=True, min_width=30)
            ),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[size]}", justify="right"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._rows: dict[str, TaskID] = {}
        self._sizes: dict[str, int] = {}
        self._objects = 0
        self._messages: set[tuple[str, str]] = set()

    def __call__(self, event: Event) -> None:
        """Update the bars with an event."""
        match event:
            case WatchPolled(where, _, failure):
                self._row(f"watching {where}", None)
                if failure is not None:
                    self._show_message("polling failed, trying again:", str(failure))
            case Found(objects, _, destinations):
                self._objects = objects
                for name in list(self._rows):
                    self._end(name)
                for destination in destinations:
                    self._row(destination, objects)
            case Copied(_, _, destination, size):
                self._advance(destination, size)
            case Failed(_, destination, error):
                self._show_message("failed", f"{destination}: {error}")
                self._advance(destination, 0)
            case FlagWritten(target):
                self._show_message("complete", target)
            case SourceActionDone(action):
                self._row(f"{action} of the sources", self._objects)
                self._advance(f"{action} of the sources", 0)

    def _show_message(self, kind: str, detail: str) -> None:
        if (kind, detail) in self._messages:
            return
        self._messages.add((kind, detail))
        text = one_line(f"{kind} {detail}")
        self._progress.console.print(text, highlight=False, markup=False)

    def _row(self, name: str, total: int | None) -> None:
        if name not in self._rows:
            self._rows[name] = self._progress.add_task(one_line(name), total=total, size="")
            self._sizes[name] = 0

    def _advance(self, name: str, size: int) -> None:
        if name not in self._rows:
            return
        self._sizes[name] += size
        size_text = format_bytes(self._sizes[name]) if self._sizes[name] else ""
        self._progress.update(self._rows[name], advance=1, size=size_text)

    def _end(self, name: str) -> None:
        self._progress.update(self._rows[name], total=1, completed=1)


def best_display(stream: TextIO | None = None) -> Display:
    """Return progress bars if the stream is a terminal and rich is installed, else lines."""
    stream = stream if stream is not None else sys.stderr
    return choose_display(stream, Bars, lambda: Lines(stream))


def closing_table(report: SingleReport) -> str:
    """Format the report of a transfer or execution as text, with one line per destination."""
    match report:
        case TransferReport():
            return _transfer_table(report)
        case TouchReport():
            return f"wrote {one_line(report.target)} in {report.seconds:.1f} s"
        case InvocationReport():
            return f"called {report.function} ({report.status}) in {report.seconds:.1f} s"
        case FargateReport():
            return f"ran {report.task} (exit code {report.exit_code}) in {report.seconds:.1f} s"


def _transfer_table(report: TransferReport) -> str:
    head = f"{report.found} objects, {format_bytes(report.size)}, {report.seconds:.1f} s"
    rows = [("destination", "objects", "size", "failed", "flag", "seconds")]
    rows.extend(
        (
            one_line(each.destination),
            str(each.objects),
            format_bytes(each.size),
            str(len(each.failures)),
            one_line(each.flag or "-"),
            f"{each.seconds:.1f}",
        )
        for each in report.destinations
    )
    lines = [head]
    if report.destinations:
        lines += format_columns(rows)
    if report.action is not None:
        action = report.action
        failed = f", {len(action.failures)} failed" if action.failures else ""
        lines.append(f"{action.action}: {action.objects} sources{failed}")
    return "\n".join(lines)


def format_columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Format rows of cells as lines with aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def format_bytes(size: float) -> str:
    """Format a number of bytes with a binary unit, for example 1536 as ``1.5 KiB``."""
    for unit in _UNITS[:-1]:
        if size < _STEP:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= _STEP
    return f"{size:.1f} {_UNITS[-1]}"
