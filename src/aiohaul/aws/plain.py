"""How bytes may travel: unencrypted to this machine itself, and where the user says so."""

from __future__ import annotations

import ipaddress
import ssl
from urllib.parse import urlsplit

from aiohaul.errors import SettingsError

#: What to do about a certificate that is refused.
DISTRUSTED = (
    "If the server is the right one, trust the authority that signed its certificate: ca_bundle of"
    " the Session, or AWS_CA_BUNDLE in the environment, is a file with that. Else correct the host"
    " in endpoint_url."
)


def is_distrusted(error: BaseException) -> bool:
    """True for a server whose certificate nobody vouches for: another attempt will not help."""
    beneath = getattr(error, "kwargs", {}).get("error")
    return isinstance(getattr(beneath, "certificate_error", None), ssl.CertificateError)


def check_tls(url: str) -> None:
    """Refuse an endpoint that is neither encrypted nor on this machine.

    Raises:
        SettingsError: it is not.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        shown = f"{parts.scheme}://{host}"
    except ValueError:
        return  # no URL: who connects to it says so
    if parts.scheme != "http" or is_loopback(host):
        return
    raise SettingsError(
        f"nothing was sent to {shown}: over http everybody on the way reads what is sent, and can"
        " change it. Use https://, or say that it is meant: Session(allow_http=True), or"
        " AIOHAUL_ALLOW_HTTP=1 in the environment"
    )


def is_loopback(host: str) -> bool:
    """True for names and addresses of this machine that no other can answer for."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
