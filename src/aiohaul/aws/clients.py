"""Creates and shares the Services of one event loop."""

from __future__ import annotations

import os
import resource
import warnings
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Self
from weakref import WeakValueDictionary

import anyio
import anyio.lowlevel

from aiohaul.aws.adaptive_limiter import AdaptiveLimiter
from aiohaul.aws.backend import Backend
from aiohaul.aws.botocore_source import BotocoreSource, Identity
from aiohaul.aws.direct.plain import PlainS3
from aiohaul.aws.endpoint_support import EndpointSupport
from aiohaul.aws.http.connector import Connector
from aiohaul.aws.http.pool import ConnectionPool
from aiohaul.aws.http.tls import tls_context
from aiohaul.aws.owner import Owner
from aiohaul.aws.plain_settings import PlainSettings, plain_settings
from aiohaul.aws.service import Service
from aiohaul.aws.tls_policy import check_tls
from aiohaul.cancellation import in_own_task
from aiohaul.errors import SessionError
from aiohaul.settings import Settings
from aiohaul.telemetry.otel import is_active
from aiohaul.threads import run_in_thread

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 60.0
#: The default maximum of concurrent Lambda invocations. Each one uses a file descriptor.
MAX_INVOCATIONS = 4096
#: The maximum number of seconds for the cleanup when a Session is closed. Stopping hundreds of
#: Fargate tasks takes that long at the rate that ECS allows.
_CLEANUP_TIMEOUT = 120.0
#: The maximum number of seconds for closing the connections of a Session.
_CLOSE_TIMEOUT = 5.0
#: The number of event loop iterations in which asyncio closes a socket. It needs two.
_CLOSE_ITERATIONS = 3
#: The number of Services in the cache of recently used ones. Each one belongs to one identity.
_CACHED_SERVICES = 128

_Environment = frozenset[tuple[str, str]]


class Clients:
    """Creates clients, shares them by service and settings, and limits the requests in flight.

    An async context manager that closes all connections at the end of the block. It belongs to the
    event loop and the process that entered it. All Services share connections. Recently used
    Services stay in a cache; the others are freed when no caller uses them.

    Args:
        settings: the settings that replace missing values of each call.
        max_requests: the maximum number of requests in flight to each endpoint. Further requests
            wait. Lowered if the process may not open so many files.
        max_invocations: the maximum number of Lambda invocations in flight, which are counted
            separately because each may last minutes. Lowered if the process may not open so many
            files.
        direct: True sends known S3 requests without botocore, where the result is the same. False,
            or AIOHAUL_DIRECT=0 in the environment, sends all requests through botocore.
        allow_http: True, or AIOHAUL_ALLOW_HTTP=1 in the environment, allows unencrypted HTTP to
            other machines.
        ca_bundle: the path of a PEM file with the certificates to trust; None uses botocore's
            choice (AWS_CA_BUNDLE, or the profile).
    """

    def __init__(
        self,
        settings: Settings,
        *,
        max_requests: int,
        max_invocations: int = MAX_INVOCATIONS,
        direct: bool = True,
        allow_http: bool = False,
        ca_bundle: str | None = None,
    ) -> None:
        self.settings = settings
        self.direct = direct and os.environ.get("AIOHAUL_DIRECT") != "0"
        self.allow_http = allow_http or os.environ.get("AIOHAUL_ALLOW_HTTP") == "1"
        self.ca_bundle = ca_bundle
        self.max_requests = _within_descriptor_limit(max_requests)
        self.max_invocations = _within_descriptor_limit(max_invocations)
        self._botocore = BotocoreSource(
            allow_http=self.allow_http,
            max_idle=self.max_requests,
            ca_bundle=ca_bundle,
            direct=self.direct,
            timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
        )
        #: the connections of S3 without botocore, by the trusted certificates
        self._pools: dict[str | None, ConnectionPool] = {}
        self._identities: WeakValueDictionary[tuple[Settings, _Environment], Identity] = (
            WeakValueDictionary()
        )
        self._limiters: WeakValueDictionary[tuple[str, bool, str], AdaptiveLimiter] = (
            WeakValueDictionary()
        )
        self._support: WeakValueDictionary[str, EndpointSupport] = WeakValueDictionary()
        self._services: WeakValueDictionary[tuple[str, bool, Settings, _Environment], Service] = (
            WeakValueDictionary()
        )
        #: recently used Services; the most recently used one is the last
        self._recent: OrderedDict[Service, None] = OrderedDict()
        is_active()  # before the first request of this Session
        self._owner = Owner()
        self._cancelled_on_close: set[tuple[anyio.CancelScope, anyio.Event]] = set()
        self._ending = False

    async def __aenter__(self) -> Self:
        self._owner.enter()
        return self

    @in_own_task
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._owner.check_loop()
        self._ending = True
        for scope, _ in self._cancelled_on_close:
            scope.cancel()
        with anyio.move_on_after(_CLEANUP_TIMEOUT, shield=True):
            for _, cleaned_up in list(self._cancelled_on_close):
                await cleaned_up.wait()
        self._owner.ended = True
        self._recent.clear()
        with anyio.move_on_after(_CLOSE_TIMEOUT, shield=True):
            await self._close_connections()

    async def _close_connections(self) -> None:
        """Close every connection, and wait until the sockets are closed."""
        self._end_connections()
        for _ in range(_CLOSE_ITERATIONS):
            await anyio.lowlevel.checkpoint()

    def _end_connections(self) -> None:
        _call_all(self._ends())

    def _ends(self) -> list[Callable[[], None]]:
        """Return the functions that close all connections."""
        return [self._botocore.end, *(pool.close for pool in self._pools.values())]

    def __del__(self) -> None:
        owner: Owner | None = getattr(self, "_owner", None)
        if owner is None or owner.ended or owner.loop is None:
            return
        owner.ended = True
        with suppress(RuntimeError):  # the loop is closed, and so are its connections
            owner.loop.call_soon_threadsafe(_call_all, self._ends())
        warnings.warn(
            "a Session was not closed before it was garbage-collected; its connections are closed"
            " now. Use 'async with aiohaul.Session() as session'",
            ResourceWarning,
            source=self,
            stacklevel=2,
        )

    def resolve(self, settings: Settings | None) -> Settings:
        """The settings that a call with ``settings`` uses, defaults and environment included."""
        own = settings.over(self.settings) if settings is not None else self.settings
        return own.over_environment()

    async def service(
        self, name: str, settings: Settings | None = None, *, once: bool = False
    ) -> Service:
        """The shared service for these settings.

        Args:
            name: botocore's name of the service, such as ``s3``.
            settings: credentials, role, region and endpoint.
            once: True for invocations, which count against ``max_invocations``.

        Raises:
            SessionError: the Session is not entered or is closed, or belongs to another event loop
                or process.
            SettingsError: credentials, region or profile are missing.
            ServiceError: the role cannot be assumed (STS AssumeRole).
        """
        self._owner.check()
        settings = self.resolve(settings)
        environment = _environment(os.environ)
        key = (name, once, settings, environment)
        found = self._services.get(key)
        if found is None:
            identity = self._identities.setdefault(key[2:], Identity())
            # botocore's get_credentials has no lock. Each identity has a lock of its own, so that
            # an identity for which STS does not respond does not block the others.
            async with identity.lock:
                found = self._services.get(key)
                if found is None:
                    found = await self._create_service(name, settings, identity, once=once)
                    if not found.has_credentials:  # the next call searches again
                        return found
                    self._services[key] = found
        self._touch(found)
        return found

    def _touch(self, service: Service) -> None:
        """Mark a Service as the most recently used, and remove the oldest from the full cache."""
        self._recent[service] = None
        self._recent.move_to_end(service)
        while len(self._recent) > _CACHED_SERVICES:
            self._recent.popitem(last=False)

    async def _create_service(
        self, name: str, settings: Settings, identity: Identity, *, once: bool
    ) -> Service:
        plain = None
        if name == "s3" and self.direct:
            plain = await run_in_thread(plain_settings, settings, dict(os.environ), self.ca_bundle)
        backend: Backend
        if plain is not None:
            backend = self._plain_backend(plain, settings, identity)
        else:
            backend = await self._botocore.backend(name, settings, identity)
        if self._owner.ended:  # the Session ended before this Service existed
            await self._close_connections()
        self._owner.check()
        limiter = self._limiters.setdefault(
            (name, once, backend.endpoint_url),
            AdaptiveLimiter(self.max_invocations if once else self.max_requests),
        )
        return Service(
            backend,
            limiter,
            self._owner.check,
            identity,
            support=self._support.setdefault(backend.endpoint_url, EndpointSupport()),
        )

    def _plain_backend(
        self, plain: PlainSettings, settings: Settings, identity: Identity
    ) -> PlainS3:
        if not self.allow_http:
            check_tls(plain.endpoint.shown_url)
        pool = self._pools.get(plain.ca_bundle)
        if pool is None:
            connector = Connector(
                partial(tls_context, plain.ca_bundle),
                connect_timeout=CONNECT_TIMEOUT,
                read_timeout=READ_TIMEOUT,
            )
            pool = self._pools[plain.ca_bundle] = ConnectionPool(connector, self.max_requests)
        return PlainS3(
            plain.endpoint,
            plain.keys,
            sends_checksums=plain.sends_checksums,
            connections=pool,
            botocore=partial(self._botocore.locked_backend, "s3", settings, identity),
        )

    @asynccontextmanager
    async def cancel_on_close(self, what: str) -> AsyncIterator[None]:
        """Cancel the block when the Session is closed, and keep the connections for the cleanup.

        For work that must be undone at AWS. The Session waits up to 120 s for the end of the block
        before it closes the connections.

        Args:
            what: the end of the work in the error message, such as ``the copies were done``.

        Raises:
            SessionError: the Session is being closed, or was closed during the block.
        """
        if self._ending:
            raise SessionError("this Session is being closed. Create a new Session")
        scope, cleaned_up = anyio.CancelScope(), anyio.Event()
        entry = (scope, cleaned_up)
        self._cancelled_on_close.add(entry)
        try:
            with scope:
                yield
        finally:
            self._cancelled_on_close.discard(entry)
            cleaned_up.set()
        if scope.cancelled_caught:
            raise SessionError(
                f"the Session was closed before {what}. Await the work inside of the block of the"
                " Session"
            )


def _call_all(functions: list[Callable[[], None]]) -> None:
    for function in functions:
        function()


def _environment(environ: Mapping[str, str]) -> _Environment:
    """Return the variables that botocore reads. Clients are shared only if these are equal."""
    return frozenset(item for item in environ.items() if item[0].startswith("AWS_"))


def _within_descriptor_limit(connections: int) -> int:
    """Return the number of connections, or 3/4 of the process's file descriptors if lower."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return connections if soft == resource.RLIM_INFINITY else min(connections, soft * 3 // 4)
