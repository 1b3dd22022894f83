"""Converts Airflow's connections of type ``aws`` to settings, and refuses keys elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from aiohaul.errors import DefinitionError, SettingsError
from aiohaul.settings import Settings

#: The default connection of the Amazon provider. It may be missing.
_DEFAULT = "aws_default"
#: Fields of the Amazon provider that aiohaul does not support. If they were ignored, the work would
#: use another identity or another endpoint.
_UNSUPPORTED = (
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
#: The keys of a ``protocol`` that are secret.
_SECRET = ("secret_access_key", "session_token", "assume_role_external_id")

_log = logging.getLogger(__name__)


def refuse_keys(definition: object, path: str = "") -> None:
    """Refuse secrets in the ``protocol`` objects of a definition, before Airflow stores them.

    Airflow stores the arguments of operators and triggers in its metadata database. A template
    such as ``{{ var.value.key }}`` is refused too, because its rendered value would be stored.

    Args:
        definition: a definition, or a part of it.
        path: the path of the part.

    Raises:
        DefinitionError: a protocol has a secret. The message does not repeat it.
    """
    if isinstance(definition, Mapping):
        for name, value in definition.items():
            inner = f"{path}.{name}".removeprefix(".")
            if name == "protocol" and isinstance(value, Mapping):
                for secret in _SECRET:
                    if value.get(secret) is not None:
                        raise DefinitionError(
                            f"{inner}.{secret}",
                            "is not allowed here, because Airflow would store it in its metadata"
                            " database. Put it into a connection of type aws, and name the"
                            " connection in aws_conn_id",
                        )
            refuse_keys(value, inner)
    elif isinstance(definition, list | tuple):
        for index, value in enumerate(definition):
            refuse_keys(value, f"{path}[{index}]")


async def connection_settings(conn_id: str | None) -> Settings:
    """Return the settings of a connection.

    Args:
        conn_id: the id of the connection. None returns empty settings, so that the credentials of
            the environment apply. So does ``aws_default`` if this connection does not exist, as in
            the Amazon provider.

    Raises:
        SettingsError: the connection is not of type ``aws``, or has a field that is not supported.
        AirflowNotFoundException: the connection does not exist.
    """
    if not conn_id:
        return Settings()
    from airflow.sdk import BaseHook  # noqa: PLC0415  # only with a connection
    from airflow.sdk.exceptions import AirflowNotFoundException  # noqa: PLC0415  # as above

    try:
        found = await BaseHook.aget_connection(conn_id)
    except AirflowNotFoundException:
        if conn_id != _DEFAULT:
            raise
        _log.warning(
            "the connection %s does not exist: using the credentials of the environment", conn_id
        )
        return Settings()
    if found.conn_type not in (None, "", "aws"):
        raise SettingsError(
            f"reading the connection {conn_id} failed: its type is {found.conn_type}, not aws. Set"
            " aws_conn_id to a connection of type aws"
        )
    return settings_from(conn_id, found.login, found.password, found.extra_dejson)


def settings_from(
    conn_id: str, login: str | None, password: str | None, extra: Mapping[str, Any]
) -> Settings:
    """Convert the fields of a connection to settings. Does no I/O.

    Args:
        conn_id: the id of the connection, for error messages.
        login: the access key id, or None.
        password: the secret access key, or None.
        extra: the JSON object in the field ``extra`` of the connection.

    Raises:
        SettingsError: a field is not supported.
    """
    role = dict(extra.get("assume_role_kwargs") or {})
    unsupported = [
        name for name in _UNSUPPORTED if extra.get(name) not in (None, "", {}, "assume_role")
    ]
    unsupported += [f"assume_role_kwargs.{name}" for name in sorted(set(role) - _ROLE)]
    if unsupported:
        raise SettingsError(
            f"reading the connection {conn_id} failed: aiohaul does not support"
            f" {', '.join(unsupported)} in its extra. Use access keys or role_arn in this"
            " connection instead"
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
