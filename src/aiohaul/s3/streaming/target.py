"""The Target class, an object to write with the conditions of the write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohaul.aws.service import Service
from aiohaul.errors import ObjectExistsError, PreconditionFailedError, ServiceError
from aiohaul.s3.journal import Entry
from aiohaul.s3.objects import find_object, quoted, unquoted, uri
from aiohaul.s3.options import WRITE_OPTIONS, WriteOptions, write_parameters
from aiohaul.s3.streaming.limiter import DestinationLimiter


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An object to write.

    Attributes:
        s3: the client, which adds the options of the bucket to every request.
        bucket: the bucket.
        key: the key.
        options: the ACL, the storage class and the encryption of the object.
        overwrite: replace an existing object. If False, the write fails if the key exists.
        if_match: the ETag that the object must have before the write; None for any.
        limiter: limits the concurrent writes to the destination.
        entry: the journal entry of this copy; None without a journal.
    """

    s3: Service
    bucket: str
    key: str
    options: WriteOptions = WRITE_OPTIONS
    overwrite: bool = True
    if_match: str | None = None
    limiter: DestinationLimiter = field(default_factory=lambda: DestinationLimiter(1))
    entry: Entry | None = None

    @property
    def uri(self) -> str:
        """The URI of the object, such as ``s3://bucket/key``."""
        return uri(self.bucket, self.key)

    @property
    def at(self) -> dict[str, str]:
        """The bucket and the key as parameters of a request."""
        return {"Bucket": self.bucket, "Key": self.key}

    @property
    def attributes(self) -> dict[str, str]:
        """The ACL, the storage class and the encryption of the object, as parameters of a write."""
        return write_parameters(self.options)

    @property
    def condition(self) -> dict[str, str]:
        """The condition of the write as a parameter; {} to overwrite any object."""
        if self.if_match is not None:
            is_bare = self.s3.support.bare_if_match
            return {"IfMatch": self.if_match if is_bare else quoted(self.if_match)}
        return {} if self.overwrite else {"IfNoneMatch": "*"}

    async def check_condition(self, operation: str) -> None:
        """Check the condition of the write (HeadObject).

        No request is sent if the endpoint enforces ``If-None-Match`` in the operation of the write,
        as AWS does. Otherwise, an object that another program writes between this check and the
        write is overwritten. Outside of AWS, ``If-Match`` is always checked here, too.

        Args:
            operation: the operation of the write, such as ``PutObject``.

        Raises:
            ObjectExistsError: the key exists, and ``overwrite`` is False.
            PreconditionFailedError: the object does not have the ETag ``if_match``.
            ServiceError: the request failed for another reason.
        """
        if self.s3.is_aws or not self.condition:
            return
        if self.if_match is None and self.s3.support.enforced.get(operation):
            return
        found = await find_object(self.s3, self.bucket, self.key)
        if self.if_match is not None:
            if found is None or unquoted(found.get("ETag") or "") != self.if_match:
                raise self.condition_error()
        elif found is not None:
            raise self.condition_error()

    async def needs_bare_etag(self, error: PreconditionFailedError) -> bool:
        """Find out if a store has refused a condition that holds, because the ETag is quoted.

        Ceph compares ``If-Match`` of PutObject with the ETag character by character. If this
        returns True, :attr:`condition` has no quotes, and the caller sends the write again.

        AWS: HeadObject, outside of AWS.

        Args:
            error: the error of the write.
        """
        support = self.s3.support
        if self.if_match is None or self.s3.is_aws or support.bare_if_match or error.attempts > 1:
            return False
        try:
            await self.check_condition(error.operation)
        except PreconditionFailedError:
            return False  # the condition does not hold
        support.bare_if_match = True
        return True

    async def probe_condition(
        self, operation: str, method: str, parameters: Mapping[str, Any]
    ) -> None:
        """Find out if the endpoint enforces ``If-None-Match`` in an operation.

        The conditional write that has just succeeded is sent once more. Status 412 shows that the
        endpoint enforces the condition. An endpoint that ignores the condition writes the same
        bytes again. For each endpoint and operation this is done once, and never for AWS.

        Args:
            operation: the name of the operation in S3, such as ``PutObject``.
            method: the name of the operation in botocore, such as ``put_object``.
            parameters: the parameters of the write, with the condition.
        """
        enforced = self.s3.support.enforced
        if self.overwrite or self.s3.is_aws or operation in enforced:
            return
        enforced[operation] = False
        try:
            await self.s3.attempt(method, self.uri, **parameters)
        except PreconditionFailedError:
            enforced[operation] = True
        except ServiceError as error:
            if error.retryable:
                del enforced[operation]  # not known yet

    def condition_error(
        self, error: PreconditionFailedError | None = None
    ) -> PreconditionFailedError:
        """Return the error for a write whose condition does not hold.

        Args:
            error: the error of S3; None if the condition was checked here.
        """
        if self.if_match is not None:
            return error or PreconditionFailedError(
                f"the object does not have the ETag {self.if_match}. Read the object again.",
                operation="PutObject",
                target=self.uri,
                code="PreconditionFailed",
                status=412,
            )
        return ObjectExistsError(
            "the object exists, and overwrite is False.",
            operation="PutObject",
            target=self.uri,
            code="PreconditionFailed",
            status=412,
        )
