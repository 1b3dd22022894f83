"""Computes the routes to buckets (URL, host, region) for plain endpoints, as botocore does."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from aiohaul.aws.direct.routes import Route, host_header
from aiohaul.aws.direct.signing import Scope, Signer
from aiohaul.aws.hosts import is_aws
from aiohaul.version import VERSION

#: The regions of AWS's partitions, and the domain of the partition. botocore knows the others.
_PARTITIONS = (
    (re.compile(r"(us|eu|ap|sa|ca|me|af|il|mx)-\w+-\d+"), "amazonaws.com"),
    (re.compile(r"cn-\w+-\d+"), "amazonaws.com.cn"),
    (re.compile(r"us-gov-\w+-\d+"), "amazonaws.com"),
)
#: The region whose buckets botocore reaches at the global endpoint.
_GLOBAL_REGION = "us-east-1"
#: botocore's header of a first attempt.
_ATTEMPT = "attempt=1"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A plain S3 endpoint: AWS's own of a region, or that of another server.

    Attributes:
        url: the URL of another server; None for AWS.
        region: the region.
    """

    url: str | None
    region: str

    @property
    def shown_url(self) -> str:
        """The URL without a bucket."""
        return self.url if self.url is not None else f"https://s3.{_suffix(self.region)}"

    def route(self, bucket: str, region: str | None = None) -> Route:
        """Return the route to a bucket.

        Args:
            bucket: the name of a general purpose bucket.
            region: the region of the bucket if it is not the endpoint's.
        """
        region = region or self.region
        if self.url is not None:
            base = f"{self.url.rstrip('/')}/{bucket}"
        elif "." in bucket:  # the certificate is not valid for such a host
            base = f"https://s3.{_suffix(region)}/{bucket}"
        else:
            base = f"https://{bucket}.s3.{_suffix(region)}"
        parts = urlsplit(base)
        return Route(
            base=base,
            path=parts.path,
            host=host_header(parts),
            signer=Signer(Scope(region, "s3")),
            user_agent=_user_agent(),
            attempt=_ATTEMPT,
        )


def plain_endpoint(url: str | None, region: str) -> Endpoint | None:
    """Return the endpoint; None if botocore must find out where the requests go.

    Args:
        url: the URL of another server than AWS; None for AWS.
        region: the region.
    """
    if url is None:
        return Endpoint(None, region) if _domain(region) else None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    plain = (
        url.startswith(("http://", "https://"))
        and parts.hostname is not None
        and not is_aws(parts.hostname)
        and not (parts.query or parts.fragment or parts.username or parts.password)
        and re.fullmatch(r"[a-z0-9.:\[\]_-]+", parts.netloc)
        and re.fullmatch(r"[A-Za-z0-9/._~-]*", parts.path)
        and "//" not in parts.path
        and (port is None or port > 0)
    )
    return Endpoint(url, region) if plain else None


def _domain(region: str) -> str | None:
    for pattern, domain in _PARTITIONS:
        if pattern.fullmatch(region):
            return domain
    return None


def _suffix(region: str) -> str:
    domain = _domain(region)
    if region == _GLOBAL_REGION:
        return f"{domain}"
    return f"{region}.{domain}"


@lru_cache(maxsize=1)
def _user_agent() -> str:
    system, release = platform.system().lower(), platform.release()
    python = platform.python_version()
    return f"aiohaul/{VERSION} ua/2.1 os/{system}#{release} lang/python#{python}"
