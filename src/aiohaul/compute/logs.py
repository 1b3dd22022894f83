"""Reads the log of a container from CloudWatch, from the first line to the newest."""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import anyio

from aiohaul.aws.errors import translated
from aiohaul.aws.service import Service
from aiohaul.errors import ServiceError, ThrottledError
from aiohaul.results import LogLine

#: The maximum number of lines in a result; the last lines of the log. A callback gets every line.
MAX_LINES = 10_000
#: The mean seconds between two attempts to read a log while CloudWatch throttles.
_THROTTLED_PAUSE = 5.0
_MILLISECONDS = 1000

_log = logging.getLogger(__name__)

#: Called on the event loop for every line. The function must return at once.
OnLog = Callable[[LogLine], None]


def stream_name(
    definition: Mapping[str, Any], container: str | None, group: str | None, task: str | None
) -> str | None:
    """Return the name of a container's log stream, which the awslogs driver of ECS creates.

    Args:
        definition: the task definition.
        container: the name of the container.
        group: the name of the log group.
        task: the ARN of the task.

    Returns:
        The name, or None if the container does not write to this log group.
    """
    options = _log_options(definition, container)
    if options.get("awslogs-group") != group:
        return None
    parts = (options.get("awslogs-stream-prefix"), container, (task or "").rpartition("/")[2])
    return "/".join(part for part in parts if part)


def no_stream_problem(definition: Mapping[str, Any], container: str | None, group: str) -> str:
    """Return the error message for a container that does not write to a log group."""
    own = _log_options(definition, container).get("awslogs-group")
    return f"{container} sends no log to {group}, but to {own or 'no log group of CloudWatch'}"


def _log_options(definition: Mapping[str, Any], container: str | None) -> Mapping[str, Any]:
    """Return the options of a container's log driver."""
    for each in definition.get("containerDefinitions", ()):
        if each["name"] == container:
            options: Mapping[str, Any] = each.get("logConfiguration", {}).get("options", {})
            return options
    return {}


class LogStream:
    """Reads one log stream from its beginning, and on each later call the new lines.

    Args:
        logs: the client of CloudWatch Logs.
        group: the name of the log group.
        stream: the name of the log stream, which may not exist yet.
        on_line: called once for every line.

    Attributes:
        problem: the reason why the last read failed; None after a successful read.
    """

    def __init__(self, logs: Service, group: str, stream: str, on_line: OnLog | None) -> None:
        self._logs = logs
        self._group = group
        self._stream = stream
        self._on_line = on_line
        self._token: str | None = None
        self._lines: deque[LogLine] = deque(maxlen=MAX_LINES)
        self.problem: str | None = "the log was not read yet"

    @property
    def lines(self) -> tuple[LogLine, ...]:
        """The last 10,000 lines that were read, oldest first."""
        return tuple(self._lines)

    async def read_on(self) -> None:
        """Read all lines that are new since the last call (GetLogEvents, page by page).

        A failure is logged and stored in ``problem``, and not raised, because a missing log must
        not fail the task. While CloudWatch throttles, the read is retried without a limit, so the
        caller must set a timeout.
        """
        while not await self._read_to_end():  # noqa: ASYNC110  # the event is at AWS
            # Random, so that tasks that ended together do not read together.
            await anyio.sleep(_THROTTLED_PAUSE * random.uniform(0.5, 1.5))  # noqa: S311  # no secret

    async def read_last(self) -> None:
        """Read the newest page of the log, or what is new since the last call of ``read_on``.

        One GetLogEvents suffices for a log that was not read yet, however long the log is. Failures
        are handled as in :meth:`read_on`.
        """
        if self._token is None:
            await self._read_to_end(from_head=False)
        else:
            await self.read_on()

    async def _read_to_end(self, *, from_head: bool = True) -> bool:
        """Read to the current end of the stream; return False if CloudWatch throttled.

        With ``from_head=False``, read only the newest page.
        """
        try:
            while await self._read_page(from_head=from_head) and from_head:
                pass
        except ThrottledError as error:
            self.problem = str(error)
            return False
        except ServiceError as error:
            # A missing stream is not logged, because CloudWatch creates it with the first line.
            no_stream = error.code == "ResourceNotFoundException" and "group" not in error.problem
            if not no_stream and self.problem != str(error):
                _log.warning("the log of a task was not read: %s", error)
            self.problem = str(error)
        else:
            self.problem = None
        return True

    async def _read_page(self, *, from_head: bool) -> bool:
        """Read one page; return True if there may be another page."""
        parameters: dict[str, Any] = {"startFromHead": from_head}
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
        # Only the same token marks the end of a stream, because earlier pages may be empty.
        more: bool = token != self._token
        self._token = token
        return more
