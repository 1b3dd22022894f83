"""Which hosts are AWS's, and which are this machine."""

from __future__ import annotations

from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Return True for the loopback names and addresses of this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    import ipaddress  # noqa: PLC0415  # few hosts are addresses, and it is slow to import

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_aws(host: str) -> bool:
    """Return True if the host name belongs to AWS."""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))


def sts_endpoint(endpoint_url: str | None) -> str | None:
    """Return the endpoint for AssumeRole if ``endpoint_url`` is given; None is botocore's choice.

    A server that emulates AWS implements STS too. An endpoint of AWS is for one service only.

    Args:
        endpoint_url: an URL that :class:`aiohaul.Settings` has checked.
    """
    host = urlsplit(endpoint_url or "").hostname or ""
    return None if is_aws(host) else endpoint_url
