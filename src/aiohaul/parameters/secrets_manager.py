"""SecretsHandler: secrets of Secrets Manager."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

from aiohaul.aws.clients import Clients
from aiohaul.aws.errors import translated
from aiohaul.aws.service import Service
from aiohaul.errors import MissingExtraError, SecretValueError
from aiohaul.hidden import Marked
from aiohaul.parameters.single_flight import SingleFlight
from aiohaul.pickling import NotPicklable
from aiohaul.settings import Settings

#: What the parser of JSONPaths makes of a path that it does not understand, and its paths of a
#: value that they do not fit, beside errors of its own.
_NO_PATH = (AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)

_log = logging.getLogger(__name__)


@Marked.register
@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """One version of a secret. It may stand in a payload of Lambda for its value.

    Attributes:
        name: its name.
        value: its text. Not in a repr.
        version_id: AWS's name for the version.
        created: when the version was made, in UTC; None if the server does not say.
    """

    name: str
    value: str = field(repr=False)
    version_id: str
    created: datetime | None

    def select(self, json_path: str) -> list[Any]:
        """What stands at a JSONPath of a value that is JSON. Needs the extra ``otf``.

        Args:
            json_path: such as ``$.database.password``.

        Returns:
            Every match, in order; at least one.

        Raises:
            SecretValueError: it is not JSON, or nothing stands there, or the path is none.
            MissingExtraError: ``jsonpath-ng`` is not installed.
        """
        try:
            # An optional dependency: only who looks into secrets needs it.
            from jsonpath_ng.exceptions import JSONPathError  # noqa: PLC0415
            from jsonpath_ng.parser import parse  # noqa: PLC0415
        except ImportError as error:
            raise MissingExtraError(
                "looking into a secret by JSONPath needs jsonpath-ng: install 'aiohaul[otf]'"
            ) from error
        try:
            value = json.loads(self.value)
        except (ValueError, RecursionError):
            # Not chained: the original holds the value.
            raise SecretValueError(f"the secret {self.name} is not JSON") from None
        try:
            path = parse(json_path)
        except (JSONPathError, NotImplementedError, *_NO_PATH) as error:
            raise SecretValueError(f"{json_path!r} is not a JSONPath: {error}") from error
        try:
            found = [match.value for match in path.find(value)]
        except (JSONPathError, NotImplementedError, *_NO_PATH):
            # Not chained, as above.
            raise SecretValueError(
                f"{json_path!r} leads nowhere in the secret {self.name}: it does not fit its form"
            ) from None
        if not found:
            raise SecretValueError(f"the secret {self.name} has nothing at {json_path}")
        return found


class SecretsHandler(NotPicklable):
    """Secrets as one identity sees them. Cheap to make: equal ones share clients and reads.

    Made by :meth:`aiohaul.Session.secrets`. Equal reads at the same time share one request.
    """

    def __init__(
        self, clients: Clients, reads: SingleFlight, settings: Settings | None = None
    ) -> None:
        self._clients = clients
        self._reads = reads
        self._settings = settings

    async def get(self, name: str, *, version_stage: str | None = None) -> Secret:
        """Read a secret that is text. AWS: GetSecretValue.

        Args:
            name: a name or ARN.
            version_stage: such as ``AWSPREVIOUS``; None is the current version.

        Raises:
            SecretNotFoundError: there is no such secret, or no such version of it.
            SecretValueError: it is bytes.
            AccessDeniedError: the credentials may not read it.
            ServiceError: another failure.
        """
        secrets = await self._secrets()
        parameters = {"VersionStage": version_stage} if version_stage is not None else {}
        answer: Mapping[str, Any] = await self._reads.read(
            (secrets, name, version_stage),
            partial(secrets.call, "get_secret_value", name, SecretId=name, **parameters),
        )
        if "SecretString" not in answer:
            raise SecretValueError(f"the secret {name} is bytes, not text")
        with translated("GetSecretValue", name):
            return Secret(
                name=answer["Name"],
                value=answer["SecretString"],
                version_id=answer["VersionId"],
                created=answer.get("CreatedDate"),
            )

    async def put(self, name: str, value: str, *, min_age: float = 0.0) -> str | None:
        """Write a new version of a secret that exists. AWS: DescribeSecret, PutSecretValue.

        Secrets Manager keeps a hundred versions and refuses to make them too often: with a
        minimum age, a value that was changed shortly before is left as it is.

        Args:
            name: a name or ARN.
            value: what to write.
            min_age: seconds since the last change before another is made; 0 does not look.

        Returns:
            AWS's name for the new version; None if the last change is too young for another.

        Raises:
            SecretNotFoundError: there is no such secret.
            AccessDeniedError: the credentials may not write it.
            ServiceError: another failure.
        """
        secrets = await self._secrets()
        if min_age > 0:
            told = await secrets.call("describe_secret", name, SecretId=name)
            changed: datetime | None = told.get("LastChangedDate")
            if changed is not None and (datetime.now(UTC) - changed).total_seconds() < min_age:
                _log.warning(
                    "the secret %s is left as it is: it was changed at %s, less than %g s ago",
                    name,
                    changed.isoformat(),
                    min_age,
                )
                return None
        answer = await secrets.call(
            "put_secret_value",
            name,
            SecretId=name,
            SecretString=value,
            ClientRequestToken=str(uuid4()),  # one version, however often it is sent
        )
        with translated("PutSecretValue", name):
            version: str = answer["VersionId"]
        return version

    async def _secrets(self) -> Service:
        return await self._clients.service("secretsmanager", self._settings)
