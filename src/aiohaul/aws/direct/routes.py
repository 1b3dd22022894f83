"""Derives the route to a bucket (URL, host, region) from a request that botocore will send."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from aiohaul.aws.direct.serializer import Operation, Unsigned
from aiohaul.aws.direct.signing import UNSIGNED_PAYLOAD, Keys, Signer, scope_of

#: The payload hash if botocore sends the checksum after the body, as a trailer.
_TRAILED_PAYLOAD = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
#: The headers that botocore sends with a trailer instead of the checksum.
_TRAILER = (
    "content-encoding",
    "transfer-encoding",
    "x-amz-decoded-content-length",
    "x-amz-trailer",
)
#: Headers that the HTTP library sets, not botocore. Only Host is signed.
_ADDED_LATER = frozenset(
    {"accept-encoding", "content-length", "expect", "host", "transfer-encoding"}
)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Route:
    """The parts of a request that are the same for one operation and one bucket.

    Attributes:
        base: the URL before the key.
        path: the path of ``base``.
        host: the value of the Host header.
        signer: the signer for the region of the bucket.
        user_agent: botocore's User-Agent header, with the features that the operation uses.
        attempt: botocore's ``amz-sdk-request`` header of a first attempt.
    """

    base: str
    path: str
    host: str
    signer: Signer
    user_agent: str
    attempt: str

    @property
    def tls(self) -> bool:
        """True if the connection is encrypted."""
        return self.base.startswith("https:")


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A request that botocore will send. Names of headers are in lower case."""

    method: str
    url: str
    headers: Mapping[str, str]


def prepared_request(request: Any) -> PreparedRequest:
    """Return the parts of botocore's AWSPreparedRequest that are compared."""
    headers = {
        name.lower(): value.decode() if isinstance(value, bytes) else str(value)
        for name, value in request.headers.items()
    }
    return PreparedRequest(request.method, request.url, headers)


def is_of(theirs: PreparedRequest, operation: Operation, unsigned: Unsigned) -> bool:
    """Return True for the request of this operation; False for others, such as those to STS."""
    return theirs.method == operation.method and theirs.url.endswith(unsigned.suffix)


def route_of(theirs: PreparedRequest, unsigned: Unsigned) -> Route | None:
    """Return the route of this request; None if it is not signed as this library signs."""
    parsed = scope_of(theirs.headers.get("authorization", ""))
    if parsed is None:
        return None
    _, scope = parsed
    base = theirs.url[: len(theirs.url) - len(unsigned.suffix)]
    try:
        parts = urlsplit(base)
        _ = parts.port
    except ValueError:
        return None
    if parts.hostname is None or parts.query or parts.scheme not in _PORTS:
        return None
    return Route(
        base=base,
        path=parts.path,
        host=host_header(parts),
        signer=Signer(scope),
        user_agent=theirs.headers.get("user-agent", ""),
        attempt=theirs.headers.get("amz-sdk-request", ""),
    )


def host_header(url: SplitResult) -> str:
    """Return the Host header for a URL: the host, and the port unless it is the default one."""
    name = url.hostname or ""
    host = f"[{name}]" if ":" in name else name
    return host if url.port in (None, _PORTS[url.scheme]) else f"{host}:{url.port}"


def signed_headers(
    route: Route,
    operation: Operation,
    unsigned: Unsigned,
    checksum_headers: Mapping[str, str],
    *,
    timestamp: str,
    invocation: str,
    keys: Keys,
) -> dict[str, str]:
    """Return all headers of a request, with the signature.

    Args:
        route: the route to the bucket.
        operation: the operation.
        unsigned: the request.
        checksum_headers: a checksum of the body, and ``x-amz-content-sha256``.
        timestamp: the value of ``X-Amz-Date``.
        invocation: a unique id of this request.
        keys: the credentials.
    """
    headers = {
        **unsigned.headers,
        **checksum_headers,
        "X-Amz-Date": timestamp,
    }
    if keys.token:
        headers["X-Amz-Security-Token"] = keys.token
    headers["Authorization"] = route.signer.authorization(
        operation.method,
        route.path + unsigned.path,
        unsigned.query,
        headers,
        host=route.host,
        payload=checksum_headers["x-amz-content-sha256"],
        timestamp=timestamp,
        keys=keys,
    )
    # botocore adds these after signing.
    headers["User-Agent"] = route.user_agent
    headers["amz-sdk-invocation-id"] = invocation
    headers["amz-sdk-request"] = route.attempt
    return headers


def checksum_headers_like(
    theirs: PreparedRequest, digest: str, checksum: Mapping[str, str]
) -> dict[str, str]:
    """Return the expected checksum headers of botocore's request, in the form of that request.

    Args:
        theirs: botocore's request.
        digest: the SHA-256 of the body.
        checksum: the header with the checksum of the body, or nothing.
    """
    payload_hash = theirs.headers.get("x-amz-content-sha256", "")
    if payload_hash == _TRAILED_PAYLOAD:
        trailer = {name: theirs.headers[name] for name in _TRAILER if name in theirs.headers}
        if trailer.get("x-amz-trailer", "") in checksum:
            return {**trailer, "x-amz-content-sha256": payload_hash}
    payload = payload_hash if payload_hash == UNSIGNED_PAYLOAD else digest
    return {**checksum, "x-amz-content-sha256": payload}


def same(mine: Mapping[str, str], theirs: PreparedRequest) -> bool:
    """Return True if two requests to the same URL have the same headers, signature included."""
    lower = {name.lower(): value for name, value in mine.items()}
    return _compared(lower) == _compared(theirs.headers)


def _compared(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value.strip() for name, value in headers.items() if name not in _ADDED_LATER}
