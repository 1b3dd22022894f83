"""The direct way to S3: requests built, signed and read here, on the client's connections.

The first request of each operation to each bucket goes through the client. What the client is
about to send is held against what would be sent from here: only where the two are the same, to
the signature, are those that follow sent directly. Region, endpoint, addressing, user agent, and
whatever settings or hooks do to a request, are so learnt from the client and never guessed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import partial
from os import urandom
from typing import Any, TypeVar

import anyio
from aiobotocore.credentials import AioRefreshableCredentials

from aiohaul.aws.direct import answers, building, checksums, routes
from aiohaul.aws.direct.connection import Reply
from aiohaul.aws.direct.exchange import IS_KNOWN
from aiohaul.aws.direct.failures import Failed
from aiohaul.aws.direct.listing import read_page
from aiohaul.aws.direct.payload import Bytes, Payload, computed, hexdigest
from aiohaul.aws.direct.signing import EMPTY_SHA256, UNSIGNED_PAYLOAD, Keys, timestamp_now
from aiohaul.aws.secrecy import quiet
from aiohaul.aws.transport import Transport, watched
from aiohaul.concurrency import give_way

T = TypeVar("T")

#: How often a bucket's requests may differ before they are no longer compared.
_LESSONS = 3
#: Ways that are kept, one for each operation and bucket: some 1.2 KB each.
_ROUTES = 1024
#: Answers from here on are no success.
_FAILURE = 300
#: What botocore makes of an answer of 200 that carries an error.
_SERVER_ERROR = 500


@dataclass(frozen=True, slots=True)
class _Known:
    """All that there is to know of an operation, whatever the bucket."""

    model: Any
    request: building.Operation
    answer: answers.Answer


@dataclass(frozen=True, slots=True)
class _Way:
    """How one operation gets to one bucket, and on whose connections."""

    known: _Known
    route: routes.Route
    transport: Transport


class _LearntError(BaseException):
    """How the client sends a request is known, so that it need not send this one.

    No Exception: the client would try to explain it, and log it.
    """


class Wire:
    """Sends the requests of one client, directly where that comes to the same.

    Args:
        client: aiobotocore's, of any service.
        credentials: the client's own, asked for their keys at each request. With None all
            requests go through the client.
    """

    def __init__(self, client: Any, credentials: Any = None) -> None:
        self._client = client
        self._credentials = credentials
        self._operations: dict[str, _Known | None] = {}
        self._ways: dict[tuple[str, str], _Way] = {}
        self._lessons: dict[tuple[str, str], int] = {}
        #: the ways that somebody learns just now: nobody else needs to
        self._being_learnt: dict[tuple[str, str], anyio.Event] = {}
        self._on = credentials is not None and IS_KNOWN and _ordinary(client)
        #: the keys of the last request, as they came and as they are used
        self._frozen: Any = None
        self._kept = Keys("", "")
        config = client.meta.config
        self._checksums = config.request_checksum_calculation == "when_supported"
        self._hash_payload = (config.s3 or {}).get("payload_signing_enabled")

    async def call(self, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request, and return the answer as the client's method does.

        Raises:
            ClientError: the answer is an error.
            BotoCoreError: there is no answer.
        """
        _, answer = await self._sent(operation, parameters)
        return answer

    async def read(self, parameters: Mapping[str, Any]) -> tuple[Bytes, dict[str, Any]]:
        """Get an object or a range of it: its bytes, and the rest of the answer.

        Raises:
            ClientError: the answer is an error.
            BotoCoreError: there is no answer, or its body broke off.
        """
        body, answer = await self._sent("get_object", parameters)
        if body is not None:
            return body, answer
        async with answer.pop("Body") as stream:
            return await stream.read(), answer

    async def _sent(
        self, operation: str, parameters: Mapping[str, Any]
    ) -> tuple[Bytes | None, dict[str, Any]]:
        """The body and the rest of an answer; None and all of it, if the client read it."""
        while True:
            # Else the way is no good for this request: the client finds a better one.
            learning = (operation, parameters.get("Bucket")) not in self._ways
            direct = await self._directly(operation, parameters)
            if direct is not None:
                return direct
            try:
                return None, await self._by_client(operation, parameters, learning=learning)
            except _LearntError:
                continue

    async def _directly(
        self, operation: str, parameters: Mapping[str, Any]
    ) -> tuple[Bytes, dict[str, Any]] | None:
        """Send a request from here: the answer's body, and the answer.

        Returns:
            None if it is the client's to send. So is one whose answer is that the bucket is
            elsewhere: the client finds the way.

        Raises:
            ClientError: the answer is an error.
            BotoCoreError: there is no answer.
        """
        bucket = parameters.get("Bucket")
        way = self._ways.get((operation, bucket)) if type(bucket) is str else None
        if way is None:
            return None
        known, route = way.known, way.route
        unsigned = building.build(known.request, parameters, checksums=self._checksums)
        if unsigned is None or not _computable(unsigned):
            return None
        headers = routes.sealed(
            route,
            known.request,
            unsigned,
            await self._vouching(route, known.request, unsigned),
            timestamp=timestamp_now(),
            invocation=_new_id(),
            keys=await self._keys(),
        )
        url = route.base + unsigned.suffix
        connections = await way.transport.connections()
        reply = await connections.exchange(known.request.method, url, headers, unsigned.body)
        await give_way()  # many answers may come at the same time
        if reply.status < _FAILURE:
            return reply.body, await self._understood(known, parameters, reply)
        failed = Failed(known.model, reply, reply.status)
        if not failed.is_elsewhere:
            raise failed.exception(self._client)
        self._ways = {key: kept for key, kept in self._ways.items() if key[1] != bucket}
        return None

    def _known(self, operation: str) -> _Known | None:
        if operation not in self._operations:
            self._operations[operation] = self._compiled(operation)
        return self._operations[operation]

    def _compiled(self, operation: str) -> _Known | None:
        name = building.OPERATIONS.get(operation)
        if name is None or not self._on:
            return None
        model = self._client.meta.service_model.operation_model(name)
        request, answer = building.compiled(model), answers.compiled(model)
        return _Known(model, request, answer) if request and answer else None

    async def _keys(self) -> Keys:
        if isinstance(self._credentials, AioRefreshableCredentials):
            with quiet():  # they may be renewed now
                frozen = await self._credentials.get_frozen_credentials()
        else:
            frozen = await self._credentials.get_frozen_credentials()
        if frozen != self._frozen:
            self._frozen = frozen
            self._kept = Keys(frozen.access_key, frozen.secret_key, frozen.token)
        return self._kept

    async def _vouching(
        self, route: routes.Route, operation: building.Operation, unsigned: building.Unsigned
    ) -> dict[str, str]:
        """The headers that vouch for the body: over TLS one checksum is enough, as for botocore."""
        made = await _checksum(unsigned)
        made["x-amz-content-sha256"] = (
            await _sha256(unsigned)
            if self._must_hash(route, operation, unsigned, made)
            else UNSIGNED_PAYLOAD
        )
        return made

    def _must_hash(
        self,
        route: routes.Route,
        operation: building.Operation,
        unsigned: building.Unsigned,
        checksum: Mapping[str, str],
    ) -> bool:
        if self._hash_payload is not None:
            return bool(self._hash_payload)
        vouched = bool(checksum) or building.vouches(unsigned.headers)
        return not (route.tls and vouched and operation.streaming)

    async def _understood(
        self, known: _Known, parameters: Mapping[str, Any], reply: Reply
    ) -> dict[str, Any]:
        """An answer as the client would have returned it, or raised."""
        made = answers.read_headers(known.answer, reply.status, reply.headers)
        steps = answers.read_body(known.answer, reply.status, reply.body)
        if known.request.name == "ListObjectsV2":
            decode = "EncodingType" not in parameters
            steps = read_page(known.answer, reply.status, reply.body, decode=decode)
        try:
            made |= await _in_steps(steps)
        except answers.FailedAnswerError as error:
            raise Failed(known.model, reply, _SERVER_ERROR).exception(self._client) from error
        return made

    async def _by_client(
        self, operation: str, parameters: Mapping[str, Any], *, learning: bool
    ) -> dict[str, Any]:
        """Have the client send a request, and learn its way.

        Raises:
            _LearntError: the way is known, or could not be learnt by another request, and the
                client has sent nothing: only if ``learning``.
        """
        known = self._known(operation)
        bucket = parameters.get("Bucket")
        if known is None or not building.plain_bucket(bucket):
            return await self._send(operation, parameters)
        key = operation, str(bucket)
        if key in self._ways or self._lessons.get(key, 0) >= _LESSONS:
            return await self._send(operation, parameters)

        if learning and key in self._being_learnt:
            await self._being_learnt[key].wait()
            raise _LearntError
        learnt = self._being_learnt.setdefault(key, anyio.Event())

        async def learn(transport: Transport, request: Any) -> None:
            try:
                await self._learn(key, known, parameters, transport, request)
            finally:
                self._lesson_over(key, learnt)
            if learning and key in self._ways:
                raise _LearntError

        try:
            with watched(learn):
                return await self._send(operation, parameters)
        finally:
            self._lesson_over(key, learnt)

    async def _send(self, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        with quiet():
            answer: dict[str, Any] = await getattr(self._client, operation)(**_as_bytes(parameters))
        return answer

    def _lesson_over(self, key: tuple[str, str], learnt: anyio.Event) -> None:
        """Let those go on that wait for it."""
        learnt.set()
        if self._being_learnt.get(key) is learnt:
            del self._being_learnt[key]

    async def _learn(
        self,
        key: tuple[str, str],
        known: _Known,
        parameters: Mapping[str, Any],
        transport: Transport,
        request: Any,
    ) -> None:
        """Keep the way of a request that the client is about to send, if it is understood."""
        unsigned = building.build(known.request, parameters, checksums=self._checksums)
        if transport.proxied or unsigned is None or not _computable(unsigned):
            return
        theirs = routes.seen(request)
        if not routes.is_of(theirs, known.request, unsigned):
            return
        for learnt in (self._ways, self._lessons):
            if len(learnt) >= _ROUTES:  # the one that was learnt first is learnt once more
                learnt.pop(next(iter(learnt)), None)
        self._ways.pop(key, None)  # another region: the way up to now was the wrong one
        route = routes.route_of(theirs, unsigned)
        if route is not None and await self._is_same(route, known, unsigned, theirs):
            self._ways[key] = _Way(known, route, transport)
            self._lessons.pop(key, None)
        else:
            self._lessons[key] = self._lessons.get(key, 0) + 1

    async def _is_same(
        self,
        route: routes.Route,
        known: _Known,
        unsigned: building.Unsigned,
        theirs: routes.Seen,
    ) -> bool:
        mine = routes.sealed(
            route,
            known.request,
            unsigned,
            routes.vouching_as(theirs, await _sha256(unsigned), await _checksum(unsigned)),
            timestamp=theirs.headers.get("x-amz-date", ""),
            invocation=theirs.headers.get("amz-sdk-invocation-id", ""),
            keys=await self._keys(),
        )
        return routes.same(mine, theirs)


def _new_id() -> str:
    """A random UUID (version 4): uuid's own takes several times as long."""
    made = urandom(16).hex()
    variant = "89ab"[int(made[16], 16) & 3]
    return f"{made[:8]}-{made[8:12]}-4{made[13:16]}-{variant}{made[17:20]}-{made[20:]}"


def _ordinary(client: Any) -> bool:
    """True for S3 by ways that are learnt here: not by those of their own hosts."""
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
    """The parameters as botocore knows them."""
    body = parameters.get("Body")
    return {**parameters, "Body": body.data} if type(body) is Payload else parameters


def _computable(unsigned: building.Unsigned) -> bool:
    return unsigned.algorithm is None or checksums.known(unsigned.algorithm)


async def _checksum(unsigned: building.Unsigned) -> dict[str, str]:
    """The header with the checksum that a body still lacks."""
    algorithm = unsigned.algorithm
    if algorithm is None:
        return {}
    made = await computed(partial(checksums.checksum, algorithm), unsigned.body)
    return {f"x-amz-checksum-{algorithm}": made}


async def _sha256(unsigned: building.Unsigned) -> str:
    if not unsigned.body:
        return EMPTY_SHA256
    if unsigned.payload is not None:
        return await unsigned.payload.sha256()
    return await computed(hexdigest, unsigned.body)


async def _in_steps(steps: Generator[None, None, T]) -> T:
    """Run these with a turn for the event loop between each two."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            made: T = done.value
            return made
        await asyncio.sleep(0)
