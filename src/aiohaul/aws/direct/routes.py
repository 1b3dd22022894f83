"""Pure: how requests reach a bucket, learnt from one that botocore is about to send."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from aiohaul.aws.direct.building import Operation, Unsigned
from aiohaul.aws.direct.signing import UNSIGNED_PAYLOAD, Keys, Signer, scope_of

#: The payload's hash where botocore lets the body be followed by its checksum.
_TRAILED_PAYLOAD = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
#: What it sends then, in place of the header with the checksum.
_TRAILER = (
    "content-encoding",
    "transfer-encoding",
    "x-amz-decoded-content-length",
    "x-amz-trailer",
)
#: Headers that the HTTP library sets for itself: no signature covers them, but Host, by its value.
_ADDED_LATER = frozenset(
    {"accept-encoding", "content-length", "expect", "host", "transfer-encoding"}
)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Route:
    """How one operation reaches one bucket.

    Attributes:
        base: the URL up to the key.
        path: the path in it.
        host: as the Host header names it.
        signer: for the bucket's region.
        user_agent: botocore's, with the features that the operation uses.
        attempt: botocore's word for a first attempt.
    """

    base: str
    path: str
    host: str
    signer: Signer
    user_agent: str
    attempt: str

    @property
    def tls(self) -> bool:
        """True if the bytes are safe on their way."""
        return self.base.startswith("https:")


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that botocore is about to send; the headers' names are in lower case."""

    method: str
    url: str
    headers: Mapping[str, str]


def seen(request: Any) -> Seen:
    """What can be compared of a prepared request of botocore's."""
    headers = {
        name.lower(): value.decode() if isinstance(value, bytes) else str(value)
        for name, value in request.headers.items()
    }
    return Seen(request.method, request.url, headers)


def is_of(theirs: Seen, operation: Operation, unsigned: Unsigned) -> bool:
    """True for the request itself; in between others may be sent, for new credentials."""
    return theirs.method == operation.method and theirs.url.endswith(unsigned.suffix)


def route_of(theirs: Seen, unsigned: Unsigned) -> Route | None:
    """The way that this request takes, if it is signed as such requests are signed here."""
    told = scope_of(theirs.headers.get("authorization", ""))
    if told is None:
        return None
    _, scope = told
    base = theirs.url[: len(theirs.url) - len(unsigned.suffix)]
    try:
        parts = urlsplit(base)
        port = parts.port
    except ValueError:
        return None
    if parts.hostname is None or parts.query or parts.scheme not in _PORTS:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if port not in (None, _PORTS[parts.scheme]):
        host += f":{port}"
    return Route(
        base=base,
        path=parts.path,
        host=host,
        signer=Signer(scope),
        user_agent=theirs.headers.get("user-agent", ""),
        attempt=theirs.headers.get("amz-sdk-request", ""),
    )


def sealed(
    route: Route,
    operation: Operation,
    unsigned: Unsigned,
    vouching: Mapping[str, str],
    *,
    timestamp: str,
    invocation: str,
    keys: Keys,
) -> dict[str, str]:
    """All headers of a request, its signature among them.

    Args:
        route: to where.
        operation: of what.
        unsigned: what.
        vouching: the headers that vouch for the body: a checksum, ``x-amz-content-sha256``.
        timestamp: when.
        invocation: an id of this request alone.
        keys: by whom.
    """
    headers = {
        **unsigned.headers,
        **vouching,
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
        payload=vouching["x-amz-content-sha256"],
        timestamp=timestamp,
        keys=keys,
    )
    # What botocore adds after signing.
    headers["User-Agent"] = route.user_agent
    headers["amz-sdk-invocation-id"] = invocation
    headers["amz-sdk-request"] = route.attempt
    return headers


def vouching_as(theirs: Seen, digest: str, checksum: Mapping[str, str]) -> dict[str, str]:
    """How botocore's request has its body vouched for, as far as that is in order.

    Args:
        theirs: its request.
        digest: the body's SHA-256.
        checksum: the header with the body's checksum, if one is asked for.
    """
    told = theirs.headers.get("x-amz-content-sha256", "")
    if told == _TRAILED_PAYLOAD:
        trailer = {name: theirs.headers[name] for name in _TRAILER if name in theirs.headers}
        if trailer.get("x-amz-trailer", "") in checksum:
            return {**trailer, "x-amz-content-sha256": told}
    payload = told if told == UNSIGNED_PAYLOAD else digest
    return {**checksum, "x-amz-content-sha256": payload}


def same(mine: Mapping[str, str], theirs: Seen) -> bool:
    """True if two requests to one URL are the same to their signatures."""
    lower = {name.lower(): value for name, value in mine.items()}
    return _compared(lower) == _compared(theirs.headers)


def _compared(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value.strip() for name, value in headers.items() if name not in _ADDED_LATER}
