"""The aiobotocore clients of one event loop."""

from __future__ import annotations

import os
import resource
import warnings
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from copy import copy
from types import TracebackType
from typing import Any, Self
from weakref import WeakValueDictionary

import anyio
from aiobotocore.config import AioConfig
from aiobotocore.hooks import AioHierarchicalEmitter
from aiobotocore.session import AioSession

from aiohaul.aws import models
from aiohaul.aws.credentials import use_credentials
from aiohaul.aws.direct.answers import timestamp
from aiohaul.aws.errors import translated
from aiohaul.aws.names import resolver
from aiohaul.aws.owner import Owner
from aiohaul.aws.pace import Pace
from aiohaul.aws.plain import check_tls
from aiohaul.aws.secrecy import quiet
from aiohaul.aws.service import Service
from aiohaul.aws.sockets import keepalive_socket
from aiohaul.aws.transport import Transports
from aiohaul.cancellation import in_own_task
from aiohaul.concurrency import Lock
from aiohaul.errors import SessionError, SettingsError
from aiohaul.settings import Settings
from aiohaul.shortage import check_descriptors
from aiohaul.telemetry.otel import active
from aiohaul.threads import run_in_thread
from aiohaul.version import own_version

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 60.0
#: Invocations of functions that are held at once; each takes a connection, and a file descriptor.
MAX_INVOCATIONS = 4096
#: How long what was cancelled by a Session's end may take to be undone: hundreds of Fargate tasks
#: are told to stop at the pace that ECS allows.
_UNDO_TIMEOUT = 120.0
#: How long closing connections may take when a Session ends.
_CLOSE_TIMEOUT = 5.0
#: Services that are kept for the next call, those used last; each is of one identity.
_KEPT = 128

_Environment = frozenset[tuple[str, str]]


class _Identity:
    """Who sends requests. It lives as long as one of its services is kept, or in use.

    Attributes:
        lock: held while one of its services is made.
        session: botocore's, which has its credentials; None until they are settled.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.session: AioSession | None = None


class Clients:
    """Clients shared by service and settings, and a bound on the requests in flight.

    An async context manager: leaving it closes every connection, whatever happened. It belongs
    to the event loop and the process that entered it. All services share their connections. Of
    any number of identities, those that were used last are kept; the others are forgotten once
    nobody uses them.

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
        self.max_requests = _affordable(max_requests)
        self.max_invocations = _affordable(max_invocations)
        self._connector = {"socket_factory": keepalive_socket, **resolver()}
        self._transports = Transports(plain=self.allow_http, most_kept=self.max_requests)
        self._identities: WeakValueDictionary[tuple[Settings, _Environment], _Identity] = (
            WeakValueDictionary()
        )
        self._paces: WeakValueDictionary[tuple[str, bool, str], Pace] = WeakValueDictionary()
        self._services: WeakValueDictionary[tuple[str, bool, Settings, _Environment], Service] = (
            WeakValueDictionary()
        )
        #: the services that are kept, the last used one last
        self._kept: OrderedDict[Service, None] = OrderedDict()
        active()  # for the requests of this Session
        self._owner = Owner()
        self._undoable: set[tuple[anyio.CancelScope, anyio.Event]] = set()
        self._ending = False
        self._loader: Any = None
        self._hooks: AioHierarchicalEmitter | None = None

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
        self._owner.check_place()
        self._ending = True
        for scope, _ in self._undoable:
            scope.cancel()
        with anyio.move_on_after(_UNDO_TIMEOUT, shield=True):
            for _, undone in list(self._undoable):
                await undone.wait()
        self._owner.ended = True
        self._kept.clear()
        with anyio.move_on_after(_CLOSE_TIMEOUT, shield=True):
            await self._transports.end()

    def __del__(self) -> None:
        owner: Owner | None = getattr(self, "_owner", None)
        if owner is None or owner.ended or owner.loop is None:
            return
        owner.ended = True
        self._transports.end_soon(owner.loop)
        warnings.warn(
            "a Session was dropped that is not closed; its connections are closed now. Use 'async"
            " with aiohaul.Session() as session', which closes them in time",
            ResourceWarning,
            source=self,
            stacklevel=2,
        )

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
        self._owner.check()
        settings = self.resolve(settings)
        environment = _environment(os.environ)
        key = (name, once, settings, environment)
        found = self._services.get(key)
        if found is None:
            identity = self._identities.setdefault(key[2:], _Identity())
            # One at a time: botocore's get_credentials has no lock of its own. That is one for
            # each identity: where STS does not answer for one, the others go on.
            async with identity.lock:
                found = self._services.get(key)
                if found is None:
                    found = await self._made(name, settings, identity, once=once)
                    if identity.session is None:  # without credentials: they are looked for anew
                        return found
                    self._services[key] = found
        self._keep(found)
        return found

    def _keep(self, service: Service) -> None:
        """Keep a service that is used now, and forget those that were used long ago."""
        self._kept[service] = None
        self._kept.move_to_end(service)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

    async def _made(
        self, name: str, settings: Settings, identity: _Identity, *, once: bool
    ) -> Service:
        client = await self._create(name, settings, identity, self._config())
        credentials = None
        if identity.session is not None:
            # The client has asked for them: they are kept, and no provider is asked again.
            credentials = await identity.session.get_credentials()
        if credentials is None:
            identity.session = None
        if self._owner.ended:  # meanwhile, without the new client
            await self._transports.end()
        self._owner.check()
        place = (name, once, client.meta.endpoint_url)
        pace = self._paces.setdefault(place, Pace(self._bound(once=once)))
        return Service(client, pace, self._owner.check, credentials, identity, direct=self.direct)

    async def _create(
        self, name: str, settings: Settings, identity: _Identity, config: AioConfig
    ) -> Any:
        with translated("creating a client", name), quiet():
            session = await self._session(settings, identity)
            await run_in_thread(models.load, self._loader, name)
            creator = session.create_client(
                name,
                region_name=settings.region,
                endpoint_url=settings.endpoint_url,
                config=config,
                verify=self.ca_bundle,
            )
            try:
                # Never left: all that it holds is the transport, which is everybody's.
                client = await creator.__aenter__()
            except ValueError as error:  # botocore's word for an endpoint that is no URL
                raise SettingsError(f"a client for {name} cannot be made: {error}") from error
        if not self.allow_http:
            check_tls(client.meta.endpoint_url)
        return client

    async def _session(self, settings: Settings, identity: _Identity) -> AioSession:
        if identity.session is not None:
            return identity.session
        # botocore takes a file that cannot be opened for one that has nothing in it.
        check_descriptors()
        session = self._blank_session()
        if self._loader is None:
            self._loader = models.loader(session)
        # The service models are the dear part of a session (8 MB); one copy serves all.
        session.register_component("data_loader", self._loader)
        session.get_component("response_parser_factory").set_parser_defaults(
            timestamp_parser=timestamp
        )
        session.user_agent_extra = f"aiohaul/{own_version()} {session.user_agent_extra}"
        config = self._config()
        await use_credentials(session, settings, config, self.ca_bundle)
        identity.session = session
        return session

    def _blank_session(self) -> AioSession:
        """A session without settings. Half of what one costs is the list of botocore's hooks."""
        if self._hooks is None:
            hooks = AioHierarchicalEmitter()
            session = AioSession(event_hooks=hooks)
            self._hooks = copy(hooks)
            return session
        return AioSession(event_hooks=copy(self._hooks), include_builtin_handlers=False)

    def _bound(self, *, once: bool) -> int:
        return self.max_invocations if once else self.max_requests

    def _config(self) -> AioConfig:
        return AioConfig(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            # The slots are the bound: there is no timeout for a wait for the pool.
            max_pool_connections=0,
            # Service decides what is sent again.
            retries={"mode": "standard", "total_max_attempts": 1},
            connector_args=self._connector,
            http_session_cls=self._transports,
            # Some servers send the whole object's checksum with a range of it; what is read is
            # held against the listed ETag and size instead.
            response_checksum_validation="when_required",
        )

    @asynccontextmanager
    async def undoable(self, what: str) -> AsyncIterator[None]:
        """Work that is undone at AWS when it is cancelled, as it is when the Session ends.

        The Session's end waits for the undoing: it needs the connections. Nothing of the kind
        begins meanwhile.

        Args:
            what: what is under way, for the error.

        Raises:
            SessionError: the Session ends, or ended meanwhile.
        """
        if self._ending:
            raise SessionError("this Session is ending: make a new one")
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


def _environment(environ: Mapping[str, str]) -> _Environment:
    """What botocore's chain would read: a client made under another environment is another."""
    return frozenset(item for item in environ.items() if item[0].startswith("AWS_"))


def _affordable(connections: int) -> int:
    """As many of these as may be held without using up the process's file descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return connections if soft == resource.RLIM_INFINITY else min(connections, soft * 3 // 4)
