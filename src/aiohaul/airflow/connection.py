"""Airflow's connections of type ``aws``, as settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohaul.errors import SettingsError
from aiohaul.settings import Settings

#: What the Amazon provider reads there, and this library has no counterpart for: work done
#: without it would be done as somebody else, or elsewhere.
_FOREIGN = (
    "assume_role_method",
    "assume_role_with_saml",
    "assume_role_with_web_identity",
    "config_kwargs",
    "profile_name",
    "service_config",
    "session_kwargs",
    "verify",
)
_ROLE = {"ExternalId", "DurationSeconds"}


async def connection_settings(conn_id: str | None) -> Settings:
    """The settings of a connection; None leaves everything to the environment.

    Raises:
        SettingsError: the connection is not of type ``aws``, or says what is not understood here.
        AirflowNotFoundException: there is no such connection.
    """
    if not conn_id:
        return Settings()
    from airflow.sdk import BaseHook  # noqa: PLC0415  # only where there is a connection

    found = await BaseHook.aget_connection(conn_id)
    if found.conn_type not in (None, "", "aws"):
        raise SettingsError(f"the connection {conn_id} is of type {found.conn_type}, not aws")
    return settings_from(conn_id, found.login, found.password, found.extra_dejson)


def settings_from(
    conn_id: str, login: str | None, password: str | None, extra: Mapping[str, Any]
) -> Settings:
    """Pure: the settings that the fields of a connection say.

    Raises:
        SettingsError: one of them is not understood here.
    """
    role = dict(extra.get("assume_role_kwargs") or {})
    foreign = [name for name in _FOREIGN if extra.get(name) not in (None, "", {}, "assume_role")]
    foreign += [f"assume_role_kwargs.{name}" for name in sorted(set(role) - _ROLE)]
    if foreign:
        raise SettingsError(
            f"the connection {conn_id} has {', '.join(foreign)} in its extra: aiohaul has no"
            " counterpart for that; put the credentials or the role itself there"
        )
    return Settings(
        access_key_id=login or extra.get("aws_access_key_id") or None,
        secret_access_key=password or extra.get("aws_secret_access_key") or None,
        session_token=extra.get("aws_session_token") or None,
        region=extra.get("region_name") or None,
        role_arn=extra.get("role_arn") or None,
        role_external_id=role.get("ExternalId") or extra.get("external_id") or None,
        role_duration=role.get("DurationSeconds"),
        endpoint_url=extra.get("endpoint_url") or None,
    )
