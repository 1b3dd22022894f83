"""What the command line shows while a task runs, and when it has ended."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from aiohaul.logs import one_line
from aiohaul.progress import Acted, Copied, Event, Failed, Flagged, Found, Watching
from aiohaul.report import (
    FargateReport,
    InvocationReport,
    SingleReport,
    TouchReport,
    TransferReport,
)
from aiohaul.screen import Display, Drawn, Lined, suited

if TYPE_CHECKING:
    from rich.progress import TaskID

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024


class Lines(Lined):
    """Shows milestones as lines of text: for logs, and where rich is not installed."""

    def __init__(self, stream: TextIO | None = None, prefix: str = "") -> None:
        super().__init__(stream if stream is not None else sys.stderr)
        self._prefix = prefix
        self._waited = False
        self._said: set[str] = set()

    def __call__(self, event: Event) -> None:
        """Write a line for what a reader of a log wants to find there."""
        match event:
            case Watching(where, seconds_left, None) if not self._waited:
                self._waited = True
                limit = (
                    "" if math.isinf(seconds_left) else f" for at most {seconds_left:.0f} s more"
                )
                self._line(f"watching {where}{limit}")
            case Watching(where, seconds_left, failure) if failure is not None:
                self._once(f"cannot look into {where}, and goes on trying: {failure}")
            case Found(objects, size, destinations):
                places = f", going to {', '.join(destinations)}" if destinations else ""
                self._line(f"found {objects} objects ({bytes_for_people(size)}){places}")
            case Flagged(target):
                self._line(f"complete: {target}")
            case Failed(source, destination, error):
                self._once(f"failed: {destination}: {error}", f" (first: {source})")
            case _:
                pass

    def _once(self, text: str, detail: str = "") -> None:
        """What fails a destination as a whole is not said again for each object."""
        if text not in self._said:
            self._said.add(text)
            self._line(f"{text}{detail}")

    def _line(self, text: str) -> None:
        self._write(f"{self._prefix}{one_line(text)}")


class Bars(Drawn):
    """Shows a progress bar for each destination: for people at a terminal. Needs rich."""

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

        self._progress = self._picture = Progress(
            SpinnerColumn(),
            # A key may look like rich's markup.
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
        self._said: set[tuple[str, str]] = set()

    def __call__(self, event: Event) -> None:
        """Move the bars."""
        match event:
            case Watching(where, _, failure):
                self._row(f"watching {where}", None)
                if failure is not None:
                    self._say("cannot look, and goes on trying:", str(failure))
            case Found(objects, _, destinations):
                self._objects = objects
                for name in list(self._rows):
                    self._end(name)
                for destination in destinations:
                    self._row(destination, objects)
            case Copied(_, _, destination, size):
                self._advance(destination, size)
            case Failed(_, destination, error):
                self._say("failed", f"{destination}: {error}")
                self._advance(destination, 0)
            case Flagged(target):
                self._say("complete", target)
            case Acted(action):
                self._row(f"{action} of the sources", self._objects)
                self._advance(f"{action} of the sources", 0)

    def _say(self, what: str, about: str) -> None:
        if (what, about) in self._said:
            return
        self._said.add((what, about))
        text = one_line(f"{what} {about}")
        self._progress.console.print(text, highlight=False, markup=False)

    def _row(self, name: str, total: int | None) -> None:
        if name not in self._rows:
            self._rows[name] = self._progress.add_task(one_line(name), total=total, size="")
            self._sizes[name] = 0

    def _advance(self, name: str, size: int) -> None:
        if name not in self._rows:
            return
        self._sizes[name] += size
        shown = bytes_for_people(self._sizes[name]) if self._sizes[name] else ""
        self._progress.update(self._rows[name], advance=1, size=shown)

    def _end(self, name: str) -> None:
        self._progress.update(self._rows[name], total=1, completed=1)


def best_display(stream: TextIO | None = None) -> Display:
    """Bars at a terminal where rich is installed, else lines."""
    stream = stream if stream is not None else sys.stderr
    return suited(stream, Bars, lambda: Lines(stream))


def closing_table(report: SingleReport) -> str:
    """The report of a transfer or execution as a table of plain text, a line per destination."""
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
    head = f"{report.found} objects, {bytes_for_people(report.size)}, {report.seconds:.1f} s"
    rows = [("destination", "objects", "size", "failed", "flag", "seconds")]
    rows.extend(
        (
            one_line(each.destination),
            str(each.objects),
            bytes_for_people(each.size),
            str(len(each.failures)),
            one_line(each.flag or "-"),
            f"{each.seconds:.1f}",
        )
        for each in report.destinations
    )
    lines = [head]
    if report.destinations:
        lines += aligned(rows)
    if report.action is not None:
        action = report.action
        failed = f", {len(action.failures)} failed" if action.failures else ""
        lines.append(f"{action.action}: {action.objects} sources{failed}")
    return "\n".join(lines)


def aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows of cells as lines in which the columns stand below each other."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def bytes_for_people(size: float) -> str:
    """1536 -> ``1.5 KiB``."""
    for unit in _UNITS[:-1]:
        if size < _STEP:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= _STEP
    return f"{size:.1f} {_UNITS[-1]}"
