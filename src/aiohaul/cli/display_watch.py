"""Shows the changes of a watch as a live table, lines of text, or lines of JSON."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Self, TextIO

from aiohaul.cli.display import format_bytes
from aiohaul.cli.screen import LineDisplay, LiveDisplay, choose_display
from aiohaul.logs import one_line
from aiohaul.progress import Event, WatchPolled
from aiohaul.s3.watching.changes import Change

if TYPE_CHECKING:
    from rich.table import Table

#: Maximum number of changes in the table. The terminal shows the latest changes that fit.
_ROWS = 100


class ChangeLines(LineDisplay):
    """Writes changes as lines of text, for logs and for terminals without rich.

    Use it as a context manager, and call it with each change. :meth:`on_progress` handles the
    events of the watch.

    Args:
        where: the directory that is watched, for messages.
        stream: the stream for changes; None is standard output. Messages are written to standard
            error.

    Attributes:
        counts: the number of changes of each kind.
        failure: the error of the last poll; None if the last poll succeeded.
        polled: True after the first poll has ended.
    """

    def __init__(self, where: str, stream: TextIO | None = None) -> None:
        self.where = where
        self.counts: Counter[str] = Counter()
        self.failure: Exception | None = None
        self.polled = False
        super().__init__(stream if stream is not None else sys.stdout)
        self._messages: set[str] = set()

    def __enter__(self) -> Self:
        self._show_message(f"watching {self.where}")
        return self

    def __call__(self, change: Change) -> None:
        """Count a change, and show it."""
        self.failure = None
        self.counts[change.kind] += 1
        self.show(change)

    def show(self, change: Change) -> None:
        """Show a change without counting it."""
        self._write("  ".join(_row(change)))

    def on_progress(self, event: Event) -> None:
        """Show the error of a failed poll, once for each text of an error.

        The watch continues after such an error.
        """
        if isinstance(event, WatchPolled):
            self.polled = True
            self.failure = event.failure
            if self.failure is not None:
                self._show_message(f"listing {self.where} failed, trying again: {self.failure}")

    def on_retry(self, error: Exception) -> None:
        """Show the error of a request of the first poll that the library retries.

        The retries explain why the first poll takes long. Errors of later polls are shown by
        :meth:`on_progress`.
        """
        if not self.polled:
            self.failure = error
            self._show_message(f"listing {self.where} failed, trying again: {error}")

    def _show_message(self, text: str) -> None:
        if text not in self._messages:
            self._messages.add(text)
            sys.stderr.write(f"{one_line(text)}\n")


class ChangeJsonLines(ChangeLines):
    """Writes each change as one line of JSON, for other programs to read."""

    def show(self, change: Change) -> None:
        """Show a change without counting it."""
        self._write(json.dumps(change.as_dict()))


class ChangeTable(LiveDisplay, ChangeLines):
    """Shows the latest changes in a live table, with the last change on top. Needs rich."""

    def __init__(self, where: str, stream: TextIO | None = None) -> None:
        super().__init__(where, stream)
        from rich.console import Console  # noqa: PLC0415  # rich comes with aiohaul[cli]
        from rich.live import Live  # noqa: PLC0415

        # Replace this tuple, and never mutate it, because rich draws in its own thread.
        self._rows: tuple[tuple[str, ...], ...] = ()
        console = Console(file=self._stream)
        self._view = Live(get_renderable=self._table, console=console, redirect_stderr=False)

    def show(self, change: Change) -> None:
        """Show a change without counting it."""
        self._rows = (_row(change), *self._rows[: _ROWS - 1])

    def _show_message(self, text: str) -> None:
        """Show nothing: the caption of the table has the message."""

    def _table(self) -> Table:
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        # Text instead of str, because rich reads brackets in a str as markup.
        counts = ", ".join(f"{count} {kind}" for kind, count in dict(self.counts).items())
        caption = Text(counts or "nothing yet")
        if self.failure is not None:
            problem = one_line(str(self.failure))
            caption.append(f"\npolling failed, trying again: {problem}", style="red")
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


def change_display(where: str, *, as_json: bool) -> ChangeLines:
    """Return the display of a watch.

    Args:
        where: the directory that is watched, for messages.
        as_json: True returns lines of JSON. False returns a live table if standard output is a
            terminal and rich is installed, else lines of text.
    """
    if as_json:
        return ChangeJsonLines(where)
    return choose_display(sys.stdout, lambda: ChangeTable(where), lambda: ChangeLines(where))


def _row(change: Change) -> tuple[str, str, str, str]:
    each = change.object
    modified = f"{each.last_modified:%Y-%m-%d %H:%M:%S}"
    size = f"{format_bytes(each.size):>10}"
    return modified, f"{change.kind:8}", size, one_line(each.uri)
