"""An S3 in memory, as strict as AWS and small enough to be compared as a whole.

It holds every request to its checksums, conditions, parts and sizes, and does each at once or not
at all. How it is reached, and what goes wrong on the way, is not its business.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from aiohaul.s3.streaming.checksums import Algorithm, algorithms

Place = tuple[str, str]

_SENT = ("PutObject", "UploadPart")
_GETS = {
    "list-type": "ListObjectsV2",
    "uploads": "ListMultipartUploads",
    "uploadId": "ListParts",
    "tagging": "GetObjectTagging",
}
_KEPT = (
    *("content-type", "cache-control", "x-amz-storage-class", "x-amz-meta-", "x-amz-acl"),
    "x-amz-server-side-encryption",
)
#: What CopyObject does not carry from the source to its copy.
_NOT_CARRIED = ("x-amz-storage-class", "x-amz-acl", "x-amz-server-side-encryption")


@dataclass(frozen=True, slots=True)
class Call:
    """One request, whole."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def place(self) -> Place:
        bucket, _, key = self.path.removeprefix("/").partition("/")
        return bucket, key

    @property
    def operation(self) -> str:
        """S3's name for it."""
        query, name = self.query, self.method
        match self.method:
            case "PUT":
                copy = "x-amz-copy-source" in self.headers
                whole, part = ("CopyObject", "UploadPartCopy") if copy else _SENT
                name = part if "partNumber" in query else whole
            case "POST" if "uploads" in query:
                name = "CreateMultipartUpload"
            case "POST":
                name = "DeleteObjects" if "delete" in query else "CompleteMultipartUpload"
            case "DELETE":
                name = "AbortMultipartUpload" if "uploadId" in query else "DeleteObject"
            case "GET":
                asked = (each for each in _GETS if each in query)
                name = _GETS.get(next(asked, ""), "GetObject")
            case "HEAD":
                name = "HeadObject"
        return name


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, whole."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(slots=True)
class Thing:
    """One object."""

    data: bytes
    etag: str
    kept: dict[str, str] = field(default_factory=dict)
    checksum: dict[str, str] = field(default_factory=dict)
    written: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(slots=True)
class Opened:
    """One upload that is neither completed nor aborted."""

    place: Place
    kept: dict[str, str]
    algorithm: Algorithm | None
    parts: dict[int, Thing] = field(default_factory=dict)
    begun: datetime = field(default_factory=lambda: datetime.now(UTC))
    initiator: str = ""


class RefusedError(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


@dataclass
class StrictS3:
    """Buckets, objects and open uploads.

    Attributes:
        smallest_part: bytes of a part that is not the last one.
        page: keys of one page of a listing.
        writes: how often each object was written.
    """

    smallest_part: int = 2**20
    page: int = 1000
    objects: dict[Place, Thing] = field(default_factory=dict)
    uploads: dict[str, Opened] = field(default_factory=dict)
    buckets: set[str] = field(default_factory=set)
    writes: Counter[Place] = field(default_factory=Counter)
    begun: int = 0

    def reset(self) -> None:
        self.objects.clear()
        self.uploads.clear()
        self.buckets.clear()
        self.writes.clear()

    def put(self, bucket: str, key: str, data: bytes, **kept: str) -> None:
        """Put an object there, as somebody else."""
        self.buckets.add(bucket)
        self.objects[bucket, key] = Thing(data, md5(data), kept)

    def open(self, upload_id: str, place: Place, *, age: float, initiator: str = "") -> None:
        """Begin an upload so many seconds ago, as somebody else, who is not told unless named."""
        begun = datetime.now(UTC) - timedelta(seconds=age)
        self.uploads[upload_id] = Opened(place, {}, None, begun=begun, initiator=initiator)

    def contents(self, bucket: str) -> dict[str, bytes]:
        return {key: each.data for (where, key), each in self.objects.items() if where == bucket}

    def answer(self, call: Call) -> Reply:
        """Do what is asked, or nothing."""
        try:
            self._check_bucket(call)
            self._check_body(call)
            reply: Reply = getattr(self, f"_{call.operation}")(call)
        except RefusedError as error:
            return refusal(error.status, error.code)
        return reply

    def _check_bucket(self, call: Call) -> None:
        if call.place[0] not in self.buckets:
            raise RefusedError(404, "NoSuchBucket")

    def _check_body(self, call: Call) -> None:
        told = call.headers.get("x-amz-content-sha256", "")
        if len(told) == 64 and told != hashlib.sha256(call.body).hexdigest():
            raise RefusedError(400, "XAmzContentSHA256Mismatch")
        if call.operation == "CompleteMultipartUpload":
            return  # there the checksum is the object's
        for each in algorithms().values():
            wanted = call.headers.get(_header(each))
            if wanted is not None and wanted != each.encode(each.of(call.body)):
                raise RefusedError(400, "BadDigest")

    def _find(self, place: Place) -> Thing:
        found = self.objects.get(place)
        if found is None:
            raise RefusedError(404, "NoSuchKey")
        return found

    def _open(self, call: Call) -> Opened:
        found = self.uploads.get(call.query["uploadId"])
        if found is None or found.place != call.place:
            raise RefusedError(404, "NoSuchUpload")
        return found

    def _source(self, call: Call) -> Thing:
        path = unquote(call.headers["x-amz-copy-source"]).removeprefix("/")
        bucket, _, key = path.partition("/")
        found = self._find((bucket, key))
        wanted = call.headers.get("x-amz-copy-source-if-match")
        if wanted is not None and wanted.strip('"') != found.etag:
            raise RefusedError(412, "PreconditionFailed")
        return found

    def _check_free(self, call: Call) -> None:
        if call.headers.get("if-none-match") == "*" and call.place in self.objects:
            raise RefusedError(412, "PreconditionFailed")

    def _part(self, upload: Opened, data: bytes) -> Thing:
        del upload
        return Thing(data, md5(data))

    def _write(self, place: Place, thing: Thing) -> None:
        self.objects[place] = thing
        self.writes[place] += 1

    # Reading --------------------------------------------------------------------------------

    def _HeadObject(self, call: Call) -> Reply:  # noqa: N802  # AWS's name
        found = self._matching(call)
        told = {**_description(found), "content-length": str(len(found.data))}
        if call.headers.get("x-amz-checksum-mode") == "ENABLED":
            told |= found.checksum
        return Reply(200, told)

    def _GetObject(self, call: Call) -> Reply:  # noqa: N802  # as above
        found = self._matching(call)
        asked = call.headers.get("range")
        if asked is None:
            return Reply(200, _description(found), found.data)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        size = len(found.data)
        start = int(first) if first else max(size - int(last), 0)
        if start >= size:
            raise RefusedError(416, "InvalidRange")
        data = found.data[start : int(last) + 1 if first and last else size]
        where = f"bytes {start}-{start + len(data) - 1}/{len(found.data)}"
        return Reply(206, {**_description(found), "content-range": where}, data)

    def _matching(self, call: Call) -> Thing:
        found = self._find(call.place)
        wanted = call.headers.get("if-match")
        if wanted is not None and wanted.strip('"') != found.etag:
            raise RefusedError(412, "PreconditionFailed")
        return found

    def _GetObjectTagging(self, call: Call) -> Reply:  # noqa: N802  # as above
        self._find(call.place)
        return _xml("Tagging", "<TagSet></TagSet>")

    def _ListObjectsV2(self, call: Call) -> Reply:  # noqa: N802  # as above
        query, bucket = call.query, call.place[0]
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        after = query.get("continuation-token", "")
        keys = sorted(
            key
            for where, key in self.objects
            if where == bucket
            and key.startswith(prefix)
            and not (delimiter and delimiter in key[len(prefix) :])
            and key > after
        )
        shown, rest = keys[: self.page], keys[self.page :]
        url = query.get("encoding-type") == "url"
        entries = "".join(self._entry(bucket, key, url=url) for key in shown)
        more = f"<NextContinuationToken>{escape(shown[-1])}</NextContinuationToken>" if rest else ""
        encoding = "<EncodingType>url</EncodingType>" if url else ""
        truncated = f"<IsTruncated>{'true' if rest else 'false'}</IsTruncated>"
        return _xml("ListBucketResult", f"{encoding}{truncated}{more}{entries}")

    def _entry(self, bucket: str, key: str, *, url: bool) -> str:
        found = self.objects[bucket, key]
        shown = quote(key) if url else escape(key)
        return (
            f"<Contents><Key>{shown}</Key><LastModified>{_iso(found.written)}</LastModified>"
            f"<ETag>&quot;{found.etag}&quot;</ETag><Size>{len(found.data)}</Size>"
            f"<StorageClass>{found.kept.get('x-amz-storage-class', 'STANDARD')}</StorageClass>"
            "</Contents>"
        )

    # Writing --------------------------------------------------------------------------------

    def _PutObject(self, call: Call) -> Reply:  # noqa: N802  # as above
        self._check_free(call)
        made = Thing(call.body, md5(call.body), _kept(call.headers))
        told = {name: v for name, v in call.headers.items() if name in _known_headers()}
        made.checksum = {**told, "x-amz-checksum-type": "FULL_OBJECT"} if told else {}
        self._write(call.place, made)
        return Reply(200, {"etag": f'"{made.etag}"', **made.checksum})

    def _CopyObject(self, call: Call) -> Reply:  # noqa: N802  # as above
        source = self._source(call)
        self._check_free(call)
        carried = {n: v for n, v in source.kept.items() if not n.startswith(_NOT_CARRIED)}
        kept = {**carried, **_kept(call.headers)}
        made = Thing(source.data, md5(source.data), kept, dict(source.checksum))
        self._write(call.place, made)
        return _xml("CopyObjectResult", _etag(made.etag) + _now("LastModified"))

    def _DeleteObject(self, call: Call) -> Reply:  # noqa: N802  # as above
        if call.place in self.objects:
            self._matching(call)
            del self.objects[call.place]
        return Reply(204)

    def _DeleteObjects(self, call: Call) -> Reply:  # noqa: N802  # as above
        errors = ""
        for each in _parsed(call.body).iter():
            if _local(each) == "Object":
                told = {_local(child): child.text or "" for child in each}
                place = (call.place[0], told["Key"])
                found = self.objects.get(place)
                if found is None:
                    continue
                if "ETag" in told and told["ETag"].strip('"') != found.etag:
                    errors += (
                        f"<Error><Key>{escape(place[1])}</Key><Code>PreconditionFailed</Code>"
                        "<Message>another version</Message></Error>"
                    )
                else:
                    del self.objects[place]
        return _xml("DeleteResult", errors)

    # Uploads --------------------------------------------------------------------------------

    def _CreateMultipartUpload(self, call: Call) -> Reply:  # noqa: N802  # as above
        self.begun += 1
        upload_id = f"upload-{self.begun:08}-abcdefgh"
        name = call.headers.get("x-amz-checksum-algorithm", "")
        self.uploads[upload_id] = Opened(
            call.place, _kept(call.headers), algorithms().get(name), initiator=_identity(call)
        )
        told = {
            each: call.headers[each]
            for each in ("x-amz-checksum-algorithm", "x-amz-checksum-type")
            if each in call.headers
        }
        return _xml("InitiateMultipartUploadResult", f"<UploadId>{upload_id}</UploadId>", told)

    def _UploadPart(self, call: Call) -> Reply:  # noqa: N802  # as above
        upload = self._open(call)
        part = self._part(upload, call.body)
        upload.parts[int(call.query["partNumber"])] = part
        return Reply(200, {"etag": f'"{part.etag}"'})

    def _UploadPartCopy(self, call: Call) -> Reply:  # noqa: N802  # as above
        upload, source = self._open(call), self._source(call)
        asked = call.headers["x-amz-copy-source-range"].removeprefix("bytes=")
        start, end = (int(each) for each in asked.split("-"))
        data = source.data[start : end + 1]
        part = upload.parts[int(call.query["partNumber"])] = self._part(upload, data)
        return _xml("CopyPartResult", _etag(part.etag) + _now("LastModified"))

    def _CompleteMultipartUpload(self, call: Call) -> Reply:  # noqa: N802  # as above
        upload = self._open(call)
        self._check_free(call)
        parts = self._asked(upload, call.body)
        data = b"".join(part.data for part in parts)
        digests = b"".join(bytes.fromhex(part.etag) for part in parts)
        etag = f"{md5(digests)}-{len(parts)}"
        if call.headers.get("x-amz-mp-object-size", str(len(data))) != str(len(data)):
            raise RefusedError(400, "InvalidRequest")
        told, fields = {}, ""
        if upload.algorithm is not None:
            value = upload.algorithm.encode(upload.algorithm.of(data))
            name = _header(upload.algorithm)
            if call.headers.get(name, value) != value:
                raise RefusedError(400, "BadDigest")
            told = {name: value, "x-amz-checksum-type": "FULL_OBJECT"}
            element = upload.algorithm.parameter
            fields = f"<{element}>{value}</{element}><ChecksumType>FULL_OBJECT</ChecksumType>"
        made = Thing(data, etag, upload.kept, told)
        self._write(call.place, made)
        del self.uploads[call.query["uploadId"]]
        return _xml("CompleteMultipartUploadResult", _etag(made.etag) + fields)

    def _asked(self, upload: Opened, body: bytes) -> list[Thing]:
        """The parts that a completion names."""
        parts = []
        for each in _parsed(body).iter():
            if _local(each) == "Part":
                told = {_local(child): child.text or "" for child in each}
                part = upload.parts.get(int(told["PartNumber"]))
                if part is None or part.etag != told["ETag"].strip('"'):
                    raise RefusedError(400, "InvalidPart")
                parts.append(part)
        if not parts:
            raise RefusedError(400, "MalformedXML")
        if any(len(part.data) < self.smallest_part for part in parts[:-1]):
            raise RefusedError(400, "EntityTooSmall")
        return parts

    def _AbortMultipartUpload(self, call: Call) -> Reply:  # noqa: N802  # as above
        self._open(call)
        del self.uploads[call.query["uploadId"]]
        return Reply(204)

    def _ListMultipartUploads(self, call: Call) -> Reply:  # noqa: N802  # as above
        prefix, bucket = call.query.get("prefix", ""), call.place[0]
        entries = "".join(
            f"<Upload><Key>{escape(each.place[1])}</Key><UploadId>{upload_id}</UploadId>"
            f"{_initiator(each)}<Initiated>{_iso(each.begun)}</Initiated></Upload>"
            for upload_id, each in self.uploads.items()
            if each.place[0] == bucket and each.place[1].startswith(prefix)
        )
        return _xml("ListMultipartUploadsResult", f"<IsTruncated>false</IsTruncated>{entries}")

    def _ListParts(self, call: Call) -> Reply:  # noqa: N802  # as above
        entries = "".join(
            f"<Part><PartNumber>{number}</PartNumber>{_etag(part.etag)}"
            f"<Size>{len(part.data)}</Size></Part>"
            for number, part in sorted(self._open(call).parts.items())
        )
        return _xml("ListPartsResult", f"<IsTruncated>false</IsTruncated>{entries}")


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def refusal(status: int, code: str) -> Reply:
    text = f"<Error><Code>{code}</Code><Message>by the test</Message></Error>"
    return Reply(status, {"content-type": "application/xml"}, text.encode())


def _xml(name: str, inside: str, headers: Mapping[str, str] | None = None) -> Reply:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<{name}>{inside}</{name}>'
    return Reply(200, {"content-type": "application/xml", **(headers or {})}, text.encode())


def _etag(value: str) -> str:
    return f"<ETag>&quot;{value}&quot;</ETag>"


def _now(name: str) -> str:
    return f"<{name}>{_iso(datetime.now(UTC))}</{name}>"


def _iso(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _identity(call: Call) -> str:
    """Whose keys a request is signed with."""
    return call.headers.get("authorization", "").partition("Credential=")[2].partition("/")[0]


def _initiator(upload: Opened) -> str:
    return f"<Initiator><ID>{escape(upload.initiator)}</ID></Initiator>" * bool(upload.initiator)


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith(_KEPT)}


def _description(found: Thing) -> dict[str, str]:
    shown = {n: v for n, v in found.kept.items() if n != "x-amz-acl"}
    when = format_datetime(found.written, usegmt=True)
    return {"etag": f'"{found.etag}"', "last-modified": when, **shown}


def _header(algorithm: Algorithm) -> str:
    return f"x-amz-checksum-{algorithm.name.lower()}"


def _known_headers() -> set[str]:
    return {_header(each) for each in algorithms().values()}


def _parsed(body: bytes) -> ET.Element:
    try:
        return ET.fromstring(body)  # noqa: S314  # from the code under test
    except ET.ParseError:
        raise RefusedError(400, "MalformedXML") from None


def _local(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]
