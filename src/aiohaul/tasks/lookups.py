"""Parameters and secrets as variables of a configuration."""

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
    """A parameter of SSM, decrypted.

    Args:
        session: the way there.
        name: its name.
        variables: may say who and where, under the names of the environment variables.

    Raises:
        HaulError: it cannot be read.
    """
    return (await session.ssm(settings_of(variables)).get(name)).value


async def read_secret(
    session: Session,
    name: str,
    json_path: str | None,
    variables: Mapping[str, Any] | None,
    logger: logging.Logger,
) -> Any:
    """A secret, or what stands at a JSONPath of it; of a list its first element.

    Args:
        session: the way there.
        name: its name.
        json_path: None is all of it.
        variables: may say who and where, under the names of the environment variables.
        logger: warned of a list of which only one element is used.

    Raises:
        JSONDecodeError: there is a path, and the secret is not JSON. Does not hold the secret.
        HaulError: it cannot be read, nothing stands at the path, or the path is none.
    """
    secret = await session.secrets(settings_of(variables)).get(name)
    if json_path is None:
        return secret.value
    if not _is_json(secret.value):
        # The decoder's own exception carries what it was to decode.
        raise json.JSONDecodeError(f"the secret {name} is not JSON", "", 0)
    value = secret.select(json_path)[0]
    if isinstance(value, list) and value:
        logger.warning(
            "JSONPath returned a list of length %d. Returning only the first element", len(value)
        )
        return value[0]
    return value


def for_users(error: HaulError) -> Exception:
    """What users of the framework catch: for an error of AWS, botocore's ``ClientError``."""
    return as_botocore(error) if isinstance(error, ServiceError) else error


async def write_parameter(session: Session, name: str, value: str, variables: Any) -> None:
    """Write a SecureString of SSM.

    Raises:
        Exception: botocore's ``ClientError``, or whatever else botocore raised.
    """
    try:
        await session.ssm(settings_of(variables)).put(name, value)
    except ServiceError as error:
        raise as_botocore(error) from error


async def write_secret(
    session: Session, name: str, value: str, min_age: float, variables: Any
) -> bool:
    """Write a secret that exists: False if its last change is too young for another.

    Raises:
        Exception: botocore's ``ClientError``, or whatever else botocore raised.
    """
    try:
        secrets = session.secrets(settings_of(variables))
        return await secrets.put(name, value, min_age=min_age) is not None
    except ServiceError as error:
        raise as_botocore(error) from error


def settings_of(variables: Mapping[str, Any] | None) -> Settings:
    """Who and where, as far as global variables say it; half a pair of keys is completed.

    ``AWS_ROLE_ARN`` is for the work on a task's objects, functions and tasks. The variables of a
    configuration are read as whoever runs it.
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
        # Not get(): OTF's mapping resolves what a value refers to in its [] alone.
        role_arn="",
        region=given["AWS_REGION"] if "AWS_REGION" in given else None,  # noqa: SIM401
    )


def escaped(value: str | int) -> str | int:
    r"""A text as it can stand between the quotes of a JSON string that a template writes.

    A line break becomes ``\n`` twice escaped: what reads the variable finds a backslash and an
    "n", which is how keys are written in definitions.
    """
    return value if isinstance(value, int) else json.dumps(value.replace("\n", "\\n"))[1:-1]


def _is_json(value: str) -> bool:
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        return False
    return True
