"""Service: the one door through which requests go."""

from __future__ import annotations

import io
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from functools import lru_cache, partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import anyio

from aiohaul.aws.connecting import Note, noting
from aiohaul.aws.credentials import Renewal, is_aws
from aiohaul.aws.direct.payload import Bytes
from aiohaul.aws.direct.wire import Wire
from aiohaul.aws.errors import translated
from aiohaul.aws.pace import Pace
from aiohaul.aws.retry import ATTEMPTS, EXPIRED, pause_before
from aiohaul.aws.secrecy import quiet, without_words
from aiohaul.concurrency import give_way
from aiohaul.errors import ServiceError, ThrottledError, UnreachableError
from aiohaul.telemetry.requests import failed_attempt, request

T = TypeVar("T")
#: Sends one request, once.
Send = Callable[[Note], Awaitable[dict[str, Any]]]

_log = logging.getLogger(__name__)

#: The status of S3's answers to what is expired.
_BAD_REQUEST = 400
#: Bytes of a payload that are written without giving the event loop a turn.
_ONE_GO = 2**20
#: A parameter of no operation: it is taken out again before the request is built.
_READ_TIMEOUT_PARAMETER = "AiohaulReadTimeout"


class Service:
    """One AWS service as one identity sees it.

    Made by :meth:`aiohaul.aws.clients.Clients.service`. Requests of all identities share the
    pace of their endpoint. A request that was throttled, answered with 5xx or not answered is sent
    again, up to five times in all. That is decided here: botocore's own retries share a quota
    for each client, which a burst of throttling uses up for everybody.
    """

    def __init__(
        self,
        client: Any,
        pace: Pace,
        check: Callable[[], None],
        credentials: Any = None,
        identity: object = None,
        *,
        direct: bool = True,
    ) -> None:
        self._client = client
        #: kept as long as this is
        self._identity = identity
        self._name: str = client.meta.service_model.service_name
        self._wire = Wire(client, credentials if direct else None)
        self._renewal = Renewal(credentials)
        self._pace = pace
        self._check = check
        client.meta.events.register("provide-client-params.lambda.Invoke", _move_read_timeout)

    @property
    def endpoint(self) -> str:
        """What tells one store of objects from another: ``aws``, or the endpoint of a server."""
        url = urlsplit(self._client.meta.endpoint_url)
        host = url.hostname or ""
        if is_aws(host):
            return "aws"
        if host in ("localhost", "::1") or host.startswith("127."):
            host = "this machine"
        return f"{url.scheme}://{host}:{url.port or ''}"

    @property
    def is_aws(self) -> bool:
        """True for AWS itself, which enforces every condition that a request carries."""
        return self.endpoint == "aws"

    @property
    def is_tls(self) -> bool:
        """True if what is sent and read is encrypted."""
        return str(self._client.meta.endpoint_url).startswith("https:")

    @property
    def sends_checksums(self) -> bool:
        """False where the user wants no checksums but those that an operation demands.

        That is botocore's own setting: ``AWS_REQUEST_CHECKSUM_CALCULATION=when_required``.
        """
        told = self._client.meta.config.request_checksum_calculation
        return bool(told != "when_required")

    async def call(self, operation: str, target: str, /, **parameters: Any) -> dict[str, Any]:
        """Send one request when a slot is free, and return botocore's parsed answer.

        Args:
            operation: the method's name in snake case, such as ``copy_object``.
            target: what it is for, as error messages name it.
            parameters: the operation's own.

        Raises:
            ServiceError: or one of its kinds.
            SettingsError: there is no way to send it.
            SessionError: the Session has ended.
        """
        once = partial(self._send, operation, target, parameters)
        return await self._again_and_again(once)

    async def call_once(self, operation: str, target: str, /, **parameters: Any) -> dict[str, Any]:
        """Like :meth:`call`, for what must not be done twice.

        It is sent again only where it provably did nothing: no connection, or throttled.

        Raises:
            ServiceError: or one of its kinds; after an EndpointError it may have been done.
            SettingsError: there is no way to send it.
            SessionError: the Session has ended.
        """
        once = partial(self._send, operation, target, parameters)
        return await self._again_and_again(once, (UnreachableError, ThrottledError))

    async def call_through(
        self,
        attempt: Callable[[Send], Awaitable[T]],
        operation: str,
        target: str,
        /,
        **parameters: Any,
    ) -> T:
        """Like :meth:`call`, each attempt made by ``attempt``, once a slot is free.

        For a request whose answer must not be lost: who awaits it to its end, even if cancelled,
        must not await the wait for a slot and the pauses between two attempts as well.

        Args:
            attempt: is given what sends the request; what it returns is returned.
            operation: as for :meth:`call`.
            target: as for :meth:`call`.
            parameters: the operation's own.

        Raises:
            ServiceError: or one of its kinds.
            SettingsError: there is no way to send it.
            SessionError: the Session has ended.
        """

        async def send(number: int, note: Note) -> dict[str, Any]:
            return await self._send(operation, target, parameters, number, note)

        return await self._again_and_again(lambda number: attempt(partial(send, number)))

    async def attempt(self, operation: str, target: str, /, **parameters: Any) -> dict[str, Any]:
        """Like :meth:`call`, but sent only once: the caller decides what is sent again.

        Raises:
            ServiceError: or one of its kinds.
            SettingsError: there is no way to send it.
            SessionError: the Session has ended.
        """
        self._check()
        async with self._pace.slot():
            return await self._send(operation, target, parameters)

    async def read(self, target: str, /, **parameters: Any) -> tuple[Bytes, dict[str, Any]]:
        """Get an object or a range of it (S3 GetObject): its bytes, and the rest of the answer.

        A body that breaks off is asked for again, as a request without an answer is. The raw
        body never leaves this method: one that is not read to its end keeps its connection.

        Raises:
            ServiceError: or one of its kinds.
            SettingsError: there is no way to send it.
            SessionError: the Session has ended.
        """

        async def send(number: int) -> tuple[Bytes, dict[str, Any]]:
            with (
                request(self._name, "GetObject", target, parameters, number) as told,
                translated("GetObject", target),
            ):
                return told(await self._wire.read(parameters))

        async def once(number: int) -> tuple[Bytes, dict[str, Any]]:
            return await self._renewing(partial(send, number))

        return await self._again_and_again(once)

    async def invoke(
        self,
        target: str,
        payload: bytes,
        /,
        *,
        read_timeout: float,
        note: Note,
        attempt: int = 1,
        secret: bool = False,
        **parameters: Any,
    ) -> tuple[bytes, dict[str, Any]]:
        """Call a function once (Lambda Invoke): its payload's bytes, and the rest of the answer.

        Args:
            target: the function, as error messages name it.
            payload: what is sent to it.
            read_timeout: seconds of silence on the connection before it is given up.
            note: told whether the function may have been reached.
            attempt: how often it is sent with this, for the log.
            secret: no error may repeat what is answered: that may repeat the payload.
            parameters: the operation's own.

        Raises:
            ServiceError: or one of its kinds; UnreachableError if nothing was sent.
        """

        async def send() -> tuple[bytes, dict[str, Any]]:
            with (
                without_words("Invoke") if secret else nullcontext(),
                request(self._name, "Invoke", target, {}, attempt) as told,
                translated("Invoke", target),
                noting(note),
                quiet(),
            ):
                parameters[_READ_TIMEOUT_PARAMETER] = read_timeout
                # aiohttp writes bytes in one go, and warns of many; a file it writes piece by piece
                body: Any = io.BytesIO(payload) if len(payload) > _ONE_GO else payload
                answer: dict[str, Any] = await self._client.invoke(Payload=body, **parameters)
                async with answer.pop("Payload") as stream:
                    return told((await stream.read(), answer))

        self._check()
        async with self._pace.slot():
            return await self._renewing(send, note)

    async def _send(
        self,
        operation: str,
        target: str,
        parameters: Mapping[str, Any],
        number: int = 1,
        note: Note | None = None,
    ) -> dict[str, Any]:
        once = partial(self._sent, operation, target, parameters, number, note)
        return await self._renewing(once, note)

    async def _sent(
        self,
        operation: str,
        target: str,
        parameters: Mapping[str, Any],
        number: int,
        note: Note | None,
    ) -> dict[str, Any]:
        name = _api_name(operation)
        with (
            request(self._name, name, target, parameters, number) as told,
            translated(name, target),
        ):
            if note is None:
                return told(await self._wire.call(operation, parameters))
            with noting(note):
                return told(await self._wire.call(operation, parameters))

    async def _renewing(self, send: Callable[[], Awaitable[T]], note: Note | None = None) -> T:
        """Send a request; once more, with new credentials, if these are refused as expired."""
        used = self._renewal.current
        try:
            return await send()
        except ServiceError as error:
            if not _expired(error):
                raise
            refusal = error
        if note is not None:
            note(reached=False)  # what is refused for this has done nothing yet
        if not await self._renewal.renew(used):
            raise refusal
        _log.info("%s; the credentials were renewed, and it is sent again", refusal.problem)
        return await send()

    async def _again_and_again(
        self,
        once: Callable[[int], Awaitable[T]],
        after: tuple[type[ServiceError], ...] = (ServiceError,),
    ) -> T:
        """Send a request until there is an answer that another attempt would not change."""
        for attempt in itertools.count(1):
            await give_way()
            self._check()
            sent = 0.0
            try:
                async with self._pace.slot() as sent:
                    answer = await once(attempt)
            except ServiceError as error:
                error.attempts = attempt
                if isinstance(error, ThrottledError):
                    self._pace.throttled(sent)
                again = error.retryable and isinstance(error, after)
                if not again or attempt >= ATTEMPTS:
                    failed_attempt(self._name, error, None)
                    raise
                pause = pause_before(attempt + 1, error.retry_after)
                failed_attempt(self._name, error, pause)
            else:
                self._pace.went_well()
                return answer
            await anyio.sleep(pause)
        raise AssertionError  # pragma: no cover  # the loop returns or raises


def _expired(error: ServiceError) -> bool:
    """True if the credentials are refused as expired; a HEAD has no body that would say so."""
    return error.code in EXPIRED or (error.operation, error.status) == ("HeadObject", _BAD_REQUEST)


def _move_read_timeout(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    """Move a request's own read timeout to where aiobotocore looks for it."""
    if _READ_TIMEOUT_PARAMETER in params:
        context["read_timeout"] = params.pop(_READ_TIMEOUT_PARAMETER)


@lru_cache(maxsize=256)
def _api_name(operation: str) -> str:
    """``copy_object`` -> ``CopyObject``."""
    return "".join(word.capitalize() for word in operation.split("_"))
