"""Sends the S3 requests of a botocore client without it, with a tenth of the client's CPU time.

The client builds the first request of each operation to each bucket. This module builds the same
request, and compares both. Only if they are equal, signature included, later requests are sent
directly. So region, endpoint, addressing, user agent and the effects of settings and hooks are
copied from the client's request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import anyio
from aiobotocore.credentials import AioRefreshableCredentials

from aiohaul.aws.direct import routes, serializer
from aiohaul.aws.direct.error_response import ErrorResponseError
from aiohaul.aws.direct.model import known
from aiohaul.aws.direct.requests import Built, DirectRequests, checksum_header, payload_hash
from aiohaul.aws.direct.signing import Keys
from aiohaul.aws.http.payload import Bytes, Payload
from aiohaul.aws.redaction import suppress_debug_logs
from aiohaul.aws.transport import Transport, watched

#: The number of mismatches after which an operation on a bucket always uses the client.
_MAX_MISMATCHES = 3
#: The maximum number of routes in the cache, one for each operation and bucket, 1.2 KB each.
_ROUTES = 1024


@dataclass(frozen=True, slots=True)
class _Route:
    """The route of one operation to one bucket, and the transport for the requests."""

    route: routes.Route
    transport: Transport


class _RouteCapturedError(BaseException):
    """Stops the client before it sends a request whose route is known now.

    This is a BaseException, so that botocore does not catch it.
    """


class S3FastPath:
    """Sends the requests of one client directly where the result is the same.

    Args:
        client: an aiobotocore client of any service.
        credentials: the credentials of the client, from which each request reads the keys. None
            sends all requests through the client.
    """

    def __init__(self, client: Any, credentials: Any = None) -> None:
        self._client = client
        self._credentials = credentials
        self._routes: dict[tuple[str, str], _Route] = {}
        self._mismatches: dict[tuple[str, str], int] = {}
        #: routes that a request is capturing now, while other requests wait for the route
        self._capturing: dict[tuple[str, str], anyio.Event] = {}
        self._on = credentials is not None and is_supported(client)
        #: the keys of the last request, as botocore's object and as Keys
        self._frozen: Any = None
        self._last_keys = Keys("", "")
        config = client.meta.config
        self._requests = DirectRequests(
            self._keys,
            sends_checksums=config.request_checksum_calculation == "when_supported",
            hash_payload=(config.s3 or {}).get("payload_signing_enabled"),
        )

    def has_route(self, operation: str, bucket: str) -> bool:
        """Return True if requests of this operation to this bucket are sent directly now."""
        return (operation, bucket) in self._routes

    async def call(self, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request once, and return the same response as the client's method.

        Raises:
            ClientError: the response to the client is an error.
            ErrorResponseError: the response is an error.
            BotoCoreError: the client got no response.
            HTTPClientError: no response came.
        """
        _, answer = await self._sent(operation, parameters)
        return answer

    async def read(
        self, parameters: Mapping[str, Any], max_size: int | None = None
    ) -> tuple[Bytes, dict[str, Any]]:
        """Read an object or a range of it (S3 GetObject).

        Args:
            parameters: the parameters of GetObject.
            max_size: the maximum size in bytes; None is the size of the range, or no maximum.

        Returns:
            The bytes, and the response without the body.

        Raises:
            The same errors as :meth:`call`. HTTPClientError also if the body is incomplete.
        """
        body, answer = await self._sent("get_object", parameters, max_size)
        if body is not None:
            return body, answer
        async with answer.pop("Body") as stream:
            return await stream.read(), answer

    async def _sent(
        self, operation: str, parameters: Mapping[str, Any], max_size: int | None = None
    ) -> tuple[Bytes | None, dict[str, Any]]:
        """Send a request, and return the body and the rest of the response.

        If the client sent the request, the body is None, and the response is the client's.
        """
        while True:
            # If a route exists but cannot send this request, the client must send it.
            may_capture = (operation, parameters.get("Bucket")) not in self._routes
            direct = await self._directly(operation, parameters, max_size)
            if direct is not None:
                return direct
            try:
                return None, await self._by_client(operation, parameters, may_capture=may_capture)
            except _RouteCapturedError:
                continue

    async def _directly(
        self, operation: str, parameters: Mapping[str, Any], max_size: int | None
    ) -> tuple[Bytes, dict[str, Any]] | None:
        """Send a request without the client.

        Returns:
            The body and the rest of the response. None if the client must send the request, because
            no route is known, the request cannot be built here, or the bucket is in another region.
        """
        bucket = parameters.get("Bucket")
        captured = self._routes.get((operation, bucket)) if type(bucket) is str else None
        built = self._requests.build(operation, parameters) if captured is not None else None
        if captured is None or built is None:
            return None
        connections = captured.transport.pool()
        try:
            return await self._requests.send(
                built, parameters, captured.route, connections, max_size
            )
        except ErrorResponseError as error:
            if not error.is_elsewhere:
                raise
        self._routes = {key: value for key, value in self._routes.items() if key[1] != bucket}
        return None

    async def _keys(self) -> Keys:
        if isinstance(self._credentials, AioRefreshableCredentials):
            with suppress_debug_logs():  # this may renew the credentials
                frozen = await self._credentials.get_frozen_credentials()
        else:
            frozen = await self._credentials.get_frozen_credentials()
        if frozen != self._frozen:
            self._frozen = frozen
            self._last_keys = Keys(frozen.access_key, frozen.secret_key, frozen.token)
        return self._last_keys

    async def _by_client(
        self, operation: str, parameters: Mapping[str, Any], *, may_capture: bool
    ) -> dict[str, Any]:
        """Send a request with the client, and capture the route of the request.

        Raises:
            _RouteCapturedError: the client has sent nothing, because the route is known now, or
                because another request has tried to capture the route. Only if ``may_capture``.
        """
        bucket = parameters.get("Bucket")
        if not self._on or known(operation) is None or not serializer.plain_bucket(bucket):
            return await self._send(operation, parameters)
        key = operation, str(bucket)
        if key in self._routes or self._mismatches.get(key, 0) >= _MAX_MISMATCHES:
            return await self._send(operation, parameters)

        if may_capture and key in self._capturing:
            await self._capturing[key].wait()
            raise _RouteCapturedError
        done = self._capturing.setdefault(key, anyio.Event())

        async def capture(transport: Transport, request: Any) -> None:
            try:
                await self._capture_route(key, parameters, transport, request)
            finally:
                self._end_capture(key, done)
            if may_capture and key in self._routes:
                raise _RouteCapturedError

        try:
            with watched(capture):
                return await self._send(operation, parameters)
        finally:
            self._end_capture(key, done)

    async def _send(self, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        with suppress_debug_logs():
            answer: dict[str, Any] = await getattr(self._client, operation)(**_as_bytes(parameters))
        return answer

    def _end_capture(self, key: tuple[str, str], done: anyio.Event) -> None:
        """Wake the requests that wait for this route."""
        done.set()
        if self._capturing.get(key) is done:
            del self._capturing[key]

    async def _capture_route(
        self,
        key: tuple[str, str],
        parameters: Mapping[str, Any],
        transport: Transport,
        request: Any,
    ) -> None:
        """Store the route of a request that the client will send, if this module can use it."""
        built = self._requests.build(key[0], parameters)
        if transport.proxied or built is None:
            return
        theirs = routes.prepared_request(request)
        if not routes.is_of(theirs, built.known.request, built.unsigned):
            return
        for cache in (self._routes, self._mismatches):
            if len(cache) >= _ROUTES:  # drop the oldest
                cache.pop(next(iter(cache)), None)
        self._routes.pop(key, None)  # the old route may lead to another region
        route = routes.route_of(theirs, built.unsigned)
        if route is not None and await self._is_same(route, built, theirs):
            self._routes[key] = _Route(route, transport)
            self._mismatches.pop(key, None)
        else:
            self._mismatches[key] = self._mismatches.get(key, 0) + 1

    async def _is_same(
        self, route: routes.Route, built: Built, theirs: routes.PreparedRequest
    ) -> bool:
        unsigned = built.unsigned
        mine = routes.signed_headers(
            route,
            built.known.request,
            unsigned,
            routes.checksum_headers_like(
                theirs, await payload_hash(unsigned), await checksum_header(unsigned)
            ),
            timestamp=theirs.headers.get("x-amz-date", ""),
            invocation=theirs.headers.get("amz-sdk-invocation-id", ""),
            keys=await self._keys(),
        )
        return routes.same(mine, theirs)


def is_supported(client: Any) -> bool:
    """Return True for S3 without dual-stack, FIPS and accelerated endpoints."""
    config = client.meta.config
    s3 = config.s3 or {}
    return (
        client.meta.service_model.service_name == "s3"
        and not config.use_dualstack_endpoint
        and not config.use_fips_endpoint
        and not s3.get("use_accelerate_endpoint")
        and not s3.get("use_dualstack_endpoint")
    )


def _as_bytes(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the parameters with the body as bytes, for botocore."""
    body = parameters.get("Body")
    return {**parameters, "Body": body.data} if type(body) is Payload else parameters
