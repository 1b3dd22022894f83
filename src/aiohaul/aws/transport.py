"""The HTTP sessions of clients: aiobotocore's, which here follow no redirects and are shared."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Self

from aiobotocore.httpsession import AIOHTTPSession

from aiohaul.aws.bounded import FAILURE, whole_body
from aiohaul.aws.connecting import telling
from aiohaul.aws.direct.exchange import MOST, Connections
from aiohaul.aws.plain import check_tls
from aiohaul.errors import SessionError

#: Held here: an event loop does not hold its tasks.
_ending: set[asyncio.Task[None]] = set()

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

    Clients enter it, and leave it open: it is ended by :meth:`end` alone.

    Args:
        plain: send also over http, to any host.
        most_kept: connections that are kept for requests which are not botocore's to send.
        proxies: as aiobotocore has them.
        options: aiobotocore's others.
    """

    def __init__(
        self, *, plain: bool = False, most_kept: int = MOST, proxies: Any = None, **options: Any
    ) -> None:
        super().__init__(proxies=proxies, **options)
        self._plain = plain
        self._most_kept = most_kept
        self._entered = False
        self._ended = False
        #: a proxy is asked for: aiobotocore knows for which requests
        self.proxied = bool(proxies)
        self._connections: Connections | None = None

    async def __aenter__(self) -> Self:
        if not self._entered:
            self._entered = True
            await super().__aenter__()
        return self

    async def __aexit__(self, *raised: object) -> None:
        """Nothing: other clients use it."""

    async def end(self) -> None:
        """Close every connection."""
        self._ended = True
        self.drop()
        await super().__aexit__(None, None, None)

    def drop(self) -> None:
        """Close the connections of requests that are not botocore's to send."""
        if self._connections is not None:
            self._connections.close()

    async def send(self, request: Any) -> Any:
        """Send a request of botocore's, after whoever watches has seen it."""
        if self._ended:  # not an error of aiohttp's: botocore would send it again
            raise SessionError("this Session has ended: make a new one")
        if not self._plain:
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
                self._connections = Connections(session, self._most_kept)
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


class Transports:
    """The transports of one Session: all clients that connect in the same way share one.

    Called by botocore for each client, where it expects a class. An identity so costs no
    connection, and no TLS context, of its own.

    Args:
        plain: bytes may travel unencrypted.
        most_kept: connections that each keeps.
    """

    def __init__(self, *, plain: bool, most_kept: int) -> None:
        self._plain = plain
        self._most_kept = most_kept
        self._made: dict[str, Transport] = {}

    def __call__(self, **options: Any) -> Transport:
        """The transport for these options of botocore's."""
        how = repr(sorted(options.items()))
        found = self._made.get(how)
        if found is None:
            found = self._made[how] = Transport(
                plain=self._plain, most_kept=self._most_kept, **options
            )
        return found

    async def end(self) -> None:
        """Close every connection."""
        ending = list(self._made.values())
        self._made.clear()
        for each in ending:
            await each.end()

    def end_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close every connection without waiting for it, from whatever thread.

        Args:
            loop: the event loop that has them.
        """
        with suppress(RuntimeError):  # it is closed, and they with it
            if _running() is loop:
                self._end_now()
            else:
                loop.call_soon_threadsafe(self._end_now)

    def _end_now(self) -> None:
        for each in self._made.values():
            each.drop()
        task = asyncio.get_running_loop().create_task(self.end())
        _ending.add(task)
        task.add_done_callback(_ending.discard)


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


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
