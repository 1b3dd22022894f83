"""Sends every AWS request, with retries."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from functools import lru_cache, partial
from typing import Any, Literal, TypeVar, cast, overload
from urllib.parse import urlsplit

import anyio

from aiohaul.aws import answers
from aiohaul.aws.adaptive_limiter import AdaptiveLimiter
from aiohaul.aws.backend import Backend
from aiohaul.aws.endpoint_support import EndpointSupport
from aiohaul.aws.errors import translated
from aiohaul.aws.hosts import is_aws, is_loopback
from aiohaul.aws.http.observers import SendObserver, observing_send, stale_detection
from aiohaul.aws.http.payload import Bytes
from aiohaul.aws.redaction import redacted_messages
from aiohaul.aws.retry import ATTEMPTS, EXPIRED, backoff_delay, is_safe_to_resend
from aiohaul.concurrency import yield_if_busy
from aiohaul.errors import EndpointError, ServiceError, ThrottledError, UnreachableError
from aiohaul.telemetry.requests import record_failed_attempt, trace_request

T = TypeVar("T")
#: A function that sends a request once.
Send = Callable[[SendObserver], Awaitable[dict[str, Any]]]

_log = logging.getLogger(__name__)

#: The status of S3's response to expired credentials.
_BAD_REQUEST = 400


class Service:
    """Sends the requests to one AWS service with one set of credentials.

    :meth:`aiohaul.aws.clients.Clients.service` creates Services. All Services of an endpoint share
    a limiter. A request that is throttled, or has a response with status 5xx or no response, is
    retried, with at most five attempts. botocore's own retries are disabled, because all requests
    of a client share a retry quota, which a burst of throttling uses up.
    """

    def __init__(
        self,
        backend: Backend,
        limiter: AdaptiveLimiter,
        check: Callable[[], None],
        identity: object = None,
        *,
        support: EndpointSupport | None = None,
    ) -> None:
        #: The observed features of the endpoint.
        self.support = support if support is not None else EndpointSupport()
        self._backend = backend
        self._name = backend.service
        #: a strong reference, so that the identity lives as long as its Services
        self._identity = identity
        self._limiter = limiter
        self._check = check

    @property
    def endpoint(self) -> str:
        """The identity of the store: ``aws``, or the scheme, host and port of another server.

        Two Services with the same value read and write the same objects.
        """
        url = urlsplit(self._backend.endpoint_url)
        host = url.hostname or ""
        if is_aws(host):
            return "aws"
        if host in ("localhost", "::1") or host.startswith("127."):
            host = "this machine"
        return f"{url.scheme}://{host}:{url.port or ''}"

    @property
    def has_credentials(self) -> bool:
        """False if no credentials were found, so that every request fails."""
        return self._backend.has_credentials

    @property
    def url(self) -> str:
        """The URL of the endpoint."""
        return self._backend.endpoint_url

    @property
    def region(self) -> str:
        """The region for which requests are signed."""
        return self._backend.region

    def takes_fast_path(self, operation: str, bucket: str) -> bool:
        """Return True if requests of this operation to this bucket bypass botocore now."""
        return self._backend.has_route(operation, bucket)

    @property
    def is_local(self) -> bool:
        """True if the endpoint is on this machine."""
        return is_loopback(urlsplit(self.url).hostname or "")

    @property
    def is_aws(self) -> bool:
        """True if the endpoint is AWS itself, which enforces every condition of a request."""
        return self.endpoint == "aws"

    @property
    def is_tls(self) -> bool:
        """True if the connection is encrypted."""
        return self._backend.endpoint_url.startswith("https:")

    @property
    def sends_checksums(self) -> bool:
        """True if every body is sent with a checksum; False if only required checksums are sent.

        ``AWS_REQUEST_CHECKSUM_CALCULATION=when_required`` sets this to False in botocore.
        """
        return self._backend.sends_checksums

    @overload
    async def call(
        self, operation: Literal["head_object"], target: str, /, **parameters: object
    ) -> answers.ObjectInfo: ...
    @overload
    async def call(
        self,
        operation: Literal["put_object", "upload_part", "complete_multipart_upload"],
        target: str,
        /,
        **parameters: object,
    ) -> answers.WrittenObject: ...
    @overload
    async def call(
        self, operation: Literal["copy_object"], target: str, /, **parameters: object
    ) -> answers.CopiedObject: ...
    @overload
    async def call(
        self, operation: Literal["upload_part_copy"], target: str, /, **parameters: object
    ) -> answers.CopiedPart: ...
    @overload
    async def call(
        self, operation: Literal["create_multipart_upload"], target: str, /, **parameters: object
    ) -> answers.CreatedUpload: ...
    @overload
    async def call(
        self, operation: Literal["list_objects_v2"], target: str, /, **parameters: object
    ) -> answers.ObjectPage: ...
    @overload
    async def call(
        self, operation: Literal["list_parts"], target: str, /, **parameters: object
    ) -> answers.PartPage: ...
    @overload
    async def call(
        self, operation: Literal["list_multipart_uploads"], target: str, /, **parameters: object
    ) -> answers.UploadPage: ...
    @overload
    async def call(
        self, operation: Literal["delete_objects"], target: str, /, **parameters: object
    ) -> answers.DeletedObjects: ...
    @overload
    async def call(
        self, operation: Literal["get_object_tagging"], target: str, /, **parameters: object
    ) -> answers.ObjectTags: ...
    @overload
    async def call(
        self, operation: Literal["get_durable_execution"], target: str, /, **parameters: object
    ) -> answers.DurableExecutionState: ...
    @overload
    async def call(
        self, operation: Literal["get_log_events"], target: str, /, **parameters: object
    ) -> answers.LogPage: ...
    @overload
    async def call(
        self, operation: Literal["filter_log_events"], target: str, /, **parameters: object
    ) -> answers.FilteredLogPage: ...
    @overload
    async def call(
        self, operation: Literal["receive_message"], target: str, /, **parameters: object
    ) -> answers.Messages: ...
    @overload
    async def call(
        self, operation: Literal["delete_message_batch"], target: str, /, **parameters: object
    ) -> answers.DeletedMessages: ...
    @overload
    async def call(
        self, operation: Literal["get_parameters"], target: str, /, **parameters: object
    ) -> answers.Parameters: ...
    @overload
    async def call(
        self, operation: Literal["get_parameters_by_path"], target: str, /, **parameters: object
    ) -> answers.ParameterPage: ...
    @overload
    async def call(
        self,
        operation: Literal["create_secret", "put_secret_value"],
        target: str,
        /,
        **parameters: object,
    ) -> answers.SecretVersion: ...
    @overload
    async def call(
        self, operation: Literal["get_secret_value"], target: str, /, **parameters: object
    ) -> answers.SecretContent: ...
    @overload
    async def call(
        self, operation: Literal["describe_tasks"], target: str, /, **parameters: object
    ) -> answers.Tasks: ...
    @overload
    async def call(
        self, operation: Literal["list_tasks"], target: str, /, **parameters: object
    ) -> answers.TaskArns: ...
    @overload
    async def call(
        self, operation: Literal["describe_task_definition"], target: str, /, **parameters: object
    ) -> answers.DescribedTaskDefinition: ...
    @overload
    async def call(self, operation: str, target: str, /, **parameters: Any) -> Any: ...
    async def call(self, operation: str, target: str, /, **parameters: Any) -> Any:
        """Send a request when the limiter allows it, with retries, and return the response.

        Args:
            operation: the method of the client, such as ``copy_object``.
            target: the object, bucket or resource, for error messages.
            parameters: the parameters of the operation.

        Returns:
            The response, as botocore parses it.

        Raises:
            ServiceError: the request failed.
            SettingsError: credentials or region are missing.
            SessionError: the Session is closed.
        """
        once = partial(self._send, operation, target, parameters)
        return await self._with_retries(once)

    @overload
    async def call_once(
        self, operation: Literal["put_parameter"], target: str, /, **parameters: object
    ) -> answers.WrittenParameter: ...
    @overload
    async def call_once(self, operation: str, target: str, /, **parameters: Any) -> Any: ...
    async def call_once(self, operation: str, target: str, /, **parameters: Any) -> Any:
        """Send a request as :meth:`call` does, for operations that must not be carried out twice.

        The request is retried only if it certainly had no effect: no connection was made, or the
        service throttled it.

        Raises:
            ServiceError: the request failed. After an EndpointError, AWS may have carried it out.
            SettingsError: credentials or region are missing.
            SessionError: the Session is closed.
        """
        once = partial(self._send, operation, target, parameters)
        return await self._with_retries(once, (UnreachableError, ThrottledError))

    async def call_through(
        self,
        attempt: Callable[[Send], Awaitable[T]],
        operation: str,
        target: str,
        /,
        **parameters: Any,
    ) -> T:
        """Send a request as :meth:`call` does, but call ``attempt`` for each attempt.

        For a request whose response must not be lost. ``attempt`` can shield the request from
        cancellation, without shielding the wait for the limiter and the delays between attempts.

        Args:
            attempt: called with a function that sends the request once; returns the result.
            operation: the method of the client, such as ``run_task``.
            target: the object, bucket or resource, for error messages.
            parameters: the parameters of the operation.

        Raises:
            ServiceError: the request failed.
            SettingsError: credentials or region are missing.
            SessionError: the Session is closed.
        """

        async def send(number: int, observer: SendObserver) -> dict[str, Any]:
            return await self._send(operation, target, parameters, number, observer)

        return await self._with_retries(lambda number: attempt(partial(send, number)))

    async def attempt(self, operation: str, target: str, /, **parameters: Any) -> dict[str, Any]:
        """Send a request as :meth:`call` does, but without retries.

        Raises:
            ServiceError: the request failed.
            SettingsError: credentials or region are missing.
            SessionError: the Session is closed.
        """
        self._check()
        async with self._limiter.slot():
            return await self._send(operation, target, parameters)

    async def read(
        self, target: str, max_size: int | None = None, /, **parameters: object
    ) -> tuple[Bytes, answers.ObjectInfo]:
        """Read an object or a range of it (S3 GetObject), with retries.

        An incomplete body is retried like a request without a response. This method reads the whole
        body, because an unread body would occupy its connection.

        Args:
            target: the object, for error messages.
            max_size: the maximum size in bytes. A longer body is refused unread. None is the size
                of the range, or no maximum.
            parameters: the parameters of the operation.

        Returns:
            The bytes, and the response without the body.

        Raises:
            ServiceError: the request failed.
            SettingsError: credentials or region are missing.
            SessionError: the Session is closed.
        """

        async def send(number: int) -> tuple[Bytes, answers.ObjectInfo]:
            with (
                trace_request(self._name, "GetObject", target, parameters, number) as traced,
                translated("GetObject", target),
            ):
                body, answer = await self._backend.read(parameters, max_size)
                return traced((body, cast("answers.ObjectInfo", answer)))

        async def once(number: int) -> tuple[Bytes, answers.ObjectInfo]:
            return await self._send_safely(partial(send, number), resend=True)

        return await self._with_retries(once)

    async def invoke(
        self,
        target: str,
        payload: bytes,
        /,
        *,
        read_timeout: float,
        observer: SendObserver,
        attempt: int = 1,
        secret: bool = False,
        **parameters: Any,
    ) -> tuple[bytes, answers.Invoked]:
        """Call a function (Lambda Invoke), without retries.

        Args:
            target: the function, for error messages.
            payload: the payload.
            read_timeout: the seconds without received bytes after which the request times out.
            observer: called with False while the request cannot have reached Lambda, else True.
            attempt: the number of this attempt, for the log.
            secret: True omits the message of the service in errors, because it may repeat the
                payload.
            parameters: the other parameters of the operation.

        Returns:
            The payload of the response, and the rest of the response.

        Raises:
            ServiceError: the request failed; UnreachableError if nothing was sent.
            SessionError: the Session is closed.
        """

        async def send() -> tuple[bytes, answers.Invoked]:
            with (
                redacted_messages("Invoke") if secret else nullcontext(),
                trace_request(self._name, "Invoke", target, {}, attempt) as traced,
                translated("Invoke", target),
                observing_send(observer),
            ):
                body, answer = await self._backend.invoke(payload, read_timeout, parameters)
                return traced((body, cast("answers.Invoked", answer)))

        self._check()
        async with self._limiter.slot():
            return await self._send_safely(send, observer)

    async def _send(
        self,
        operation: str,
        target: str,
        parameters: Mapping[str, Any],
        number: int = 1,
        observer: SendObserver | None = None,
    ) -> dict[str, Any]:
        once = partial(self._attempt, operation, target, parameters, number, observer)
        resend = observer is None and is_safe_to_resend(operation, parameters)
        return await self._send_safely(once, observer, resend=resend)

    async def _attempt(
        self,
        operation: str,
        target: str,
        parameters: Mapping[str, Any],
        number: int,
        observer: SendObserver | None,
    ) -> dict[str, Any]:
        name = _api_name(operation)
        with (
            trace_request(self._name, name, target, parameters, number) as traced,
            translated(name, target),
        ):
            if observer is None:
                return traced(await self._backend.call(operation, parameters))
            with observing_send(observer):
                return traced(await self._backend.call(operation, parameters))

    async def _send_safely(
        self,
        send: Callable[[], Awaitable[T]],
        observer: SendObserver | None = None,
        *,
        resend: bool = False,
    ) -> T:
        """Send a request, and send it again if credentials expired or an idle connection was dead.

        Args:
            send: sends the request.
            observer: called with False while the request cannot have reached the service.
            resend: True sends the request again after a failure on a dead idle connection. This is
                not another attempt, because many connections may be dead at the same time.
        """
        again = partial(_send_or_resend, send) if resend else send
        return await self._with_credential_refresh(again, observer)

    async def _with_credential_refresh(
        self, send: Callable[[], Awaitable[T]], observer: SendObserver | None = None
    ) -> T:
        """Send a request, and again with renewed credentials if they were refused as expired."""
        keys = self._backend.renewal.current
        try:
            return await send()
        except ServiceError as error:
            if not _expired(error):
                raise
            refusal = error
        if observer is not None:
            observer(reached=False)  # a request with expired credentials had no effect
        if not await self._backend.renewal.renew(keys):
            raise refusal
        _log.info("renewed the credentials, sending the request again: %s", refusal.problem)
        return await send()

    async def _with_retries(
        self,
        once: Callable[[int], Awaitable[T]],
        retry_on: tuple[type[ServiceError], ...] = (ServiceError,),
    ) -> T:
        """Send a request until it succeeds, fails with a final error, or has had five attempts."""
        for attempt in itertools.count(1):
            await yield_if_busy()
            self._check()
            sent_at = 0.0
            try:
                async with self._limiter.slot() as sent_at:
                    answer = await once(attempt)
            except ServiceError as error:
                error.attempts = attempt
                if isinstance(error, ThrottledError):
                    self._limiter.on_throttled(sent_at)
                retry = error.retryable and isinstance(error, retry_on)
                if not retry or attempt >= ATTEMPTS:
                    record_failed_attempt(self._name, error, None)
                    raise
                delay = backoff_delay(attempt + 1, error.retry_after)
                record_failed_attempt(self._name, error, delay)
            else:
                self._limiter.on_success()
                return answer
            await anyio.sleep(delay)
        raise AssertionError  # pragma: no cover  # the loop returns or raises


async def _send_or_resend(send: Callable[[], Awaitable[T]]) -> T:
    """Send a request, and send it again at once if its idle connection was dead."""
    with stale_detection() as detection:
        try:
            return await send()
        except EndpointError as error:
            if not detection.stale:
                raise
            _log.debug("sending the request again on a new connection: %s", error)
    return await send()


def _expired(error: ServiceError) -> bool:
    """Return True if the credentials may have been refused as expired.

    The response to HeadObject has no error code, only the status 400.
    """
    return error.code in EXPIRED or (error.operation, error.status) == ("HeadObject", _BAD_REQUEST)


@lru_cache(maxsize=256)
def _api_name(operation: str) -> str:
    """Return the AWS name of an operation, such as ``CopyObject`` for ``copy_object``."""
    return "".join(word.capitalize() for word in operation.split("_"))
