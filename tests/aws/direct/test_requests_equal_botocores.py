"""Requests of the direct way equal botocore's, to the signature."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aiohaul.aws.direct import routes, serializer
from aiohaul.aws.direct.checksums import checksum, known
from aiohaul.aws.direct.model import known as known_operation
from aiohaul.aws.direct.signing import UNSIGNED_PAYLOAD, Keys, canonical_query, scope_of
from aiohaul.aws.fast_path import S3FastPath
from tests.support.captured import Catcher
from tests.support.servers import KEY, SECRET

MANY = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
PATH = {"endpoint": "http://127.0.0.1:9000"}
STYLES: dict[str, dict[str, Any]] = {
    "path": PATH,
    "path below a path": {"endpoint": "http://localhost/s3/"},
    "virtual": {"endpoint": "http://s3.test:80", "s3": {"addressing_style": "virtual"}},
    "aws": {},
    "token": {**PATH, "token": "to/ken+=="},
    "when required": {**PATH, "request_checksum_calculation": "when_required"},
    "aws, when required": {"request_checksum_calculation": "when_required"},
    "payload signed": {"s3": {"payload_signing_enabled": True}},
    "dualstack": {"use_dualstack_endpoint": True},
    "FIPS": {"use_fips_endpoint": True},
    "FIPS, dualstack": {"use_fips_endpoint": True, "use_dualstack_endpoint": True},
    "payload not signed": {**PATH, "s3": {"payload_signing_enabled": False}},
}
PROBE: dict[str, Any] = {
    "Bucket": "bucket",
    "Key": "probe",
    "CopySource": {"Bucket": "other", "Key": "k"},
    "UploadId": "u",
    "PartNumber": 1,
    "Delete": {"Objects": [{"Key": "k"}]},
    "Tagging": {"TagSet": []},
}


@cache
def catcher(style: str) -> Catcher:
    return Catcher(**STYLES[style])


@cache
def operation(method: str) -> serializer.Operation:
    made = known_operation(method)
    assert made is not None
    return made.request


def build(style: str, method: str, parameters: Mapping[str, Any]) -> serializer.Unsigned | None:
    every = catcher(style).config.request_checksum_calculation == "when_supported"
    made = serializer.build(operation(method), parameters, checksums=every)
    return made if made is None or not made.algorithm or known(made.algorithm) else None


@cache
def route(style: str, method: str) -> routes.Route:
    """Learnt from another request than those that are compared."""
    shape = catcher(style).model.operation_model(serializer.OPERATIONS[method]).input_shape
    probe = {name: PROBE[name] for name in shape.required_members}
    theirs, unsigned = catcher(style).caught(method, probe), build(style, method, probe)
    assert theirs is not None
    assert unsigned is not None
    assert routes.is_of(theirs, operation(method), unsigned)
    made = routes.route_of(theirs, unsigned)
    assert made is not None
    return made


async def sent(
    style: str, method: str, unsigned: serializer.Unsigned, theirs: routes.PreparedRequest
) -> Any:
    """The headers with which this request would be sent, at the moment of botocore's."""
    way = route(style, method)
    vouching = await wire(style)._requests.checksum_headers(way, operation(method), unsigned)
    return routes.signed_headers(
        way,
        operation(method),
        unsigned,
        vouching,
        timestamp=theirs.headers["x-amz-date"],
        invocation=theirs.headers["amz-sdk-invocation-id"],
        keys=Keys(KEY, SECRET, catcher(style).token),
    )


@cache
def wire(style: str) -> S3FastPath:
    return S3FastPath(catcher(style).client, object())


async def compare(style: str, method: str, parameters: Mapping[str, Any]) -> bool:
    """Hold one request against botocore's; False if it is left to botocore."""
    unsigned = build(style, method, parameters)
    theirs = catcher(style).caught(method, parameters)
    if unsigned is None:
        return False
    assert theirs is not None, "botocore refuses this"
    assert theirs.method == operation(method).method
    assert theirs.url == route(style, method).base + unsigned.suffix
    mine = await sent(style, method, unsigned, theirs)
    if mine["x-amz-content-sha256"] == UNSIGNED_PAYLOAD or "x-amz-trailer" in theirs.headers:
        mine = as_vouched(style, method, unsigned, theirs)
    mine = {name.lower(): value for name, value in mine.items()}
    for name in {*mine, *theirs.headers} - routes._ADDED_LATER - {"user-agent"}:
        # The signer of botocore[crt] cuts off the blanks around a value, which mean nothing.
        assert mine[name].strip() == theirs.headers[name].strip(), name
    assert _agent(mine["user-agent"]) == _agent(theirs.headers["user-agent"])
    if "content-length" in theirs.headers:
        assert int(theirs.headers["content-length"]) == len(unsigned.body)
    return True


def _agent(value: str) -> str:
    """Without the letters of the features in use, which here are those of the first request."""
    return re.sub(r" m/\S+", "", value)


def as_vouched(
    style: str, method: str, unsigned: serializer.Unsigned, theirs: routes.PreparedRequest
) -> dict[str, str]:
    """The same request with its body vouched for as botocore does over TLS.

    It sends a checksum behind the body, or hashes once more what the caller has a checksum of.
    """
    own = {}
    if unsigned.algorithm is not None:
        own = {f"x-amz-checksum-{unsigned.algorithm}": checksum(unsigned.algorithm, unsigned.body)}
    return routes.signed_headers(
        route(style, method),
        operation(method),
        unsigned,
        routes.checksum_headers_like(theirs, sha256(unsigned.body).hexdigest(), own),
        timestamp=theirs.headers["x-amz-date"],
        invocation=theirs.headers["amz-sdk-invocation-id"],
        keys=Keys(KEY, SECRET, catcher(style).token),
    )


# What is generated -------------------------------------------------------------------------

any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
keys = st.one_of(
    any_text.filter(bool),
    st.sampled_from(
        [
            "a b+c%20",
            "/x",
            "//",
            "a//b",
            "./a/../b",
            "..",
            ".",
            "a\nb\r",
            "😀/é",
            "~-_.*'()",
            "?a=b",
        ]
    ),
)
printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
tokens = st.text("abcXYZ019-_.", min_size=1, max_size=10)


def values(name: str, shape: Any) -> st.SearchStrategy[Any]:
    """Values of a parameter: mostly in order, sometimes not."""
    special: dict[str, st.SearchStrategy[Any]] = {
        "Bucket": st.just("bucket"),
        "Key": keys,
        "CopySource": st.fixed_dictionaries(
            {"Bucket": st.sampled_from(["other", "a.b-c"]), "Key": keys},
            optional={"VersionId": tokens},
        ),
        "ChecksumAlgorithm": st.sampled_from(["CRC32", "SHA1", "SHA256", "CRC32C", "XXHASH64"]),
        "Metadata": st.dictionaries(tokens, printable, max_size=3),
        "Tagging": st.dictionaries(tokens, tokens, max_size=2).map(
            lambda tags: "&".join(f"{name}={value}" for name, value in tags.items())
        ),
    }
    usual = name in special and shape.type_name != ("structure" if name == "Tagging" else "")
    return special[name] if usual else typed(shape)


def typed(shape: Any) -> st.SearchStrategy[Any]:
    of_type: dict[str, Callable[[], st.SearchStrategy[Any]]] = {
        "structure": lambda: structures(shape),
        "list": lambda: st.lists(values("", shape.member), max_size=3),
        "map": lambda: st.dictionaries(tokens, printable, max_size=2),
        "integer": lambda: st.integers(0, 2**31),
        "long": lambda: st.integers(0, 2**31),
        "boolean": st.booleans,
        "timestamp": st.datetimes,
        "blob": lambda: st.binary(max_size=100),
    }
    in_header = shape.serialization.get("location") == "header"
    return of_type.get(shape.type_name, lambda: printable if in_header else any_text)()


def structures(shape: Any) -> st.SearchStrategy[Any]:
    every = {name: values(name, member) for name, member in shape.members.items()}
    required = {name: every.pop(name) for name in shape.required_members}
    return st.fixed_dictionaries(required, optional=every)


@st.composite
def calls(draw: st.DrawFn, *, plain: bool) -> tuple[str, dict[str, Any]]:
    """An operation and parameters: of those that are built here, or any that there are."""
    method = draw(st.sampled_from(sorted(serializer.OPERATIONS)))
    members = (
        catcher("path").model.operation_model(serializer.OPERATIONS[method]).input_shape.members
    )
    made = operation(method)
    usual = [name for name in members if not plain or name in {*made.members, made.body}]
    if plain:  # a checksum may be asked for that cannot be computed here
        usual = [name for name in usual if name != "ChecksumAlgorithm"]
    chosen = draw(st.lists(st.sampled_from(usual), max_size=6, unique=True)) if usual else []
    names = draw(st.permutations(sorted({*chosen, *made.required})))
    return method, {name: draw(values(name, members[name])) for name in names}


@pytest.mark.parametrize("style", STYLES)
@MANY
@given(call=calls(plain=True))
async def test_request_equals_botocores(style: str, call: tuple[str, dict[str, Any]]) -> None:
    method, parameters = call
    lists = {"LastModifiedTime"} & {
        name for each in parameters.get("Delete", {}).get("Objects", ()) for name in each
    }
    assert await compare(style, method, parameters) or lists


@MANY
@given(call=calls(plain=False))
async def test_request_of_any_parameters_equals_botocores_or_is_left_to_it(
    call: tuple[str, dict[str, Any]],
) -> None:
    await compare("path", *call)


junk = st.one_of(st.none(), st.integers(), st.binary(max_size=3), st.lists(st.none()), any_text)


@MANY
@given(call=calls(plain=True), data=st.data(), value=junk)
@example(call=("put_object", {"Bucket": "b\n", "Key": "k"}), data=None, value=None)
async def test_what_botocore_refuses_is_not_built(
    call: tuple[str, dict[str, Any]], data: st.DataObject | None, value: Any
) -> None:
    method, parameters = call
    if data is not None:
        parameters = {**parameters, data.draw(st.sampled_from(sorted(parameters))): value}
    if catcher("path").caught(method, parameters) is None:
        assert build("path", method, parameters) is None


@pytest.mark.parametrize(
    "bucket",
    [
        "arn:aws:s3:eu-west-1:012345678901:accesspoint/mine",
        "bucket--euw1-az1--x-s3",
        "mine-abcdef-s3alias",
        "mfzwi23gnjvgw.mrap",
        "Upper",
        "under_score",
        "x",
        "",
        None,
    ],
)
async def test_what_is_no_plain_bucket_is_left_to_botocore(bucket: Any) -> None:
    assert not serializer.plain_bucket(bucket)
    assert build("path", "head_object", {"Bucket": bucket, "Key": "k"}) is None


@pytest.mark.parametrize(
    "more",
    [
        {"SSECustomerKey": "k" * 32},
        {"IfModifiedSince": "2026-01-01"},
        {"NoSuchParameter": "x"},
        {"Range": "bytes=0-1\r\nx-injected: 1"},
        {"VersionId": None},
    ],
)
async def test_what_is_not_known_is_left_to_botocore(more: dict[str, Any]) -> None:
    assert build("path", "head_object", {"Bucket": "bucket", "Key": "k"}) is not None
    assert build("path", "head_object", {"Bucket": "bucket", "Key": "k", **more}) is None


async def test_over_tls_a_checksum_of_the_callers_is_enough() -> None:
    way = route("aws", "upload_part")
    unsigned = build("aws", "upload_part", {**PROBE_PART, "ChecksumCRC32C": "AAAAAA=="})
    assert unsigned is not None
    vouching = await wire("aws")._requests.checksum_headers(way, operation("upload_part"), unsigned)
    assert vouching == {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}


PROBE_PART = {"Bucket": "bucket", "Key": "k", "UploadId": "u", "PartNumber": 1, "Body": b"data"}


async def test_over_tls_the_checksum_is_a_header_and_the_only_hash() -> None:
    way = route("aws", "upload_part")
    unsigned = build("aws", "upload_part", PROBE_PART)
    assert unsigned is not None
    vouching = await wire("aws")._requests.checksum_headers(way, operation("upload_part"), unsigned)
    assert vouching == {
        "x-amz-checksum-crc32": checksum("crc32", b"data"),
        "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
    }


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("AWS4-HMAC-SHA256 Credential=a/b/20260101/r/s3/aws4_request, SignedHeaders=h", "a/b"),
        ("AWS4-ECDSA-P256-SHA256 Credential=a/20260101/s3/aws4_request, SignedHeaders=h", None),
        ("AWS4-HMAC-SHA256 Credential=a/20260101, SignedHeaders=h", None),
        ("AWS a:b", None),
        ("Bearer t", None),
        ("", None),
    ],
)
def test_signature_of_another_kind_is_not_taken_for_ones_own(
    header: str, expected: str | None
) -> None:
    told = scope_of(header)
    assert (told[0] if told else None) == expected


@given(st.lists(st.tuples(tokens, tokens), max_size=5))
def test_canonical_query_is_sorted_and_whole(pairs: list[tuple[str, str]]) -> None:
    query = "&".join(f"{name}={value}" for name, value in pairs)
    told = [tuple(pair.split("=")) for pair in canonical_query(query).split("&") if pair]
    assert told == sorted(pairs)
