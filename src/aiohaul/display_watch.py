"""What the command line shows of a watch: a live table, lines, or JSON."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Self, TextIO

from aiohaul.display import bytes_for_people
from aiohaul.logs import one_line
from aiohaul.progress import Event, Watching
from aiohaul.s3.watching.changes import Change
from aiohaul.screen import Drawn, Lined, suited

if TYPE_CHECKING:
    from rich.table import Table

#: Changes that a table keeps; how many of them are seen depends on the terminal.
_ROWS = 100


class Changes(Lined):
    """Shows changes as lines of text: for logs, and where rich is not installed.

    A context manager, called for each change. A watch's ``on_progress`` goes to :meth:`hear`.

    Args:
        where: what is watched.
        stream: where the changes go; what else is to be said goes to standard error.

    Attributes:
        kinds: how many changes of each kind were shown.
        failure: why the last look failed; None if it did not.
        looked: whether a look has ended that was told of.
    """

    def __init__(self, where: str, stream: TextIO | None = None) -> None:
        self.where = where
        self.kinds: Counter[str] = Counter()
        self.failure: Exception | None = None
        self.looked = False
        super().__init__(stream if stream is not None else sys.stdout)
        self._said: set[str] = set()

    def __enter__(self) -> Self:
        self._say(f"watching {self.where}")
        return self

    def __call__(self, change: Change) -> None:
        """Show a change."""
        self.failure = None
        self.kinds[change.kind] += 1
        self.show(change)

    def show(self, change: Change) -> None:
        """Show a change that was counted."""
        self._write("  ".join(_row(change)))

    def hear(self, event: Event) -> None:
        """Say once for each reason why a look failed: the watch goes on, and shows nothing."""
        if isinstance(event, Watching):
            self.looked = True
            self.failure = event.failure
            if self.failure is not None:
                self._say(f"cannot look into {self.where}, and goes on trying: {self.failure}")

    def hear_retry(self, error: Exception) -> None:
        """Say why the first look takes so long: its request is sent again. Later ones say it."""
        if not self.looked:
            self.failure = error
            self._say(f"cannot look into {self.where}, and goes on trying: {error}")

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            sys.stderr.write(f"{one_line(text)}\n")


class JsonLines(Changes):
    """Shows each change as one line of JSON: for programs."""

    def show(self, change: Change) -> None:
        """Show a change that was counted."""
        self._write(json.dumps(change.as_dict()))


class ChangeTable(Drawn, Changes):
    """Shows the latest changes in a table, the last one on top: for people. Needs rich."""

    def __init__(self, where: str, stream: TextIO | None = None) -> None:
        super().__init__(where, stream)
        from rich.console import Console  # noqa: PLC0415  # rich comes with aiohaul[cli]
        from rich.live import Live  # noqa: PLC0415

        # Replaced, never changed: rich draws in a thread of its own.
        self._rows: tuple[tuple[str, ...], ...] = ()
        console = Console(file=self._stream)
        self._picture = Live(get_renderable=self._table, console=console, redirect_stderr=False)

    def show(self, change: Change) -> None:
        """Show a change that was counted."""
        self._rows = (_row(change), *self._rows[: _ROWS - 1])

    def _say(self, text: str) -> None:
        """The table says it."""

    def _table(self) -> Table:
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        # Text, not str: a key may look like rich's markup.
        counts = ", ".join(f"{count} {kind}" for kind, count in dict(self.kinds).items())
        caption = Text(counts or "nothing yet")
        if self.failure is not None:
            problem = one_line(str(self.failure))
            caption.append(f"\ncannot look, and goes on trying: {problem}", style="red")
        title = Text(f"watching {one_line(self.where)}")
        table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
        table.add_column("last modified", no_wrap=True)
        table.add_column("", no_wrap=True)
        table.add_column("size", no_wrap=True, justify="right")
        table.add_column("object", overflow="fold")
        for modified, kind, size, uri in self._rows:
            style = "green" if kind.startswith("appeared") else "yellow"
            table.add_row(modified, Text(kind, style=style), size.strip(), Text(uri))
        return table


def changes_shown(where: str, *, as_json: bool) -> Changes:
    """JSON if it is asked for, a table at a terminal where rich is installed, else lines."""
    if as_json:
        return JsonLines(where)
    return suited(sys.stdout, lambda: ChangeTable(where), lambda: Changes(where))


def _row(change: Change) -> tuple[str, str, str, str]:
    each = change.object
    modified = f"{each.last_modified:%Y-%m-%d %H:%M:%S}"
    size = f"{bytes_for_people(each.size):>10}"
    return modified, f"{change.kind:8}", size, one_line(each.uri)
