"""Log lines that a machine can read too: the run that they belong to, their fields, JSON.

Everything is logged with the standard library, under ``aiohaul``. What was done to what goes to
two loggers that stay silent unless somebody listens:

- ``aiohaul.run``: the begin and the end of a run, and every object at every destination (INFO;
  WARNING for one that failed, ERROR for a run that did);
- ``aiohaul.requests``: every request (DEBUG), and why one is sent again (INFO).

Every such line can be read by itself, and carries what it says as fields of its record.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

__all__ = ["JsonFormatter"]  # what an application uses; the rest is for the other rooms

RUNS = logging.getLogger("aiohaul.run")
REQUESTS = logging.getLogger("aiohaul.requests")
for _logger in (RUNS, REQUESTS):
    # Nobody who has not asked for logs gets those lines on their screen.
    _logger.addHandler(logging.NullHandler())

#: The fields that lines may carry: nothing else of a record gets into JSON.
FIELDS = (
    "run_id",
    "kind",
    "source",
    "target",
    "destination",
    "operation",
    "attempt",
    "pause",
    "seconds",
    "bytes",
    "objects",
    "status",
    "error",
)

_run_id: ContextVar[str | None] = ContextVar("aiohaul_run_id", default=None)


def current_run() -> str | None:
    """The id of the run that this code belongs to; None outside of runs."""
    return _run_id.get()


@contextmanager
def run_scope(run_id: str | None = None) -> Iterator[str]:
    """Give what happens herein an id: this one, or that of the run around, or a new one."""
    chosen = run_id or _run_id.get() or uuid4().hex[:12]
    token = _run_id.set(chosen)
    try:
        yield chosen
    finally:
        _run_id.reset(token)


def say(logger: logging.Logger, level: int, message: str, *values: Any, **fields: Any) -> None:
    """Log a line with fields, unless nobody listens.

    Args:
        logger: where.
        level: one of ``logging``'s.
        message: with placeholders in the style of ``logging``.
        values: for these.
        fields: some of :data:`FIELDS`.
    """
    if logger.isEnabledFor(level):
        shown = (each if isinstance(each, int | float) else one_line(str(each)) for each in values)
        logger.log(level, message, *shown, extra={"run_id": _run_id.get(), **fields})


def one_line(text: str) -> str:
    """The text without what moves a terminal's cursor or begins a line: a key may hold it all."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


class TextFormatter(logging.Formatter):
    """Makes one line of text of every record, and more only of a traceback."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """The line, which a key can neither end nor change."""
        return one_line(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802  # as above
        """The traceback, indented: it ends in what an error says, and that may name a key."""
        lines = super().formatException(ei).split("\n")
        return "\n".join(f"    {one_line(line)}" for line in lines)


class JsonFormatter(logging.Formatter):
    """Makes one line of JSON of every record: time (UTC), level, logger, message and fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        own = record.name == "aiohaul" or record.name.startswith("aiohaul.")
        found = {name: getattr(record, name, None) for name in FIELDS} if own else {}
        found["run_id"] = found.get("run_id") or _run_id.get()
        line |= {name: value for name, value in found.items() if value is not None}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def listen(level: str, *, as_json: bool) -> None:
    """Write log lines of this level and above to standard error. For programs, not libraries."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("aiohaul").setLevel(level.upper())


@contextmanager
def retries_heard(hear: Callable[[Any], None]) -> Iterator[None]:
    """Tell why requests are sent again, as it happens. For programs, not libraries.

    Args:
        hear: called with the error of each attempt that another one follows.
    """

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if getattr(record, "pause", None) is not None and isinstance(record.args, tuple):
                hear(record.args[0])

    handler, level, told_on = Heard(logging.INFO), REQUESTS.level, REQUESTS.propagate
    REQUESTS.addHandler(handler)
    if not REQUESTS.isEnabledFor(logging.INFO):  # then nobody else has asked for these lines
        REQUESTS.setLevel(logging.INFO)
        REQUESTS.propagate = False
    try:
        yield
    finally:
        REQUESTS.removeHandler(handler)
        REQUESTS.setLevel(level)
        REQUESTS.propagate = told_on
