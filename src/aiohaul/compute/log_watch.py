"""LogsHandler: waits for a line in a log group of CloudWatch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from anyio.lowlevel import checkpoint

from aiohaul.aws.clients import Clients
from aiohaul.aws.errors import translated
from aiohaul.aws.service import Service
from aiohaul.cancellation import in_own_task
from aiohaul.pickling import NotPicklable
from aiohaul.polling import poll_until
from aiohaul.progress import OnProgress
from aiohaul.regexes.bounded import bounded
from aiohaul.results import LogLine
from aiohaul.settings import Settings
from aiohaul.threads import run_in_thread_if
from aiohaul.user_code import guarded

#: The maximum delay, in seconds, of an event that is still found.
LATENESS = 60.0
#: The number of events that are searched before the event loop may run other tasks.
_EVENTS_PER_STEP = 1000
_MILLISECONDS = 1000


class LogsHandler(NotPicklable):
    """Reads CloudWatch Logs with one set of credentials.

    Created by :meth:`aiohaul.Session.logs`. A handler is cheap to create, because equal handlers
    share clients.
    """

    def __init__(self, clients: Clients, settings: Settings | None = None) -> None:
        self._clients = clients
        self._settings = settings

    @in_own_task
    async def wait_for(
        self,
        group: str,
        pattern: str | re.Pattern[str],
        *,
        stream_prefix: str | None = None,
        since: datetime | None = None,
        lateness: float = LATENESS,
        timeout: float = 60.0,
        interval: float = 10.0,
        on_progress: OnProgress | None = None,
    ) -> LogLine:
        """Wait for a line that matches, in any stream of a log group.

        AWS: FilterLogEvents every ``interval`` seconds, page by page. Each poll reads the events
        from ``lateness`` seconds before the newest event of the last poll. No event is searched
        twice.

        Args:
            group: the name of the log group.
            pattern: a regular expression that may match anywhere in a line.
            stream_prefix: the prefix of the names of the streams; None searches all streams.
            since: a datetime with a time zone. Earlier events are not searched. None is now.
            lateness: the maximum delay of an event in seconds. An event that arrives later may be
                missed.
            timeout: the maximum seconds of the wait; 0 polls once.
            interval: the seconds between two polls.
            on_progress: called after every poll that found no line.

        Returns:
            The first line that matches, in the order of CloudWatch.

        Raises:
            RegexLimitError: the regex takes too many steps for a line.
            WatchTimeoutError: no line matched before the timeout.
            LogGroupNotFoundError: the log group does not exist.
            AccessDeniedError: the credentials do not allow to read the log group.
            ServiceError: a request failed, and a retry would fail too.
        """
        watch = _LogWatch(
            await self._clients.service("logs", self._settings),
            group,
            re.compile(pattern),
            stream_prefix=stream_prefix,
            since=since or datetime.now(UTC),
            lateness=lateness,
        )
        return await poll_until(
            watch.poll,
            where=f"the log group {group} (lines like {watch.pattern.pattern})",
            timeout=timeout,
            interval=interval,
            on_progress=guarded("on_progress", on_progress),
        )


class _LogWatch:
    """Searches the new events of a log group, poll by poll.

    Attributes:
        pattern: the regular expression that a line must match.
    """

    def __init__(
        self,
        logs: Service,
        group: str,
        pattern: re.Pattern[str],
        *,
        stream_prefix: str | None,
        since: datetime,
        lateness: float,
    ) -> None:
        self.pattern = pattern
        self._regex = bounded(pattern)
        self._logs = logs
        self._group = group
        self._streams = {"logStreamNamePrefix": stream_prefix} if stream_prefix else {}
        self._since = round(since.timestamp() * _MILLISECONDS)
        self._start = self._since
        self._lateness = round(lateness * _MILLISECONDS)
        #: The times, by id, of the searched events since ``_start``.
        self._seen: dict[str, int] = {}

    async def poll(self) -> LogLine | None:
        """Search the new events; return the first line that matches, or None."""
        now = round(datetime.now(UTC).timestamp() * _MILLISECONDS)
        token: str | None = None
        latest = self._start
        while True:
            page, next_token = await self._read_page(token)
            for start in range(0, len(page), _EVENTS_PER_STEP):
                await checkpoint()
                new = []
                for event in page[start : start + _EVENTS_PER_STEP]:
                    if event[0] not in self._seen:
                        self._seen[event[0]] = event[1]
                        new.append(event)
                # At most now, because the clock that an event's time is from may be fast.
                latest = max([latest, *(min(event[1], now) for event in new)])
                if (found := await self._first_match(new)) is not None:
                    return LogLine(datetime.fromtimestamp(found[1] / _MILLISECONDS, UTC), found[2])
            if next_token is None:
                break
            token = next_token
        self._advance(latest)
        return None

    async def _first_match(self, events: list[tuple[str, int, str]]) -> tuple[str, int, str] | None:
        def search() -> tuple[str, int, str] | None:
            return next((each for each in events if self._regex.is_in_line(each[2])), None)

        return await run_in_thread_if(not self._regex.is_fast_in_lines, search)

    def _advance(self, latest: int) -> None:
        self._start = max(self._since, self._start, latest - self._lateness)
        self._seen = {key: time for key, time in self._seen.items() if time >= self._start}

    async def _read_page(self, token: str | None) -> tuple[list[tuple[str, int, str]], str | None]:
        optional = {"nextToken": token} if token is not None else {}
        page: Mapping[str, Any] = await self._logs.call(
            "filter_log_events",
            self._group,
            logGroupName=self._group,
            startTime=self._start,
            **self._streams,
            **optional,
        )
        with translated("FilterLogEvents", self._group):
            next_token = page.get("nextToken")
            if next_token is not None and next_token == token:
                raise ValueError("the next page is the same page")
            events = [
                (each["eventId"], each["timestamp"], each["message"]) for each in page["events"]
            ]
        return events, next_token
