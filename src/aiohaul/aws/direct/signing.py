"""Signs S3 requests with AWS Signature Version 4, with a key that is derived once a day."""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

#: The payload hash of a request whose body is protected by TLS and a checksum.
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
EMPTY_SHA256 = sha256(b"").hexdigest()

_ALGORITHM = "AWS4-HMAC-SHA256"
#: Headers that proxies and HTTP libraries change; botocore does not sign them either.
_NOT_SIGNED = frozenset(
    {
        "baggage",
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-amzn-trace-id",
    }
)


@dataclass(frozen=True, slots=True)
class Keys:
    """The access key, the secret key and the token that sign one request.

    Each request reads new Keys, because refreshable credentials change.
    """

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(repr=False, default=None)


class Scope(NamedTuple):
    """The region and the service for which a signature is valid."""

    region: str
    service: str


def scope_of(authorization: str) -> tuple[str, Scope] | None:
    """Return the access key and the scope in a SigV4 Authorization header; None for others."""
    if not authorization.startswith(f"{_ALGORITHM} Credential="):
        return None
    credential = authorization.split(",", 1)[0].partition("=")[2]
    # Access keys of other servers may contain "/".
    match credential.rsplit("/", 4):
        case [access_key, _, region, service, "aws4_request"]:
            return access_key, Scope(region, service)
        case _:
            return None


class Signer:
    """Signs requests for one region and service, and caches the derived key of the day."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self._derived: tuple[str, str, bytes] = ("", "", b"")

    def authorization(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        *,
        host: str,
        payload: str,
        timestamp: str,
        keys: Keys,
    ) -> str:
        """Return the Authorization header of a request.

        Args:
            method: the HTTP method, such as ``GET``.
            path: the percent-encoded path, as sent. S3 neither normalises nor encodes it again.
            query: the query string, as sent.
            headers: all headers except ``Host``.
            host: the host, with the port unless it is the default port.
            payload: the SHA-256 of the body in hexadecimal, or ``UNSIGNED-PAYLOAD``.
            timestamp: the value of ``X-Amz-Date``.
            keys: the credentials.
        """
        names, listed = _in_order(tuple(headers))
        lines = [f"{lower}:{_trimmed(headers[name]) if name else host}" for lower, name in names]
        canonical = "\n".join(
            (method, path, canonical_query(query), *lines, "", listed, payload)
        ).encode()
        day = timestamp[:8]
        within = f"{day}/{self.scope.region}/{self.scope.service}/aws4_request"
        to_sign = f"{_ALGORITHM}\n{timestamp}\n{within}\n{sha256(canonical).hexdigest()}"
        signature = hmac.digest(self._key(keys.secret_key, day), to_sign.encode(), "sha256")
        return (
            f"{_ALGORITHM} Credential={keys.access_key}/{within}, SignedHeaders={listed},"
            f" Signature={signature.hex()}"
        )

    def _key(self, secret_key: str, day: str) -> bytes:
        secret, derived_on, key = self._derived
        if secret != secret_key or derived_on != day:
            key = f"AWS4{secret_key}".encode()
            for step in (day, *self.scope, "aws4_request"):
                key = hmac.digest(key, step.encode(), "sha256")
            self._derived = (secret_key, day, key)
        return key


@lru_cache(maxsize=1024)
def _in_order(names: tuple[str, ...]) -> tuple[tuple[tuple[str, str], ...], str]:
    """Return the sorted signed headers as (lower-case name, name), and the SignedHeaders text.

    The name of ``Host`` is "". The result is cached, because the requests of an operation have the
    same headers.
    """
    signed = {name.lower(): name for name in names}
    for name in _NOT_SIGNED & signed.keys():
        del signed[name]
    signed["host"] = ""
    return tuple(sorted(signed.items())), ";".join(sorted(signed))


def canonical_query(query: str) -> str:
    """Return the query string with sorted pairs, and with ``=`` in each pair."""
    if not query:
        return ""
    pairs = sorted(pair.partition("=")[::2] for pair in query.split("&"))
    return "&".join([f"{name}={value}" for name, value in pairs])


def _trimmed(value: str) -> str:
    return " ".join(value.split()) if " " in value else value


@lru_cache(maxsize=2)
def _formatted(second: int) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))


def timestamp_now() -> str:
    """Return the current time in the format of ``X-Amz-Date``."""
    return _formatted(int(time.time()))
