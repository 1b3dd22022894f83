"""Draws the tasks of a batch over time as an SVG. Does no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

from aiohaul.report import BatchReport, BatchTaskReport, Order
from aiohaul.report_json import TaskState

#: Sizes in pixels.
_ROW, _BAR = 22, 14
_HEAD, _FOOT = 64, 16
_CHARACTER = 6.7
_PLOT, _RIGHT = 760, 96
#: Maximum number of characters of a task name. Longer names are cut.
_MAX_NAME_LENGTH = 46
_MAX_TICKS = 9
_QUEUED = "#d5dde5"

_COLOURS: dict[TaskState, str] = {
    "succeeded": "#2e8b57",
    "failed": "#c0392b",
    "timed out": "#d35400",
    "cancelled": "#8e6bbf",
    "already done": "#7f9db9",
    "skipped": "#9a9a9a",
}


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the timeline.

    Attributes:
        order: the order of the task.
        report: the report of the task.
        start: seconds from the start of the batch; None if the task was not started.
        queued: seconds from the start of the batch until the task was queued; None if the task
            was not queued.
    """

    order: Order
    report: BatchTaskReport
    start: float | None
    queued: float | None


def timeline(report: BatchReport, title: str = "") -> str:
    """Draw a batch with one row for each task. A bar shows the time from start to end of the task.

    The colour of a bar is the state of the task. Thin lines lead from the end of a task to the
    tasks that depend on this task. A pale bar is the time in which a task was queued. If a task is
    itself a batch, its tasks are in the next rows.

    Args:
        report: the report of the batch.
        title: the heading of the drawing.

    Returns:
        The text of the SVG document.
    """
    rows = list(_rows(report, (), report.started))
    names = [_truncate(f"{'    ' * (len(row.order) - 1)}{row.report.name}") for row in rows]
    left = 24 + _CHARACTER * max(map(len, names), default=0)
    whole = max([report.seconds, *((row.start or 0) + row.report.seconds for row in rows)])
    step = _tick_interval(whole)
    scale = _PLOT / max(whole, step)
    width, height = left + _PLOT + _RIGHT, _HEAD + _ROW * len(rows) + _FOOT
    head = f'<text x="12" y="20" font-size="13" fill="#222222">{_escape(_headline(report, title))}'
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}"'
            f' viewBox="0 0 {width:.0f} {height}" font-family="Menlo, Consolas, monospace"'
            ' font-size="11">'
        ),
        f'<rect width="{width:.0f}" height="{height}" fill="#ffffff"/>',
        f"{head}</text>",
        *_legend(rows),
        *_axis(left, scale, step, whole, height),
        *_dependency_lines(rows, left, scale),
    ]
    for number, (row, name) in enumerate(zip(rows, names, strict=True)):
        parts += _bar(row, name, left, scale, _HEAD + _ROW * number)
    return "\n".join([*parts, "</svg>", ""])


def _rows(report: BatchReport, above: Order, zero: datetime) -> Iterator[_Row]:
    """Yield a row for each task, sorted by start. Tasks that were not started come last."""
    rows = [
        _Row(
            (*above, each.order_id),
            each,
            _seconds_since(zero, each.started),
            _seconds_since(zero, each.queued_since),
        )
        for each in report.tasks
    ]
    rows.sort(key=lambda row: (row.start is None, row.start or 0.0, row.order))
    for row in rows:
        yield row
        if isinstance(row.report.report, BatchReport):
            yield from _rows(row.report.report, row.order, zero)


def _seconds_since(zero: datetime, time: datetime | None) -> float | None:
    return None if time is None else max((time - zero).total_seconds(), 0.0)


def _headline(report: BatchReport, title: str) -> str:
    done = sum(each.ok for each in report.tasks)
    start = f"{report.started:%Y-%m-%d %H:%M:%S} UTC"
    head = f"{done} of {len(report.tasks)} tasks done in {report.seconds:.1f} s, from {start}"
    return f"{title}: {head}" if title else head


def _legend(rows: Sequence[_Row]) -> Iterator[str]:
    x = 12.0
    for state, colour in _COLOURS.items():
        count = sum(row.report.state == state for row in rows)
        if count:
            name = f"{state} {count}"
            yield f'<rect x="{x:.0f}" y="30" width="10" height="10" rx="2" fill="{colour}"/>'
            yield f'<text x="{x + 15:.0f}" y="39" fill="#444444">{name}</text>'
            x += 31 + _CHARACTER * len(name)
    if any(row.report.queued for row in rows):
        yield f'<rect x="{x:.0f}" y="30" width="10" height="10" rx="2" fill="{_QUEUED}"/>'
        yield f'<text x="{x + 15:.0f}" y="39" fill="#444444">queued</text>'


def _tick_interval(whole: float) -> float:
    """Return the seconds between two ticks of the time axis, a round number such as 0.5 or 60."""
    steps = [base * 10**power for power in range(-3, 2) for base in (1, 2, 5)]
    steps += [60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400]
    return next((step for step in steps if whole / step <= _MAX_TICKS), whole / _MAX_TICKS)


def _axis(left: float, scale: float, step: float, whole: float, height: int) -> Iterator[str]:
    for number in range(int(whole / step + 1e-9) + 1):
        x = left + number * step * scale
        yield (
            f'<line x1="{x:.1f}" y1="{_HEAD - 6}" x2="{x:.1f}" y2="{height - _FOOT}"'
            ' stroke="#e4e4e4"/>'
        )
        label = format_seconds(number * step)
        yield (
            f'<text x="{x:.1f}" y="{_HEAD - 10}" text-anchor="middle" fill="#777777">{label}</text>'
        )


def _dependency_lines(rows: Sequence[_Row], left: float, scale: float) -> Iterator[str]:
    numbered = {row.order: (number, row) for number, row in enumerate(rows)}
    for number, row in enumerate(rows):
        if row.start is None:
            continue
        ready = row.start if row.queued is None else min(row.start, row.queued)
        for dependency in row.report.dependencies:
            other, before = numbered[(*row.order[:-1], dependency)]
            if before.start is None:
                continue
            x1 = left + (before.start + before.report.seconds) * scale
            x2 = left + ready * scale
            y1, y2 = (_HEAD + _ROW * each + _ROW / 2 for each in (other, number))
            yield (
                f'<path d="M{x1:.1f} {y1:.1f} C{x1 + 10:.1f} {y1:.1f} {x2 - 10:.1f} {y2:.1f}'
                f' {x2:.1f} {y2:.1f}" fill="none" stroke="#8aa0b4" stroke-width="0.8"/>'
            )


def _bar(row: _Row, name: str, left: float, scale: float, y: int) -> Iterator[str]:
    each = row.report
    base = y + _ROW / 2 + 4
    colour = _COLOURS[each.state]
    # SVG does not draw leading spaces.
    indent = 12 + _CHARACTER * (len(name) - len(name.lstrip(" ")))
    yield f'<text x="{indent:.1f}" y="{base:.1f}" fill="#222222">{_escape(name.strip())}</text>'
    why = each.failure.error if each.failure is not None else each.reason
    tip = f"{each.name}: {each.state}{f' ({why})' if why else ''}"
    if row.start is None:
        yield (
            f'<text x="{left + 4:.1f}" y="{base:.1f}" fill="{colour}" font-style="italic">'
            f"<title>{_escape(tip)}</title>"
            f"{_escape(_truncate(f'{each.state}: {why}', 2 * _MAX_NAME_LENGTH))}</text>"
        )
        return
    x, width = left + row.start * scale, max(each.seconds * scale, 2.0)
    outline = ' fill-opacity="0.35"' if isinstance(each.report, BatchReport) else ""
    yield (
        f'<rect x="{x:.1f}" y="{y + (_ROW - _BAR) / 2:.1f}" width="{width:.1f}" height="{_BAR}"'
        f' rx="2" fill="{colour}" stroke="{colour}"{outline}><title>{_escape(tip)}</title></rect>'
    )
    if row.queued is not None:  # before the bar, or, for a task that waited for files first, on it
        yield (
            f'<rect x="{left + row.queued * scale:.1f}" y="{y + (_ROW - _BAR) / 2 + 4:.1f}"'
            f' width="{each.queued * scale:.1f}" height="{_BAR - 8}" fill="{_QUEUED}"/>'
        )
    duration = format_seconds(each.seconds)
    label = duration if each.state == "succeeded" else f"{duration} {each.state}"
    yield f'<text x="{x + width + 5:.1f}" y="{base:.1f}" fill="{colour}">{label}</text>'


def format_seconds(seconds: float) -> str:
    """Format a duration, for example 0.25 as ``0.25 s``, 75 as ``1:15``, 3700 as ``1:01:40``."""
    if seconds < 60:  # noqa: PLR2004  # a minute
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _truncate(name: str, length: int = _MAX_NAME_LENGTH) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


def _escape(text: str) -> str:
    """Escape text for XML, and replace control characters, which XML does not allow."""
    return escape("".join(each if each.isprintable() else "?" for each in text))
