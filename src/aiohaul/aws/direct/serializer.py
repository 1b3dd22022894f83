"""Builds S3 requests from parameters, according to botocore's model of S3.

botocore builds the requests that the model does not fully describe.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote

from aiohaul.aws.content_md5 import HEADER as CONTENT_MD5
from aiohaul.aws.content_md5 import content_md5
from aiohaul.aws.http.payload import Bytes, Payload

#: The operations whose requests this module builds: method of the client -> operation.
OPERATIONS = {
    "abort_multipart_upload": "AbortMultipartUpload",
    "complete_multipart_upload": "CompleteMultipartUpload",
    "copy_object": "CopyObject",
    "create_multipart_upload": "CreateMultipartUpload",
    "delete_object": "DeleteObject",
    "delete_objects": "DeleteObjects",
    "get_object": "GetObject",
    "get_object_tagging": "GetObjectTagging",
    "head_object": "HeadObject",
    "list_multipart_uploads": "ListMultipartUploads",
    "list_objects_v2": "ListObjectsV2",
    "list_parts": "ListParts",
    "put_object": "PutObject",
    "put_object_tagging": "PutObjectTagging",
    "upload_part": "UploadPart",
    "upload_part_copy": "UploadPartCopy",
}
#: Parameters that botocore handles specially: hashed keys, signed lengths, validation.
_LEFT_TO_BOTOCORE = frozenset(
    {
        "ContentLength",
        "CopySourceSSECustomerKey",
        "CopySourceSSECustomerKeyMD5",
        "SSECustomerKey",
        "SSECustomerKeyMD5",
    }
)
_CHECKSUM_HEADER = "x-amz-checksum-"
_ALGORITHM_HEADER = "x-amz-sdk-checksum-algorithm"
_DEFAULT_ALGORITHM = "CRC32"

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VERSION = re.compile(r"[A-Za-z0-9._-]+")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
#: Suffixes of special buckets: S3 Express, access points and their aliases.
_SPECIAL_BUCKET = re.compile(r"(--x-s3|--xa-s3|-s3alias|--ol-s3|\.mrap|--table-s3)$")
_KEY_SAFE = "/~"
_VALUE_SAFE = "-._~"

_Format = Callable[[Any], str]


class _LeftToBotocoreError(Exception):
    """botocore must build this request."""


@dataclass(frozen=True, slots=True)
class Member:
    """A parameter in a request: the location (such as ``header``), the name and the format."""

    location: str
    name: str
    form: _Format


@dataclass(frozen=True, slots=True)
class Operation:
    """The rules for building the requests of one operation."""

    name: str
    method: str
    keyed: bool
    query: str
    members: Mapping[str, Member]
    required: frozenset[str]
    #: the parameter with the body, and the conversion of the body to bytes
    body: str | None
    write: Callable[[Any], Bytes] | None
    #: True if a checksum may be sent; True if a checksum must be sent
    checksum: bool
    checksum_required: bool
    #: the headers in which the caller may give a checksum
    vouching: frozenset[str]
    #: True if the body is raw bytes, which botocore does not hash with TLS
    streaming: bool


class Unsigned(NamedTuple):
    """A request without the parts that depend on the endpoint, the time and the checksum."""

    path: str
    query: str
    headers: dict[str, str]
    body: Bytes
    #: the checksum to add, such as ``crc32``
    algorithm: str | None
    #: the body as a Payload, if the caller gave one, so that it is hashed only once
    payload: Payload | None = None

    @property
    def suffix(self) -> str:
        """The end of the request's URL: the key and the query."""
        return f"{self.path}?{self.query}" if self.query else self.path


def compiled(model: Any) -> Operation | None:
    """Return the rules for building the requests of an operation, made from botocore's model.

    Args:
        model: the result of ``client.meta.service_model.operation_model(name)``.

    Returns:
        The rules; None if the model has features that this module does not support.
    """
    shape = model.input_shape
    target, _, query = model.http["requestUri"].partition("?")
    payload = shape.serialization.get("payload")
    members = {}
    for name, member in shape.members.items():
        if name == "ChecksumMode" and model.name == "GetObject":
            continue  # botocore compares the checksum of the response
        made = _member(name, member)
        if made is not None:
            members[name] = made
    write = None
    if payload is not None:
        body = shape.members[payload]
        try:
            write = _bytes if body.type_name == "blob" else _document(body, model.name)
        except _LeftToBotocoreError:
            return None
    return Operation(
        name=model.name,
        method=model.http["method"],
        keyed=target.endswith("/{Key+}"),
        query=query,
        members=members,
        required=frozenset(shape.required_members),
        body=payload,
        write=write,
        checksum=model.http_checksum.get("requestAlgorithmMember") == "ChecksumAlgorithm",
        checksum_required=bool(model.http_checksum.get("requestChecksumRequired")),
        vouching=frozenset(
            member.name
            for member in members.values()
            if member.location == "header" and member.name.lower().startswith(_CHECKSUM_HEADER)
        ),
        streaming=model.has_streaming_input,
    )


def _member(name: str, shape: Any) -> Member | None:
    location = shape.serialization.get("location")
    wire = shape.serialization.get("name", name)
    if name in _LEFT_TO_BOTOCORE:
        return None
    if location == "headers":
        return Member(location, wire, str)
    if location not in ("querystring", "header"):
        return None
    if name == "CopySource":
        return Member(location, wire, _copy_source)
    form = _SCALARS.get(shape.type_name)
    return Member(location, wire, form) if form else None


def build(
    operation: Operation, parameters: Mapping[str, Any], *, checksums: bool
) -> Unsigned | None:
    """Build a request.

    Args:
        operation: the operation.
        parameters: the parameters of the client's method.
        checksums: True adds a checksum to every body; False only where S3 requires a checksum.

    Returns:
        The request; None if botocore must build it, because the parameters are wrong or this module
        does not support them.
    """
    try:
        return _build(operation, parameters, checksums=checksums)
    except (_LeftToBotocoreError, UnicodeEncodeError):
        return None


def _build(operation: Operation, parameters: Mapping[str, Any], *, checksums: bool) -> Unsigned:
    if not operation.required <= parameters.keys() or not plain_bucket(parameters["Bucket"]):
        raise _LeftToBotocoreError
    query = [operation.query] if operation.query else []
    headers: dict[str, str] = {}
    body: Bytes = b""
    path = ""
    payload: Payload | None = None
    for name, value in parameters.items():
        if name == "Key" and operation.keyed:
            path = _key(value)
        elif name == operation.body and operation.write is not None:
            if type(value) is Payload:
                payload, value = value, value.data  # noqa: PLW2901  # the bytes from here on
            body = operation.write(value)
        elif name != "Bucket":
            _place(operation, name, value, query, headers)
    if operation.name == "ListObjectsV2" and "EncodingType" not in parameters:
        query.append("encoding-type=url")  # XML cannot contain every key
    if operation.name in ("DeleteObjects", "PutObjectTagging"):
        headers.setdefault(CONTENT_MD5, content_md5(body))
    algorithm = None
    if operation.checksum:
        algorithm = _algorithm(operation, headers, checksums=checksums)
    return Unsigned(path, "&".join(query), headers, body, algorithm, payload)


def plain_bucket(name: Any) -> bool:
    """Return True for the name of a general purpose bucket, False for an ARN or an alias."""
    return type(name) is str and _is_plain(name)


@lru_cache(maxsize=1024)
def _is_plain(name: str) -> bool:
    return _BUCKET.fullmatch(name) is not None and _SPECIAL_BUCKET.search(name) is None


def _key(value: Any) -> str:
    if type(value) is not str or not value:
        raise _LeftToBotocoreError
    return "/" + quote(value, safe=_KEY_SAFE)


def _place(
    operation: Operation, name: str, value: Any, query: list[str], headers: dict[str, str]
) -> None:
    member = operation.members.get(name)
    if member is None:
        raise _LeftToBotocoreError
    if member.location == "header":
        headers[member.name] = _header(member.form(value))
    elif member.location == "querystring":
        query.append(f"{member.name}={quote(member.form(value), safe=_VALUE_SAFE)}")
    else:
        _place_metadata(member.name, value, headers)


def _place_metadata(prefix: str, value: Any, headers: dict[str, str]) -> None:
    if type(value) is not dict:
        raise _LeftToBotocoreError
    for key, text in value.items():
        if type(key) is not str or type(text) is not str or not _TOKEN.fullmatch(key):
            raise _LeftToBotocoreError
        headers[prefix + key] = _header(text)
    if len({key.lower() for key in value}) != len(value):
        raise _LeftToBotocoreError


def _header(value: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise _LeftToBotocoreError
    return value


def _algorithm(operation: Operation, headers: dict[str, str], *, checksums: bool) -> str | None:
    """Return the checksum algorithm to use, or None, as botocore chooses it."""
    if not operation.vouching.isdisjoint(headers):
        return None  # the caller gives one
    named = headers.get(_ALGORITHM_HEADER)
    if named is not None:
        return named.lower()
    if not (checksums or operation.checksum_required):
        return None
    headers[_ALGORITHM_HEADER] = _DEFAULT_ALGORITHM
    return _DEFAULT_ALGORITHM.lower()


def vouches(headers: Mapping[str, str]) -> bool:
    """Return True if the headers contain a checksum of the body."""
    return any(
        name.lower() == "content-md5" or name.lower().startswith(_CHECKSUM_HEADER)
        for name in headers
    )


def _string(value: Any) -> str:
    if type(value) is not str:
        raise _LeftToBotocoreError
    return value


def _integer(value: Any) -> str:
    if type(value) is not int:
        raise _LeftToBotocoreError
    return str(value)


def _boolean(value: Any) -> str:
    if type(value) is not bool:
        raise _LeftToBotocoreError
    return "true" if value else "false"


def _bytes(value: Any) -> Bytes:
    if type(value) is bytes or type(value) is bytearray:
        return value
    raise _LeftToBotocoreError


_SCALARS: dict[str, _Format] = {
    "string": _string,
    "integer": _integer,
    "long": _integer,
    "boolean": _boolean,
}


def _copy_source(value: Any) -> str:
    """Return the header for a dictionary. botocore must handle a string, which may be encoded."""
    if type(value) is not dict or not value.keys() <= {"Bucket", "Key", "VersionId"}:
        raise _LeftToBotocoreError
    bucket, key = value.get("Bucket"), value.get("Key")
    if not plain_bucket(bucket) or type(key) is not str:
        raise _LeftToBotocoreError
    source = quote(f"{bucket}/{key}", safe=_VALUE_SAFE + "/")
    version = value.get("VersionId")
    if version is None:
        return source
    if type(version) is not str or not _VERSION.fullmatch(version):
        raise _LeftToBotocoreError
    return f"{source}?versionId={version}"


# Bodies of XML ------------------------------------------------------------------------------

_Write = Callable[[str, Any], str]


def _document(shape: Any, operation: str) -> Callable[[Any], Bytes]:
    """Return a function that writes the same XML body as botocore, byte for byte."""
    write = _writer(shape)
    root = shape.serialization["name"]
    if operation != "DeleteObjects":
        return lambda value: write(root, value).encode()
    # A parser would normalize the line breaks in a key.
    return lambda value: write(root, value).replace("\r", "&#xD;").replace("\n", "&#xA;").encode()


def _writer(shape: Any) -> _Write:
    if shape.type_name == "structure":
        return _structure_writer(shape)
    if shape.type_name == "list" and shape.serialization.get("flattened"):
        write = _writer(shape.member)
        return lambda name, value: "".join([write(name, each) for each in _list(value)])
    if shape.type_name == "list":
        write, entry = _writer(shape.member), shape.member.serialization.get("name", "member")
        return lambda name, value: _element(
            name, "", "".join([write(entry, each) for each in _list(value)])
        )
    form = _SCALARS.get(shape.type_name)
    if form is None:
        return _never
    return lambda name, value: _element(name, "", _escaped(form(value)))


def _never(name: str, value: Any) -> str:  # noqa: ARG001
    raise _LeftToBotocoreError


def _structure_writer(shape: Any) -> _Write:
    members = {
        name: (member.serialization.get("name", name), _writer(member))
        for name, member in shape.members.items()
    }
    required = frozenset(shape.required_members)
    namespace = shape.serialization.get("xmlNamespace", {}).get("uri")
    attribute = f' xmlns="{namespace}"' if namespace else ""

    def write(name: str, value: Any) -> str:
        if type(value) is not dict or not required <= value.keys() <= members.keys():
            raise _LeftToBotocoreError
        inside = []
        for each, content in value.items():
            wire, write_member = members[each]
            inside.append(write_member(wire, content))
        return _element(name, attribute, "".join(inside))

    return write


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise _LeftToBotocoreError
    return value


def _element(name: str, attribute: str, inside: str) -> str:
    return f"<{name}{attribute}>{inside}</{name}>" if inside else f"<{name}{attribute} />"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
