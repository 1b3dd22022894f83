"""SSMHandler: parameters of Systems Manager's Parameter Store."""

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
from aiohaul.hidden import Marked
from aiohaul.parameters.single_flight import SingleFlight
from aiohaul.pickling import NotPicklable
from aiohaul.settings import Settings

#: Names that one GetParameters takes, and parameters that one page of a path holds.
GET_BATCH = 10

ParameterType = Literal["String", "StringList", "SecureString"]


@Marked.register
@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter. It may stand in a payload of Lambda for its value, which is hidden then.

    Attributes:
        name: its name.
        value: decrypted, if that was asked for. Not in a repr.
        type: ``String``, ``StringList`` (parts joined by commas) or ``SecureString``.
        version: 1 or more.
        last_modified: in UTC; None if the server does not say.
    """

    name: str
    value: str = field(repr=False)
    type: str
    version: int
    last_modified: datetime | None


class SSMHandler(NotPicklable):
    """Parameters as one identity sees them. Cheap to make: equal ones share clients and reads.

    Made by :meth:`aiohaul.Session.ssm`. Equal reads at the same time share one request.
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
            name: a name or ARN, with ``:VERSION`` or ``:LABEL`` if need be.
            decrypt: decrypt a SecureString; False gives its ciphertext.

        Raises:
            ParameterNotFoundError: there is no such parameter, version or label.
            AccessDeniedError: the credentials may not read it.
            ServiceError: another failure.
        """
        return (await self.get_many([name], decrypt=decrypt))[name]

    async def get_many(self, names: Sequence[str], *, decrypt: bool = True) -> dict[str, Parameter]:
        """Read many parameters. AWS: GetParameters, ten names at a time.

        Args:
            names: as for :meth:`get`.
            decrypt: decrypt what is a SecureString.

        Returns:
            Each under the name by which it was asked for, in that order.

        Raises:
            ParameterNotFoundError: some do not exist; it names them.
            AccessDeniedError: the credentials may not read one of them.
            ServiceError: another failure.
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
        """Read every parameter below a path. AWS: GetParametersByPath, ten a page.

        Args:
            path: such as ``/application/``.
            recursive: False leaves out those with a further "/" behind the path.
            decrypt: decrypt what is a SecureString.

        Returns:
            Each under its name; none is no error.

        Raises:
            AccessDeniedError: the credentials may not read there.
            ServiceError: another failure.
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
    ) -> int:
        """Write a parameter. AWS: PutParameter.

        Args:
            name: a name, not an ARN.
            value: what to write.
            type: a SecureString unless said otherwise.
            overwrite: replace one that exists; False makes that an error.
            key_id: the KMS key of a SecureString; None is the account's own.

        Returns:
            Its new version.

        Raises:
            AccessDeniedError: the credentials may not write it.
            ServiceError: another failure; of code ``ParameterAlreadyExists`` if it exists.
        """
        parameters: dict[str, Any] = {"KeyId": key_id} if key_id is not None else {}
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
    # One batch after the other: AWS allows 40 of these requests a second in the whole account.
    for batch in batches(names):
        asked = list(batch.values())
        target = ", ".join(asked)
        answer = await ssm.call("get_parameters", target, Names=asked, WithDecryption=decrypt)
        with translated("GetParameters", target):
            for told in answer.get("Parameters", ()):
                name = batch.get(_split(told["Name"])[0])
                if name is not None and _is_meant(_split(name)[1], told):
                    found[name] = _parameter(told)
        missing = [name for name in asked if name not in found]
        if missing:
            raise service_error(
                "ParameterNotFound",
                "there is no such parameter",
                operation="GetParameters",
                target=", ".join(missing),
                status=None,
                request_id=answer.get("ResponseMetadata", {}).get("RequestId"),
            )
    return {name: found[name] for name in names}


def batches(names: Sequence[str]) -> Iterator[dict[str, str]]:
    """Pure: names to ask for together, by the parameter that each is of.

    No two are of one parameter: not every server repeats the version or label by which it was
    asked, and then the answers to ``p`` and ``p:3`` cannot be told apart.
    """
    left = list(names)
    while left:
        batch: dict[str, str] = {}
        later = []
        for name in left:
            parameter, _ = _split(name)
            if parameter in batch or len(batch) == GET_BATCH:
                later.append(name)
            else:
                batch[parameter] = name
        yield batch
        left = later


def _split(name: str) -> tuple[str, str]:
    """The parameter that a name or ARN is of, and its version or label, or ""."""
    if name.startswith("arn:"):
        _, _, name = name.partition(":parameter")
    parameter, _, selector = name.partition(":")
    # The ARN of /a and that of a are written alike, but for the "/" that the latter adds.
    return parameter.removeprefix("/"), selector


def _is_meant(selector: str, told: Mapping[str, Any]) -> bool:
    """Whether an answer is of the version that was asked for."""
    return not selector.isdecimal() or int(selector) == told["Version"]


async def _get_by_path(
    ssm: Service, path: str, *, recursive: bool, decrypt: bool
) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {}
    further: dict[str, str] = {}
    while True:
        page = await ssm.call(
            "get_parameters_by_path",
            path,
            Path=path,
            Recursive=recursive,
            WithDecryption=decrypt,
            MaxResults=GET_BATCH,
            **further,
        )
        with translated("GetParametersByPath", path):
            found.update((told["Name"], _parameter(told)) for told in page.get("Parameters", ()))
        if not page.get("NextToken"):
            return found
        further = {"NextToken": page["NextToken"]}


def _parameter(told: Mapping[str, Any]) -> Parameter:
    return Parameter(
        name=told["Name"],
        value=told["Value"],
        type=told["Type"],
        version=told["Version"],
        last_modified=told.get("LastModifiedDate"),
    )
