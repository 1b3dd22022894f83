"""The log of a container in CloudWatch: every page, in order, and further as it grows."""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import anyio

from aiohaul.aws.errors import translated
from aiohaul.aws.service import Service
from aiohaul.errors import ServiceError, ThrottledError

#: Lines of a log that are kept: the last ones. A callback is told of all.
KEPT_LINES = 10_000
#: Seconds, give or take a half, after which a log is asked for again that was throttled.
_THROTTLED_PAUSE = 5.0
_MILLISECONDS = 1000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a log.

    Attributes:
        time: when it was written, in UTC.
        message: its text.
    """

    time: datetime
    message: str


#: Called on the event loop for every line: it must return at once.
OnLog = Callable[[LogLine], None]


def stream_name(
    definition: Mapping[str, Any], container: str | None, group: str | None, task: str | None
) -> str | None:
    """The log stream of a container, as ECS's awslogs driver names it.

    Args:
        definition: the task definition.
        container: the container's name.
        group: the log group.
        task: the task's ARN.

    Returns:
        None if the container does not write to that group.
    """
    for each in definition.get("containerDefinitions", ()):
        options = each.get("logConfiguration", {}).get("options", {})
        if each["name"] == container and options.get("awslogs-group") == group:
            task_id = (task or "").rpartition("/")[2]
            parts = (options.get("awslogs-stream-prefix"), container, task_id)
            return "/".join(part for part in parts if part)
    return None


class LogStream:
    """One log stream, read from its beginning and then onwards.

    Args:
        logs: the way to CloudWatch Logs.
        group: the log group.
        stream: the log stream; it need not exist yet.
        on_line: told of every line once.
    """

    def __init__(self, logs: Service, group: str, stream: str, on_line: OnLog | None) -> None:
        self._logs = logs
        self._group = group
        self._stream = stream
        self._on_line = on_line
        self._token: str | None = None
        self._lines: deque[LogLine] = deque(maxlen=KEPT_LINES)
        #: Why it cannot be read, or was not there yet; None if it was read.
        self.problem: str | None = "it was not looked at"

    @property
    def lines(self) -> tuple[LogLine, ...]:
        """The last lines that were read, oldest first."""
        return tuple(self._lines)

    async def read_on(self) -> None:
        """Read every line that came since the last time (GetLogEvents, page by page).

        A log is no part of the work: what prevents its reading is noted in ``problem`` and
        logged, and not raised. While CloudWatch throttles it is tried again: who calls this
        bounds the time.
        """
        while not await self._read_all():  # noqa: ASYNC110  # the news is at AWS
            # Tasks that ended together must not go on asking together.
            await anyio.sleep(_THROTTLED_PAUSE * random.uniform(0.5, 1.5))  # noqa: S311  # no secret

    async def _read_all(self) -> bool:
        """Read to the end for now: False if that was throttled."""
        try:
            while await self._read_page():
                pass
        except ThrottledError as error:
            self.problem = str(error)
            return False
        except ServiceError as error:
            self.problem = str(error)
            # A stream begins to exist with its first line.
            if error.code != "ResourceNotFoundException":
                _log.warning("the log of a task was not read: %s", error)
        else:
            self.problem = None
        return True

    async def _read_page(self) -> bool:
        """Read one page: True if there may be more."""
        parameters: dict[str, Any] = {"startFromHead": True}
        if self._token is not None:
            parameters["nextToken"] = self._token
        page = await self._logs.call(
            "get_log_events",
            f"{self._group}:{self._stream}",
            logGroupName=self._group,
            logStreamName=self._stream,
            **parameters,
        )
        with translated("GetLogEvents", f"{self._group}:{self._stream}"):
            lines = [
                LogLine(
                    datetime.fromtimestamp(event["timestamp"] / _MILLISECONDS, UTC),
                    event["message"],
                )
                for event in page["events"]
            ]
            token = page["nextForwardToken"]
        for line in lines:
            self._lines.append(line)
            if self._on_line is not None:
                self._on_line(line)
        # At the end of a stream the token stays the same; an empty page in the middle changes it.
        more: bool = token != self._token
        self._token = token
        return more
