"""SSMHandler: reads and writes parameters in the Parameter Store of Systems Manager (SSM)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Literal

from aiohaul.aws.clients import Clients
from aiohaul.aws.error_codes import service_error
from aiohaul.aws.errors import translated
from aiohaul.aws.service import Service
from aiohaul.pickling import NotPicklable
from aiohaul.sensitive import SensitiveValue
from aiohaul.settings import Settings
from aiohaul.single_flight import SingleFlight

#: The maximum number of names in one GetParameters, and of parameters in one GetParametersByPath.
GET_BATCH = 10

ParameterType = Literal["String", "StringList", "SecureString"]
ParameterTier = Literal["Standard", "Advanced", "Intelligent-Tiering"]


@SensitiveValue.register
@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One version of a parameter.

    In a payload of Lambda, a Parameter is replaced by its value, and counts as sensitive.

    Attributes:
        name: the name of the parameter.
        value: the value, decrypted unless it was read with ``decrypt=False``. Not shown in the
            repr.
        type: ``String``, ``StringList`` (a text with commas between the values) or
            ``SecureString``.
        version: the number of the version, 1 or more.
        last_modified: the time of the last change, in UTC; None if the response has no time.
    """

    name: str
    value: str = field(repr=False)
    type: str
    version: int
    last_modified: datetime | None


class SSMHandler(NotPicklable):
    """Reads and writes parameters with one set of credentials.

    Created by :meth:`aiohaul.Session.ssm`. A handler is cheap to create, because equal handlers
    share clients. Concurrent equal reads share one request.
    """

    def __init__(
        self, clients: Clients, reads: SingleFlight, settings: Settings | None = None
    ) -> None:
        self._clients = clients
        self._reads = reads
        self._settings = settings

    async def get(self, name: str, *, decrypt: bool = True) -> Parameter:
        """Read one parameter. AWS: GetParameters.

        Args:
            name: the name or ARN of the parameter, optionally with ``:VERSION`` or ``:LABEL``.
            decrypt: decrypt a SecureString. False returns the encrypted value.

        Raises:
            ParameterNotFoundError: the parameter, version or label does not exist.
            AccessDeniedError: the credentials do not allow to read the parameter.
            ServiceError: the request failed for another reason.
        """
        return (await self.get_many([name], decrypt=decrypt))[name]

    async def get_many(self, names: Sequence[str], *, decrypt: bool = True) -> dict[str, Parameter]:
        """Read many parameters. AWS: GetParameters, ten names per request.

        Args:
            names: names or ARNs, as for :meth:`get`.
            decrypt: decrypt SecureStrings, as for :meth:`get`.

        Returns:
            The parameters by the names in ``names``, in the same order.

        Raises:
            ParameterNotFoundError: parameters do not exist. The error has their names.
            AccessDeniedError: the credentials do not allow to read one of the parameters.
            ServiceError: a request failed for another reason.
        """
        wanted = tuple(dict.fromkeys(names))
        ssm = await self._ssm()
        return dict(
            await self._reads.read(
                (ssm, "names", wanted, decrypt), partial(_get_many, ssm, wanted, decrypt=decrypt)
            )
        )

    async def get_by_path(
        self, path: str, *, recursive: bool = True, decrypt: bool = True
    ) -> dict[str, Parameter]:
        """Read all parameters below a path. AWS: GetParametersByPath, ten parameters per page.

        Args:
            path: the path, such as ``/application/``.
            recursive: include parameters with another "/" after the path.
            decrypt: decrypt SecureStrings, as for :meth:`get`.

        Returns:
            The parameters by name; an empty dict if there are no parameters.

        Raises:
            AccessDeniedError: the credentials do not allow to read parameters below the path.
            ServiceError: a request failed for another reason.
        """
        ssm = await self._ssm()
        return dict(
            await self._reads.read(
                (ssm, "path", path, recursive, decrypt),
                partial(_get_by_path, ssm, path, recursive=recursive, decrypt=decrypt),
            )
        )

    async def put(
        self,
        name: str,
        value: str,
        *,
        type: ParameterType = "SecureString",  # noqa: A002  # AWS's word
        overwrite: bool = True,
        key_id: str | None = None,
        tier: ParameterTier | None = None,
    ) -> int:
        """Write a parameter. AWS: PutParameter.

        Args:
            name: the name of the parameter, not an ARN.
            value: the new value.
            type: the type of the parameter.
            overwrite: replace an existing parameter. If False, an existing parameter is an error.
            key_id: the KMS key of a SecureString; None for the default key of the account.
            tier: the tier; ``Advanced`` allows values of up to 8 KB instead of 4 KB. None for the
                default tier of the account.

        Returns:
            The number of the new version.

        Raises:
            AccessDeniedError: the credentials do not allow to write the parameter.
            ServiceError: the request failed for another reason. The code is
                ``ParameterAlreadyExists`` if ``overwrite`` is False and the parameter exists.
        """
        parameters: dict[str, Any] = {"KeyId": key_id} if key_id is not None else {}
        if tier is not None:
            parameters["Tier"] = tier
        ssm = await self._ssm()
        answer = await ssm.call_once(
            "put_parameter",
            name,
            Name=name,
            Value=value,
            Type=type,
            Overwrite=overwrite,
            **parameters,
        )
        with translated("PutParameter", name):
            version: int = answer["Version"]
        return version

    async def _ssm(self) -> Service:
        return await self._clients.service("ssm", self._settings)


async def _get_many(ssm: Service, names: Sequence[str], *, decrypt: bool) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {}
    # One request after another, because the account's quota is 40 requests per second.
    for batch in batches(names):
        wanted = list(batch.values())
        target = ", ".join(wanted)
        answer = await ssm.call("get_parameters", target, Names=wanted, WithDecryption=decrypt)
        with translated("GetParameters", target):
            for fields in answer.get("Parameters", ()):
                name = batch.get(_split(fields["Name"])[0])
                if name is not None and _has_version(_split(name)[1], fields):
                    found[name] = _parameter(fields)
        missing = [name for name in wanted if name not in found]
        if missing:
            raise service_error(
                "ParameterNotFound",
                "the parameter does not exist",
                operation="GetParameters",
                target=", ".join(missing),
                status=None,
                request_id=answer.get("ResponseMetadata", {}).get("RequestId"),
            )
    return {name: found[name] for name in names}


def batches(names: Sequence[str]) -> Iterator[dict[str, str]]:
    """Divide names into batches of one GetParameters each. Pure.

    A batch contains each parameter only once, because some servers do not return the version or
    label of the request, so that the responses for ``p`` and ``p:3`` would look the same.

    Returns:
        For each batch, the names by the name of the parameter without version or label.
    """
    remaining = list(names)
    while remaining:
        batch: dict[str, str] = {}
        later = []
        for name in remaining:
            parameter, _ = _split(name)
            if parameter in batch or len(batch) == GET_BATCH:
                later.append(name)
            else:
                batch[parameter] = name
        yield batch
        remaining = later


def _split(name: str) -> tuple[str, str]:
    """Split a name or ARN into the name of the parameter, and the version or label, or ""."""
    if name.startswith("arn:"):
        _, _, name = name.partition(":parameter")
    parameter, _, selector = name.partition(":")
    # The ARNs of the parameters "/a" and "a" both have "parameter/a".
    return parameter.removeprefix("/"), selector


def _has_version(selector: str, fields: Mapping[str, Any]) -> bool:
    """Return True if a parameter in a response has the version of the request."""
    return not selector.isdecimal() or int(selector) == fields["Version"]


async def _get_by_path(
    ssm: Service, path: str, *, recursive: bool, decrypt: bool
) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {}
    optional: dict[str, str] = {}
    while True:
        page = await ssm.call(
            "get_parameters_by_path",
            path,
            Path=path,
            Recursive=recursive,
            WithDecryption=decrypt,
            MaxResults=GET_BATCH,
            **optional,
        )
        with translated("GetParametersByPath", path):
            found.update((each["Name"], _parameter(each)) for each in page.get("Parameters", ()))
        if not page.get("NextToken"):
            return found
        optional = {"NextToken": page["NextToken"]}


def _parameter(fields: Mapping[str, Any]) -> Parameter:
    return Parameter(
        name=fields["Name"],
        value=fields["Value"],
        type=fields["Type"],
        version=fields["Version"],
        last_modified=fields.get("LastModifiedDate"),
    )
