"""Adds the requester-pays and owner parameters of a bucket to every request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from aiohaul.aws.service import Service

if TYPE_CHECKING:
    from aiohaul.aws import answers
    from aiohaul.aws.http.observers import SendObserver
    from aiohaul.aws.http.payload import Bytes
    from aiohaul.s3.options import SourceOptions, WriteOptions

_OWNER = "ExpectedBucketOwner"
_PAYER = "RequestPayer"
#: The operations with the parameter RequestPayer. S3 has no charge for the others.
_WITH_PAYER = frozenset(
    {
        *("head_object", "get_object", "get_object_tagging", "put_object_tagging"),
        *("list_objects_v2", "list_object_versions", "list_multipart_uploads", "list_parts"),
        *("put_object", "copy_object", "create_multipart_upload", "upload_part"),
        *("upload_part_copy", "complete_multipart_upload", "abort_multipart_upload"),
        *("delete_object", "delete_objects"),
    }
)


class _BucketService(Service):
    """A Service that adds parameters to every request.

    It shares the connections, the limiter and the observed features of the other Service. Two of
    them are equal if they add the same parameters to requests of the same Service.
    """

    def __init__(self, service: Service, added: Mapping[str, str]) -> None:
        # Not Service.__init__: the state is that of the other Service.
        vars(self).update(vars(service))
        self.service = service
        self.added = added

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _BucketService)
            and self.service is other.service
            and self.added == other.added
        )

    def __hash__(self) -> int:
        return hash((id(self.service), *sorted(self.added.items())))

    async def read(
        self, target: str, max_size: int | None = None, /, **parameters: object
    ) -> tuple[Bytes, answers.ObjectInfo]:
        return await super().read(target, max_size, **self.added, **parameters)

    async def _send(
        self,
        operation: str,
        target: str,
        parameters: Mapping[str, object],
        number: int = 1,
        observer: SendObserver | None = None,
    ) -> dict[str, object]:
        added = dict(self.added)
        if operation not in _WITH_PAYER:
            added.pop(_PAYER, None)
        return await super()._send(operation, target, {**added, **parameters}, number, observer)


def bound(s3: Service, options: SourceOptions | WriteOptions | None) -> Service:
    """Return a Service that adds the requester pays and the expected owner to every request.

    Args:
        s3: the client. If it adds such parameters already, those in ``options`` replace them.
        options: the options of a bucket; None adds nothing.
    """
    added: dict[str, str] = {}
    if options is not None and options.request_payer is not None:
        added[_PAYER] = options.request_payer
    if options is not None and options.expected_bucket_owner is not None:
        added[_OWNER] = options.expected_bucket_owner
    if not added:
        return s3
    if isinstance(s3, _BucketService):
        return _BucketService(s3.service, {**s3.added, **added})
    return _BucketService(s3, added)


def unbound(s3: Service) -> Service:
    """Return the Service without the parameters that :func:`bound` adds."""
    return s3.service if isinstance(s3, _BucketService) else s3


def for_bucket(s3: Service, own: str, bucket: str, options: WriteOptions) -> Service:
    """Return the Service for writes to a bucket that may be another one than that of the sources.

    Args:
        s3: the client of the sources. Its own parameters are for the bucket ``own`` only.
        own: the bucket of the sources.
        bucket: the bucket to write to.
        options: the options of the writes.
    """
    return bound(s3 if bucket == own else unbound(s3), options)


def source_parameters(s3: Service) -> dict[str, str]:
    """Return what CopyObject and UploadPartCopy need for the bucket of the source, as parameters.

    Args:
        s3: the client of the source.
    """
    added = s3.added if isinstance(s3, _BucketService) else {}
    parameters = {_PAYER: added[_PAYER]} if _PAYER in added else {}
    if _OWNER in added:
        parameters["ExpectedSourceBucketOwner"] = added[_OWNER]
    return parameters
