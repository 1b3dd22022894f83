"""Records every attempt of a request to AWS, with a log line, a span and metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TypeVar

from aiohaul.errors import ServiceError, ThrottledError
from aiohaul.logs import REQUESTS, log_event
from aiohaul.telemetry.otel import (
    ProviderState,
    mark_failed,
    meters,
    request_span,
    service_name,
)

if TYPE_CHECKING:
    from opentelemetry.trace import Span

T = TypeVar("T")

#: The parameters of requests that a span contains, with the names of OpenTelemetry's attributes.
_SPAN_PARAMETERS = {
    "Bucket": "aws.s3.bucket",
    "Key": "aws.s3.key",
    "UploadId": "aws.s3.upload_id",
    "PartNumber": "aws.s3.part_number",
}


class Request(Protocol):
    """A context manager around one attempt of a request.

    The context yields a function. Call the function with the response, which it returns unchanged.
    """

    def __enter__(self) -> Callable[[T], T]: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...


class _NoopRequest:
    """Records nothing about a request."""

    __slots__ = ()

    def __enter__(self) -> Callable[[T], T]:
        return _unchanged

    def __exit__(self, *_: object) -> None:
        pass


def _unchanged(response: T) -> T:
    return response


_NOOP_REQUEST = _NoopRequest()


def trace_request(
    service: str, operation: str, target: str, parameters: Mapping[str, object], attempt: int = 1
) -> Request:
    """Trace one attempt of a request to AWS.

    Does nothing if the application has set no provider of OpenTelemetry and does not log DEBUG
    lines of ``aiohaul.requests``.

    Args:
        service: the name of the service in botocore, such as ``s3``.
        operation: the operation, such as ``CopyObject``.
        target: the target of the request, as error messages name it, such as ``s3://bucket/key``.
        parameters: the parameters of the operation. The span contains bucket, key, copy source,
            upload id and part number.
        attempt: the number of the attempt, from 1.

    Returns:
        A context manager for the attempt.
    """
    if not ProviderState.is_set and not REQUESTS.isEnabledFor(logging.DEBUG):
        return _NOOP_REQUEST
    return _TracedRequest(service, operation, target, parameters, attempt)


class _TracedRequest:
    """Writes a log line for a request, and a span and metrics if a provider is set."""

    __slots__ = ("_attempt", "_operation", "_service", "_span", "_started_at", "_status", "_target")

    def __init__(
        self,
        service: str,
        operation: str,
        target: str,
        parameters: Mapping[str, object],
        attempt: int,
    ) -> None:
        # Checked once, because the application may set a provider during the request.
        self._service = service
        self._operation = operation
        self._target = target
        self._attempt = attempt
        self._status: int | None = None
        self._span: Span | None = None
        if ProviderState.is_set:
            name = f"{service_name(service)}.{operation}"
            self._span = request_span(name, self._attributes(parameters))
        self._started_at = time.perf_counter()

    def _attributes(self, parameters: Mapping[str, object]) -> dict[str, str | int | float]:
        attributes: dict[str, str | int | float] = {
            "rpc.system": "aws-api",
            "rpc.service": service_name(self._service),
            "rpc.method": self._operation,
            "aiohaul.attempt": self._attempt,
        }
        for parameter, attribute in _SPAN_PARAMETERS.items():
            value = parameters.get(parameter)
            if isinstance(value, str | int):
                attributes[attribute] = value
        copy_source = parameters.get("CopySource")
        if isinstance(copy_source, Mapping):
            bucket, key = copy_source.get("Bucket"), copy_source.get("Key")
            attributes["aws.s3.copy_source"] = f"{bucket}/{key}"
        if self._service != "s3":
            attributes["aiohaul.target"] = self._target
        return attributes

    def __enter__(self) -> Callable[[T], T]:
        return self._record_response

    def _record_response(self, response: T) -> T:
        values = response[-1] if isinstance(response, tuple) else response
        metadata = values.get("ResponseMetadata", {}) if isinstance(values, Mapping) else {}
        self._status = metadata.get("HTTPStatusCode")
        if self._span is not None and metadata.get("RequestId"):
            self._span.set_attribute("aws.request_id", metadata["RequestId"])
        return response

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        seconds = time.perf_counter() - self._started_at
        problem = None
        if isinstance(error, ServiceError):
            problem, self._status = error.code, error.status
        elif error is not None:
            problem = type(error).__name__
        if self._span is not None:
            self._end(self._span, seconds, problem)
        log_event(
            REQUESTS,
            logging.DEBUG,
            "%s on %s: %s, attempt %d, %.3f s",
            self._operation,
            self._target,
            problem or self._status,
            self._attempt,
            seconds,
            operation=self._operation,
            target=self._target,
            attempt=self._attempt,
            seconds=round(seconds, 6),
            status=self._status,
            error=problem,
        )

    def _end(self, span: Span, seconds: float, problem: str | None) -> None:
        attributes: dict[str, str | int | float] = {
            "rpc.service": service_name(self._service),
            "rpc.method": self._operation,
        }
        if self._status is not None:
            attributes["http.response.status_code"] = self._status
            span.set_attribute("http.response.status_code", self._status)
        if problem is not None:
            attributes["error.type"] = problem
            mark_failed(span, problem)
        span.end()
        meters().requests.add(1, attributes)
        meters().duration.record(seconds, attributes)


def record_failed_attempt(service: str, error: ServiceError, pause: float | None) -> None:
    """Count an attempt that failed, and log the retry if one follows.

    Args:
        service: the name of the service in botocore, such as ``s3``.
        error: the error of the attempt.
        pause: seconds until the next attempt; None if no attempt follows.
    """
    if ProviderState.is_set:
        attributes = {"rpc.service": service_name(service), "rpc.method": error.operation}
        if isinstance(error, ThrottledError):
            meters().throttles.add(1, attributes)
        if pause is not None:
            meters().retries.add(1, {**attributes, "error.type": error.code})
    if pause is not None:
        log_event(
            REQUESTS,
            logging.INFO,
            "%s; attempt %d follows in %.1f s",
            error,
            error.attempts + 1,
            pause,
            operation=error.operation,
            target=error.target,
            attempt=error.attempts + 1,
            pause=round(pause, 3),
            status=error.status,
            error=error.code,
        )
