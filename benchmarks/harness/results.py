"""What a benchmark has found: tables with ratios, sentences that the figures write, profiles."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.harness.processes import Figures

#: By how much more of something is more than chance.
_NOISE = 1.05


@dataclass(frozen=True)
class Table:
    """Medians, by way and column. The first way is aiohaul; the others' ratios are to it.

    Attributes:
        title: what was done.
        rows: the figures of each way; one that has no such figure shows a dash.
        plain: columns of which no ratio is told.
        compared: columns in which less is better, and by which the ways are judged.
        aside: rows that are no peers: they are shown, and nobody is judged by them.
    """

    title: str
    rows: Mapping[str, Figures]
    plain: Sequence[str] = ()
    compared: Sequence[str] = ()
    aside: Sequence[str] = ()

    def columns(self) -> list[str]:
        """All columns, in order."""
        return list(dict.fromkeys(column for row in self.rows.values() for column in row))

    def text(self) -> str:
        """The table as Markdown that can be read as it is."""
        columns = self.columns()
        lines = [[self.title, *columns]]
        lines += [
            [name, *(self._cell(row, column) for column in columns)]
            for name, row in self.rows.items()
        ]
        widths = [max(len(line[at]) for line in lines) for at in range(len(columns) + 1)]
        lines.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
        return "\n".join(
            "| "
            + " | ".join(
                cell.rjust(width) if at else cell.ljust(width)
                for at, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            + " |"
            for line in lines
        )

    def _cell(self, row: Figures, column: str) -> str:
        if column not in row:
            return "-"
        value, first = row[column], next(iter(self.rows.values())).get(column)
        if column in self.plain or not first:
            return number(value)
        return f"{number(value)} ({value / first:.2f}x)"

    def losses(self) -> list[str]:
        """Where a peer took less, in so many words."""
        name, ours = next(iter(self.rows.items()))
        found = []
        for peer, row in self.rows.items():
            worse = [
                f"{column} {number(ours[column])} against {number(row[column])}"
                f" ({ours[column] / row[column]:.1f}x)"
                for column in self.compared
                if row.get(column) and ours[column] > row[column] * _NOISE
            ]
            if worse and peer not in self.aside and peer != name:
                found.append(f"Loss to {peer}, {self.title}: {'; '.join(worse)}.")
        return found


@dataclass(frozen=True)
class Result:
    """What a benchmark has found.

    Attributes:
        question: what was asked.
        how: what was measured, and by which means.
        tables: what was found.
        sentences: which aims were reached and which were not, and why.
        profiles: where aiohaul's CPU went, by what it did.
        plot: the name of the file that shows it.
    """

    question: str
    how: str
    tables: list[Table]
    sentences: list[str] = field(default_factory=list)
    profiles: dict[str, str] = field(default_factory=dict)
    plot: str = ""

    def text(self, plots: str = "results") -> str:
        """All of it, as Markdown."""
        parts = [f"## {self.question}", self.how, *(each.text() for each in self.tables)]
        if self.sentences:
            parts.append("\n".join(f"- {each}" for each in self.sentences))
        parts += [f"{name}\n\n```\n{shares}\n```" for name, shares in self.profiles.items()]
        if self.plot:
            parts.append(f"![{self.question}]({plots}/{self.plot})")
        return "\n\n".join(parts)

    def stored(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))


def restored(text: str) -> Result:
    """What :meth:`Result.stored` stored."""
    values = json.loads(text)
    return Result(**{**values, "tables": [Table(**each) for each in values["tables"]]})


def number(value: float) -> str:
    """Three digits that count, and thousands apart."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return (
        f"{value:.1f}"
        if abs(value) >= 10
        else f"{value:.2f}"
        if abs(value) >= 0.1
        else f"{value:.3f}"
    )


def aim(what: str, figure: float, limit: float) -> str:
    """Whether an aim was reached."""
    word = "Reached" if figure < limit else "Missed"
    return f"{word}: {what}: {number(figure)} against {number(limit)}."


def parser(doc: str, *, rounds: int) -> argparse.ArgumentParser:
    """The options that every benchmark has; from here on SIGTERM ends its servers too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--rounds", type=int, default=rounds, help="that count; medians are shown")
    made.add_argument("--quick", action="store_true", help="small, to see that all of it works")
    made.add_argument("--profile", action="store_true", help="show where aiohaul's CPU goes")
    made.add_argument("--plot", type=Path, help="draw into this file, SVG or PNG by its name")
    made.add_argument("--result", type=Path, help="write everything to this file, as JSON")
    return made


def show(result: Result, chosen: argparse.Namespace, draw: Callable[[Result, Path], None]) -> None:
    """Print what was found, draw it, and store it where that is wanted."""
    print(result.text())
    if chosen.plot:
        draw(result, chosen.plot)
    if chosen.result:
        chosen.result.write_text(result.stored())
