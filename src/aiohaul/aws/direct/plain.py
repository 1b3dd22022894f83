"""Sends S3 requests with given keys to a plain endpoint, without botocore."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohaul.aws.backend import Backend, NotRenewable, Renewal
from aiohaul.aws.direct.endpoint import Endpoint
from aiohaul.aws.direct.error_response import ErrorResponseError
from aiohaul.aws.direct.requests import Answered, DirectRequests
from aiohaul.aws.direct.routes import Route
from aiohaul.aws.direct.serializer import plain_bucket
from aiohaul.aws.direct.signing import Keys
from aiohaul.aws.http.payload import Bytes
from aiohaul.aws.http.pool import ConnectionPool
from aiohaul.concurrency import Lock

#: The maximum number of buckets in the cache of routes.
_ROUTES = 1024


class PlainS3(Backend):
    """Sends the S3 requests of one identity.

    botocore is loaded only for requests that cannot be built here, and for buckets in another
    region whose region S3 does not name.

    Args:
        endpoint: the endpoint.
        keys: the keys that sign the requests.
        sends_checksums: True adds a checksum to every body; False only where S3 requires one.
        connections: the connections to the endpoint.
        botocore: creates the backend that sends the other requests.
    """

    service = "s3"
    has_credentials = True

    def __init__(
        self,
        endpoint: Endpoint,
        keys: Keys,
        *,
        sends_checksums: bool,
        connections: ConnectionPool,
        botocore: Callable[[], Awaitable[Backend]],
    ) -> None:
        self.endpoint_url = endpoint.shown_url
        self.region = endpoint.region
        self.sends_checksums = sends_checksums
        self.renewal: Renewal = NotRenewable()
        self._endpoint = endpoint
        self._keys = keys
        self._requests = DirectRequests(self._current_keys, sends_checksums=sends_checksums)
        self._connections = connections
        self._routes: dict[str, Route] = {}
        #: the buckets to which botocore sends the requests
        self._by_botocore: set[str] = set()
        self._create_botocore = botocore
        self._botocore: Backend | None = None
        self._lock = Lock()

    def has_route(self, operation: str, bucket: str) -> bool:
        """Return True if requests of this operation to this bucket are sent directly now."""
        del operation
        return bucket in self._routes

    async def call(self, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request once, and return the same response as botocore."""
        answered = await self._directly(operation, parameters)
        if answered is None:
            return await (await self._other()).call(operation, parameters)
        return answered.answer

    async def read(
        self, parameters: Mapping[str, Any], max_size: int | None = None
    ) -> tuple[Bytes, dict[str, Any]]:
        """Read an object or a range of it (S3 GetObject)."""
        answered = await self._directly("get_object", parameters, max_size)
        if answered is None:
            return await (await self._other()).read(parameters, max_size)
        return answered

    async def invoke(
        self, payload: bytes, read_timeout: float, parameters: Mapping[str, Any]
    ) -> tuple[bytes, dict[str, Any]]:
        """Never called, because S3 has no functions."""
        raise NotImplementedError

    async def _directly(
        self, operation: str, parameters: Mapping[str, Any], max_size: int | None = None
    ) -> Answered | None:
        """Send a request; return None if botocore must send it."""
        bucket = str(parameters.get("Bucket"))
        if not plain_bucket(bucket) or bucket in self._by_botocore:
            return None
        built = self._requests.build(operation, parameters)
        if built is None:
            return None
        route = self._routes.get(bucket) or self._add_route(bucket)
        try:
            return await self._requests.send(built, parameters, route, self._connections, max_size)
        except ErrorResponseError as error:
            if not error.is_elsewhere:
                raise
            region = error.region
            if region is None or region == route.signer.scope.region:
                if operation == "head_object":  # a 400 may mean anything
                    self._routes.pop(bucket, None)
                self._by_botocore.add(bucket)
                return None
        route = self._add_route(bucket, region)
        return await self._requests.send(built, parameters, route, self._connections, max_size)

    def _add_route(self, bucket: str, region: str | None = None) -> Route:
        while len(self._routes) >= _ROUTES:  # drop the oldest
            del self._routes[next(iter(self._routes))]
        route = self._routes[bucket] = self._endpoint.route(bucket, region)
        return route

    async def _current_keys(self) -> Keys:
        return self._keys

    async def _other(self) -> Backend:
        async with self._lock:
            if self._botocore is None:
                self._botocore = await self._create_botocore()
        return self._botocore
