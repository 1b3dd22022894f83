"""Records runs and copies, with log lines, spans and metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from aiohaul.errors import HaulError
from aiohaul.logs import RUNS, current_run, log_event, run_scope
from aiohaul.telemetry.otel import (
    SpanAttributes,
    is_active,
    mark_failed,
    meters,
    span_scope,
    tracer,
)


class TracedDestination(Protocol):
    """The part of a destination that traces use."""

    @property
    def name(self) -> str:
        """The name of the destination in reports."""


class CopyTracer:
    """Traces the copies of one transfer.

    If no provider of OpenTelemetry is set and the log level excludes copies, only failures are
    recorded.
    """

    def __init__(self) -> None:
        # Outside of a run the application logs its own lines, so these have the level DEBUG.
        self._level = logging.INFO if current_run() else logging.DEBUG
        self._logs = RUNS.isEnabledFor(self._level)
        self._spans = is_active()
        self._started_at: dict[tuple[str, int], int] = {}

    async def trace_read(
        self,
        source: str,
        destinations: Sequence[TracedDestination],
        job: Callable[[], Awaitable[None]],
    ) -> None:
        """Run ``job``, and make a span for the read of one source.

        Args:
            source: URI or path of the source.
            destinations: the destinations that share the read.
            job: copies the source to the destinations.
        """
        if not self._spans and not self._logs:
            return await job()
        now = time.time_ns()
        for destination in destinations:
            self._started_at[source, id(destination)] = now
        try:
            if not self._spans:
                return await job()
            names = [destination.name for destination in destinations]
            attributes = {"aiohaul.source": source, "aiohaul.destinations": names}
            with span_scope("aiohaul.read", attributes):
                return await job()
        finally:
            for destination in destinations:
                self._started_at.pop((source, id(destination)), None)

    def record_copy(
        self,
        source: str,
        destination: TracedDestination,
        target: str,
        size_and_attempt: tuple[int, int],
        error: HaulError | None,
    ) -> None:
        """Log, trace and count the result of one copy.

        Args:
            source: URI or path of the source.
            destination: the destination.
            target: URI or path of the copy.
            size_and_attempt: the size of the object in bytes, and the number of the attempt.
            error: the error of the copy; None if the copy succeeded.
        """
        if not self._spans and not self._logs and error is None:
            return
        size, attempt = size_and_attempt
        now = time.time_ns()
        started = self._started_at.get((source, id(destination)), now)
        seconds = (now - started) / 1e9
        problem = None if error is None else type(error).__name__
        fields: dict[str, str | int | float] = {
            "source": source,
            "target": target,
            "destination": destination.name,
            "attempt": attempt,
            "seconds": round(seconds, 6),
            "bytes": size,
        }
        if self._spans:
            _record_telemetry(fields, size, (started, now), problem)
        if error is not None:
            level = logging.WARNING if self._level == logging.INFO else logging.DEBUG
            log_event(
                RUNS,
                level,
                "copying %s to %s failed: %s",
                source,
                target,
                error,
                error=problem,
                **fields,
            )
        elif self._logs:
            text = "copied %s to %s: %d bytes, %.3f s"
            log_event(RUNS, self._level, text, source, target, size, seconds, **fields)


def _record_telemetry(
    fields: SpanAttributes, size: int, times: tuple[int, int], problem: str | None
) -> None:
    destination = {"aiohaul.destination": fields["destination"]}
    outcome = {**destination, "aiohaul.outcome": "copied" if problem is None else "failed"}
    meters().objects.add(1, outcome)
    if problem is None:
        meters().bytes.add(size, destination)
    # The span is made when the copy ends, with an earlier start time, because one read has many
    # destinations.
    span = tracer().start_span(
        "aiohaul.copy",
        start_time=times[0],
        attributes={
            **outcome,
            "aiohaul.source": fields["source"],
            "aiohaul.target": fields["target"],
            "aiohaul.bytes": size,
            "aiohaul.attempt": fields["attempt"],
        },
    )
    if problem is not None:
        mark_failed(span, problem)
    span.end(end_time=times[1])


@contextmanager
def traced_run(kind: str, run_id: str | None = None) -> Iterator[str]:
    """Trace a run. Set the id of the run, log its start and end, and make a span.

    Yields the id of the run.

    Args:
        kind: the kind of the run, such as ``transfer``.
        run_id: the id of the run. None uses the id of the outer run, or makes a new id.
    """
    with run_scope(run_id) as current:
        if not is_active():
            with _logged_run(kind):
                yield current
            return
        attributes = {"aiohaul.run_id": current, "aiohaul.kind": kind}
        with span_scope("aiohaul.run", attributes), _logged_run(kind):
            yield current


@contextmanager
def _logged_run(kind: str) -> Iterator[None]:
    started = time.perf_counter()
    log_event(RUNS, logging.INFO, "the %s started", kind, kind=kind)
    try:
        yield
    except Exception as error:
        seconds = time.perf_counter() - started
        name = type(error).__name__
        fields = {"kind": kind, "seconds": round(seconds, 3), "error": name}
        # The message of an error from another library may contain secrets.
        reason = error if isinstance(error, HaulError) else name
        log_event(
            RUNS, logging.ERROR, "the %s failed after %.1f s: %s", kind, seconds, reason, **fields
        )
        raise
    except BaseException:
        seconds = time.perf_counter() - started
        fields = {"kind": kind, "seconds": round(seconds, 3), "error": "cancelled"}
        log_event(
            RUNS, logging.WARNING, "the %s was cancelled after %.1f s", kind, seconds, **fields
        )
        raise
    seconds = time.perf_counter() - started
    fields = {"kind": kind, "seconds": round(seconds, 3)}
    log_event(RUNS, logging.INFO, "the %s finished after %.1f s", kind, seconds, **fields)
