"""The HTTP sessions of botocore's clients, which send requests on aiohaul's own connections."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Self

from aiobotocore.awsrequest import AioAWSResponse
from botocore.httpsession import ProxyConfiguration, get_cert_path

from aiohaul.aws.advice import PAGE_HEADER, html_title
from aiohaul.aws.botocore_errors import http_error_as_botocore
from aiohaul.aws.http.body_limit import FIRST_ERROR_STATUS, MAX_DOCUMENT_SIZE
from aiohaul.aws.http.connector import Connector
from aiohaul.aws.http.errors import HTTPClientError, ProxyConnectionError
from aiohaul.aws.http.payload import Bytes
from aiohaul.aws.http.pool import MAX_IDLE, ConnectionPool
from aiohaul.aws.http.proxy import Proxy
from aiohaul.aws.http.tls import tls_context
from aiohaul.aws.leading_whitespace import without_leading_whitespace
from aiohaul.aws.tls_policy import check_tls
from aiohaul.errors import SessionError

#: Called with every signed request that a client is about to send.
Watcher = Callable[["Transport", Any], Awaitable[None]]

_watcher: ContextVar[Watcher | None] = ContextVar("aiohaul_watcher", default=None)

#: Headers that the connection sets.
_SET_BY_CONNECTION = frozenset({"content-length", "expect", "host", "transfer-encoding"})


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Pass each request of this block to ``watcher`` before the client sends the request."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


class Transport:
    """Sends requests for botocore, and returns redirects as responses.

    botocore itself follows only S3's redirects to another region, with a new signature.

    Clients enter this object and never exit it. Only :meth:`end` closes it.

    Args:
        timeout: the connect timeout and the read timeout, in seconds.
        verify: the path of a PEM file with the trusted certificates; True uses the default ones.
        proxies: the URLs of the proxies, by scheme.
        proxies_config: botocore's other settings of proxies.
        client_cert: the path of a client certificate, or the paths of a certificate and its key.
        allow_http: True allows unencrypted HTTP to other machines.
        max_idle: the maximum number of idle connections.
        ignored: botocore's other options, which limit what aiohaul limits itself.
    """

    def __init__(
        self,
        *,
        timeout: tuple[float, float],
        verify: str | bool = True,
        proxies: dict[str, str] | None = None,
        proxies_config: dict[str, Any] | None = None,
        client_cert: str | tuple[str, str] | None = None,
        allow_http: bool = False,
        max_idle: int = MAX_IDLE,
        **ignored: Any,
    ) -> None:
        del ignored
        self._allow_http = allow_http
        self._max_idle = max_idle
        self._ended = False
        self._timeout = timeout
        self._proxies = ProxyConfiguration(proxies=proxies, proxies_settings=proxies_config)
        self._tls = partial(tls_context, _ca_bundle(verify), client_cert)
        settings = proxies_config or {}
        self._proxy_tls = partial(
            tls_context,
            settings.get("proxy_ca_bundle") or _ca_bundle(verify),
            settings.get("proxy_client_cert"),
        )
        #: True if a proxy is configured; only botocore knows for which requests
        self.proxied = bool(proxies)
        #: the connections, by the URL of their proxy
        self._pools: dict[str | None, ConnectionPool] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        """Do nothing, because other clients share this object."""

    async def close(self) -> None:
        """Do nothing, because other clients share this object."""

    def end(self) -> None:
        """Close every connection."""
        self._ended = True
        for pool in self._pools.values():
            pool.close()

    async def send(self, request: Any) -> Any:
        """Send a request for botocore, after a call of the watcher."""
        self._check_open()
        if not self._allow_http:
            check_tls(request.url)
        watcher = _watcher.get()
        if watcher is not None:
            await watcher(self, request)
        try:
            reply = await self.pool(self._proxies.proxy_url_for(request.url)).exchange(
                request.method,
                request.url,
                _headers(request),
                await _body(request),
                max_size=None if request.stream_output else MAX_DOCUMENT_SIZE,
                read_timeout=(getattr(request, "context", None) or {}).get("read_timeout"),
            )
        except HTTPClientError as error:
            raise http_error_as_botocore(error) from error
        body = reply.body
        answer = AioAWSResponse(request.url, reply.status, reply.headers, _Raw(request.url, body))
        if reply.status >= FIRST_ERROR_STATUS or not request.stream_output:
            answer._content = bytes(without_leading_whitespace(body))  # noqa: SLF001  # as botocore caches it
        if reply.status >= FIRST_ERROR_STATUS:
            title = html_title(body)
            if title is not None:
                answer.headers[PAGE_HEADER] = title
        return answer

    def pool(self, proxy_url: str | None = None) -> ConnectionPool:
        """Return the connections through a proxy, or those without a proxy.

        Raises:
            SessionError: this object is closed.
            ProxyConnectionError: the URL of the proxy is not an HTTP URL.
        """
        self._check_open()
        pool = self._pools.get(proxy_url)
        if pool is None:
            connect_timeout, read_timeout = self._timeout
            connector = Connector(
                self._tls,
                connect_timeout=connect_timeout,
                read_timeout=read_timeout,
                proxy=_proxy(proxy_url, self._proxy_tls),
            )
            pool = self._pools[proxy_url] = ConnectionPool(connector, self._max_idle)
        return pool

    def _check_open(self) -> None:
        if self._ended:  # not an error of HTTP, which would be retried
            raise SessionError("this Session is closed. Create a new Session")


class _Raw:
    """The received response, as aiobotocore's streaming body reads it."""

    def __init__(self, url: str, body: Bytes) -> None:
        self.url = url
        self._unread = memoryview(body)

    @property
    def content(self) -> Self:
        """The stream of the body."""
        return self

    async def read(self, size: int = -1) -> bytes:
        """Return the next bytes; all of them without a size."""
        end = len(self._unread) if size < 0 else size
        piece = bytes(self._unread[:end])
        self._unread = self._unread[end:]
        return piece

    def at_eof(self) -> bool:
        """Return True if all bytes are read."""
        return not self._unread

    def close(self) -> None:
        """Free the body."""
        self._unread = memoryview(b"")


def _headers(request: Any) -> dict[str, str]:
    return {
        name: value.decode() if isinstance(value, bytes) else str(value)
        for name, value in request.headers.items()
        if name.lower() not in _SET_BY_CONNECTION
    }


async def _body(request: Any) -> Bytes:
    """Return the body of a request, which may be a file or a wrapper that adds a checksum."""
    body = request.body
    if hasattr(body, "read"):
        body = body.read()
    if inspect.isawaitable(body):
        body = await body
    if body is None:
        return b""
    return body.encode() if isinstance(body, str) else body


def _ca_bundle(verify: str | bool) -> str | None:
    path = get_cert_path(verify)
    return path if isinstance(path, str) else None


def _proxy(url: str | None, tls: Callable[[], Any]) -> Proxy | None:
    if url is None:
        return None
    try:
        return Proxy(url, tls)
    except ValueError as error:
        raise ProxyConnectionError(url.rpartition("@")[2], str(error)) from error


class Transports:
    """Creates the HTTP transports of one Session.

    botocore calls this object where it would call its own HTTP session class. Clients with the same
    connection options get the same transport, also if their credentials differ: they share
    connections and a TLS context.

    Args:
        allow_http: True allows unencrypted HTTP to other machines.
        max_idle: the maximum number of idle connections, in each transport.
    """

    def __init__(self, *, allow_http: bool, max_idle: int) -> None:
        self._allow_http = allow_http
        self._max_idle = max_idle
        self._transports: dict[str, Transport] = {}

    def __call__(self, **options: Any) -> Transport:
        """Return the transport for these options of botocore."""
        key = repr(sorted(options.items()))
        transport = self._transports.get(key)
        if transport is None:
            transport = self._transports[key] = Transport(
                allow_http=self._allow_http, max_idle=self._max_idle, **options
            )
        return transport

    def end(self) -> None:
        """Close every connection."""
        transports = list(self._transports.values())
        self._transports.clear()
        for transport in transports:
            transport.end()
