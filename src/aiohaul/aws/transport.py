"""The HTTP session of every client: aiobotocore's, which here follows no redirects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from aiobotocore.httpsession import AIOHTTPSession

from aiohaul.aws.bounded import FAILURE, whole_body
from aiohaul.aws.connecting import telling
from aiohaul.aws.direct.exchange import Connections
from aiohaul.aws.plain import check_tls

#: Called with every request that a client is about to send, signed and all.
Watcher = Callable[["Transport", Any], Awaitable[None]]

_watcher: ContextVar[Watcher | None] = ContextVar("aiohaul_watcher", default=None)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Show the requests that clients send herein to ``watcher`` first."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


class Transport(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore has no types
    """Gives botocore every answer as it came, a redirect too.

    botocore follows none by itself, but for S3's to another region, which it signs anew. aiohttp
    would: an invocation would be sent twice, its payload to whoever the answer names.
    """

    #: also over http, to any host
    plain = False

    def __init__(self, *arguments: Any, proxies: Any = None, **options: Any) -> None:
        super().__init__(*arguments, proxies=proxies, **options)
        #: a proxy is asked for: aiobotocore knows for which requests
        self.proxied = bool(proxies)
        self._connections: Connections | None = None

    async def __aexit__(self, *raised: object) -> None:
        if self._connections is not None:
            self._connections.close()
        await super().__aexit__(*raised)

    async def send(self, request: Any) -> Any:
        """Send a request of botocore's, after whoever watches has seen it."""
        if not self.plain:
            check_tls(request.url)
        watcher = _watcher.get()
        if watcher is not None:
            await watcher(self, request)
        return await super().send(request)

    async def connections(self) -> Connections:
        """Connections of the ClientSession underneath, which go through no proxy."""
        if self._connections is None:
            session = await self._ours(None)
            if self._connections is None:  # nobody else has made them meanwhile
                self._connections = Connections(session)
        return self._connections

    @property
    def kept(self) -> int:
        """How many connections are kept for the next request, and used by none."""
        return 0 if self._connections is None else self._connections.kept

    async def _create_connector(self, proxy_url: str | None) -> Any:
        return telling(await super()._create_connector(proxy_url))

    async def _get_session(self, proxy_url: str | None) -> Any:
        return _Direct(await self._ours(proxy_url))

    async def _ours(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)
        # Nothing is sent again behind our back: how often it was sent decides what an answer means
        # ("there is one already" may be our own write).
        session._retry_connection = False  # noqa: SLF001  # aiohttp has no public word for it
        return session


class PlainTransport(Transport):
    """The same where the user has said that bytes may travel unencrypted."""

    plain = True


class _Direct:
    def __init__(self, session: Any) -> None:
        self._session = session

    async def request(self, *arguments: Any, **options: Any) -> Any:
        answer = await self._session.request(*arguments, **options, allow_redirects=False)
        if answer.status >= FAILURE:
            try:
                # What is read here is what aiohttp's own read() returns.
                answer._body = await whole_body(answer.content, answer.status)  # noqa: SLF001  # no other word for it
            except BaseException:
                answer.close()
                raise
        return answer
