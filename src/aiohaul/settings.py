"""The Settings class: credentials, role, region and endpoint of a client."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self
from urllib.parse import urlsplit

from aiohaul.errors import SettingsError
from aiohaul.sensitive import looks_secret

#: If this variable is set, only botocore's web identity provider may use ``AWS_ROLE_ARN``.
_WEB_IDENTITY = "AWS_WEB_IDENTITY_TOKEN_FILE"
#: Short, because a name that is not a region becomes a part of a host name, which DNS servers read.
_REGION = re.compile(r"[A-Za-z0-9-]{1,32}", re.ASCII)
_ROLE = re.compile(r"arn:\S{1,2044}")
_ENDPOINT = re.compile(r"https?://[^/?#@\s]+(/[^?#\s]*)?")


def check_region(region: str) -> None:
    """Check that a text may be the name of a region. The message does not repeat the text.

    Raises:
        SettingsError: the text has other characters than letters, digits and "-", has more than
            32, or is an access key id.
    """
    if not _REGION.fullmatch(region) or looks_secret(region):
        raise SettingsError(
            "region is not the name of a region, such as 'eu-west-1': letters, digits and '-', at"
            " most 32. Correct region, AWS_REGION or AWS_DEFAULT_REGION"
        )


def check_endpoint_url(url: str) -> None:
    """Check that a text is the URL of an endpoint. The message does not repeat the text.

    Raises:
        SettingsError: the text is not an HTTP URL, or has a user, a password, a query or a
            fragment, which may be secret.
    """
    try:
        valid = _ENDPOINT.fullmatch(url) is not None and urlsplit(url).port != 0
    except ValueError:  # a wrong port, or brackets without an IPv6 address
        valid = False
    if not valid:
        raise SettingsError(
            "endpoint_url is not the URL of an endpoint, such as 'https://host:9000', without user,"
            " password and query. Correct endpoint_url or AWS_ENDPOINT_URL, and give keys in"
            " access_key_id and secret_access_key"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Credentials, role, region and endpoint for the requests of a handler.

    A value of None is read from the Session's settings, then from the ``AWS_*`` environment
    variables, then from botocore's own chain (profile, container, instance role). Handlers with
    equal Settings share clients and connections. A pickle or copy contains the keys in plain text.

    Attributes:
        access_key_id: the access key id. Needs ``secret_access_key`` too. Not in a repr, because it
            may be the secret key by mistake.
        secret_access_key: the secret access key. Never shown in a repr.
        session_token: the session token of temporary keys. Never shown in a repr.
        region: the AWS region, such as ``eu-west-1``.
        role_arn: the ARN of a role to assume (STS AssumeRole). The role's credentials are renewed
            before they expire. "" assumes no role, even if the Session or the environment has one.
        role_external_id: the external id that the role requires. Never shown in a repr.
        role_duration: the seconds until the role's credentials expire, 900 to 43,200; None uses
            AWS's default.
        endpoint_url: the URL of an endpoint other than AWS's own, without user, password and query.

    Raises:
        SettingsError: only one of the two keys is given, or ``session_token`` without the keys.
            Or ``region``, ``role_arn`` or ``endpoint_url`` has the wrong form. The message does
            not repeat the value, because it may be a secret in the wrong place.
    """

    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str | None = None
    role_arn: str | None = None
    role_external_id: str | None = field(default=None, repr=False)
    role_duration: int | None = None
    endpoint_url: str | None = None

    def __post_init__(self) -> None:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise SettingsError(
                "access_key_id and secret_access_key must be given together: give both, or neither"
            )
        if self.session_token is not None and self.access_key_id is None:
            raise SettingsError(
                "session_token needs access_key_id and secret_access_key: give them too"
            )
        if self.region:
            check_region(self.region)
        if self.role_arn and not _ROLE.fullmatch(self.role_arn):
            raise SettingsError(
                "role_arn is not the ARN of a role, such as 'arn:aws:iam::111122223333:role/name'."
                " Correct role_arn or AWS_ROLE_ARN"
            )
        if self.endpoint_url:
            check_endpoint_url(self.endpoint_url)

    @classmethod
    def from_protocol(cls, protocol: Mapping[str, object]) -> Self:
        """Return the settings in the ``protocol`` object of a task definition.

        Raises:
            SettingsError: a value has the wrong type.
        """

        def text(name: str) -> str | None:
            value = protocol.get(name)
            if value is not None and not isinstance(value, str):
                raise SettingsError(f"{name} in the protocol must be a string")
            return value

        duration = protocol.get("token_expiry_seconds")
        if duration is not None and not isinstance(duration, int):
            raise SettingsError("token_expiry_seconds in the protocol must be an integer")
        return cls(
            access_key_id=text("access_key_id"),
            secret_access_key=text("secret_access_key"),
            session_token=text("session_token"),
            region=text("region_name"),
            role_arn=text("assume_role_arn"),
            role_external_id=text("assume_role_external_id"),
            role_duration=duration,
            endpoint_url=text("endpoint_url"),
        )

    def over(self, base: Settings) -> Settings:
        """Return these settings, with each missing value replaced by the value in ``base``.

        The two keys and the session token always come from the same settings. So do the role, its
        external id and its duration.
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
        """Return these settings, with missing values read from variables that botocore ignores.

        The variables are ``AWS_REGION``, ``AWS_ROLE_ARN`` and ``AWS_ASSUME_ROLE_EXTERNAL_ID``. If
        ``AWS_WEB_IDENTITY_TOKEN_FILE`` is set, botocore's web identity provider assumes the role,
        so ``AWS_ROLE_ARN`` is not read.
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
        """The credentials and the role alone.

        If source and destination have the same identity, S3 can copy server-side.
        """
        return replace(self, region=None, endpoint_url=None)
