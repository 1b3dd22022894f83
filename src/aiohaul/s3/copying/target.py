"""Where one object is to be written, and how."""

from __future__ import annotations

from dataclasses import dataclass, field

from aiohaul.aws.service import Service
from aiohaul.errors import ObjectExistsError
from aiohaul.s3.copying.gate import Gate
from aiohaul.s3.objects import acl, find_object, uri
from aiohaul.s3.resuming.journal import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where one object is to be written, and how.

    Attributes:
        s3: the way there.
        bucket: the bucket.
        key: the key.
        bucket_owner_full_control: give it the ACL of that name.
        overwrite: replace what is there.
        gate: what all writes to one destination pass.
        entry: what the journal keeps of this copy; None without a journal.
    """

    s3: Service
    bucket: str
    key: str
    bucket_owner_full_control: bool = True
    overwrite: bool = True
    gate: Gate = field(default_factory=lambda: Gate(1))
    entry: Entry | None = None

    @property
    def uri(self) -> str:
        """``s3://bucket/key``."""
        return uri(self.bucket, self.key)

    @property
    def at(self) -> dict[str, str]:
        """Bucket and key, as parameters."""
        return {"Bucket": self.bucket, "Key": self.key}

    @property
    def acl(self) -> dict[str, str]:
        """The ACL, as a parameter."""
        return acl(bucket_owner_full_control=self.bucket_owner_full_control)

    @property
    def unless_there(self) -> dict[str, str]:
        """What keeps a write from replacing an object, as a parameter."""
        return {} if self.overwrite else {"IfNoneMatch": "*"}

    async def check_free(self) -> None:
        """Look whether the key is free, if it has to be.

        S3 refuses the write itself in the end; not every other server does.

        Raises:
            ObjectExistsError: it is not.
            ServiceError: it cannot be looked at.
        """
        if self.overwrite or self.s3.is_aws:
            return
        if await find_object(self.s3, self.bucket, self.key) is not None:
            raise self.taken()

    def taken(self) -> ObjectExistsError:
        """The error for a key that is not free."""
        return ObjectExistsError(
            "there is an object already, and it is not to be overwritten.",
            operation="PutObject",
            target=self.uri,
            code="PreconditionFailed",
            status=412,
        )
