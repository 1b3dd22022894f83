"""Pure: AWS Signature Version 4 as S3 wants it, with the day's key derived once."""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

#: The payload's hash where TLS and a checksum vouch for it already.
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
EMPTY_SHA256 = sha256(b"").hexdigest()

_ALGORITHM = "AWS4-HMAC-SHA256"
#: Headers that proxies and HTTP libraries change on their way: botocore signs none of them.
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
    """Credentials of this moment: those that renew are asked for at every request."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(repr=False, default=None)


class Scope(NamedTuple):
    """Where a signature is valid."""

    region: str
    service: str


def scope_of(authorization: str) -> tuple[str, Scope] | None:
    """The access key and the scope that an Authorization header names, if it is of SigV4."""
    if not authorization.startswith(f"{_ALGORITHM} Credential="):
        return None
    credential = authorization.split(",", 1)[0].partition("=")[2]
    # An access key may hold "/" on servers that are not AWS.
    match credential.rsplit("/", 4):
        case [access_key, _, region, service, "aws4_request"]:
            return access_key, Scope(region, service)
        case _:
            return None


class Signer:
    """Signs for one region and service; the key of the day is derived once."""

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
        """The Authorization header of a request.

        Args:
            method: ``GET`` and so on.
            path: as it is sent, percent-encoded; S3 wants it neither normalised nor encoded twice.
            query: as it is sent.
            headers: all that are sent but ``Host``.
            host: with its port, unless that is the scheme's own.
            payload: the body's SHA-256 in hexadecimal, or a word for none.
            timestamp: as in ``X-Amz-Date``.
            keys: whose signature it is.
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
    """Which headers are signed, in their order, ``Host`` (that is "") among them; and the list.

    The requests of one operation have the same headers, again and again.
    """
    signed = {name.lower(): name for name in names}
    for name in _NOT_SIGNED & signed.keys():
        del signed[name]
    signed["host"] = ""
    return tuple(sorted(signed.items())), ";".join(sorted(signed))


def canonical_query(query: str) -> str:
    """A query string with its pairs in order, and a ``=`` in each."""
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
    """This second, as ``X-Amz-Date`` wants it."""
    return _formatted(int(time.time()))
