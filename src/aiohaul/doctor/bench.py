"""The clients, the workspace and the results that all probes of the doctor share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohaul.aws.clients import Clients
from aiohaul.aws.service import Service
from aiohaul.doctor.workspace import Workspace
from aiohaul.errors import AccessDeniedError
from aiohaul.s3.objects import uri
from aiohaul.settings import Settings

#: The bytes of small objects.
DATA = b"written by aiohaul doctor; it is removed at the end\n"


@dataclass
class Bench:
    """Sends the requests of the probes, and records their results.

    Attributes:
        clients: the clients of the Session.
        settings: the credentials, the region and the endpoint.
        s3: the S3 client that sends the requests.
        bucket: the bucket.
        prefix: "", or the directory with "/" at its end.
        workspace: the directory into which probes write.
        operations: the operations that were sent, such as ``put_object``.
        allowed: the permissions that a successful request has shown.
        denied: the permissions that a denied request has shown to be missing.
        some_key: the key of an object of the user, which probes only read; None if the bucket
            listed no object.
        versioning: ``Enabled``, ``Suspended`` or ``Off``; None if no probe has found the state.
    """

    clients: Clients
    settings: Settings
    s3: Service
    bucket: str
    prefix: str
    workspace: Workspace
    operations: set[str] = field(default_factory=set)
    allowed: set[str] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)
    some_key: str | None = None
    versioning: str | None = None

    async def ask(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Send a request that changes nothing.

        Args:
            operation: the operation, such as ``head_object``.
            parameters: the parameters of the operation without ``Bucket``.

        Raises:
            ServiceError: the request failed.
        """
        self.operations.add(operation)
        target = uri(self.bucket, parameters.get("Key", ""))
        answer: dict[str, Any] = await self.s3.call(
            operation, target, Bucket=self.bucket, **parameters
        )
        return answer

    async def write(self, operation: str, name: str, **parameters: Any) -> dict[str, Any]:
        """Send a request that writes an object or a delete marker into the workspace.

        Args:
            operation: the operation, such as ``put_object``.
            name: the name of the object in the workspace.
            parameters: the other parameters of the operation.

        Raises:
            ServiceError: the request failed.
        """
        self.operations.add(operation)
        return await self.workspace.write(operation, name, **parameters)

    async def put(self, name: str, data: bytes = DATA, **parameters: Any) -> dict[str, Any]:
        """Write an object into the workspace. AWS: PutObject.

        Raises:
            ServiceError: the request failed.
        """
        return await self.write("put_object", name, Body=data, **parameters)

    async def open_upload(self, name: str, **parameters: Any) -> str:
        """Start a multipart upload, and return the upload id. AWS: CreateMultipartUpload.

        Raises:
            ServiceError: the request failed.
        """
        self.operations.add("create_multipart_upload")
        return await self.workspace.open_upload(name, **parameters)

    async def send_part(self, name: str, upload: str) -> dict[str, Any]:
        """Send part 1 of an upload. AWS: UploadPart.

        Returns:
            The number and the ETag of the part, as CompleteMultipartUpload needs them.

        Raises:
            ServiceError: the request failed.
        """
        self.operations.add("upload_part")
        answer = await self.s3.call(
            "upload_part",
            uri(self.bucket, self.workspace.key(name)),
            **self.workspace.at(name),
            UploadId=upload,
            PartNumber=1,
            Body=DATA,
        )
        return {"PartNumber": 1, "ETag": answer["ETag"]}

    async def complete(
        self, name: str, upload: str, part: Mapping[str, Any], **parameters: Any
    ) -> dict[str, Any]:
        """Complete an upload that has one part. AWS: CompleteMultipartUpload.

        Raises:
            ServiceError: the request failed.
        """
        return await self.write(
            "complete_multipart_upload",
            name,
            UploadId=upload,
            MultipartUpload={"Parts": [dict(part)]},
            **parameters,
        )

    @contextmanager
    def needs(self, permission: str) -> Iterator[None]:
        """Record that a permission is allowed, or denied if the code inside raises AccessDenied."""
        try:
            yield
        except AccessDeniedError:
            self.denied.add(permission)
            raise
        self.allowed.add(permission)

    def learn(self, operation: str, parameters: Mapping[str, Any], *, enforced: bool) -> None:
        """Record whether the store enforces If-None-Match, for later copies of this Session."""
        if "IfNoneMatch" in parameters:
            name = "".join(word.capitalize() for word in operation.split("_"))
            self.s3.support.enforced[name] = enforced
