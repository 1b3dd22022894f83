"""Waiting for a line in a log group of CloudWatch."""

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
from aiohaul.compute.logs import LogLine
from aiohaul.looking import look_until_found
from aiohaul.pickling import NotPicklable
from aiohaul.progress import OnProgress
from aiohaul.settings import Settings
from aiohaul.user_code import guarded

#: Seconds by which an event may come later than others of its time, and still be seen.
LATENESS = 60.0
#: Events that are looked through without giving the loop a turn.
_ONE_GO = 1000
_MILLISECONDS = 1000


class LogsHandler(NotPicklable):
    """CloudWatch Logs as one identity sees them. Cheap to make: equal ones share clients.

    Made by :meth:`aiohaul.Session.logs`.
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

        AWS: FilterLogEvents every ``interval``, page by page. Each look asks for what is newer
        than the last one saw, and for ``lateness`` seconds more; no event is looked at twice.

        Args:
            group: the log group's name.
            pattern: a regex, searched for in every line.
            stream_prefix: how the names of the streams begin; None is all.
            since: an aware datetime; events of earlier times do not count. None is now.
            lateness: seconds by which an event may be late, by its own time. A later one may be
                missed.
            timeout: seconds to wait; 0 looks once.
            interval: seconds between two looks.
            on_progress: told of every look that found nothing.

        Returns:
            The first line that matches, as CloudWatch lists them.

        Raises:
            WatchTimeoutError: no line matched until the timeout.
            LogGroupNotFoundError: there is no such log group.
            AccessDeniedError: the credentials may not read it.
            ServiceError: another failure that does not pass by itself.
        """
        watch = _LogWatch(
            await self._clients.service("logs", self._settings),
            group,
            re.compile(pattern),
            stream_prefix=stream_prefix,
            since=since or datetime.now(UTC),
            lateness=lateness,
        )
        return await look_until_found(
            watch.look,
            where=f"the log group {group} (lines like {watch.pattern.pattern})",
            timeout=timeout,
            interval=interval,
            on_progress=guarded("on_progress", on_progress),
        )


class _LogWatch:
    """What of a log group was looked at.

    Attributes:
        pattern: searched for in every line.
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
        self._logs = logs
        self._group = group
        self._streams = {"logStreamNamePrefix": stream_prefix} if stream_prefix else {}
        self._since = round(since.timestamp() * _MILLISECONDS)
        self._start = self._since
        self._lateness = round(lateness * _MILLISECONDS)
        #: The events of the last seconds that were looked at: id and time.
        self._seen: dict[str, int] = {}

    async def look(self) -> LogLine | None:
        """Look at what is new."""
        now = round(datetime.now(UTC).timestamp() * _MILLISECONDS)
        token: str | None = None
        latest = self._start
        while True:
            page, following = await self._page(token)
            for number, event in enumerate(page):
                if number % _ONE_GO == 0:
                    await checkpoint()
                if event[0] in self._seen:
                    continue
                self._seen[event[0]] = event[1]
                # A clock that is ahead of ours must not move the start of the next look.
                latest = max(latest, min(event[1], now))
                if self.pattern.search(event[2]):
                    return LogLine(datetime.fromtimestamp(event[1] / _MILLISECONDS, UTC), event[2])
            if following is None:
                break
            token = following
        self._move_on(latest)
        return None

    def _move_on(self, latest: int) -> None:
        self._start = max(self._since, self._start, latest - self._lateness)
        self._seen = {key: time for key, time in self._seen.items() if time >= self._start}

    async def _page(self, token: str | None) -> tuple[list[tuple[str, int, str]], str | None]:
        more = {"nextToken": token} if token is not None else {}
        page: Mapping[str, Any] = await self._logs.call(
            "filter_log_events",
            self._group,
            logGroupName=self._group,
            startTime=self._start,
            **self._streams,
            **more,
        )
        with translated("FilterLogEvents", self._group):
            following = page.get("nextToken")
            if following is not None and following == token:
                raise ValueError("the page that follows is the same one")
            events = [
                (each["eventId"], each["timestamp"], each["message"]) for each in page["events"]
            ]
        return events, following
