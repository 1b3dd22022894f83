"""The Backend protocol: what sends the requests of a Service, once each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from aiohaul.aws.http.payload import Bytes


class Renewal(Protocol):
    """Renews credentials early, if a server refuses them as expired."""

    @property
    def current(self) -> object:
        """The keys that sign requests now; None if the credentials cannot be renewed."""

    async def renew(self, refused: object) -> bool:
        """Renew the refused keys, unless another request has already renewed them.

        Args:
            refused: :attr:`current` at the time of the refused request.

        Returns:
            False if the credentials cannot be renewed.

        Raises:
            ServiceError: AWS refused to assume the role, or the request failed.
            SettingsError: no credentials were found with which to assume the role.
        """


class NotRenewable:
    """Given keys, which are never renewed."""

    current = None

    async def renew(self, refused: object) -> bool:
        """Return False."""
        del refused
        return False


class Backend(Protocol):
    """Sends the requests of one service with one identity, once each.

    The methods raise ErrorResponseError or botocore's ClientError for an error response, and
    HTTPClientError or botocore's exceptions without a response.

    Attributes:
        service: botocore's name of the service, such as ``s3``.
        endpoint_url: the URL of the endpoint.
        region: the region for which requests are signed.
        sends_checksums: True if every body is sent with a checksum; False if only required
            checksums are sent.
        renewal: renews the credentials.
        has_credentials: False if no credentials were found, so that every request fails.
    """

    service: str
    endpoint_url: str
    region: str
    sends_checksums: bool
    renewal: Renewal
    has_credentials: bool

    def has_route(self, operation: str, bucket: str) -> bool:
        """Return True if requests of this operation to this bucket bypass botocore now."""

    async def call(self, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request, and return the response as botocore parses it.

        Args:
            operation: the method of botocore's client, such as ``head_object``.
            parameters: the parameters of the operation.
        """

    async def read(
        self, parameters: Mapping[str, Any], max_size: int | None = None
    ) -> tuple[Bytes, dict[str, Any]]:
        """Read an object or a range of it (S3 GetObject).

        Args:
            parameters: the parameters of GetObject.
            max_size: the maximum size in bytes; None is the size of the range, or no maximum.

        Returns:
            The bytes, and the response without the body.
        """

    async def invoke(
        self, payload: bytes, read_timeout: float, parameters: Mapping[str, Any]
    ) -> tuple[bytes, dict[str, Any]]:
        """Call a function (Lambda Invoke).

        Args:
            payload: the payload.
            read_timeout: the seconds without received bytes after which the request times out.
            parameters: the other parameters of the operation.

        Returns:
            The payload of the response, and the rest of the response.
        """
