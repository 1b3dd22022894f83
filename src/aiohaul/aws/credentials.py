"""Credentials on botocore's own providers: given keys, and roles that renew themselves."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from aiobotocore.config import AioConfig
from aiobotocore.credentials import (
    AioAssumeRoleCredentialFetcher,
    AioCredentials,
    AioRefreshableCredentials,
)
from aiobotocore.session import AioSession
from botocore.exceptions import NoCredentialsError

from aiohaul.aws.errors import translated
from aiohaul.aws.retry import ATTEMPTS
from aiohaul.aws.secrecy import quiet
from aiohaul.errors import SettingsError
from aiohaul.settings import Settings

#: What AWS grants an AssumeRole that names no duration, in seconds.
_DEFAULT_ROLE_DURATION = 3600
#: botocore renews 15 minutes before the end, which is at once for the shortest role.
_ADVISORY_REFRESH = 15 * 60
_MANDATORY_REFRESH = 10 * 60

_NEVER_CACHED = 10**9


class _Given:
    """Stands where botocore's provider chain stands, and gives what is already settled."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials

    async def load_credentials(self) -> Any:
        return self._credentials


async def use_credentials(
    session: AioSession, settings: Settings, config: AioConfig, ca_bundle: str | None = None
) -> None:
    """Make every client of ``session`` use the keys and the role of ``settings``.

    What ``settings`` leave open stays with botocore's own chain. Assumes the role once (STS
    AssumeRole), so that a role that may not be assumed is an error here and not later.

    Args:
        session: whose clients.
        settings: who.
        config: timeouts and sockets for the requests to STS.
        ca_bundle: the certificates that those trust; None is botocore's choice.

    Raises:
        SettingsError: there are no credentials to assume the role with.
        ServiceError: the role may not be assumed.
    """
    if settings.access_key_id is not None:
        _provide(
            session,
            AioCredentials(
                settings.access_key_id, settings.secret_access_key, settings.session_token
            ),
        )
    if settings.role_arn is not None:
        # STS is asked by botocore itself, now and at each renewal, and so retried by it.
        retries = AioConfig(retries={"mode": "standard", "total_max_attempts": ATTEMPTS})
        creator = partial(
            session.create_client,
            region_name=settings.region,
            endpoint_url=sts_endpoint(settings.endpoint_url),
            config=config.merge(retries),
            verify=ca_bundle,
        )
        with translated("AssumeRole", settings.role_arn), quiet():
            _provide(session, await _assumed(session, settings, creator))


def _provide(session: AioSession, credentials: Any) -> None:
    session.register_component("credential_provider", _Given(credentials))


async def _assumed(
    session: AioSession, settings: Settings, create_client: Callable[..., Any]
) -> AioRefreshableCredentials:
    duration = settings.role_duration or _DEFAULT_ROLE_DURATION
    arguments: dict[str, Any] = {"RoleSessionName": f"aiohaul-{secrets.token_hex(8)}"}
    if settings.role_duration is not None:
        arguments["DurationSeconds"] = settings.role_duration
    if settings.role_external_id is not None:
        arguments["ExternalId"] = settings.role_external_id
    # Not by session.get_credentials, which would keep the source's for the session's clients.
    source = await session.get_component("credential_provider").load_credentials()
    if source is None:
        raise NoCredentialsError

    fetcher = AioAssumeRoleCredentialFetcher(
        create_client,
        source,
        settings.role_arn,
        extra_args=arguments,
        # When to renew is decided once, by the credentials below; the fetcher's cache stays out.
        expiry_window_seconds=_NEVER_CACHED,
    )
    return AioRefreshableCredentials.create_from_metadata(
        await fetcher.fetch_credentials(),
        refresh_using=fetcher.fetch_credentials,
        method="assume-role",
        advisory_timeout=min(_ADVISORY_REFRESH, duration / 3),
        mandatory_timeout=min(_MANDATORY_REFRESH, duration / 6),
    )


class Renewal:
    """Credentials that renew themselves, made to do so before their time.

    The server may call credentials expired that are not so here: the clocks differ, or the
    session was revoked.

    Args:
        credentials: of a client, of any kind.
    """

    def __init__(self, credentials: Any) -> None:
        renews = isinstance(credentials, AioRefreshableCredentials)
        self._credentials: Any = credentials if renews else None

    @property
    def current(self) -> object:
        """What requests are signed with now; None if it cannot be renewed."""
        # One object from each renewal to the next; a botocore without it renews at its own times.
        return getattr(self._credentials, "_frozen_credentials", None)

    async def renew(self, refused: object) -> bool:
        """Renew what was refused, unless somebody else has by now: True if that can be done.

        Raises:
            ServiceError: the role may not be assumed any more.
            SettingsError: there is nothing to renew them with.
        """
        if refused is None:
            return False
        with translated("renewing", "the credentials"), quiet():
            if self.current is refused:
                # Expired as of now: all else, the lock and whoever waits for it, is botocore's.
                self._credentials._expiry_time = datetime.now(UTC)  # noqa: SLF001  # as above
            await self._credentials.get_frozen_credentials()
        return True


def sts_endpoint(endpoint_url: str | None) -> str | None:
    """The endpoint for AssumeRole where a side names its own; None is botocore's choice.

    A server that stands in for AWS answers STS too. An endpoint of AWS (of one service, or of a
    VPC) does not.
    """
    try:
        host = urlsplit(endpoint_url or "").hostname or ""
    except ValueError as error:
        raise SettingsError(f"{endpoint_url} is no URL: {error}") from error
    return None if is_aws(host) else endpoint_url


def is_aws(host: str) -> bool:
    """True for a host of AWS itself."""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))
