"""Tells the code above botocore what happens to a request below it.

botocore lies between the two, and passes no arguments on. So these are context variables:
:func:`observing_send` records whether a request may have reached the server, and
:class:`stale_detection` whether a request failed on a dead idle connection. After a load balancer
restarts, or a firewall drops a connection, an idle connection looks open, and is reset when it is
used. The pool then closes its other idle connections to this origin, and the request is sent again
at once, if this is safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Protocol, Self


class SendObserver(Protocol):
    """A callback that records whether a request may have reached the server."""

    def __call__(self, *, reached: bool) -> None:
        """Record a change: True if the request may have reached the server from now on."""


_observer: ContextVar[SendObserver | None] = ContextVar("aiohaul_send_observer", default=None)


@contextmanager
def observing_send(observer: SendObserver) -> Iterator[None]:
    """Report to ``observer`` whether the only request of this block may have reached the server.

    ``reached`` is True at first, which is the safe assumption. It is False while the request waits
    for a connection, and True again when the request has a connection.
    """
    observer(reached=True)
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


class report_reached:  # noqa: N801  # a context manager, named as such are
    """Reports that a request waits for a connection, and then that it has one.

    Only the first request of :func:`observing_send` is reported, because a second one belongs to
    another attempt. A block that fails leaves the report at False: nothing was sent.
    """

    __slots__ = ("_observer",)

    def __enter__(self) -> Callable[[], None]:
        observer = self._observer = _observer.get()
        if observer is None:
            return _nothing
        _observer.set(None)
        observer(reached=False)
        return self._reached

    def _reached(self) -> None:
        if self._observer is not None:
            self._observer(reached=True)

    def __exit__(self, *raised: object) -> None:
        self._observer = None


def _nothing() -> None:
    pass


class stale_detection:  # noqa: N801  # a context manager, named as such are
    """Records whether a request of this block failed on a dead idle connection.

    Attributes:
        stale: True if a request failed on a dead idle connection.
    """

    __slots__ = ("_outer", "stale")

    def __init__(self) -> None:
        self.stale = False

    def __enter__(self) -> Self:
        # Not the Token of set(): it would keep the context, and with it connections, in memory.
        self._outer: stale_detection | None = _detection.get()
        _detection.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _detection.set(self._outer)


_detection: ContextVar[stale_detection | None] = ContextVar("aiohaul_stale", default=None)


def report_stale() -> None:
    """Report that a request failed on an idle connection before any byte of a response."""
    detection = _detection.get()
    if detection is not None:
        detection.stale = True
