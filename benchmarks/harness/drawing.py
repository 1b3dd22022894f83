"""Plots. Only this imports matplotlib, and only when all is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness.results import Result, Table, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS, THEIRS = "#2a6f97", "#b7b7b7"
#: For lines: aiohaul first.
COLORS = (OURS, "#bc6c25", "#6a994e", "#9d4edd", "#444444")
_DPI = 110


def canvas(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[list[Axes]]]:
    """A figure of so many rows and columns."""
    import matplotlib as mpl  # noqa: PLC0415  # large, and only for drawing

    mpl.use("Agg")
    # The same figures make the same file; text stays text.
    mpl.rcParams.update({"svg.hashsalt": "aiohaul", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot as plt  # noqa: PLC0415  # after the choice of what draws

    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    return figure, [list(row) for row in axes]


def save(figure: Figure, path: Path) -> None:
    """Write it without a date."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {}
    figure.savefig(path, dpi=_DPI, metadata=metadata)


def bars(columns: Sequence[str], *, log: bool = False) -> Any:
    """What draws a result as bars: a row for each table, a column for each of these columns."""

    def draw(result: Result, path: Path) -> None:
        tables = [each for each in result.tables if set(columns) & set(each.columns())]
        height = sum(0.9 + 0.27 * len(each.rows) for each in tables)
        figure, axes = canvas(len(tables), len(columns), (4 + 2.9 * len(columns), height))
        for row, table in zip(axes, tables, strict=True):
            for axis, column in zip(row, columns, strict=True):
                _bars(axis, table, column, log=log)
                axis.set_title(f"{table.title}: {column}" if axis is row[0] else column, fontsize=9)
                if axis is not row[0]:
                    axis.set_yticklabels([])
        save(figure, path)

    return draw


def _bars(axis: Axes, table: Table, column: str, *, log: bool) -> None:
    names = list(table.rows)
    values = [row.get(column, 0.0) for row in table.rows.values()]
    colors = [OURS if name.startswith("aiohaul") else THEIRS for name in names]
    drawn = axis.barh(names, values, color=colors)
    labels = [number(row[column]) if column in row else "-" for row in table.rows.values()]
    axis.bar_label(drawn, labels=labels, padding=3, fontsize=8)
    some = [value for value in values if value] or [1.0]
    if log:
        axis.set_xscale("log")
        axis.set_xlim(min(some) / 2, max(some) * 4)
    else:
        axis.set_xlim(0, max(some) * 1.25)
    axis.invert_yaxis()
    axis.spines[["top", "right"]].set_visible(False)


def lines(axis: Axes, curves: Mapping[str, Mapping[float, float]], x: str, y: str) -> None:
    """Curves on logarithmic scales, and what would be in proportion beside them, dotted."""
    for color, (name, points) in zip(COLORS * 3, curves.items(), strict=False):
        if not points:
            continue
        style = "o-" if name.startswith("aiohaul") else "s--"
        axis.plot(list(points), list(points.values()), style, color=color, label=name, markersize=4)
    axis.set(xscale="log", yscale="log", xlabel=x, title=y)
    first = next(iter(curves.values()))
    if len(first) > 1:
        end, value = max(first.items())
        start = min(first)
        axis.plot([start, end], [value * start / end, value], ":", color="black", lw=1,
                  label="in proportion")  # fmt: skip
        axis.set_ylim(bottom=min(min(each.values()) for each in curves.values() if each) / 2)
    axis.grid(visible=True, alpha=0.3)
    axis.legend(fontsize=7)
