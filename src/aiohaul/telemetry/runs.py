"""Runs, and the objects that they bring somewhere, told of."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from aiohaul.errors import HaulError
from aiohaul.logs import RUNS, current_run, run_scope, say
from aiohaul.telemetry.otel import Attributes, active, failed, meters, spanned, tracer


class Place(Protocol):
    """A destination, as far as it is told of."""

    @property
    def name(self) -> str:
        """As reports name it."""


class Copies:
    """Tells of the objects of one transfer; where nobody listens, that costs next to nothing."""

    def __init__(self) -> None:
        # A run speaks for itself; whoever drives the steps of one has lines of their own.
        self._level = logging.INFO if current_run() else logging.DEBUG
        self._logs = RUNS.isEnabledFor(self._level)
        self._traced = active()
        self._begun: dict[tuple[str, int], int] = {}

    async def told(
        self, source: str, places: Sequence[Place], job: Callable[[], Awaitable[None]]
    ) -> None:
        """Do what brings a source to these destinations, with one read for all of them."""
        if not self._traced and not self._logs:
            return await job()
        now = time.time_ns()
        for place in places:
            self._begun[source, id(place)] = now
        try:
            if not self._traced:
                return await job()
            names = [place.name for place in places]
            told = {"aiohaul.source": source, "aiohaul.destinations": names}
            with spanned("aiohaul.read", told):
                return await job()
        finally:
            for place in places:
                self._begun.pop((source, id(place)), None)

    def ended(
        self,
        source: str,
        place: Place,
        target: str,
        size_and_attempt: tuple[int, int],
        error: HaulError | None,
    ) -> None:
        """One source is at one destination, or is not.

        Args:
            source: what.
            place: the destination.
            target: where it is to be.
            size_and_attempt: bytes, and how often the source was brought there.
            error: why it is not there; None if it is.
        """
        if not self._traced and not self._logs and error is None:
            return
        size, attempt = size_and_attempt
        now = time.time_ns()
        begun = self._begun.get((source, id(place)), now)
        seconds = (now - begun) / 1e9
        problem = None if error is None else type(error).__name__
        fields: dict[str, Any] = {
            "source": source,
            "target": target,
            "destination": place.name,
            "attempt": attempt,
            "seconds": round(seconds, 6),
            "bytes": size,
        }
        if self._traced:
            _copied(fields, (begun, now), problem)
        if error is not None:
            level = logging.WARNING if self._level == logging.INFO else logging.DEBUG
            say(RUNS, level, "%s is not at %s: %s", source, target, error, error=problem, **fields)
        elif self._logs:
            text = "%s is at %s: %d bytes, %.3f s"
            say(RUNS, self._level, text, source, target, size, seconds, **fields)


def _copied(fields: Attributes, times: tuple[int, int], problem: str | None) -> None:
    place = {"aiohaul.destination": fields["destination"]}
    outcome = {**place, "aiohaul.outcome": "copied" if problem is None else "failed"}
    meters().objects.add(1, outcome)
    if problem is None:
        meters().bytes.add(fields["bytes"], place)
    # Its length is known at its end alone: one read serves many destinations.
    span = tracer().start_span(
        "aiohaul.copy",
        start_time=times[0],
        attributes={
            **outcome,
            "aiohaul.source": fields["source"],
            "aiohaul.target": fields["target"],
            "aiohaul.bytes": fields["bytes"],
            "aiohaul.attempt": fields["attempt"],
        },
    )
    if problem is not None:
        failed(span, problem)
    span.end(end_time=times[1])


@contextmanager
def running(kind: str, run_id: str | None = None) -> Iterator[str]:
    """Tell of a run from its begin to its end.

    Args:
        kind: such as ``transfer``.
        run_id: the id of the run; None is that of the run around, or a new one.
    """
    with run_scope(run_id) as chosen:
        if not active():
            with _logged(kind):
                yield chosen
            return
        told = {"aiohaul.run_id": chosen, "aiohaul.kind": kind}
        with spanned("aiohaul.run", told), _logged(kind):
            yield chosen


@contextmanager
def _logged(kind: str) -> Iterator[None]:
    begun = time.perf_counter()
    say(RUNS, logging.INFO, "the %s begins", kind, kind=kind)
    try:
        yield
    except Exception as error:
        seconds = time.perf_counter() - begun
        name = type(error).__name__
        fields = {"kind": kind, "seconds": round(seconds, 3), "error": name}
        # Of an error that is not ours nobody knows what its text repeats.
        why = error if isinstance(error, HaulError) else name
        say(RUNS, logging.ERROR, "the %s failed after %.1f s: %s", kind, seconds, why, **fields)
        raise
    except BaseException:
        seconds = time.perf_counter() - begun
        fields = {"kind": kind, "seconds": round(seconds, 3), "error": "cancelled"}
        say(RUNS, logging.WARNING, "the %s was cancelled after %.1f s", kind, seconds, **fields)
        raise
    seconds = time.perf_counter() - begun
    fields = {"kind": kind, "seconds": round(seconds, 3)}
    say(RUNS, logging.INFO, "the %s is done, after %.1f s", kind, seconds, **fields)
