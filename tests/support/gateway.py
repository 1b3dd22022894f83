"""A reverse proxy in front of an S3 server, which does to requests what a test asks for.

It runs on the test's own loop, so that tests wait for events and not for time.
"""

from __future__ import annotations

import asyncio
import io
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import (
    ClientConnectionError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    TCPConnector,
    web,
)

_HOP = {"transfer-encoding", "connection", "keep-alive", "content-encoding", "content-length"}


@dataclass
class Rule:
    """What happens to the requests whose "METHOD path?query" a regex finds.

    A request whose headers carry x-amz-copy-source is a "COPY".
    """

    match: str
    #: only requests of which a header, as "name: value", is found by this regex
    header: str = ""
    times: int = 1_000_000
    #: how many of them pass before
    after: int = 0
    #: answer with this status and error code instead of forwarding
    status: int = 0
    code: str = "InternalError"
    #: close the connection: before forwarding, or in the middle of the answer's body
    drop: bool = False
    cut: bool = False
    #: forward, and close the connection without the answer
    lost: bool = False
    #: wait before forwarding until `go` is set
    hold: bool = False
    #: forward, and wait before the answer until `go` is set
    late: bool = False
    #: the requests that it happened to
    hits: list[str] = field(default_factory=list)
    #: set once a request has come
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    #: replaces the answer's body
    body: bytes | None = None
    #: replace headers of the answer
    headers: Mapping[str, str] = field(default_factory=dict)
    #: a header of the request that is not forwarded
    strip: str = ""


@dataclass
class Gateway:
    upstream: str
    http: ClientSession
    url: str = ""
    rules: list[Rule] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    noting: Callable[[web.Request], None] = lambda _: None
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    #: set while there is a server: without one, requests wait, and what was sent to it is reset
    up: asyncio.Event = field(default_factory=asyncio.Event)
    open: int = 0
    peak: int = 0

    def rule(self, match: str, **what: object) -> Rule:
        rule = Rule(match, **what)  # type: ignore[arg-type]
        self.rules.append(rule)
        return rule

    def count(self, match: str) -> int:
        return sum(bool(re.search(match, line)) for line in self.log)

    def _rule_for(self, line: str, headers: Mapping[str, str]) -> Rule | None:
        lines = [f"{name.lower()}: {value}" for name, value in headers.items()]
        for rule in self.rules:
            if rule.header and not any(re.search(rule.header, each) for each in lines):
                continue
            if rule.times > 0 and re.search(rule.match, line):
                if rule.after > 0:
                    rule.after -= 1
                    continue
                rule.times -= 1
                rule.hits.append(line)
                return rule
        return None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        method = "COPY" if "x-amz-copy-source" in request.headers else request.method
        line = f"{method} {request.raw_path}"
        self.log.append(line)
        self.noting(request)
        self.open += 1
        self.peak = max(self.peak, self.open)
        try:
            await self.up.wait()
            return await self._answer(request, self._rule_for(line, request.headers))
        except ClientConnectionError:
            return _reset(request)
        finally:
            self.open -= 1
            if not self.open:
                self.closed.set()

    async def idle(self) -> None:
        """Wait until no request is open; fails after a second."""
        self.closed.clear()
        if self.open:
            async with asyncio.timeout(1):
                await self.closed.wait()

    async def _answer(self, request: web.Request, rule: Rule | None) -> web.StreamResponse:
        data = await request.read()
        if rule is not None:
            if not rule.late:
                rule.reached.set()
            if rule.hold:
                await rule.go.wait()
            if rule.drop:
                return _reset(request)
            if rule.status:
                text = f"<Error><Code>{rule.code}</Code><Message>by the test</Message></Error>"
                return web.Response(status=rule.status, text=text, content_type="application/xml")
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in {"transfer-encoding", "connection", "expect"}
        }
        if rule is not None and rule.strip:
            headers = {k: v for k, v in headers.items() if k.lower() != rule.strip.lower()}
        async with self.http.request(
            request.method,
            self.upstream + request.raw_path,
            data=io.BytesIO(data) if data else None,
            headers=headers,
            allow_redirects=False,
            skip_auto_headers=("Content-Type", "Accept-Encoding", "Accept", "User-Agent"),
        ) as answer:
            body = await answer.read()
        return await _passed_on(request, rule, answer, body)


async def _passed_on(
    request: web.Request, rule: Rule | None, answer: ClientResponse, body: bytes
) -> web.StreamResponse:
    """The server's answer, with what happens to it on the way."""
    kept = {n: v for n, v in answer.headers.items() if n.lower() not in _HOP}
    if rule is not None:
        replaced = {name.lower() for name in rule.headers}
        kept = {n: v for n, v in kept.items() if n.lower() not in replaced} | dict(rule.headers)
        if rule.late:
            rule.reached.set()
            await rule.go.wait()
        if rule.lost:
            return _reset(request)
        if rule.cut:
            headers = {**kept, "Content-Length": str(len(body))}
            half = web.StreamResponse(status=answer.status, headers=headers)
            await half.prepare(request)
            await half.write(body[: len(body) // 2])
            assert request.transport is not None
            request.transport.close()
            return half
        if rule.body is not None:
            return web.Response(status=answer.status, headers=kept, body=rule.body)
    if request.method == "HEAD":
        length = answer.headers.get("Content-Length", "0")
        return web.Response(status=answer.status, headers={**kept, "Content-Length": length})
    return web.Response(status=answer.status, headers=kept, body=body)


def _reset(request: web.Request) -> web.Response:
    """Close the connection, with nothing of an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@asynccontextmanager
async def gateway(upstream: str, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Gateway]:
    async with ClientSession(
        connector=TCPConnector(limit=0),
        timeout=ClientTimeout(total=None),
        auto_decompress=False,
    ) as http:
        made = Gateway(upstream, http)
        made.up.set()
        application = web.Application(client_max_size=2**40)
        application.router.add_route("*", "/{tail:.*}", made.handle)
        runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        port = runner.addresses[0][1]
        made.url = f"http://127.0.0.1:{port}" if tls is None else f"https://localhost:{port}"
        try:
            yield made
        finally:
            await runner.cleanup()
