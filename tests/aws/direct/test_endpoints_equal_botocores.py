"""The URLs and regions of plain endpoints are botocore's."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.session import Session

from aiohaul.aws.direct import routes
from aiohaul.aws.direct.endpoint import plain_endpoint
from aiohaul.aws.direct.serializer import Unsigned
from aiohaul.aws.direct.signing import scope_of
from tests.support.captured import Catcher
from tests.support.servers import REGION

BUCKETS = ["bucket", "a-b", "with.dots", "1.2.3.4", "a" * 63, "0ab", "a.b-c.d"]
REGIONS = sorted(
    {
        *(
            region
            for partition in ("aws", "aws-cn", "aws-us-gov")
            for region in Session().get_available_regions("s3", partition)
        ),
        "eu-new-9",
    }
)
URLS = [
    "http://127.0.0.1:9000",
    "http://localhost",
    "https://minio.example.com",
    "https://minio.example.com/",
    "https://host:443/below/it",
    "http://host:80/s3/",
    "http://[::1]:9000",
    "https://bucket.localhost:4566",
]


def theirs(bucket: str, **options: Any) -> routes.PreparedRequest:
    caught = Catcher(**options).caught("head_object", {"Bucket": bucket, "Key": "k"})
    assert caught is not None
    return caught


def compare(endpoint: Any, bucket: str, expected: routes.PreparedRequest, region: str) -> None:
    assert endpoint is not None
    route = endpoint.route(bucket)
    assert f"{route.base}/k" == expected.url
    scope = scope_of(expected.headers["authorization"])
    assert scope is not None
    assert route.signer.scope == scope[1]
    assert route.signer.scope.region == region
    learnt = routes.route_of(expected, Unsigned("/k", "", {}, b"", None))
    assert learnt is not None
    assert (route.path, route.host, route.attempt) == (learnt.path, learnt.host, learnt.attempt)


@pytest.mark.parametrize("region", REGIONS)
def test_endpoint_of_aws(region: str) -> None:
    endpoint = plain_endpoint(None, region)
    for bucket in BUCKETS:
        compare(endpoint, bucket, theirs(bucket, region=region), region)


@pytest.mark.parametrize("url", URLS)
def test_endpoint_of_another_server(url: str) -> None:
    endpoint = plain_endpoint(url, REGION)
    for bucket in BUCKETS:
        compare(endpoint, bucket, theirs(bucket, endpoint=url), REGION)


@pytest.mark.parametrize(
    ("url", "region"),
    [
        (None, "us-iso-east-1"),
        (None, "eu-isoe-west-1"),
        (None, "eusc-de-east-1"),
        (None, "aws-global"),
        (None, "nonsense"),
        (None, "eu-west-1.evil.com/"),
        ("HTTPS://host", REGION),
        ("https://Upper.example.com", REGION),
        ("ftp://host", REGION),
        ("http://", REGION),
        ("host:9000", REGION),
        ("http://user:pw@host", REGION),
        ("http://host/?x=1", REGION),
        ("http://host:nan", REGION),
        ("http://host//a", REGION),
        ("http://bücher.example", REGION),
        ("https://s3.eu-west-1.amazonaws.com", REGION),
        ("https://bucket.vpce-1a2b-3c4d.s3.eu-west-1.vpce.amazonaws.com", REGION),
        ("https://s3-accelerate.amazonaws.com", REGION),
    ],
)
def test_other_endpoints_are_left_to_botocore(url: str | None, region: str) -> None:
    assert plain_endpoint(url, region) is None
