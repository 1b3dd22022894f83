"""A log group of the tests' own: events by time, in pages, and what was asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.fake_http import FakeServer, Request


@dataclass(eq=False)
class FakeLogs(FakeServer):
    """One log group.

    Attributes:
        events: id, time in milliseconds, text.
        page: events of a page.
        asked: what each FilterLogEvents asked for.
        given: how many events were given in all.
        faults: statuses and codes to answer first, one after the other.
    """

    events: list[tuple[str, int, str]] = field(default_factory=list)
    page: int = 100
    asked: list[Mapping[str, Any]] = field(default_factory=list)
    given: int = 0
    faults: list[tuple[int, str]] = field(default_factory=list)

    def write(self, text: str, at: float) -> None:
        """Write a line, at this time in seconds since 1970."""
        self.events.append((f"e{len(self.events)}", round(at * 1000), text))

    async def serve(self, request: Request) -> None:
        asked = json.loads(request.body)
        self.asked.append(asked)
        if self.faults:
            status, code = self.faults.pop(0)
            answer: dict[str, Any] = {"__type": code, "message": "by the test"}
        else:
            status, answer = 200, self._filter(asked)
        await request.connection.answer(status, json.dumps(answer).encode())
        await self.tell()

    def _filter(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        found = [each for each in self.events if each[1] >= asked["startTime"]]
        start = int(asked.get("nextToken", 0))
        shown = found[start : start + self.page]
        self.given += len(shown)
        more = {"nextToken": str(start + len(shown))} if start + len(shown) < len(found) else {}
        events = [{"eventId": i, "timestamp": at, "message": text} for i, at, text in shown]
        return {"events": events, **more}
