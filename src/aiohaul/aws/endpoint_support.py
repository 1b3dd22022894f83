"""The EndpointSupport class, which records the operations and conditions that a store supports."""

from __future__ import annotations

from aiohaul.concurrency import Lock
from aiohaul.errors import ServiceError

#: The status of an operation that a server does not implement.
_NOT_IMPLEMENTED = 501


class EndpointSupport:
    """The observed features of one endpoint, shared by all Services of this endpoint.

    Attributes:
        missing: the operations that the endpoint does not implement.
        refused_checksums: the checksum algorithms that the endpoint refuses, by S3's names.
        enforced: operation -> True if the endpoint enforces ``If-None-Match``; only operations that
            were probed.
        keeps_tags: operation -> True if the object had its tags afterwards; only operations that
            were sent with tags.
        counts_tags: the buckets whose responses contain the number of an object's tags.
        untagged: bucket -> objects whose tags were read although no number of tags was given.
        hides_tags: True if one of these objects had tags.
        bare_if_match: True if PutObject compares ``If-Match`` with an ETag without quotes.
        tag_lock: held while such tags are read.
    """

    __slots__ = (
        "__weakref__", "bare_if_match", "counts_tags", "enforced", "hides_tags", "keeps_tags",
        "missing", "refused_checksums", "tag_lock", "untagged",
    )  # fmt: skip

    def __init__(self) -> None:
        self.missing: set[str] = set()
        self.refused_checksums: set[str] = set()
        self.enforced: dict[str, bool] = {}
        self.keeps_tags: dict[str, bool] = {}
        self.counts_tags: set[str] = set()
        self.untagged: dict[str, int] = {}
        self.hides_tags = False
        self.bare_if_match = False
        self.tag_lock = Lock()


def is_not_implemented(error: ServiceError) -> bool:
    """Return True if the endpoint does not implement the operation."""
    return error.code == "NotImplemented" or error.status == _NOT_IMPLEMENTED
