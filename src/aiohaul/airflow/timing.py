"""Pure: how much time is left to work that may have begun in another process."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

#: Seconds after the trigger's own deadline at which Airflow itself gives the task up: the trigger
#: is the one that can stop the work, and has that long for it.
MARGIN = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """When work began, and by when it has to be done, on the clock of the wall.

    Attributes:
        begun: seconds since 1970.
        limit: seconds from then on; None is as long as it takes.
    """

    begun: float
    limit: float | None

    @classmethod
    def of(cls, begun: float, *limits: float | None) -> Self:
        """A clock with the tightest of these limits, in seconds."""
        given = [limit for limit in limits if limit is not None]
        return cls(begun=begun, limit=min(given, default=None))

    def as_dict(self) -> dict[str, Any]:
        """The clock as JSON."""
        return asdict(self)

    def left(self, now: float, limit: float | None = None) -> float:
        """Seconds that are left at ``now``, of a limit of the work's own too; at least 0.

        Args:
            now: seconds since 1970.
            limit: seconds from the beginning; None is as long as it takes.
        """
        limits = (each for each in (self.limit, limit) if each is not None)
        return max(min(limits, default=math.inf) - self._gone(now), 0.0)

    def wound_on(self, definition: Mapping[str, Any], now: float) -> Mapping[str, Any]:
        """The definition of a transfer, whose watch has been waiting since the beginning."""
        source = definition.get("source", {})
        watch = source.get("fileWatch")
        if not watch or "timeout" not in watch:
            return definition
        timeout = max(watch["timeout"] - self._gone(now), 0.0)
        watch = {**watch, "timeout": timeout}
        return {**definition, "source": {**source, "fileWatch": watch}}

    def _gone(self, now: float) -> float:
        return max(now - self.begun, 0.0)
