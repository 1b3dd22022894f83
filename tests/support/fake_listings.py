"""Listings of the tests' own: what is there, what a request meets, and how many came."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.support.fake_http import FakeServer, Request

OK = 200


@dataclass(frozen=True)
class Stored:
    etag: str
    size: int
    modified: datetime

    def stamp(self) -> str:
        return self.modified.strftime("%Y-%m-%dT%H:%M:%S.000Z")


@dataclass(eq=False)
class FakeS3(FakeServer):
    """Buckets that can be listed and looked into.

    Attributes:
        buckets: what they hold, by key.
        page: keys of a page.
        lists: the prefix of every listing that came, in order; one for each page.
        heads: the key of every HEAD that came, in order.
        faults: statuses and codes to answer listings with first, one after the other.
        every: answer every n-th request with 503; 0 is none.
        hold: listings wait until it is set.
        denied: prefixes that may not be listed.
    """

    buckets: dict[str, dict[str, Stored]] = field(default_factory=dict)
    page: int = 1000
    lists: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    faults: list[tuple[int, str]] = field(default_factory=list)
    every: int = 0
    hold: asyncio.Event | None = None
    denied: set[str] = field(default_factory=set)
    head_status: int = 0
    came: int = 0
    failed: int = 0
    methods: Counter[str] = field(default_factory=Counter)

    def put(self, bucket: str, key: str, data: bytes = b"", *, age: float = 0.0) -> Stored:
        stored = Stored(
            md5(data, usedforsecurity=False).hexdigest(),
            len(data),
            datetime.now(UTC) - timedelta(seconds=age),
        )
        self.buckets.setdefault(bucket, {})[key] = stored
        return stored

    async def serve(self, request: Request) -> None:
        self.came += 1
        self.methods[request.method] += 1
        url = urlsplit(request.path)
        bucket, _, key = unquote(url.path).lstrip("/").partition("/")
        listing = request.method == "GET" and not key
        if listing:
            self.lists.append(parse_qs(url.query).get("prefix", [""])[0])
            self.times.append(asyncio.get_running_loop().time())
            await self.tell()
            if self.hold is not None:
                await self.hold.wait()
        if self.every and self.came % self.every == 0:
            self.failed += 1
            await self._refuse(request, 503, "SlowDown")
        elif listing and self.faults:
            await self._refuse(request, *self.faults.pop(0))
        elif bucket not in self.buckets:
            await self._refuse(request, 404, "NoSuchBucket")
        elif listing:
            await self._list(request, bucket, parse_qs(url.query))
        elif request.method == "HEAD":
            await self._head(request, bucket, key)
        else:
            await self._refuse(request, 501, "NotImplemented")
        await self.tell()

    async def _refuse(self, request: Request, status: int, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>by the test</Message></Error>"
        await request.connection.answer(status, body.encode())

    async def _head(self, request: Request, bucket: str, key: str) -> None:
        self.heads.append(key)
        stored = self.buckets[bucket].get(key)
        status = self.head_status or (OK if stored else 404)
        if stored is None or status != OK:
            await request.connection.answer(status)
            return
        headers = [
            f"HTTP/1.1 200 OK\r\nContent-Length: {stored.size}",
            f'ETag: "{stored.etag}"',
            f"Last-Modified: {stored.modified.strftime('%a, %d %b %Y %H:%M:%S GMT')}",
        ]
        request.connection.writer.write(("\r\n".join(headers) + "\r\n\r\n").encode())
        await request.connection.writer.drain()

    async def _list(self, request: Request, bucket: str, query: dict[str, Any]) -> None:
        prefix = query.get("prefix", [""])[0]
        if prefix in self.denied:
            await self._refuse(request, 403, "AccessDenied")
            return
        after = query.get("continuation-token", [""])[0]
        deep = "delimiter" not in query
        keys = sorted(
            key
            for key in self.buckets[bucket]
            if key.startswith(prefix) and key > after and (deep or "/" not in key[len(prefix) :])
        )
        shown, more = keys[: self.page], len(keys) > self.page
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{stored.stamp()}</LastModified>"
            f"<ETag>&quot;{stored.etag}&quot;</ETag><Size>{stored.size}</Size></Contents>"
            for key in shown
            for stored in (self.buckets[bucket][key],)
        )
        last = escape(shown[-1]) if more else ""
        token = f"<NextContinuationToken>{last}</NextContinuationToken>" * more
        body = (
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{entries}</ListBucketResult>"
        )
        await request.connection.answer(OK, body.encode(), {"content-type": "application/xml"})
