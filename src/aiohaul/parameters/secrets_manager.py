"""SecretsHandler: reads and writes secrets of Secrets Manager."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from aiohaul.aws import answers
from aiohaul.aws.clients import Clients
from aiohaul.aws.errors import translated
from aiohaul.aws.service import Service
from aiohaul.errors import MissingExtraError, SecretValueError
from aiohaul.pickling import NotPicklable
from aiohaul.sensitive import SensitiveValue
from aiohaul.settings import Settings
from aiohaul.single_flight import SingleFlight

#: The other errors of jsonpath-ng, for an invalid path, and for a path that does not fit the value.
_PATH_ERRORS = (AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)

_log = logging.getLogger(__name__)


@SensitiveValue.register
@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """One version of a secret that is text.

    In a payload of Lambda, a Secret is replaced by its value, and counts as sensitive.

    Attributes:
        name: the name of the secret.
        value: the text of the secret. Not shown in the repr.
        version_id: the id of the version.
        created: the time when the version was created, in UTC; None if the response has no time.
    """

    name: str
    value: str = field(repr=False)
    version_id: str
    created: datetime | None

    def select(self, json_path: str) -> list[Any]:
        """Return the values at a JSONPath of a secret that is JSON. Needs the extra ``otf``.

        Args:
            json_path: a JSONPath, such as ``$.database.password``.

        Returns:
            All values that match, in order; at least one.

        Raises:
            SecretValueError: the secret is not JSON, no value matches, or ``json_path`` is not a
                JSONPath.
            MissingExtraError: ``jsonpath-ng`` is not installed.
        """
        try:
            # An optional dependency, for this method alone.
            from jsonpath_ng.exceptions import JSONPathError  # noqa: PLC0415
            from jsonpath_ng.parser import parse  # noqa: PLC0415
        except ImportError as error:
            raise MissingExtraError(
                "reading a secret by JSONPath needs jsonpath-ng: install 'aiohaul[otf]'"
            ) from error
        try:
            value = json.loads(self.value)
        except (ValueError, RecursionError):
            # Not chained, because the original error contains the secret.
            raise SecretValueError(f"the secret {self.name} is not JSON") from None
        try:
            path = parse(json_path)
        except (JSONPathError, NotImplementedError, *_PATH_ERRORS) as error:
            raise SecretValueError(f"{json_path!r} is not a JSONPath: {error}") from error
        try:
            found = [match.value for match in path.find(value)]
        except (JSONPathError, NotImplementedError, *_PATH_ERRORS):
            # Not chained, because the original error may contain the secret.
            raise SecretValueError(
                f"{json_path!r} does not fit the structure of the secret {self.name}"
            ) from None
        if not found:
            raise SecretValueError(f"the secret {self.name} has no value at {json_path}")
        return found


class SecretsHandler(NotPicklable):
    """Reads and writes secrets with one set of credentials.

    Created by :meth:`aiohaul.Session.secrets`. A handler is cheap to create, because equal handlers
    share clients. Concurrent equal reads share one request.
    """

    def __init__(
        self, clients: Clients, reads: SingleFlight, settings: Settings | None = None
    ) -> None:
        self._clients = clients
        self._reads = reads
        self._settings = settings

    async def get(
        self, name: str, *, version_stage: str | None = None, version_id: str | None = None
    ) -> Secret:
        """Read a secret that is text. AWS: GetSecretValue.

        Args:
            name: the name or ARN of the secret.
            version_stage: a staging label, such as ``AWSPREVIOUS``; None for the current version.
            version_id: the id of a version, which :meth:`put` returns; None for any version.

        Raises:
            SecretNotFoundError: the secret, or this version of the secret, does not exist.
            SecretValueError: the secret is bytes.
            AccessDeniedError: the credentials do not allow to read the secret.
            ServiceError: the request failed for another reason.
        """
        answer = await self._read(name, version_stage, version_id)
        if "SecretString" not in answer:
            raise SecretValueError(f"the secret {name} is bytes, not text: read it with get_bytes")
        with translated("GetSecretValue", name):
            return Secret(
                name=answer["Name"],
                value=answer["SecretString"],
                version_id=answer["VersionId"],
                created=answer.get("CreatedDate"),
            )

    async def get_bytes(
        self, name: str, *, version_stage: str | None = None, version_id: str | None = None
    ) -> bytes:
        """Read a secret that is bytes. AWS: GetSecretValue.

        Args:
            name: as for :meth:`get`.
            version_stage: as for :meth:`get`.
            version_id: as for :meth:`get`.

        Raises:
            SecretNotFoundError: the secret, or this version of the secret, does not exist.
            SecretValueError: the secret is text.
            AccessDeniedError: the credentials do not allow to read the secret.
            ServiceError: the request failed for another reason.
        """
        answer = await self._read(name, version_stage, version_id)
        if "SecretBinary" not in answer:
            raise SecretValueError(f"the secret {name} is text, not bytes: read it with get")
        value: bytes = answer["SecretBinary"]
        return value

    async def _read(
        self, name: str, version_stage: str | None, version_id: str | None
    ) -> answers.SecretContent:
        secrets = await self._secrets()
        optional = {"VersionStage": version_stage, "VersionId": version_id}
        parameters = {key: value for key, value in optional.items() if value is not None}
        return await self._reads.read(
            (secrets, name, version_stage, version_id),
            lambda: secrets.call("get_secret_value", name, SecretId=name, **parameters),
        )

    async def create(
        self,
        name: str,
        value: str | bytes,
        *,
        description: str | None = None,
        kms_key_id: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Create a secret. AWS: CreateSecret, which with tags needs the permission TagResource too.

        Args:
            name: the name of the new secret.
            value: the value of the secret, as text or bytes.
            description: the description of the secret.
            kms_key_id: the KMS key; None for the default key of the account.
            tags: the tags of the secret, as values by key.

        Returns:
            The id of the first version.

        Raises:
            AccessDeniedError: the credentials do not allow to create the secret.
            ServiceError: the request failed for another reason. The code is
                ``ResourceExistsException`` if a secret with this name exists.
        """
        secrets = await self._secrets()
        optional = {
            "Description": description,
            "KmsKeyId": kms_key_id,
            "Tags": [{"Key": key, "Value": each} for key, each in (tags or {}).items()] or None,
        }
        answer = await secrets.call(
            "create_secret",
            name,
            Name=name,
            ClientRequestToken=str(uuid4()),  # retries create one secret
            **_content(value),
            **{key: each for key, each in optional.items() if each is not None},
        )
        with translated("CreateSecret", name):
            version: str = answer["VersionId"]
        return version

    async def put(self, name: str, value: str | bytes, *, min_age: float = 0.0) -> str | None:
        """Write a new version of an existing secret. AWS: DescribeSecret, PutSecretValue.

        Secrets Manager allows a hundred versions of a secret, and refuses frequent new versions.
        With ``min_age``, a secret that was changed recently is not written.

        Args:
            name: the name or ARN of the secret.
            value: the new value, as text or bytes.
            min_age: the minimum number of seconds since the last change of the secret. If the last
                change is more recent, nothing is written. 0 always writes.

        Returns:
            The id of the new version; None if nothing was written because of ``min_age``.

        Raises:
            SecretNotFoundError: the secret does not exist.
            AccessDeniedError: the credentials do not allow to write the secret.
            ServiceError: the request failed for another reason.
        """
        secrets = await self._secrets()
        if min_age > 0:
            described = await secrets.call("describe_secret", name, SecretId=name)
            changed: datetime | None = described.get("LastChangedDate")
            if changed is not None and (datetime.now(UTC) - changed).total_seconds() < min_age:
                _log.warning(
                    "the secret %s was not written, because it was changed at %s, less than %g s"
                    " ago",
                    name,
                    changed.isoformat(),
                    min_age,
                )
                return None
        answer = await secrets.call(
            "put_secret_value",
            name,
            SecretId=name,
            ClientRequestToken=str(uuid4()),  # retries create one version
            **_content(value),
        )
        with translated("PutSecretValue", name):
            version: str = answer["VersionId"]
        return version

    async def _secrets(self) -> Service:
        return await self._clients.service("secretsmanager", self._settings)


def _content(value: str | bytes) -> dict[str, str | bytes]:
    """Return a value as a parameter of CreateSecret and PutSecretValue."""
    return {"SecretString" if isinstance(value, str) else "SecretBinary": value}
