"""The Origin of a URL: the server to which a connection leads."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """A server: the scheme, the host without brackets, and the port."""

    scheme: str
    host: str
    port: int

    @property
    def tls(self) -> bool:
        """True if connections are encrypted."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """The host and the port, as a CONNECT request names them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@lru_cache(maxsize=1024)
def origin_of(url: str) -> Origin:
    """Return the origin of a URL.

    Raises:
        ValueError: the URL is not an HTTP URL, has no host, or has a wrong port.
    """
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError("the URL has no scheme or host of HTTP")
    return Origin(parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme])
