"""Errors of HTTP requests that got no complete response. They have the names of botocore's."""

from __future__ import annotations

import errno
import os
import ssl
from typing import ClassVar
from urllib.parse import urlsplit


class HTTPClientError(Exception):
    """A request got no complete response.

    Args:
        problem: the cause, in a few words; "" if the class says all.
        number: the error number of the system; 0 without one.

    Attributes:
        problem: the cause.
        errno: the error number of the system.
        url: the URL of the request, which the connection pool sets.
        never_sent: True if the server certainly received no byte of the request.
    """

    never_sent: ClassVar[bool] = False
    _summary = "The HTTP request failed for endpoint URL"

    def __init__(self, problem: str = "", number: int = 0) -> None:
        super().__init__(problem)
        self.problem = problem
        self.errno = number
        self.url = ""

    def __reduce__(self) -> tuple[object, ...]:
        """Return how to make a copy: with all attributes, without the constructor."""
        return _restored, (type(self), self.args, dict(vars(self)))

    def __str__(self) -> str:
        """Return the cause and the endpoint, without the path and the query of the URL."""
        problem = f" ({self.problem})" if self.problem else ""
        return f'{self._summary}: "{self.endpoint}"{problem}'

    @property
    def endpoint(self) -> str:
        """The scheme, the host and the port of the URL."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else self.url


def _restored(
    error_class: type[HTTPClientError], arguments: tuple[object, ...], attributes: dict[str, object]
) -> HTTPClientError:
    """Make a copy of an error from a pickle."""
    error = error_class.__new__(error_class, *arguments)
    vars(error).update(attributes)
    return error


class EndpointConnectionError(HTTPClientError):
    """No connection was made."""

    never_sent = True
    _summary = "Could not connect to the endpoint URL"


class ConnectTimeoutError(HTTPClientError):
    """No connection was made in time."""

    never_sent = True
    _summary = "Connect timeout on endpoint URL"


class ProxyConnectionError(HTTPClientError):
    """The proxy did not make a connection.

    Args:
        proxy_url: the scheme, the host and the port of the proxy.
        problem: the cause.
        status: the HTTP status of the proxy's response; None without a response.
    """

    never_sent = True

    def __init__(self, proxy_url: str, problem: str = "", status: int | None = None) -> None:
        super().__init__(problem)
        self.proxy_url = proxy_url
        self.status = status

    def __str__(self) -> str:
        problem = f" ({self.problem})" if self.problem else ""
        return f'Failed to connect to proxy URL: "{self.proxy_url}"{problem}'


class SSLError(HTTPClientError):
    """The TLS handshake failed.

    Args:
        problem: the cause.
        untrusted: True if the certificate of the server is not trusted.
    """

    never_sent = True
    _summary = "SSL validation failed for endpoint URL"

    def __init__(self, problem: str, *, untrusted: bool) -> None:
        super().__init__(problem)
        self.untrusted = untrusted


class ReadTimeoutError(HTTPClientError):
    """No bytes arrived for the read timeout."""

    _summary = "Read timeout on endpoint URL"


class ConnectionClosedError(HTTPClientError):
    """The connection was lost before the end of the response, or the response is malformed.

    Args:
        problem: the cause.
        number: the error number of the system; 0 without one.
        answered: True if bytes of a response had arrived.
    """

    _summary = "Connection was closed before we received a valid response from endpoint URL"

    def __init__(self, problem: str = "", number: int = 0, *, answered: bool = False) -> None:
        super().__init__(problem, number)
        self.answered = answered


def reason_of(error: OSError) -> str:
    """Return the cause of an error of a socket in a few words."""
    if isinstance(error, ssl.SSLError):  # its numbers are OpenSSL's
        return str(error.strerror or error)
    number = error.errno or 0
    # getaddrinfo's numbers are below 0, and strerror does not know them.
    return os.strerror(number) if number in errno.errorcode else str(error.strerror or error)
