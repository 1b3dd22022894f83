"""Options of the requests to a bucket: who pays, who owns the bucket, and how objects are written.

S3 checks the names of storage classes, KMS keys and accounts. aiohaul checks only that each is a
valid value of a header: a store other than AWS may have storage classes of its own.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from aiohaul.errors import SettingsError
from aiohaul.sensitive import shown

_ACL = "bucket-owner-full-control"
_ACCOUNT = re.compile(r"[0-9]{12}", re.ASCII)
_STORAGE_CLASS = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_KMS_KEY = re.compile(r"[A-Za-z0-9_/:+=,.@-]{1,2048}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """How objects are written, and the options of all requests to their bucket.

    Attributes:
        bucket_owner_full_control: True gives every object the ACL ``bucket-owner-full-control``.
        storage_class: the storage class of every object, such as ``STANDARD_IA``. Any name is
            accepted, because stores other than AWS have classes of their own. None keeps the class
            of a source at the same endpoint, or uses the default class of the store. The classes
            ``GLACIER`` and ``DEEP_ARCHIVE`` are not kept, because such a copy cannot be read. Flags
            always have the default class, because readers need them at once.
        kms_key_id: the id, ARN or alias of the KMS key that encrypts every object (SSE-KMS). None
            uses the default encryption of the bucket.
        request_payer: ``requester`` confirms that this account pays for the requests to a bucket
            with Requester Pays. None sends no confirmation, and such a bucket refuses the requests.
        expected_bucket_owner: the id, 12 digits, of the account that must own the bucket. If
            another account owns the bucket, S3 refuses every request (status 403). None does not
            check the owner.

    Raises:
        SettingsError: a value has the wrong form.
    """

    bucket_owner_full_control: bool = True
    storage_class: str | None = None
    kms_key_id: str | None = None
    request_payer: Literal["requester"] | None = None
    expected_bucket_owner: str | None = None

    def __post_init__(self) -> None:
        """Raise SettingsError if a value has the wrong form."""
        if self.storage_class is not None:
            _check_storage_class("storage_class", self.storage_class)
        if self.kms_key_id is not None and not _matches(_KMS_KEY, self.kms_key_id):
            raise SettingsError(
                "kms_key_id is not valid. Give the id, the ARN or the alias of a KMS key, such as"
                " alias/my-key"
            )
        _check_bucket_options(self.request_payer, self.expected_bucket_owner)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """The options of all requests of a handler, and the storage classes that it leaves out.

    Attributes:
        request_payer: ``requester`` confirms that this account pays for the requests to a bucket
            with Requester Pays. None sends no confirmation, and such a bucket refuses the requests.
        expected_bucket_owner: the id, 12 digits, of the account that must own the bucket. If
            another account owns the bucket, S3 refuses every request (status 403). None does not
            check the owner.
        ignore_storage_classes: the storage classes, such as ``GLACIER``, whose objects are left out
            of listings, searches, watches and counts.

    Raises:
        SettingsError: a value has the wrong form.
    """

    request_payer: Literal["requester"] | None = None
    expected_bucket_owner: str | None = None
    ignore_storage_classes: Collection[str] = frozenset()

    def __post_init__(self) -> None:
        """Raise SettingsError if a value has the wrong form."""
        if isinstance(self.ignore_storage_classes, str):
            raise SettingsError(
                "ignore_storage_classes must be a set of names, not a string. Use"
                f" {{{shown(self.ignore_storage_classes)}}}"
            )
        object.__setattr__(self, "ignore_storage_classes", frozenset(self.ignore_storage_classes))
        for each in self.ignore_storage_classes:
            _check_storage_class("ignore_storage_classes", each)
        _check_bucket_options(self.request_payer, self.expected_bucket_owner)


def acl(options: WriteOptions) -> dict[str, str]:
    """Return the ACL parameter of a write; no parameter if the user disabled the ACL."""
    return {"ACL": _ACL} if options.bucket_owner_full_control else {}


def write_parameters(options: WriteOptions) -> dict[str, str]:
    """Return the ACL, the storage class and the encryption of an object to write, as parameters.

    PutObject, CopyObject and CreateMultipartUpload have these parameters.
    """
    parameters = acl(options)
    if options.storage_class is not None:
        parameters["StorageClass"] = options.storage_class
    if options.kms_key_id is not None:
        parameters |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": options.kms_key_id}
    return parameters


def _check_storage_class(name: str, value: object) -> None:
    if not _matches(_STORAGE_CLASS, value):
        raise SettingsError(
            f"{name}: {shown(value)} is not the name of a storage class. Use letters, digits, '_',"
            " '-' and '.', such as STANDARD_IA"
        )


def _check_bucket_options(request_payer: object, expected_bucket_owner: object) -> None:
    if request_payer not in (None, "requester"):
        raise SettingsError(
            f"request_payer must be 'requester' or None, not {shown(request_payer, ['requester'])}"
        )
    if expected_bucket_owner is not None and not _matches(_ACCOUNT, expected_bucket_owner):
        raise SettingsError(
            "expected_bucket_owner must be the id of an AWS account, a string of 12 digits, not"
            f" {shown(expected_bucket_owner, ())}"
        )


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


#: The default options of a write.
WRITE_OPTIONS = WriteOptions()
