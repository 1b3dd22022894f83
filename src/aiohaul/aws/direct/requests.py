"""Builds, signs and sends one S3 request, and parses the response, without botocore."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping
from functools import partial
from os import urandom
from typing import Any, NamedTuple, TypeVar

from aiohaul.aws.direct import checksums, parser, routes, serializer
from aiohaul.aws.direct.error_response import error_response
from aiohaul.aws.direct.listing import read_page
from aiohaul.aws.direct.model import Known, known
from aiohaul.aws.direct.signing import EMPTY_SHA256, UNSIGNED_PAYLOAD, Keys, timestamp_now
from aiohaul.aws.http.connection import Reply
from aiohaul.aws.http.payload import Bytes, computed, hexdigest
from aiohaul.aws.http.pool import ConnectionPool
from aiohaul.concurrency import yield_if_busy
from aiohaul.errors import SERVER_ERROR

T = TypeVar("T")

#: HTTP statuses from here on are not a success.
_FAILURE = 300


class Built(NamedTuple):
    """A request that can be sent directly."""

    known: Known
    unsigned: serializer.Unsigned


class Answered(NamedTuple):
    """The body of a response, and the parsed rest."""

    body: Bytes
    answer: dict[str, Any]


class DirectRequests:
    """Sends S3 requests of one client directly.

    Args:
        keys: returns the keys that sign the next request.
        sends_checksums: True adds a checksum to every body; False only where S3 requires one.
        hash_payload: True signs the SHA-256 of every body, False of none; None of those that
            neither TLS nor a checksum protects.
    """

    def __init__(
        self,
        keys: Callable[[], Awaitable[Keys]],
        *,
        sends_checksums: bool,
        hash_payload: bool | None = None,
    ) -> None:
        self.keys = keys
        self._checksums = sends_checksums
        self._hash_payload = hash_payload

    def build(self, operation: str, parameters: Mapping[str, Any]) -> Built | None:
        """Return the request; None if botocore must build it."""
        found = known(operation)
        if found is None:
            return None
        unsigned = serializer.build(found.request, parameters, checksums=self._checksums)
        if unsigned is None or not _computable(unsigned):
            return None
        return Built(found, unsigned)

    async def send(
        self,
        built: Built,
        parameters: Mapping[str, Any],
        route: routes.Route,
        connections: ConnectionPool,
        max_size: int | None = None,
    ) -> Answered:
        """Send a request once.

        Args:
            built: the request.
            parameters: the parameters from which it was built.
            route: the route to the bucket.
            connections: the connections to the endpoint.
            max_size: the maximum size in bytes of the body of an object; None is the size of the
                requested range, or no maximum.

        Raises:
            ErrorResponseError: the response is an error.
            HTTPClientError: no response came.
            ValueError: the response is malformed. Parsing raises other errors too, such as
                KeyError.
        """
        operation, unsigned = built.known.request, built.unsigned
        headers = routes.signed_headers(
            route,
            operation,
            unsigned,
            await self.checksum_headers(route, operation, unsigned),
            timestamp=timestamp_now(),
            invocation=_new_id(),
            keys=await self.keys(),
        )
        reply = await connections.exchange(
            operation.method,
            route.base + unsigned.suffix,
            headers,
            unsigned.body,
            max_size=built.known.max_size if max_size is None else max_size,
        )
        await yield_if_busy()  # many responses may arrive at the same time
        if reply.status >= _FAILURE:
            raise error_response(operation.name, reply, reply.status)
        return Answered(reply.body, await _parse(built.known, parameters, reply))

    async def checksum_headers(
        self, route: routes.Route, operation: serializer.Operation, unsigned: serializer.Unsigned
    ) -> dict[str, str]:
        """Return the checksum headers of the body. With TLS, one checksum is enough."""
        headers = await checksum_header(unsigned)
        headers["x-amz-content-sha256"] = (
            await payload_hash(unsigned)
            if self._must_hash(route, operation, unsigned, headers)
            else UNSIGNED_PAYLOAD
        )
        return headers

    def _must_hash(
        self,
        route: routes.Route,
        operation: serializer.Operation,
        unsigned: serializer.Unsigned,
        checksum: Mapping[str, str],
    ) -> bool:
        if self._hash_payload is not None:
            return self._hash_payload
        has_checksum = bool(checksum) or serializer.vouches(unsigned.headers)
        return not (route.tls and has_checksum and operation.streaming)


async def checksum_header(unsigned: serializer.Unsigned) -> dict[str, str]:
    """Return the header with the checksum that the body needs; empty if it needs none."""
    algorithm = unsigned.algorithm
    if algorithm is None:
        return {}
    value = await computed(partial(checksums.checksum, algorithm), unsigned.body)
    return {f"x-amz-checksum-{algorithm}": value}


async def payload_hash(unsigned: serializer.Unsigned) -> str:
    """Return the SHA-256 of the body in hexadecimal."""
    if not unsigned.body:
        return EMPTY_SHA256
    if unsigned.payload is not None:
        return await unsigned.payload.sha256()
    return await computed(hexdigest, unsigned.body)


async def _parse(known: Known, parameters: Mapping[str, Any], reply: Reply) -> dict[str, Any]:
    """Parse a response as botocore does, or raise the error in its body."""
    answer = parser.read_headers(known.answer, reply.status, reply.headers)
    steps = parser.read_body(known.answer, reply.status, reply.body)
    if known.name == "ListObjectsV2":
        decode = "EncodingType" not in parameters
        steps = read_page(known.answer, reply.status, reply.body, decode=decode)
    try:
        answer |= await _in_steps(steps)
    except parser.FailedAnswerError as error:
        # As botocore does, if the body of a response of status 200 is an error.
        raise error_response(known.name, reply, SERVER_ERROR) from error
    return answer


async def _in_steps(steps: Generator[None, None, T]) -> T:
    """Run a generator, and yield to the event loop between its steps."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result
        await asyncio.sleep(0)


def _computable(unsigned: serializer.Unsigned) -> bool:
    return unsigned.algorithm is None or checksums.known(unsigned.algorithm)


def _new_id() -> str:
    """Return a random UUID (version 4). The module uuid would be several times slower."""
    digits = urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
