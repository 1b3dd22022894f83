"""The aiobotocore clients of one event loop."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self

import anyio
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from aiohaul.aws import models
from aiohaul.aws.credentials import use_credentials
from aiohaul.aws.direct.answers import timestamp
from aiohaul.aws.errors import translated
from aiohaul.aws.names import resolver
from aiohaul.aws.pace import Pace
from aiohaul.aws.plain import check_tls
from aiohaul.aws.secrecy import quiet
from aiohaul.aws.service import Service
from aiohaul.aws.sockets import keepalive_socket
from aiohaul.aws.transport import PlainTransport, Transport
from aiohaul.concurrency import in_own_task
from aiohaul.errors import SessionError, SettingsError
from aiohaul.settings import Settings
from aiohaul.telemetry.otel import active

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 60.0
#: Invocations of functions that are held at once; each takes a connection, and a file descriptor.
MAX_INVOCATIONS = 4096
#: How long what was cancelled by a Session's end may take to be undone: hundreds of Fargate tasks
#: are told to stop at the pace that ECS allows.
_UNDO_TIMEOUT = 120.0
#: How long closing connections may take when a Session ends.
_CLOSE_TIMEOUT = 5.0

_Environment = frozenset[tuple[str, str]]


class Clients:
    """Clients shared by service and settings, and a bound on the requests in flight.

    An async context manager: leaving it closes every connection, whatever happened. It belongs
    to the event loop and the process that entered it.

    Args:
        settings: who and where, for what the settings of a call leave open.
        max_requests: requests in flight at once for each endpoint of a service; more wait their
            turn.
        max_invocations: invocations of functions in flight at once, apart from these: they are
            held for minutes. Fewer where the process may not open that many files.
        direct: S3 requests that this library knows go past botocore, where that comes to the
            same; False sends all of them through it. So does AIOHAUL_DIRECT=0 around.
        allow_http: endpoints on other machines may be plain http. So may they with
            AIOHAUL_ALLOW_HTTP=1 around.
        ca_bundle: a file of certificates to trust instead of the system's; None is botocore's
            choice (AWS_CA_BUNDLE, or its profile's).
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
        self.max_requests = max_requests
        self.max_invocations = _affordable(max_invocations)
        self._stack = AsyncExitStack()
        self._locks: dict[tuple[Settings, _Environment], anyio.Lock] = {}
        self._paces: dict[tuple[str, bool, str], Pace] = {}
        self._sessions: dict[tuple[Settings, _Environment], AioSession] = {}
        self._services: dict[tuple[str, bool, Settings, _Environment], Service] = {}
        active()  # for the requests of this Session
        self._owner: tuple[asyncio.AbstractEventLoop, int] | None = None
        self._ended = False
        self._undoable: set[tuple[anyio.CancelScope, anyio.Event]] = set()
        self._loader: Any = None

    async def __aenter__(self) -> Self:
        if self._owner is not None:
            raise SessionError("this Session was entered before: make a new one")
        self._owner = (asyncio.get_running_loop(), os.getpid())
        return self

    @in_own_task
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for scope, _ in self._undoable:
            scope.cancel()
        with anyio.move_on_after(_UNDO_TIMEOUT, shield=True):
            for _, undone in list(self._undoable):
                await undone.wait()
        self._ended = True
        self._services.clear()
        self._sessions.clear()
        with anyio.move_on_after(_CLOSE_TIMEOUT, shield=True):
            await self._stack.aclose()

    def resolve(self, settings: Settings | None) -> Settings:
        """The settings that a call with ``settings`` will use."""
        own = settings.over(self.settings) if settings is not None else self.settings
        return own.over_environment()

    async def service(
        self, name: str, settings: Settings | None = None, *, once: bool = False
    ) -> Service:
        """The door to a service, such as ``s3``, for these settings.

        Args:
            name: the service.
            settings: who and where; what they leave open is this object's.
            once: every request is sent once and never again, in the slots of invocations.

        Raises:
            SessionError: outside of this object's lifetime, loop or process.
            SettingsError: no credentials, region or profile.
            ServiceError: the role may not be assumed (STS AssumeRole).
        """
        self._check_owner()
        settings = self.resolve(settings)
        environment = _environment(os.environ)
        key = (name, once, settings, environment)
        found = self._services.get(key)
        if found is not None:
            return found
        # One at a time: botocore's get_credentials has no lock of its own. That is one for each
        # identity: where STS does not answer for one, the others go on.
        async with self._locks.setdefault(key[2:], anyio.Lock()):
            if key not in self._services:
                client = await self._create(name, settings, environment, self._config(once=once))
                # The client has asked for them: they are kept, and no provider is asked again.
                credentials = await (await self._session(settings, environment)).get_credentials()
                if self._ended:  # meanwhile; the stack was closed without the new client
                    await self._stack.aclose()
                self._check_owner()
                place = (name, once, client.meta.endpoint_url)
                pace = self._paces.setdefault(place, Pace(self._bound(once=once)))
                self._services[key] = Service(
                    client, pace, self._check_owner, credentials, direct=self.direct
                )
            return self._services[key]

    async def _create(
        self, name: str, settings: Settings, environment: _Environment, config: AioConfig
    ) -> Any:
        with translated("creating a client", name), quiet():
            session = await self._session(settings, environment)
            creator = session.create_client(
                name,
                region_name=settings.region,
                endpoint_url=settings.endpoint_url,
                config=config,
                verify=self.ca_bundle,
            )
            try:
                client = await self._stack.enter_async_context(creator)
            except ValueError as error:  # botocore's word for an endpoint that is no URL
                raise SettingsError(f"a client for {name} cannot be made: {error}") from error
        if not self.allow_http:
            check_tls(client.meta.endpoint_url)
        return client

    async def _session(self, settings: Settings, environment: _Environment) -> AioSession:
        found = self._sessions.get((settings, environment))
        if found is not None:
            return found
        session = AioSession()
        if self._loader is None:
            self._loader = models.loader(session)
        # The service models are the dear part of a session (8 MB); one copy serves all.
        session.register_component("data_loader", self._loader)
        session.get_component("response_parser_factory").set_parser_defaults(
            timestamp_parser=timestamp
        )
        session.user_agent_extra = f"aiohaul/{version('aiohaul')} {session.user_agent_extra}"
        config = self._config(once=False)
        await use_credentials(session, settings, config, self.ca_bundle)
        self._sessions[settings, environment] = session
        return session

    def _bound(self, *, once: bool) -> int:
        return self.max_invocations if once else self.max_requests

    def _config(self, *, once: bool) -> AioConfig:
        return AioConfig(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            # There is no timeout for a wait for the pool: the slots must be the tighter bound,
            # beside the connections that are kept for requests of the direct way.
            max_pool_connections=2 * self._bound(once=once) + 1,
            # Service decides what is sent again.
            retries={"mode": "standard", "total_max_attempts": 1},
            connector_args={"socket_factory": keepalive_socket, **resolver()},
            http_session_cls=PlainTransport if self.allow_http else Transport,
            # Some servers send the whole object's checksum with a range of it; what is read is
            # held against the listed ETag and size instead.
            response_checksum_validation="when_required",
        )

    @asynccontextmanager
    async def undoable(self, what: str) -> AsyncIterator[None]:
        """Work that is undone at AWS when it is cancelled, as it is when the Session ends.

        The Session's end waits for the undoing: it needs the connections.

        Args:
            what: what is under way, for the error.

        Raises:
            SessionError: the Session ended meanwhile.
        """
        scope, undone = anyio.CancelScope(), anyio.Event()
        entry = (scope, undone)
        self._undoable.add(entry)
        try:
            with scope:
                yield
        finally:
            self._undoable.discard(entry)
            undone.set()
        if scope.cancelled_caught:
            raise SessionError(f"the Session ended before {what}")

    def _check_owner(self) -> None:
        if self._owner is None:
            raise SessionError("this Session is not entered: use 'async with Session() as session'")
        if self._ended:
            raise SessionError("this Session has ended: make a new one")
        loop, pid = self._owner
        if pid != os.getpid():
            raise SessionError("this Session belongs to the parent process: make a new one")
        if loop is not asyncio.get_running_loop():
            raise SessionError("this Session belongs to another event loop: make one for this loop")


def _environment(environ: Mapping[str, str]) -> _Environment:
    """What botocore's chain would read: a client made under another environment is another."""
    return frozenset(item for item in environ.items() if item[0].startswith("AWS_"))


def _affordable(connections: int) -> int:
    """As many of these as may be held without using up the process's file descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return connections if soft == resource.RLIM_INFINITY else min(connections, soft * 3 // 4)
