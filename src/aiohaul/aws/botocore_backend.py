"""Sends requests with a client of botocore, and S3's known ones past it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohaul.aws import backend
from aiohaul.aws.backend import Backend
from aiohaul.aws.content_md5 import send_content_md5
from aiohaul.aws.credentials import Renewal
from aiohaul.aws.fast_path import S3FastPath
from aiohaul.aws.http.payload import Bytes
from aiohaul.aws.redaction import suppress_debug_logs
from aiohaul.aws.redirects import end_redirect_loops

#: The name of a parameter that no operation has, and that is removed before the request is built.
_READ_TIMEOUT_PARAMETER = "AiohaulReadTimeout"


class BotocoreBackend(Backend):
    """Sends the requests of an aiobotocore client.

    Args:
        client: the client, which is never exited.
        credentials: the credentials of the client; None if none were found.
        direct: True sends known S3 requests without the client, where the result is the same.
    """

    def __init__(self, client: Any, credentials: Any, *, direct: bool) -> None:
        meta = client.meta
        self.service = meta.service_model.service_name
        self.endpoint_url = str(meta.endpoint_url)
        self.region = str(meta.region_name)
        # AWS_REQUEST_CHECKSUM_CALCULATION=when_required sets this to False.
        self.sends_checksums = meta.config.request_checksum_calculation != "when_required"
        self.renewal: backend.Renewal = Renewal(credentials)
        self.has_credentials = credentials is not None
        self._client = client
        self._fast_path = S3FastPath(client, credentials if direct else None)
        meta.events.register("provide-client-params.lambda.Invoke", _move_read_timeout)
        send_content_md5(client)
        end_redirect_loops(client)

    def has_route(self, operation: str, bucket: str) -> bool:
        """Return True if requests of this operation to this bucket bypass botocore now."""
        return self._fast_path.has_route(operation, bucket)

    async def call(self, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request, and return the response as botocore parses it."""
        return await self._fast_path.call(operation, parameters)

    async def read(
        self, parameters: Mapping[str, Any], max_size: int | None = None
    ) -> tuple[Bytes, dict[str, Any]]:
        """Read an object or a range of it (S3 GetObject)."""
        return await self._fast_path.read(parameters, max_size)

    async def invoke(
        self, payload: bytes, read_timeout: float, parameters: Mapping[str, Any]
    ) -> tuple[bytes, dict[str, Any]]:
        """Call a function (Lambda Invoke)."""
        with suppress_debug_logs():
            answer = await self._client.invoke(
                Payload=payload, **{**parameters, _READ_TIMEOUT_PARAMETER: read_timeout}
            )
            async with answer.pop("Payload") as stream:
                return await stream.read(), answer


def _move_read_timeout(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    """Move the read timeout of a request to the context, where aiobotocore reads it."""
    if _READ_TIMEOUT_PARAMETER in params:
        context["read_timeout"] = params.pop(_READ_TIMEOUT_PARAMETER)
