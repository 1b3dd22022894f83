"""Creates the aiobotocore clients of a Session, which share connections, models and hooks."""

from __future__ import annotations

from copy import copy
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.hooks import AioHierarchicalEmitter
from aiobotocore.session import AioSession
from botocore.configprovider import ConfiguredEndpointProvider

from aiohaul.aws import models
from aiohaul.aws.botocore_backend import BotocoreBackend
from aiohaul.aws.credentials import use_credentials
from aiohaul.aws.direct.parser import timestamp
from aiohaul.aws.errors import translated
from aiohaul.aws.redaction import suppress_debug_logs
from aiohaul.aws.tls_policy import check_tls
from aiohaul.aws.transport import Transports
from aiohaul.errors import SettingsError
from aiohaul.resource_limits import check_descriptors
from aiohaul.settings import Settings, check_endpoint_url, check_region
from aiohaul.threads import run_in_thread
from aiohaul.version import VERSION


class BotocoreClients:
    """Creates clients, and the sessions with their credentials.

    Args:
        allow_http: True allows unencrypted HTTP to other machines.
        max_idle: the maximum number of idle connections.
        ca_bundle: the path of a PEM file with the certificates to trust; None uses botocore's
            choice (AWS_CA_BUNDLE, or the profile).
        direct: True sends known S3 requests without botocore, where the result is the same.
        timeout: the connect timeout and the read timeout, in seconds.
    """

    def __init__(
        self,
        *,
        allow_http: bool,
        max_idle: int,
        ca_bundle: str | None,
        direct: bool,
        timeout: tuple[float, float],
    ) -> None:
        self._allow_http = allow_http
        self._ca_bundle = ca_bundle
        self._direct = direct
        self._timeout = timeout
        self.transports = Transports(allow_http=allow_http, max_idle=max_idle)
        self._loader: Any = None
        self._hooks: AioHierarchicalEmitter | None = None

    async def session(self, settings: Settings) -> AioSession:
        """Return a new botocore session with the credentials of ``settings``.

        Raises:
            SettingsError: no credentials were found with which to assume the role.
            ServiceError: AWS refused to assume the role (STS AssumeRole), or the request failed.
        """
        # botocore treats a file that cannot be opened as an empty one.
        check_descriptors()
        session = self._blank_session()
        if self._loader is None:
            self._loader = models.loader(session)
        # Service models use most of a session's memory (8 MB), so all sessions share one copy.
        session.register_component("data_loader", self._loader)
        session.get_component("response_parser_factory").set_parser_defaults(
            timestamp_parser=timestamp
        )
        check_region(settings.region or session.get_config_variable("region") or "none")
        _check_configured_endpoint(session, "sts")
        session.user_agent_extra = f"aiohaul/{VERSION} {session.user_agent_extra}"
        await use_credentials(session, settings, self._config(), self._ca_bundle)
        return session

    async def backend(self, name: str, settings: Settings, session: AioSession) -> BotocoreBackend:
        """Return a backend with a new client of a service.

        Args:
            name: botocore's name of the service, such as ``s3``.
            settings: the region and the endpoint.
            session: the botocore session with the credentials.

        Raises:
            SettingsError: the region is missing, or the endpoint is not a URL.
        """
        with translated("creating a client", name), suppress_debug_logs():
            await run_in_thread(models.load, self._loader, name)
            if settings.endpoint_url is None:
                _check_configured_endpoint(session, name)
            creator = session.create_client(
                name,
                region_name=settings.region,
                endpoint_url=settings.endpoint_url,
                config=self._config(),
                verify=self._ca_bundle,
            )
            try:
                # Never exited, because a client holds only the transport, which all clients share.
                client = await creator.__aenter__()
            except ValueError:
                # botocore raises it for a URL in the environment or in AWS's files. The message
                # and the error repeat the URL.
                raise SettingsError(
                    f"creating a client for {name} failed: the URL of the endpoint is not valid."
                    " Correct AWS_ENDPOINT_URL, or endpoint_url in AWS's configuration file"
                ) from None
            # Cached since the client was created, so no provider is called.
            credentials = await session.get_credentials()
        if not self._allow_http:
            check_tls(client.meta.endpoint_url)
        return BotocoreBackend(client, credentials, direct=self._direct)

    def _blank_session(self) -> AioSession:
        """Return a new session. Copying botocore's hooks halves the time to create a session."""
        if self._hooks is None:
            hooks = AioHierarchicalEmitter()
            session = AioSession(event_hooks=hooks)
            self._hooks = copy(hooks)
            return session
        return AioSession(event_hooks=copy(self._hooks), include_builtin_handlers=False)

    def _config(self) -> AioConfig:
        connect_timeout, read_timeout = self._timeout
        return AioConfig(
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            # One attempt, because Service retries.
            retries={"mode": "standard", "total_max_attempts": 1},
            http_session_cls=self.transports,
            # Some servers send the checksum of the whole object with a range. aiohaul compares
            # reads with the listed ETag and size instead.
            response_checksum_validation="when_required",
        )


def _check_configured_endpoint(session: AioSession, name: str) -> None:
    """Check the endpoint of a service in the environment and in AWS's files.

    Before the client is created, because botocore logs the URL, which may have a password.

    Raises:
        SettingsError: the URL has the wrong form.
    """
    provider = ConfiguredEndpointProvider(
        full_config=session.full_config,
        scoped_config=session.get_scoped_config(),
        client_name=name,
    )
    if not session.get_config_variable("ignore_configured_endpoint_urls"):
        check_endpoint_url(provider.provide() or "https://aws")
