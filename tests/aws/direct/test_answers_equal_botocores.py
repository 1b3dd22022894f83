"""Answers on the direct way are read as botocore reads them."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from botocore.utils import parse_timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiohaul.aws.advice import PAGE_HEADER
from aiohaul.aws.direct import listing, parser
from aiohaul.aws.direct.error_response import ErrorResponseError, error_response
from aiohaul.aws.direct.model import known
from aiohaul.aws.direct.serializer import OPERATIONS
from aiohaul.aws.http.connection import Reply
from tests.support.captured import Catcher

MANY = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
ISO = "%Y-%m-%dT%H:%M:%S.000Z"
ROOT = '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
#: What is raised for an answer that is none, and translated at the boundary.
NOT_READ = (KeyError, ResponseParserError, RuntimeError, TypeError, ValueError)
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "ListObjectsV2": ("list_objects_v2", {"Bucket": "bucket"}),
    "HeadObject": ("head_object", {"Bucket": "bucket", "Key": "k"}),
    "GetObject": ("get_object", {"Bucket": "bucket", "Key": "k"}),
    "CopyObject": (
        "copy_object",
        {"Bucket": "bucket", "Key": "k", "CopySource": {"Bucket": "bucket", "Key": "k"}},
    ),
    "DeleteObjects": ("delete_objects", {"Bucket": "bucket", "Delete": {"Objects": []}}),
    "DeleteObject": ("delete_object", {"Bucket": "bucket", "Key": "k"}),
    "CreateMultipartUpload": ("create_multipart_upload", {"Bucket": "bucket", "Key": "k"}),
    "CompleteMultipartUpload": (
        "complete_multipart_upload",
        {"Bucket": "bucket", "Key": "k", "UploadId": "u"},
    ),
    "UploadPartCopy": (
        "upload_part_copy",
        {
            "Bucket": "bucket",
            "Key": "k",
            "UploadId": "u",
            "PartNumber": 1,
            "CopySource": {"Bucket": "bucket", "Key": "k"},
        },
    ),
    "PutObject": ("put_object", {"Bucket": "bucket", "Key": "k"}),
}


METHODS = {name: method for method, name in OPERATIONS.items()}
#: What botocore repeats of some errors beside their "Error".
OF_SOME_ERRORS = ("StorageClass", "AccessTier")


@cache
def catcher() -> Catcher:
    return Catcher(endpoint="http://127.0.0.1:9000")


@cache
def compiled(name: str) -> parser.Answer:
    made = known(METHODS[name])
    assert made is not None
    return made.answer


def theirs(name: str, status: int, headers: Mapping[str, str], body: bytes) -> Any:
    """What botocore's method returns or raises when it is answered like this."""
    method, parameters = CALLS[name]
    catcher().answer = status, headers, body
    try:
        answer = getattr(catcher().client, method)(**parameters)
    except (BotoCoreError, ClientError, *NOT_READ) as error:
        return error
    answer.pop("Body", None)
    return comparable(answer)


def ours(name: str, status: int, headers: Mapping[str, str], body: bytes) -> Any:
    answer = compiled(name)
    try:
        if status >= 300:
            raise failed(name, status, headers, body)
        made = parser.read_headers(answer, status, headers)
        steps = parser.read_body(answer, status, body)
        if name == "ListObjectsV2":
            steps = listing.read_page(answer, status, body, decode=True)
        made |= result(steps)
        if isinstance(made.get("Contents"), listing.Entries):
            made["Contents"] = list(made["Contents"])
    except parser.FailedAnswerError:
        return failed(name, 500, headers, body)
    except (ErrorResponseError, *NOT_READ) as error:
        return error
    return comparable(made)


def failed(name: str, status: int, headers: Mapping[str, str], body: bytes) -> Exception:
    error = error_response(name, Reply(status, dict(headers), body), status)
    # The one addition, for the errors' sentences: test_advice.
    error.response["ResponseMetadata"]["HTTPHeaders"].pop(PAGE_HEADER, None)
    return error


def result(steps: Generator[None, None, Any]) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value


def comparable(answer: dict[str, Any]) -> dict[str, Any]:
    """Without what only the client's own retries add."""
    told = answer["ResponseMetadata"]
    told.pop("MaxAttemptsReached", None)
    told["RetryAttempts"] = 0
    return answer


def agree(name: str, status: int, headers: Mapping[str, str], body: bytes) -> Any:
    """Hold the two against each other; what both refuse, both refuse."""
    expected, made = theirs(name, status, headers, body), ours(name, status, headers, body)
    if isinstance(expected, ClientError):
        assert isinstance(made, ErrorResponseError)
        assert str(made) == str(expected).replace(" (reached max retries: 0)", "")
        assert made.operation_name == expected.operation_name
        theirs_told = comparable(expected.response)
        for member in OF_SOME_ERRORS:
            theirs_told.pop(member, None)
        assert comparable(made.response) == theirs_told
    elif isinstance(expected, Exception):
        assert isinstance(made, Exception), made
    else:
        assert made == expected
    return made


# Listings ----------------------------------------------------------------------------------

text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
dates = st.one_of(
    st.integers(0, 2**32).map(lambda second: f"{datetime.fromtimestamp(second, UTC):{ISO}}"),
    st.sampled_from(["2026-01-31T10:20:30Z", "Sat, 31 Jan 2026 10:20:30 GMT", "1769854830"]),
)


def element(name: str, value: str) -> str:
    return f"<{name}>{value}</{name}>"


def entry(values: dict[str, str]) -> str:
    return element("Contents", "".join(element(name, value) for name, value in values.items()))


etags = st.from_regex(r"&quot;[0-9a-f]{32}(-[0-9]+)?&quot;", fullmatch=True)
entries = st.fixed_dictionaries(
    {
        "Key": st.one_of(keys.map(lambda key: quote(key, safe="/+")), keys.map(quote_plus)),
        "LastModified": dates,
        "ETag": st.one_of(etags, text.map(escape)),
        "Size": st.integers(0, 2**50).map(str),
    },
    optional={
        "StorageClass": st.sampled_from(["STANDARD", "GLACIER_IR", "", "&#65;", "a&amp;b"]),
        "ChecksumAlgorithm": st.sampled_from(["CRC32", "CRC64NVME"]),
        "ChecksumType": st.just("FULL_OBJECT"),
        "Owner": text.map(lambda name: element("ID", escape(name))),
        "RestoreStatus": st.just("<IsRestoreInProgress>true</IsRestoreInProgress>"),
        "New": text.map(escape),
    },
)
around = st.fixed_dictionaries(
    {"IsTruncated": st.sampled_from(["true", "false"])},
    optional={
        "Name": text.map(escape),
        "Prefix": keys.map(quote),
        "Delimiter": st.just("%2F"),
        "StartAfter": keys.map(quote),
        "KeyCount": st.integers(0, 1000).map(str),
        "MaxKeys": st.just("1000"),
        "EncodingType": st.sampled_from(["url", ""]),
        "NextContinuationToken": text.map(escape),
        "CommonPrefixes": keys.map(lambda key: element("Prefix", quote(key))),
    },
)
prologs = st.sampled_from(["", '<?xml version="1.0" encoding="UTF-8"?>', '<?xml version="1.0"?>\n'])
roots = st.sampled_from([ROOT, "<ListBucketResult>", '<a:ListBucketResult xmlns:a="u">'])


@st.composite
def pages(draw: st.DrawFn) -> bytes:
    told = draw(st.lists(entries, max_size=6)) * draw(st.sampled_from([1, 1, 70]))
    some = draw(around)
    space = draw(st.sampled_from(["", "\n  "]))
    first = {name: some.pop(name) for name in draw(st.permutations(sorted(some)))[:3]}
    root = draw(roots)
    parts = [
        *(element(name, value) for name, value in first.items()),
        *map(entry, told),
        *(element(name, value) for name, value in some.items()),
    ]
    name = root[1:].split(" ", 1)[0].rstrip(">")
    return (draw(prologs) + space.join([root, *parts]) + f"</{name}>").encode()


@MANY
@given(pages())
def test_listing_is_read_as_botocore_reads_it(page: bytes) -> None:
    agree("ListObjectsV2", 200, {"content-type": "application/xml"}, page)


PLAIN = entry({"Key": "k", "LastModified": "2026-01-31T10:20:30Z", "ETag": "e", "Size": "1"})


@MANY
@given(pages(), st.data())
def test_broken_listing_is_refused_where_botocore_refuses_it(
    page: bytes, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(page)))
    end = data.draw(st.integers(start, min(start + 5, len(page))))
    junk = data.draw(
        st.sampled_from([b"", b"<", b"&", b"]]>", b"\x00", b"\xff", b"</Key>", b"<!--"])
    )
    agree("ListObjectsV2", 200, {}, page[:start] + junk + page[end:])


@pytest.mark.parametrize(
    "inside",
    [
        PLAIN * 450,
        PLAIN + "<CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes>" + PLAIN,
        PLAIN.replace("<Key>", "<Key >"),
        PLAIN.replace("<Key>k</Key>", "<Key><![CDATA[<k>]]></Key>"),
        PLAIN.replace("<Key>", "<!-- no --><Key>"),
        PLAIN.replace("<Key>k</Key>", "<Key>a\r\nb</Key>"),
        PLAIN.replace("<Key>k</Key>", "<Key>a&#13;&#x42;</Key>"),
        PLAIN.replace("<Key>k</Key>", "<Key>a&nbsp;b</Key>"),
        PLAIN.replace("<Key>k</Key>", "<Key>a&b</Key>"),
        PLAIN.replace("<Key>k</Key>", "<Key>a&amp;quot;%26</Key>"),
        PLAIN.replace("<Key>k</Key>", "<Key/>"),
        PLAIN.replace("<Key>k</Key>", "<Key></Key>"),
        PLAIN.replace("<Key>k</Key>", "<Key>a]]>b</Key>"),
        PLAIN.replace("<Key>k</Key>", "<Key>]] ></Key>"),
        PLAIN.replace("<Key>k</Key>", "<Key>\ufffe</Key>"),
        PLAIN.replace("<Key>k</Key>", "<Key>\x01</Key>"),
        PLAIN.replace("<Key>k</Key>", "<Key>😀é</Key>"),
        PLAIN.replace("<Size>1</Size>", "<Size>x</Size>"),
        PLAIN.replace("<Size>1</Size>", "<Size> 1 </Size>"),
        PLAIN.replace("<Size>1</Size>", ""),
        PLAIN.replace("Z</LastModified>", "</LastModified>"),
        PLAIN.replace("2026", "not a date"),
        PLAIN + PLAIN.replace("<ETag>e</ETag>", ""),
        PLAIN + "text" + PLAIN,
        PLAIN + "<?php ?>" + PLAIN,
        "<Foo>" + PLAIN + "</Foo>",
        "<Contents></Contents>" + PLAIN,
        "<Contents/>" + PLAIN,
        "".join(PLAIN.replace("<Size>", f"<New{n}></New{n}><Size>") for n in range(20)),
        "",
    ],
)
def test_listing_that_is_not_plain(inside: str) -> None:
    page = f"{ROOT}<EncodingType>url</EncodingType>{inside}</ListBucketResult>".encode()
    agree("ListObjectsV2", 200, {}, page)


def test_plain_listing_needs_no_parser_of_xml() -> None:
    page = f"{ROOT}<IsTruncated>false</IsTruncated>{PLAIN * 1000}</ListBucketResult>".encode()
    steps = listing._plain_page(compiled("ListObjectsV2"), 200, page, decode=True)
    turns = sum(1 for _ in steps)
    assert turns >= 5
    again = listing._plain_page(compiled("ListObjectsV2"), 200, page, decode=True)
    assert len(list(result(again)["Contents"])) == 1000


BOMB = (
    b'<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    b"<ListBucketResult><IsTruncated>false</IsTruncated><Name>&b;&b;&b;</Name></ListBucketResult>"
)


def test_document_with_a_type_declaration_is_refused() -> None:
    with pytest.raises(parser.FailedAnswerError):
        result(listing.read_page(compiled("ListObjectsV2"), 200, BOMB, decode=True))
    copied = BOMB.replace(b"ListBucketResult", b"CopyObjectResult")
    with pytest.raises(ValueError, match="not XML"):
        result(parser.read_body(compiled("CopyObject"), 206, copied))
    error = failed("CopyObject", 403, {}, copied.replace(b"CopyObjectResult", b"Error"))
    assert isinstance(error, ErrorResponseError)
    assert error.response["Error"] == {"Code": "403", "Message": "Forbidden"}


# Other answers -----------------------------------------------------------------------------

HEADERS = {
    "content-length": "12",
    "last-modified": "Sat, 31 Jan 2026 10:20:30 GMT",
    "etag": '"e"',
    "content-type": "text/csv",
    "expires": "Sat, 31 Jan 2026 10:20:30 GMT",
    "x-amz-meta-a": "1",
    "x-amz-meta-b-c": "",
    "x-amz-server-side-encryption-bucket-key-enabled": "true",
    "x-amz-mp-parts-count": "3",
    "x-amz-object-lock-retain-until-date": "2026-01-31T10:20:30Z",
    "x-amz-abort-date": "Sat, 31 Jan 2026 10:20:30 GMT",
    "x-amz-request-id": "REQUEST",
    "x-amz-id-2": "HOST",
    "x-unknown": "x",
}


@pytest.mark.parametrize("name", ["HeadObject", "GetObject", "PutObject", "DeleteObject"])
@pytest.mark.parametrize("status", [200, 204, 206])
def test_headers_are_read_as_botocore_reads_them(name: str, status: int) -> None:
    agree(name, status, HEADERS, b"")
    agree(name, status, {**HEADERS, "x-amzn-requestid": "other"}, b"")
    agree(name, status, {}, b"")


@MANY
@given(st.dictionaries(st.sampled_from(sorted(HEADERS)), text.filter(str.isascii)))
def test_headers_of_any_text(headers: dict[str, str]) -> None:
    if "expires" in headers:
        headers["expires"] = "Sat, 31 Jan 2026 10:20:30 GMT"
    agree("HeadObject", 200, headers, b"")


def test_expiry_that_is_no_date_is_handed_on_as_text() -> None:
    made = parser.read_headers(compiled("HeadObject"), 200, {"expires": "tomorrow"})
    assert made["ExpiresString"] == "tomorrow"
    assert "Expires" not in made


BODIES = {
    "CopyObject": [
        (
            b"<CopyObjectResult><ETag>&quot;e&quot;</ETag><LastModified>2026-01-31T10:20:30Z"
            b"</LastModified></CopyObjectResult>"
        ),
        (
            b'<CopyObjectResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><ETag>e</ETag>'
            b"<ChecksumCRC32>c</ChecksumCRC32><New>1</New></CopyObjectResult>"
        ),
        b"<CopyObjectResult/>",
        b"<html><body/></html>",
    ],
    "UploadPartCopy": [b"<CopyPartResult><ETag>e</ETag></CopyPartResult>"],
    "CreateMultipartUpload": [
        (
            b"<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>a b</Key><UploadId>u</UploadId>"
            b"</InitiateMultipartUploadResult>"
        )
    ],
    "CompleteMultipartUpload": [
        (
            b"<CompleteMultipartUploadResult><Location>l</Location><ETag>&quot;e-2&quot;</ETag>"
            b"<ChecksumType>COMPOSITE</ChecksumType></CompleteMultipartUploadResult>"
        ),
    ],
    "DeleteObjects": [
        (
            b"<DeleteResult><Deleted><Key>a</Key><DeleteMarker>true</DeleteMarker></Deleted>"
            b"<Deleted><Key>b</Key></Deleted><Error><Key>c</Key><Code>AccessDenied</Code>"
            b"<Message>no</Message></Error></DeleteResult>"
        ),
        b"<DeleteResult/>",
    ],
}
NOT_UNDERSTOOD = [
    b"",
    b"not xml",
    b"<html>",
    b"<CopyObjectResult><ETag>e</ETag>",
    b"<Error><Code>InternalError</Code><Message>too late</Message></Error>",
    b"<Error><Code>SlowDown</Code><RequestId>r</RequestId><HostId>h</HostId></Error>",
    b'<Error xmlns="u"><Code>SlowDown</Code></Error>',
    b"<Error/>",
    b"   \n",
]


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("status", [200, 201])
def test_body_is_read_as_botocore_reads_it(name: str, status: int) -> None:
    for body in (*BODIES[name], *NOT_UNDERSTOOD):
        agree(name, status, HEADERS, body)


ERRORS = [
    b"",
    b"<html>busy</html>",
    b"  <html>busy</html>",
    b"not xml",
    b"<Error><Code>NoSuchKey</Code><Message>m</Message><Key>k</Key><RequestId>r</RequestId></Error>",
    b"<Error><Code>NoSuchBucket</Code><BucketName>b</BucketName></Error>",
    b"<Error><Code>SlowDown</Code><Message>reduce</Message></Error>",
    (
        b"<Error><Code>InvalidObjectState</Code><StorageClass>GLACIER</StorageClass>"
        b"<AccessTier>ARCHIVE_ACCESS</AccessTier></Error>"
    ),
    b"<Error><Code>PreconditionFailed</Code><Condition>If-Match</Condition></Error>",
    b"<ErrorResponse><Error><Code>Other</Code></Error><RequestId>r</RequestId></ErrorResponse>",
    b"<Error></Error>",
    b'<Error xmlns="u"><Code>AccessDenied</Code></Error>',
    b"<Error><Code>A</Code><Code>B</Code><Detail><x>1</x><y><z>2</z></y></Detail></Error>",
    b"<Error><Detail><x>1</x></Detail><Detail><x>2</x></Detail></Error>",
    b"<Other><Error><Code>C</Code></Error></Other>",
    b"<Error><Code>NoSuchKey</Code><Region>us-west-2</Region>  </Error>",
    b"\n <Error><Code>A</Code></Error>\n",
]


@pytest.mark.parametrize("status", [304, 400, 403, 404, 409, 412, 416, 429, 500, 501, 503])
@pytest.mark.parametrize("name", ["ListObjectsV2", "GetObject", "CopyObject", "PutObject"])
def test_error_is_read_as_botocore_reads_it(name: str, status: int) -> None:
    headers = {**HEADERS, "retry-after": "3"}
    del headers["expires"]  # of which botocore leaves a trace in errors too
    for body in ERRORS:
        assert isinstance(agree(name, status, headers, body), ErrorResponseError)


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-31T10:20:30.000Z",
        "2026-01-31T10:20:30Z",
        "2026-01-31T10:20:30+02:00",
        "2026-01-31T10:20:30",
        "20260131T102030Z",
        "Sat, 31 Jan 2026 10:20:30 GMT",
        "Saturday, 31-Jan-26 10:20:30 GMT",
        "Sat, 1 Feb 2026 10:20:30 GMT",
        "1769854830",
        "1769854830.5",
        "2026-01-31T10:20Z",
        "2026-01-31",
    ],
)
def test_timestamp_is_botocores(value: str) -> None:
    expected = parse_timestamp(value)
    made = parser.timestamp(value)
    assert made == expected
    assert made.utcoffset() == expected.utcoffset()


def test_timestamp_that_is_none() -> None:
    with pytest.raises(ValueError):
        parser.timestamp("Sat, 99 Jan 2026 10:20:30 GMT")
    assert parser.timestamp(1769854830) == datetime(2026, 1, 31, 10, 20, 30, tzinfo=UTC)
