"""Computes the remaining time of work that may have begun in another process. Does no I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

#: Seconds between the timeout of the trigger and Airflow's timeout of the task. The trigger stops
#: the work in this time.
MARGIN = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """The start and the time limit of work, in wall-clock time.

    Wall-clock time is the same for the worker and all triggerers; monotonic time is not.

    Attributes:
        begun: the start, in seconds since 1970.
        limit: the time limit, in seconds after the start; None has no limit.
    """

    begun: float
    limit: float | None

    @classmethod
    def of(cls, begun: float, *limits: float | None) -> Self:
        """Return a clock with the smallest of several time limits.

        Args:
            begun: the start, in seconds since 1970.
            limits: time limits in seconds; None has no limit.
        """
        given = [limit for limit in limits if limit is not None]
        return cls(begun=begun, limit=min(given, default=None))

    def as_dict(self) -> dict[str, Any]:
        """Return the clock as a JSON object."""
        return asdict(self)

    def remaining(self, now: float, limit: float | None = None) -> float:
        """Return the seconds that remain at the time ``now``: at least 0, infinity without a limit.

        Args:
            now: the current time, in seconds since 1970.
            limit: another time limit, in seconds after the start; None has no limit.
        """
        limits = (each for each in (self.limit, limit) if each is not None)
        return max(min(limits, default=math.inf) - self._elapsed(now), 0.0)

    def with_remaining_time(self, definition: Mapping[str, Any], now: float) -> Mapping[str, Any]:
        """Return a definition whose watch has a shorter timeout.

        The timeout is reduced by the time that has passed since the start. A definition without a
        watch is returned unchanged.

        Args:
            definition: the definition of a transfer.
            now: the current time, in seconds since 1970.
        """
        source = definition.get("source", {})
        watch = source.get("fileWatch")
        if not watch or "timeout" not in watch:
            return definition
        timeout = max(watch["timeout"] - self._elapsed(now), 0.0)
        watch = {**watch, "timeout": timeout}
        return {**definition, "source": {**source, "fileWatch": watch}}

    def _elapsed(self, now: float) -> float:
        return max(now - self.begun, 0.0)
