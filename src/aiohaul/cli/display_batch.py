"""Shows the tasks of a batch as lines or as a live table, and the report as a table."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TextIO

from aiohaul.cli.display import Lines, format_bytes, format_columns
from aiohaul.cli.screen import Display, LineDisplay, LiveDisplay, choose_display
from aiohaul.logs import one_line
from aiohaul.progress import (
    BatchEnded,
    BatchStarted,
    Copied,
    Event,
    Found,
    PlannedTask,
    SourceActionDone,
    TaskEnded,
    TaskProgress,
    TaskQueued,
    TaskResumed,
    TaskStarted,
    WatchPolled,
)
from aiohaul.report import BatchReport, BatchTaskReport, Order

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

#: The mark, the colour and the priority of each state. If the terminal is too small for all tasks,
#: tasks with a low number are shown first.
_LOOKS: Mapping[str, tuple[str, str, int]] = {
    "running": ("▶", "cyan", 0),
    "failed": ("✗", "red", 1),
    "timed out": ("⏱", "red", 1),
    "cancelled": ("■", "magenta", 1),
    "queued": ("▷", "cyan", 2),
    "waiting": ("·", "dim", 3),
    "succeeded": ("✓", "green", 4),
    "skipped": ("-", "yellow", 5),
    "already done": ("=", "blue", 5),
}
#: Lines of the terminal that do not show tasks.
_OTHERS = 4
#: Final states of tasks that were not run.
_NOT_RUN = frozenset({"already done", "skipped"})
_ARROW = "←"


class BatchLines(LineDisplay):
    """Writes the progress of a batch as lines, for logs and for terminals without rich."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream if stream is not None else sys.stderr)
        self._inner: dict[Order, Lines] = {}

    def __call__(self, event: Event) -> None:
        """Write a line for each start, end and main event of a task."""
        match event:
            case TaskQueued(order, task_id):
                self._line(f"{task_label(order, task_id)} queued until another task ends")
            case TaskStarted(order, task_id):
                self._line(f"{task_label(order, task_id)} started")
            case TaskResumed(order, task_id):
                self._line(f"{task_label(order, task_id)} resumed")
            case TaskProgress(order, task_id, inner):
                prefix = f"{task_label(order, task_id)}: "
                lines = self._inner.setdefault(order, Lines(self._stream, prefix=prefix))
                lines(inner)
            case TaskEnded(order, task_id, state, seconds, why):
                duration = "" if state in _NOT_RUN else f" after {seconds:.1f} s"
                reason = f": {why}" if why else ""
                self._line(f"{task_label(order, task_id)} {state}{duration}{reason}")
            case _:
                pass

    def _line(self, text: str) -> None:
        self._write(one_line(text))


@dataclass(frozen=True, slots=True)
class TaskRow:
    """The row of a task in the live table.

    Attributes:
        task: the task.
        state: the final state of the task; before its end ``waiting`` (for dependencies),
            ``queued`` (until fewer tasks run) or ``running``.
        since: the start of the task, in seconds of the monotonic clock.
        seconds: seconds from start to end; None before the end.
        detail: the last main event of the task, or the reason of its final state.
    """

    task: PlannedTask
    state: str = "waiting"
    since: float = 0.0
    seconds: float | None = None
    detail: str = ""


class Graph(LiveDisplay):
    """Shows a live table of the tasks of a batch on a terminal. Needs rich."""

    def __init__(self, stream: TextIO | None = None) -> None:
        from rich.console import Console  # noqa: PLC0415  # rich comes with aiohaul[cli]
        from rich.live import Live  # noqa: PLC0415

        self._tasks: dict[Order, TaskRow] = {}
        self._copied: Counter[Order] = Counter()
        self._expected: dict[Order, int] = {}
        self._console = Console(file=stream) if stream is not None else Console(stderr=True)
        self._view = Live(
            self, console=self._console, refresh_per_second=8, vertical_overflow="crop"
        )

    def __call__(self, event: Event) -> None:
        """Update the table with an event."""
        match event:
            case BatchStarted(tasks):
                # rich draws in its own thread: the keys of this dict never change.
                self._tasks = {each.order: TaskRow(each) for each in tasks}
            case TaskQueued(order):
                self._change(order, state="queued")
            case TaskStarted(order):
                self._change(order, state="running", since=time.monotonic())
            case TaskResumed(order):
                self._change(order, state="running")
            case TaskProgress(order, _, inner):
                detail = self._detail(order, inner)
                if detail is not None:
                    self._change(order, detail=detail)
            case TaskEnded(order, _, state, seconds, why):
                detail = why or self._tasks[order].detail
                self._change(order, state=state, seconds=seconds, detail=detail)
            case _:
                pass

    def _change(self, order: Order, **changes: object) -> None:
        self._tasks[order] = replace(self._tasks[order], **changes)  # type: ignore[arg-type]  # by name

    def _detail(self, order: Order, event: Event) -> str | None:
        match event:
            case WatchPolled(where, _, None):
                return f"watching {where}"
            case WatchPolled(where, _, failure):
                return f"listing {where} failed, trying again: {failure}"
            case Found(objects, size, destinations):
                self._expected[order] = objects * max(len(destinations), 1)
                return f"found {objects} objects, {format_bytes(size)}"
            case Copied():
                self._copied[order] += 1
                return f"copied {self._copied[order]} of {self._expected.get(order, 0)}"
            case SourceActionDone(action):
                return f"{action} of the sources"
            case _:
                return None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table for rich, with the tasks that fit on the terminal.

        Running and failed tasks come before waiting and finished tasks in this selection.
        """
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        tasks = list(self._tasks.values())
        rows = most_relevant(tasks, console.height - _OTHERS)
        table = Table(box=None, padding=(0, 1), show_header=False)
        table.add_column(width=1)
        table.add_column(no_wrap=True, max_width=max(options.max_width // 3, 20))
        table.add_column(no_wrap=True, max_width=max(options.max_width // 6, 10))
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, overflow="ellipsis")
        for each in rows:
            mark, style, _ = _LOOKS[each.state]
            # Text instead of str, because rich reads brackets in a str as markup.
            table.add_row(*(Text(cell, style=style) for cell in (mark, *_cells(each))))
        yield table
        yield Text(_counts(each.state for each in tasks), style="bold")


def _cells(each: TaskRow) -> tuple[str, str, str, str]:
    order = each.task.order
    indent = "  " * (len(order) - 1)
    seconds = time.monotonic() - each.since if each.state == "running" else each.seconds
    duration = "" if seconds is None or each.state in _NOT_RUN else f"{seconds:.1f} s"
    depends_on = ", ".join(str(dependency[-1]) for dependency in each.task.dependencies)
    name = one_line(each.task.task_id)
    return (
        f"{indent}{order[-1]} {name}",
        f"{_ARROW} {depends_on}" if depends_on else "",
        duration,
        one_line(each.detail or ("" if each.state == "succeeded" else each.state)),
    )


def most_relevant(tasks: list[TaskRow], lines: int) -> list[TaskRow]:
    """Return the tasks with the highest priority that fit into ``lines``, in their order."""
    if len(tasks) <= lines:
        return tasks
    ranked = sorted(range(len(tasks)), key=lambda index: _LOOKS[tasks[index].state][2])
    return [tasks[index] for index in sorted(ranked[: max(lines, 1)])]


def _counts(states: Iterable[str]) -> str:
    counts = Counter(states)
    return ", ".join(f"{counts[state]} {state}" for state in _LOOKS if counts[state])


class ReportRecorder:
    """Passes events to a display, and records the report of the batch.

    Args:
        display: receives the events; None if nothing is shown.

    Attributes:
        report: the report of the batch; None before the batch has ended.
    """

    def __init__(self, display: Display | None) -> None:
        self.report: BatchReport | None = None
        self._display = display

    def __call__(self, event: Event) -> None:
        """Record the report of the batch, and pass the event to the display."""
        if isinstance(event, BatchEnded):
            self.report = event.report
        if self._display is not None:
            self._display(event)


def best_batch_display(stream: TextIO | None = None) -> Display:
    """Return the live table if the stream is a terminal and rich is installed, else lines."""
    stream = stream if stream is not None else sys.stderr
    return choose_display(stream, Graph, lambda: BatchLines(stream))


def batch_table(report: BatchReport) -> str:
    """Format the report of a batch as text, with one line per task."""
    head = f"{_counts(each.state for each in report.tasks)}, {report.seconds:.1f} s"
    if not report.tasks:
        return f"no tasks, {report.seconds:.1f} s"
    rows = [("task", "depends on", "state", "seconds", "")]
    rows += [_line(order, each) for order, each in report.all_tasks()]
    return "\n".join([head, *format_columns(rows)])


def _line(order: Order, each: BatchTaskReport) -> tuple[str, str, str, str, str]:
    depends_on = ", ".join(map(str, each.dependencies))
    why = each.failure.error if each.failure is not None else each.reason
    return (
        f"{'  ' * (len(order) - 1)}{each.order_id} {one_line(each.task_id)}",
        depends_on or "-",
        each.state,
        "-" if each.started is None else f"{each.seconds:.1f}",
        one_line(why or ""),
    )


def task_label(order: Order, task_id: str) -> str:
    """Return the label of a task, for example ``2.1 (load)`` for ``(2, 1)`` and ``load``."""
    return f"{'.'.join(map(str, order))} ({task_id})"
