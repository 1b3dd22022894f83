"""Structured logging: run ids, fields of log records, and a JSON formatter.

aiohaul logs to the standard library's ``logging``, with loggers below ``aiohaul``. Two loggers
print nothing unless the application adds a handler:

- ``aiohaul.run`` logs the start and end of a run and each copied object (INFO), each object that
  failed (WARNING), and a run that failed (ERROR).
- ``aiohaul.requests`` logs each request (DEBUG), and the reason for each retry (INFO).

The log records of these two loggers have fields, such as ``run_id`` and ``seconds``, which
:class:`JsonFormatter` writes as JSON.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from uuid import uuid4

__all__ = ["JsonFormatter"]  # the public name; all others are internal

#: The type of ``logging.LogRecord.exc_info``.
_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

RUNS = logging.getLogger("aiohaul.run")
REQUESTS = logging.getLogger("aiohaul.requests")
for _logger in (RUNS, REQUESTS):
    # Without a handler, logging would print warnings and errors to standard error.
    _logger.addHandler(logging.NullHandler())

#: The fields of log records that JsonFormatter writes.
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
    """Return the id of the current run, or None if no run is active."""
    return _run_id.get()


@contextmanager
def run_scope(run_id: str | None = None) -> Iterator[str]:
    """Set the id of the current run for the block.

    Args:
        run_id: the id; None keeps the id of the current run, or makes an id if no run is active.
    """
    current = run_id or _run_id.get() or uuid4().hex[:12]
    token = _run_id.set(current)
    try:
        yield current
    finally:
        _run_id.reset(token)


def log_event(
    logger: logging.Logger, level: int, message: str, *values: object, **fields: object
) -> None:
    """Log a line with fields if the level is enabled.

    Args:
        logger: the logger.
        level: a level of ``logging``.
        message: the message, with ``%s`` placeholders.
        values: the values of the placeholders.
        fields: the fields of the record, with names from :data:`FIELDS`.
    """
    if logger.isEnabledFor(level):
        shown = (each if isinstance(each, int | float) else one_line(str(each)) for each in values)
        logger.log(level, message, *shown, extra={"run_id": _run_id.get(), **fields})


def one_line(text: str) -> str:
    """Return the text with line breaks and control characters escaped; a key may contain them."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


class TextFormatter(logging.Formatter):
    """Formats a record as one line of text, with more lines only for a traceback."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """Return the line of text, with control characters escaped."""
        return one_line(super().formatMessage(record))

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802  # as above
        """Return the traceback, indented, with control characters escaped."""
        lines = super().formatException(ei).split("\n")
        return "\n".join(f"    {one_line(line)}" for line in lines)


class JsonFormatter(logging.Formatter):
    """A logging formatter that formats a record as one line of JSON.

    The line has the keys ``time`` (ISO 8601, in UTC), ``level``, ``logger`` and ``message``, the
    fields of the record, such as ``run_id``, and ``exception`` (a traceback) if there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        line: dict[str, object] = {
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


def configure_logging(level: str, *, as_json: bool) -> None:
    """Print log lines to standard error. Only for the main function of a program.

    Args:
        level: the lowest level of aiohaul's lines, such as ``info``; other libraries log warnings.
        as_json: True formats the lines as JSON.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("aiohaul").setLevel(level.upper())


#: The functions that receive the warnings of the current context.
_warning_listeners: ContextVar[tuple[Callable[[logging.LogRecord], None], ...]] = ContextVar(
    "aiohaul_warning_listeners", default=()
)


class _ContextHandler(logging.Handler):
    """Passes each warning of this library to the listeners of the context that logs the warning."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name in (RUNS.name, REQUESTS.name):
            return  # their lines repeat errors and events that the caller receives
        for listener in _warning_listeners.get():
            listener(record)
        # Because of this handler, logging does not use lastResort even without other handlers.
        if logging.lastResort is not None and not _has_another_handler(record.name, self):
            logging.lastResort.handle(record)


_context_handler = _ContextHandler(logging.WARNING)


def _has_another_handler(name: str, handler: logging.Handler) -> bool:
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        if any(each is not handler for each in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


@contextmanager
def listen_to_warnings(listener: Callable[[logging.LogRecord], None]) -> Iterator[None]:
    """Call a listener with each warning and error that this library logs during the block.

    Args:
        listener: called with the record, in the thread that logs.
    """
    logging.getLogger("aiohaul").addHandler(_context_handler)  # a second time changes nothing
    token = _warning_listeners.set((*_warning_listeners.get(), listener))
    try:
        yield
    finally:
        _warning_listeners.reset(token)


@contextmanager
def warnings_to(log: Callable[[str, str], object]) -> Iterator[None]:
    """Copy the warnings that this library logs during the block to the log of a host program.

    Args:
        log: a logging method, such as ``logger.warning``.
    """

    def repeat(record: logging.LogRecord) -> None:
        log("%s", one_line(record.getMessage()))

    with listen_to_warnings(repeat):
        yield


@contextmanager
def report_retries(callback: Callable[[Exception], None]) -> Iterator[None]:
    """Report each retry of a request during the block. Only for the main function of a program.

    Args:
        callback: called before each retry, with the error of the failed attempt.
    """

    class RetryHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if getattr(record, "pause", None) is None or not isinstance(record.args, tuple):
                return
            if isinstance(error := record.args[0], Exception):
                callback(error)

    handler, level, propagate = RetryHandler(logging.INFO), REQUESTS.level, REQUESTS.propagate
    REQUESTS.addHandler(handler)
    if not REQUESTS.isEnabledFor(logging.INFO):  # other handlers must not receive these lines
        REQUESTS.setLevel(logging.INFO)
        REQUESTS.propagate = False
    try:
        yield
    finally:
        REQUESTS.removeHandler(handler)
        REQUESTS.setLevel(level)
        REQUESTS.propagate = propagate
