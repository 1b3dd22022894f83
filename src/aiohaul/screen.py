"""What all displays share: lines that come at once, what is drawn anew, and which of the two."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self, TextIO, TypeVar

from aiohaul.progress import Event

T = TypeVar("T")
U = TypeVar("U")


class Display(Protocol):
    """Shows events as they come. A context manager."""

    def __enter__(self) -> Self:
        """Start showing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop showing."""

    def __call__(self, event: Event) -> None:
        """Show an event."""


class Lined:
    """A display of lines of text: for logs, and where rich is not installed.

    Args:
        stream: where they go.
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
        # Whoever reads a log or a pipe wants to know at once.
        self._stream.write(f"{line}\n")
        self._stream.flush()


class _Picture(Protocol):
    """What rich draws anew, in a thread of its own: what it shows is replaced, never changed."""

    def start(self) -> None:
        """Start drawing."""

    def refresh(self) -> None:
        """Draw it now."""

    def stop(self) -> None:
        """Draw it a last time, and leave it there."""


class Drawn:
    """A display that is drawn anew while it is shown: for people at a terminal. Needs rich."""

    _picture: _Picture

    def __enter__(self) -> Self:
        self._picture.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._picture.stop()


def suited(stream: TextIO, drawn: Callable[[], T], lined: Callable[[], U]) -> T | U:
    """What is drawn, if the stream is a terminal and rich is installed, else lines."""
    if stream.isatty():
        try:
            return drawn()
        except ModuleNotFoundError:
            pass
    return lined()
