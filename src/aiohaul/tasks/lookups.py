"""Reads and writes parameters and secrets as variables of Open Task Framework."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from typing import Any

from aiohaul.aws.errors import as_botocore
from aiohaul.errors import HaulError, ServiceError
from aiohaul.session import Session
from aiohaul.settings import Settings


async def read_parameter(session: Session, name: str, variables: Mapping[str, Any] | None) -> str:
    """Return the decrypted value of a parameter of SSM (GetParameters).

    Args:
        session: the Session.
        name: the name of the parameter.
        variables: global variables of the framework. Credentials and region in them have the names
            of environment variables, such as ``AWS_REGION``.

    Raises:
        HaulError: the parameter cannot be read.
    """
    return (await session.ssm(settings_of(variables)).get(name)).value


async def read_secret(
    session: Session,
    name: str,
    json_path: str | None,
    variables: Mapping[str, Any] | None,
    logger: logging.Logger,
) -> Any:
    """Return a secret, or the value at a JSONPath in the secret (GetSecretValue).

    If the value at the path is a list, its first element is returned, and a warning is logged.

    Args:
        session: the Session.
        name: the name of the secret.
        json_path: the JSONPath; None returns the whole secret.
        variables: global variables of the framework. Credentials and region in them have the names
            of environment variables, such as ``AWS_REGION``.
        logger: logs the warning.

    Raises:
        JSONDecodeError: ``json_path`` is not None, and the secret is not JSON. The error does not
            contain the secret.
        HaulError: the secret cannot be read, has no value at the path, or the path is not a
            JSONPath.
    """
    secret = await session.secrets(settings_of(variables)).get(name)
    if json_path is None:
        return secret.value
    if not _is_json(secret.value):
        # Not the exception of json.loads, because that exception contains the secret.
        raise json.JSONDecodeError(f"the secret {name} is not JSON", "", 0)
    value = secret.select(json_path)[0]
    if isinstance(value, list) and value:
        logger.warning(
            "JSONPath returned a list of length %d. Returning only the first element", len(value)
        )
        return value[0]
    return value


def for_users(error: HaulError) -> Exception:
    """Return the error to raise to users of the framework.

    A ServiceError is converted to botocore's ``ClientError``. Other errors are returned unchanged.
    """
    return as_botocore(error) if isinstance(error, ServiceError) else error


async def write_parameter(session: Session, name: str, value: str, variables: Any) -> None:
    """Write a parameter of SSM as a SecureString (PutParameter).

    Raises:
        Exception: botocore's ``ClientError``, or another error of botocore.
    """
    try:
        await session.ssm(settings_of(variables)).put(name, value)
    except ServiceError as error:
        raise as_botocore(error) from error


async def write_secret(
    session: Session, name: str, value: str, min_age: float, variables: Any
) -> bool:
    """Write a new version of an existing secret (DescribeSecret, PutSecretValue).

    Returns:
        False if the secret was not written, because it was changed less than ``min_age`` seconds
        ago.

    Raises:
        Exception: botocore's ``ClientError``, or another error of botocore.
    """
    try:
        secrets = session.secrets(settings_of(variables))
        return await secrets.put(name, value, min_age=min_age) is not None
    except ServiceError as error:
        raise as_botocore(error) from error


def settings_of(variables: Mapping[str, Any] | None) -> Settings:
    """Return the settings in global variables of the framework.

    If the variables contain only one of ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY``, the
    other is read from the environment. ``AWS_ROLE_ARN`` is ignored, because only tasks use that
    role.
    """
    given = variables or {}
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    key, secret = (
        (given[name] if name in given else os.environ.get(name) for name in names)
        if any(name in given for name in names)
        else (None, None)
    )
    return Settings(
        access_key_id=key or None,
        secret_access_key=secret or None,
        # Without get(), because the mapping of OTF resolves references only in [].
        role_arn="",
        region=given["AWS_REGION"] if "AWS_REGION" in given else None,  # noqa: SIM401
    )


def escaped(value: str | int) -> str | int:
    r"""Return a text escaped for a JSON string in a template; an int is returned unchanged.

    A line break is escaped twice, so that the parsed string contains a backslash and an "n". In
    definitions, private keys are written in this form.
    """
    return value if isinstance(value, int) else json.dumps(value.replace("\n", "\\n"))[1:-1]


def _is_json(value: str) -> bool:
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        return False
    return True
