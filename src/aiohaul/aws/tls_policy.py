"""Refuses endpoints without TLS, except those on this machine or those that the user allows."""

from __future__ import annotations

from urllib.parse import urlsplit

from aiohaul.aws.hosts import is_loopback
from aiohaul.errors import SettingsError

#: Advice for a certificate that is not trusted.
UNTRUSTED_ADVICE = (
    "If this is the right server, give a PEM file with the certificate of its authority in"
    " Session(ca_bundle=…) or AWS_CA_BUNDLE. Otherwise correct the host in endpoint_url."
)


def check_tls(url: str) -> None:
    """Refuse an endpoint that is neither encrypted nor on this machine.

    Raises:
        SettingsError: the endpoint uses unencrypted HTTP on another machine.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        endpoint = f"{parts.scheme}://{host}"
    except ValueError:
        return  # not a URL; connecting raises a better error
    if parts.scheme != "http" or is_loopback(host):
        return
    raise SettingsError(
        f"refusing unencrypted HTTP to {endpoint}: nothing was sent. Use https://, or allow HTTP"
        " with Session(allow_http=True) or AIOHAUL_ALLOW_HTTP=1 in the environment"
    )
