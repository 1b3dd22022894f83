"""Who and where: credentials, role, region and endpoint of one side of the work."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from aiohaul.errors import SettingsError

#: Environment variables that only the web identity provider of botocore may interpret.
_WEB_IDENTITY = "AWS_WEB_IDENTITY_TOKEN_FILE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Credentials, role, region and endpoint; what is None is left to the next in order.

    The order is: these settings, those of the Session, the ``AWS_*`` environment variables, then
    botocore's own chain (profile, container, instance role). Settings are values: equal ones
    share their clients and connections. A pickle or copy of them holds their keys, as they are.

    Attributes:
        access_key_id: with ``secret_access_key``: both or neither.
        secret_access_key: never in a repr.
        session_token: for temporary keys; never in a repr.
        region: such as ``eu-west-1``.
        role_arn: a role to assume (STS AssumeRole); renewed by itself before it expires. None is
            that of what lies below; "" is none, whatever lies below.
        role_external_id: the external id that the role asks for.
        role_duration: seconds that one AssumeRole lasts, 900 to 43,200; None is AWS's default.
        endpoint_url: an endpoint other than AWS's own.

    Raises:
        SettingsError: half a pair of keys, or a token without keys.
    """

    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str | None = None
    role_arn: str | None = None
    role_external_id: str | None = field(default=None, repr=False)
    role_duration: int | None = None
    endpoint_url: str | None = None

    def __post_init__(self) -> None:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise SettingsError("access_key_id and secret_access_key go together: give both")
        if self.session_token is not None and self.access_key_id is None:
            raise SettingsError("session_token belongs to access_key_id: give the keys too")

    @classmethod
    def from_protocol(cls, protocol: Mapping[str, Any]) -> Self:
        """The settings that a definition's ``protocol`` object carries."""
        return cls(
            access_key_id=protocol.get("access_key_id"),
            secret_access_key=protocol.get("secret_access_key"),
            session_token=protocol.get("session_token"),
            region=protocol.get("region_name"),
            role_arn=protocol.get("assume_role_arn"),
            role_external_id=protocol.get("assume_role_external_id"),
            role_duration=protocol.get("token_expiry_seconds"),
            endpoint_url=protocol.get("endpoint_url"),
        )

    def over(self, base: Settings) -> Settings:
        """These settings, with what they leave open taken from ``base``.

        A pair of keys and its token are taken together, so that no token meets foreign keys; so
        are a role, its external id and its duration.
        """
        keys = self if self.access_key_id is not None else base
        role = self if self.role_arn is not None else base
        return Settings(
            access_key_id=keys.access_key_id,
            secret_access_key=keys.secret_access_key,
            session_token=keys.session_token,
            region=self.region or base.region,
            role_arn=role.role_arn,
            role_external_id=role.role_external_id,
            role_duration=role.role_duration,
            endpoint_url=self.endpoint_url or base.endpoint_url,
        )

    def over_environment(self, environ: Mapping[str, str] = os.environ) -> Settings:
        """These settings, with what botocore does not read by itself taken from ``environ``.

        That is ``AWS_REGION``, and ``AWS_ROLE_ARN`` with ``AWS_ASSUME_ROLE_EXTERNAL_ID`` unless
        they stand beside ``AWS_WEB_IDENTITY_TOKEN_FILE``, where they are botocore's.
        """
        role = self.role_arn
        if role is None and _WEB_IDENTITY not in environ:
            role = environ.get("AWS_ROLE_ARN") or None
        external_id = self.role_external_id
        if role and external_id is None:
            external_id = environ.get("AWS_ASSUME_ROLE_EXTERNAL_ID") or None
        region = self.region or environ.get("AWS_REGION") or None
        return replace(self, region=region, role_arn=role or None, role_external_id=external_id)

    @property
    def identity(self) -> Settings:
        """Who, without where: equal for two sides that one set of credentials can serve."""
        return replace(self, region=None, endpoint_url=None)
