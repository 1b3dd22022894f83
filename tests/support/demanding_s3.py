"""A strict S3 whose buckets demand a payer and an owner of every request, and which encrypts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from urllib.parse import unquote

from tests.support.strict_s3 import Call, Opened, Place, RefusedError, Reply, StrictS3, Thing, md5

_SSE = "x-amz-server-side-encryption"
_KEY_ID = "x-amz-server-side-encryption-aws-kms-key-id"
_PAYER = "x-amz-request-payer"
_OWNER = "x-amz-expected-bucket-owner"
_SOURCE_OWNER = "x-amz-source-expected-bucket-owner"


@dataclass
class DemandingS3(StrictS3):
    """A strict S3.

    Attributes:
        payers: the buckets with Requester Pays.
        owners: the accounts that own buckets. A request to one of them has to name the owner, and
            a request to another bucket must not.
        encrypts: False ignores the KMS keys of writes, and True gives encrypted objects and parts
            ETags that look like MD5s, and are not.
        told: what a write says of the encryption, as AWS does; False leaves that to HeadObject.
        calls: every request.
        refused: the operations that were refused for lack of a payer, or for the owner.
    """

    payers: set[str] = field(default_factory=set)
    owners: dict[str, str] = field(default_factory=dict)
    encrypts: bool = True
    told: bool = True
    calls: list[Call] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def answer(self, call: Call) -> Reply:
        self.calls.append(call)
        upload = self.uploads.get(call.query.get("uploadId", ""))
        reply = super().answer(call)
        if reply.status >= 300 or call.method in ("GET", "HEAD", "DELETE") or not self.told:
            return reply
        match call.operation:
            case "CreateMultipartUpload":
                kept = dict(call.headers) if self.encrypts else {}
            case "UploadPart" | "UploadPartCopy":
                kept = upload.kept if upload is not None else {}
            case _:
                kept = self.objects[call.place].kept if call.place in self.objects else {}
        shown = {name: kept[name] for name in (_SSE, _KEY_ID) if name in kept}
        return replace(reply, headers={**reply.headers, **shown})

    def sent(self, operation: str) -> list[Call]:
        """The requests of an operation."""
        return [each for each in self.calls if each.operation == operation]

    def _check_bucket(self, call: Call) -> None:
        super()._check_bucket(call)
        copied = unquote(call.headers.get("x-amz-copy-source", "")).removeprefix("/")
        self._demand(call, call.place[0], _OWNER)
        if copied:
            self._demand(call, copied.partition("/")[0], _SOURCE_OWNER)
        elif _SOURCE_OWNER in call.headers:
            raise RefusedError(400, "InvalidRequest")

    def _demand(self, call: Call, bucket: str, header: str) -> None:
        unpaid = bucket in self.payers and call.headers.get(_PAYER) != "requester"
        if unpaid or call.headers.get(header) != self.owners.get(bucket):
            self.refused.append(f"{call.operation} {bucket} {call.place[1]}")
            raise RefusedError(403, "AccessDenied")

    def _part(self, upload: Opened, data: bytes) -> Thing:
        part = super()._part(upload, data)
        if upload.kept.get(_SSE) == "aws:kms" and self.encrypts:
            part.etag = md5(b"encrypted" + data)
        return part

    def _write(self, place: Place, thing: Thing) -> None:
        if not self.encrypts:
            thing.kept = {n: v for n, v in thing.kept.items() if not n.startswith(_SSE)}
        elif thing.kept.get(_SSE) == "aws:kms":
            digest, dash, parts = thing.etag.partition("-")
            thing.etag = md5(b"encrypted" + digest.encode()) + dash + parts
        super()._write(place, thing)
