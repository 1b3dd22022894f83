"""The base classes of the displays, which write lines of text or draw a live view with rich."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self, TextIO, TypeVar

from aiohaul.progress import Event

T = TypeVar("T")
U = TypeVar("U")


class Display(Protocol):
    """A context manager that shows the events with which it is called."""

    def __enter__(self) -> Self:
        """Open the display."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the display."""

    def __call__(self, event: Event) -> None:
        """Show an event."""


class LineDisplay:
    """Writes lines of text, for logs, for pipes, and for terminals without rich.

    Args:
        stream: the stream to write to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.flush()

    def _write(self, line: str) -> None:
        # Flush, so that readers of a log or pipe see each line at once.
        self._stream.write(f"{line}\n")
        self._stream.flush()


class _LiveView(Protocol):
    """A live view of rich.

    rich draws the view in its own thread, so a display replaces the data and never mutates them.
    """

    def start(self) -> None:
        """Start to draw."""

    def refresh(self) -> None:
        """Draw now."""

    def stop(self) -> None:
        """Draw the last state, and stop."""


class LiveDisplay:
    """Draws a live view on a terminal. Needs rich."""

    _view: _LiveView

    def __enter__(self) -> Self:
        self._view.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._view.stop()


def choose_display(stream: TextIO, live: Callable[[], T], lines: Callable[[], U]) -> T | U:
    """Return the live display if the stream is a terminal and rich is installed, else lines.

    Args:
        stream: the stream that is checked.
        live: makes the live display; raises ModuleNotFoundError without rich.
        lines: makes the display of lines.
    """
    if stream.isatty():
        try:
            return live()
        except ModuleNotFoundError:
            pass
    return lines()
