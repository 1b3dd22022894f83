"""Credentials of clients: given keys, assumed roles, and the renewal of their credentials."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.credentials import (
    AioAssumeRoleCredentialFetcher,
    AioCredentials,
    AioRefreshableCredentials,
)
from aiobotocore.session import AioSession
from botocore.exceptions import NoCredentialsError

from aiohaul.aws import backend
from aiohaul.aws.errors import translated
from aiohaul.aws.hosts import sts_endpoint
from aiohaul.aws.redaction import suppress_debug_logs
from aiohaul.aws.retry import ATTEMPTS
from aiohaul.settings import Settings

#: The default duration of AssumeRole, in seconds.
_DEFAULT_ROLE_DURATION = 3600
#: The number of seconds before the expiry at which botocore renews credentials.
_ADVISORY_REFRESH = 15 * 60
_MANDATORY_REFRESH = 10 * 60

_NO_CACHE = 10**9


class _FixedProvider:
    """Replaces botocore's chain of credential providers with given credentials."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials

    async def load_credentials(self) -> Any:
        return self._credentials


async def use_credentials(
    session: AioSession, settings: Settings, config: AioConfig, ca_bundle: str | None = None
) -> None:
    """Make every client of ``session`` use the keys and the role of ``settings``.

    If no keys are given, botocore's own chain of providers is used. The role is assumed here for
    the first time (STS AssumeRole), so that a wrong role fails at once.

    Args:
        session: the botocore session to configure.
        settings: the keys and the role.
        config: the timeouts and sockets for the requests to STS.
        ca_bundle: the path of a file with the certificates to trust; None uses botocore's choice.

    Raises:
        SettingsError: no credentials were found with which to assume the role.
        ServiceError: AWS refused to assume the role, or the request failed.
    """
    if settings.access_key_id is not None:
        _provide(
            session,
            AioCredentials(
                settings.access_key_id, settings.secret_access_key, settings.session_token
            ),
        )
    if settings.role_arn is not None:
        # botocore sends the requests to STS, now and at each renewal, so botocore must retry.
        retries = AioConfig(retries={"mode": "standard", "total_max_attempts": ATTEMPTS})
        creator = partial(
            session.create_client,
            region_name=settings.region,
            endpoint_url=sts_endpoint(settings.endpoint_url),
            config=config.merge(retries),
            verify=ca_bundle,
        )
        with translated("AssumeRole", settings.role_arn), suppress_debug_logs():
            _provide(session, await _assume_role(session, settings, creator))


def _provide(session: AioSession, credentials: Any) -> None:
    session.register_component("credential_provider", _FixedProvider(credentials))


async def _assume_role(
    session: AioSession, settings: Settings, create_client: Callable[..., Any]
) -> AioRefreshableCredentials:
    duration = settings.role_duration or _DEFAULT_ROLE_DURATION
    arguments: dict[str, Any] = {"RoleSessionName": f"aiohaul-{secrets.token_hex(8)}"}
    if settings.role_duration is not None:
        arguments["DurationSeconds"] = settings.role_duration
    if settings.role_external_id is not None:
        arguments["ExternalId"] = settings.role_external_id
    # session.get_credentials would cache the source credentials for the session's clients.
    source = await session.get_component("credential_provider").load_credentials()
    if source is None:
        raise NoCredentialsError

    fetcher = AioAssumeRoleCredentialFetcher(
        create_client,
        source,
        settings.role_arn,
        extra_args=arguments,
        # Only the credentials below decide when to renew; disable the fetcher's cache.
        expiry_window_seconds=_NO_CACHE,
    )
    return AioRefreshableCredentials.create_from_metadata(
        await fetcher.fetch_credentials(),
        refresh_using=fetcher.fetch_credentials,
        method="assume-role",
        advisory_timeout=min(_ADVISORY_REFRESH, duration / 3),
        mandatory_timeout=min(_MANDATORY_REFRESH, duration / 6),
    )


class Renewal(backend.Renewal):
    """Renews the credentials of a client early, if a server refuses them as expired.

    A server may refuse credentials before their expiry, because the clocks differ or the session
    was revoked.

    Args:
        credentials: the credentials of the client. Only refreshable credentials are renewed.
    """

    def __init__(self, credentials: Any) -> None:
        refreshable = isinstance(credentials, AioRefreshableCredentials)
        self._credentials: Any = credentials if refreshable else None

    @property
    def current(self) -> object:
        """The keys that sign requests now; None if the credentials cannot be renewed."""
        # botocore makes a new object at each renewal. If a later botocore does not have this
        # attribute, credentials are not renewed early.
        return getattr(self._credentials, "_frozen_credentials", None)

    async def renew(self, refused: object) -> bool:
        """Renew the refused keys; see :class:`aiohaul.aws.backend.Renewal`."""
        if refused is None:
            return False
        with translated("renewing", "the credentials"), suppress_debug_logs():
            if self.current is refused:
                # This makes botocore renew the credentials, under a lock of its own.
                self._credentials._expiry_time = datetime.now(UTC)  # noqa: SLF001  # botocore has no public way
            await self._credentials.get_frozen_credentials()
        return True
