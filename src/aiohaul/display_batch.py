"""What the command line shows of a batch: its graph with live states, or lines."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TextIO

from aiohaul.display import Lines, aligned, bytes_for_people
from aiohaul.logs import one_line
from aiohaul.progress import (
    Acted,
    BatchEnded,
    BatchStarted,
    Copied,
    Event,
    Found,
    PlannedTask,
    TaskEnded,
    TaskQueued,
    TaskStarted,
    TaskTold,
    Watching,
)
from aiohaul.report import BatchReport, BatchTaskReport, Order
from aiohaul.screen import Display, Drawn, Lined, suited

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

#: By state: a mark, a colour, and how early it is shown where not everything can be.
_LOOKS: Mapping[str, tuple[str, str, int]] = {
    "running": ("▶", "cyan", 0),
    "failed": ("✗", "red", 1),
    "timed out": ("⏱", "red", 1),
    "cancelled": ("■", "magenta", 1),
    "queued": ("▷", "cyan", 2),
    "waiting": ("·", "dim", 3),
    "succeeded": ("✓", "green", 4),
    "skipped": ("-", "yellow", 5),
    "kept": ("=", "blue", 5),
}
#: Lines of the terminal that are not for tasks.
_OTHERS = 4
_ARROW = "←"


class BatchLines(Lined):
    """Shows the course of a batch as lines of text: for logs, and where rich is not installed."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream if stream is not None else sys.stderr)
        self._inner: dict[Order, Lines] = {}

    def __call__(self, event: Event) -> None:
        """Write a line for each start and end, and for the milestones between."""
        match event:
            case TaskQueued(order, task_id):
                self._line(f"{named(order, task_id)} is ready, and waits its turn")
            case TaskStarted(order, task_id):
                self._line(f"{named(order, task_id)} started")
            case TaskTold(order, task_id, told):
                prefix = f"{named(order, task_id)}: "
                lines = self._inner.setdefault(order, Lines(self._stream, prefix=prefix))
                lines(told)
            case TaskEnded(order, task_id, state, seconds, why):
                took = f" after {seconds:.1f} s" if state not in {"kept", "skipped"} else ""
                reason = f": {why}" if why else ""
                self._line(f"{named(order, task_id)} {state}{took}{reason}")
            case _:
                pass

    def _line(self, text: str) -> None:
        self._write(one_line(text))


@dataclass(frozen=True, slots=True)
class Shown:
    """What the graph shows of a task.

    Attributes:
        task: what it is.
        state: a state of a task that ended, or ``waiting`` for others, ``queued`` for its turn, or
            ``running``.
        since: when it started, by the clock that only goes on.
        seconds: that it took; None while it runs.
        detail: what it is at, or why it ended like that.
    """

    task: PlannedTask
    state: str = "waiting"
    since: float = 0.0
    seconds: float | None = None
    detail: str = ""


class Graph(Drawn):
    """Shows every task of a batch with its state, live: for people at a terminal. Needs rich."""

    def __init__(self, stream: TextIO | None = None) -> None:
        from rich.console import Console  # noqa: PLC0415  # rich comes with aiohaul[cli]
        from rich.live import Live  # noqa: PLC0415

        self._tasks: dict[Order, Shown] = {}
        self._copied: Counter[Order] = Counter()
        self._expected: dict[Order, int] = {}
        self._console = Console(file=stream) if stream is not None else Console(stderr=True)
        self._picture = Live(
            self, console=self._console, refresh_per_second=8, vertical_overflow="crop"
        )

    def __call__(self, event: Event) -> None:
        """Take the event into the picture."""
        match event:
            case BatchStarted(tasks):
                # Replaced, never changed in its keys: rich draws in a thread of its own.
                self._tasks = {each.order: Shown(each) for each in tasks}
            case TaskQueued(order):
                self._change(order, state="queued")
            case TaskStarted(order):
                self._change(order, state="running", since=time.monotonic())
            case TaskTold(order, _, told):
                detail = self._detail(order, told)
                if detail is not None:
                    self._change(order, detail=detail)
            case TaskEnded(order, _, state, seconds, why):
                detail = why or self._tasks[order].detail
                self._change(order, state=state, seconds=seconds, detail=detail)
            case _:
                pass

    def _change(self, order: Order, **changes: object) -> None:
        self._tasks[order] = replace(self._tasks[order], **changes)  # type: ignore[arg-type]  # by name

    def _detail(self, order: Order, told: Event) -> str | None:
        match told:
            case Watching(where, _, None):
                return f"watching {where}"
            case Watching(where, _, failure):
                return f"cannot look into {where}, and goes on trying: {failure}"
            case Found(objects, size, destinations):
                self._expected[order] = objects * max(len(destinations), 1)
                return f"found {objects} objects, {bytes_for_people(size)}"
            case Copied():
                self._copied[order] += 1
                return f"copied {self._copied[order]} of {self._expected.get(order, 0)}"
            case Acted(action):
                return f"{action} of the sources"
            case _:
                return None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw what fits: what runs and what failed before what waits and what is done."""
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        tasks = list(self._tasks.values())
        shown = fitting(tasks, console.height - _OTHERS)
        table = Table(box=None, padding=(0, 1), show_header=False)
        table.add_column(width=1)
        table.add_column(no_wrap=True, max_width=max(options.max_width // 3, 20))
        table.add_column(no_wrap=True, max_width=max(options.max_width // 6, 10))
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, overflow="ellipsis")
        for each in shown:
            mark, style, _ = _LOOKS[each.state]
            # Text, not str: a name may look like rich's markup.
            table.add_row(*(Text(cell, style=style) for cell in (mark, *_cells(each))))
        yield table
        yield Text(_counts(each.state for each in tasks), style="bold")


def _cells(each: Shown) -> tuple[str, str, str, str]:
    order = each.task.order
    indent = "  " * (len(order) - 1)
    seconds = each.seconds
    if each.state == "running":
        seconds = time.monotonic() - each.since
    took = "" if seconds is None or each.state in {"kept", "skipped"} else f"{seconds:.1f} s"
    waits = ", ".join(str(dependency[-1]) for dependency in each.task.dependencies)
    name = one_line(each.task.task_id)
    return (
        f"{indent}{order[-1]} {name}",
        f"{_ARROW} {waits}" if waits else "",
        took,
        one_line(each.detail or ("" if each.state == "succeeded" else each.state)),
    )


def fitting(tasks: list[Shown], lines: int) -> list[Shown]:
    """The tasks that so many lines have room for, in their order: the most telling ones."""
    if len(tasks) <= lines:
        return tasks
    places = sorted(range(len(tasks)), key=lambda place: _LOOKS[tasks[place].state][2])
    return [tasks[place] for place in sorted(places[: max(lines, 1)])]


def _counts(states: Iterable[str]) -> str:
    counts = Counter(states)
    return ", ".join(f"{counts[state]} {state}" for state in _LOOKS if counts[state])


class Remembering:
    """Passes events on, and keeps the report that a batch tells of at its end.

    Args:
        display: where they go; None is nowhere.

    Attributes:
        report: of the batch; None if it never ended, or is none.
    """

    def __init__(self, display: Display | None) -> None:
        self.report: BatchReport | None = None
        self._display = display

    def __call__(self, event: Event) -> None:
        """Pass the event on."""
        if isinstance(event, BatchEnded):
            self.report = event.report
        if self._display is not None:
            self._display(event)


def best_batch_display(stream: TextIO | None = None) -> Display:
    """The graph at a terminal where rich is installed, else lines."""
    stream = stream if stream is not None else sys.stderr
    return suited(stream, Graph, lambda: BatchLines(stream))


def batch_table(report: BatchReport) -> str:
    """A batch as a table of plain text, one line for each task."""
    head = f"{_counts(each.state for each in report.tasks)}, {report.seconds:.1f} s"
    if not report.tasks:
        return f"no tasks, {report.seconds:.1f} s"
    rows = [("task", "waits for", "state", "seconds", "")]
    rows += [_line(order, each) for order, each in report.all_tasks()]
    return "\n".join([head, *aligned(rows)])


def _line(order: Order, each: BatchTaskReport) -> tuple[str, str, str, str, str]:
    waits = ", ".join(map(str, each.dependencies))
    why = each.failure.error if each.failure is not None else each.reason
    return (
        f"{'  ' * (len(order) - 1)}{each.order_id} {one_line(each.task_id)}",
        waits or "-",
        each.state,
        "-" if each.started is None else f"{each.seconds:.1f}",
        one_line(why or ""),
    )


def named(order: Order, task_id: str) -> str:
    """``(2, 1), "load"`` -> ``2.1 (load)``."""
    return f"{'.'.join(map(str, order))} ({task_id})"
