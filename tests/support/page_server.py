"""Answers ListObjectsV2 from memory, as S3 does or as other servers do, without any connection."""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from aiohaul.aws.endpoint_support import EndpointSupport
from aiohaul.errors import ServiceError

MODIFIED = datetime(2026, 1, 1, tzinfo=UTC)
#: What a server makes of StartAfter.
StartAfter = Literal["exclusive", "inclusive", "ignored", "refused", "skips", "nothing", "late"]


def by_bytes(key: str) -> Any:
    """The order of S3."""
    return key.encode()


@dataclass
class PageServer:
    """Takes the place of a Service.

    Attributes:
        keys: the keys that are there.
        page: entries of a page.
        order: the sort key of the listing.
        start_after: what it makes of StartAfter. ``skips`` leaves out the first key after a
            StartAfter that is no key, ``late`` the first page after it.
        on_request: called before each answer, with the number of the request.
        fails: requests of these numbers fail.
        no_token: truncated pages have no token.
        hold: answers from this number on wait until it is set.
        seed: answers take a random time; None is the same for all.
        changes: the keys change between requests.
        requests: the number of requests that came.
        most: the largest number of requests at a time.
    """

    keys: set[str]
    page: int = 3
    order: Callable[[str], Any] = by_bytes
    start_after: StartAfter = "exclusive"
    on_request: Callable[[int], None] = lambda _: None
    fails: Iterable[int] = ()
    no_token: bool = False
    hold: tuple[int, asyncio.Event] | None = None
    seed: int | None = None
    changes: bool = False
    requests: int = 0
    most: int = 0
    running: int = 0
    starts: list[str] = field(default_factory=list)
    support: EndpointSupport = field(default_factory=EndpointSupport)

    def __post_init__(self) -> None:
        self._state: object = None
        self._found: list[str] = []
        self._random = random.Random(self.seed)  # noqa: S311  # no secret

    async def call(self, operation: str, target: str, /, **parameters: Any) -> dict[str, Any]:
        assert operation == "list_objects_v2"
        self.requests += 1
        number = self.requests
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.hold is not None and number >= self.hold[0]:
                await self.hold[1].wait()
            for _ in range(self._random.randrange(9) if self.seed is not None else 1):
                await asyncio.sleep(0)
            self.on_request(number)
            return self._answer(number, target, parameters)
        finally:
            self.running -= 1

    def _answer(self, number: int, target: str, parameters: dict[str, Any]) -> dict[str, Any]:
        start = parameters.get("StartAfter")
        refused = start is not None and self.start_after == "refused"
        if refused or number in self.fails:
            raise ServiceError(
                "by the test",
                operation="ListObjectsV2",
                target=target,
                code="InvalidArgument" if refused else "InternalError",
                status=400 if refused else 500,
            )
        prefix, deep = parameters["Prefix"], "Delimiter" not in parameters
        found = self._sorted(prefix, deep=deep)
        after = parameters.get("ContinuationToken")
        if after is not None:
            found = found[bisect_right(found, self.order(after), key=self.order) :]
        elif start is not None:
            self.starts.append(start)
            found = self._after(start, found)
        shown, more = found[: self.page], len(found) > self.page
        objects = [key for key in shown if deep or "/" not in key[len(prefix) :]]
        page: dict[str, Any] = {
            "IsTruncated": more,
            "Contents": [
                {"Key": key, "Size": len(key), "ETag": f'"{key}"', "LastModified": MODIFIED}
                for key in objects
            ],
            "CommonPrefixes": [{"Prefix": key} for key in shown if key not in objects],
        }
        if more and not self.no_token:
            page["NextContinuationToken"] = shown[-1]
        return page

    def _sorted(self, prefix: str, *, deep: bool) -> list[str]:
        """All entries below a prefix, made once for as long as the keys are the same."""
        state = (prefix, deep, frozenset(self.keys) if self.changes else len(self.keys))
        if self._state != state:
            entries = {
                key if deep or "/" not in key[len(prefix) :] else self._rolled(key, prefix)
                for key in self.keys
                if key.startswith(prefix)
            }
            self._state, self._found = state, sorted(entries, key=self.order)
        return self._found

    def _rolled(self, key: str, prefix: str) -> str:
        return key[: key.index("/", len(prefix)) + 1]

    def _after(self, start: str, found: list[str]) -> list[str]:
        after = found[bisect_right(found, self.order(start), key=self.order) :]
        match self.start_after:
            case "inclusive":
                return [each for each in found if self.order(each) >= self.order(start)]
            case "ignored":
                return found
            case "nothing":
                return after if start in found else []
            case "skips":
                return after if start in found else after[1:]
            case "late":
                return after if start in found else after[self.page :]
            case _:
                return after
