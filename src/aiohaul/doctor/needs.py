"""Finds the permissions that a definition needs in a bucket. Does no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from aiohaul.errors import DefinitionError
from aiohaul.s3.copying.plan import Destination
from aiohaul.s3.objects import uri
from aiohaul.s3.options import SourceOptions, WriteOptions
from aiohaul.settings import Settings
from aiohaul.tasks.batch_definition import Batch
from aiohaul.tasks.definition import Task, Touch, Transfer

#: Every permission that aiohaul may need in a bucket, with its purpose.
PERMISSIONS: Mapping[str, str] = {
    "s3:ListBucket": "to find and watch objects, and to delete them",
    "s3:GetObject": "to read and copy sources, and to verify copies",
    "s3:GetObjectTagging": "to copy sources with their tags",
    "s3:PutObject": "to write objects, copies and flags",
    "s3:PutObjectAcl": "to give the owner of the bucket full control",
    "s3:PutObjectTagging": "to write copies with tags",
    "s3:DeleteObject": "to move and delete sources",
    "s3:AbortMultipartUpload": "to abort the uploads of copies that failed",
    "s3:ListMultipartUploadParts": "to resume uploads with a journal",
    "s3:ListBucketMultipartUploads": "to find the open uploads of a killed run",
}
_READ = ("s3:ListBucket", "s3:GetObject")
_WRITE = (
    "s3:PutObject",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
    "s3:ListBucketMultipartUploads",
)


@dataclass(frozen=True, slots=True)
class Needs:
    """The permissions that a definition needs in a bucket, and the settings to check them with.

    Attributes:
        permissions: the permissions, each with the part of the definition that needs it; None
            without a definition.
        settings: the credentials and the endpoint of the first source or destination that uses
            the bucket.
        options: the payer and the owner of the bucket, of the first source or destination too.
    """

    permissions: Mapping[str, str] | None = None
    settings: Settings = field(default_factory=Settings)
    options: SourceOptions = field(default_factory=SourceOptions)


def needs_of(task: Task | Batch, bucket: str) -> Needs:
    """Return the permissions that a definition needs in a bucket.

    Raises:
        DefinitionError: the definition does not use the bucket.
    """
    sides = [side for side in _sides(task) if side[0] == bucket]
    if not sides:
        raise DefinitionError("", f"does not use the bucket {uri(bucket)}: name one that it uses")
    permissions: dict[str, str] = {}
    for _, role, needed, _, _ in sides:
        for each in needed:
            permissions.setdefault(each, role)
    _, _, _, settings, options = sides[0]
    access = SourceOptions(
        request_payer=options.request_payer, expected_bucket_owner=options.expected_bucket_owner
    )
    return Needs(permissions, settings, access)


#: A bucket, its role in the definition, the permissions for this role, the settings and options.
_Side = tuple[str, str, tuple[str, ...], Settings, SourceOptions | WriteOptions]


def _sides(task: Task | Batch | None) -> Iterator[_Side]:
    match task:
        case Batch():
            for each in task.tasks:
                yield from _sides(each.task)
        case Transfer():
            yield from _source_sides(task)
            for to in task.destinations:
                if isinstance(to, Destination):
                    needed = _writes(acl=to.options.bucket_owner_full_control)
                    settings = to.settings or Settings()
                    yield to.bucket, "as a destination", needed, settings, to.options
        case Touch():
            acl = task.options.bucket_owner_full_control
            needed = ("s3:PutObject", *(["s3:PutObjectAcl"] if acl else []))
            yield task.bucket, "for the flag", needed, task.settings, task.options


def _source_sides(task: Transfer) -> Iterator[_Side]:
    source = task.source
    if source.bucket is None:
        return
    settings, options = source.settings or Settings(), source.options or SourceOptions()
    reads = (*_READ, "s3:GetObjectTagging") if task.destinations else ("s3:ListBucket",)
    yield source.bucket, "as the source", reads, settings, options
    action = source.action
    if action is not None:
        role = f"to {action.kind} the sources"
        yield source.bucket, role, (*_READ, "s3:DeleteObject"), settings, options
        if action.kind != "delete":
            needed = _writes(acl=action.options.bucket_owner_full_control)
            yield action.bucket or source.bucket, role, needed, settings, action.options


def _writes(*, acl: bool) -> tuple[str, ...]:
    # aiohaul verifies a copy with HeadObject, which needs the permission s3:GetObject.
    return (*_WRITE, "s3:GetObject", "s3:PutObjectTagging", *(["s3:PutObjectAcl"] if acl else []))
