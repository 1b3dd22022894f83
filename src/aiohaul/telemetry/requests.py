"""Every attempt of a request to AWS, told of."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol, TypeVar

from aiohaul.errors import ServiceError, ThrottledError
from aiohaul.logs import REQUESTS, say
from aiohaul.telemetry.otel import (
    Attributes,
    Seen,
    failed,
    meters,
    request_span,
    service_name,
)

T = TypeVar("T")

#: Parameters of requests that are told of, under the names that OpenTelemetry has for them.
_TOLD = {
    "Bucket": "aws.s3.bucket",
    "Key": "aws.s3.key",
    "UploadId": "aws.s3.upload_id",
    "PartNumber": "aws.s3.part_number",
}


class Request(Protocol):
    """A request that is under way. A context manager, and called with the answer."""

    def __enter__(self) -> Callable[[T], T]: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...


class _Untold:
    """A request that nobody wants to hear of."""

    __slots__ = ()

    def __enter__(self) -> Callable[[T], T]:
        return _as_it_is

    def __exit__(self, *_: object) -> None:
        pass


def _as_it_is(answer: T) -> T:
    return answer


_UNTOLD = _Untold()


def request(
    service: str, operation: str, target: str, parameters: Attributes, attempt: int = 1
) -> Request:
    """Tell of one attempt of a request to AWS.

    Args:
        service: such as ``s3``.
        operation: such as ``CopyObject``.
        target: what it is for, as errors name it.
        parameters: the operation's own. Of these only bucket, key, upload and part are told.
        attempt: 1 for the first one.
    """
    if not Seen.provider and not REQUESTS.isEnabledFor(logging.DEBUG):
        return _UNTOLD
    return _Told(service, operation, target, parameters, attempt)


class _Told:
    """A request that is told of."""

    __slots__ = ("_attempt", "_begun", "_operation", "_service", "_span", "_status", "_target")

    def __init__(
        self, service: str, operation: str, target: str, parameters: Attributes, attempt: int
    ) -> None:
        # Whether spans are made is decided once: a provider may be set in the middle of a request.
        self._service = service
        self._operation = operation
        self._target = target
        self._attempt = attempt
        self._status: int | None = None
        self._span: Any = None
        if Seen.provider:
            name = f"{service_name(service)}.{operation}"
            self._span = request_span(name, self._attributes(parameters))
        self._begun = time.perf_counter()

    def _attributes(self, parameters: Attributes) -> dict[str, Any]:
        made = {
            "rpc.system": "aws-api",
            "rpc.service": service_name(self._service),
            "rpc.method": self._operation,
            "aiohaul.attempt": self._attempt,
        }
        for name, known in _TOLD.items():
            value = parameters.get(name)
            if isinstance(value, str | int):
                made[known] = value
        copied = parameters.get("CopySource")
        if isinstance(copied, Mapping):
            made["aws.s3.copy_source"] = f"{copied.get('Bucket')}/{copied.get('Key')}"
        if self._service != "s3":
            made["aiohaul.target"] = self._target
        return made

    def __enter__(self) -> Callable[[T], T]:
        return self._answered

    def _answered(self, answer: T) -> T:
        told = answer[-1] if isinstance(answer, tuple) else answer
        metadata = told.get("ResponseMetadata", {}) if isinstance(told, Mapping) else {}
        self._status = metadata.get("HTTPStatusCode")
        if self._span is not None and metadata.get("RequestId"):
            self._span.set_attribute("aws.request_id", metadata["RequestId"])
        return answer

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        seconds = time.perf_counter() - self._begun
        problem = None
        if isinstance(error, ServiceError):
            problem, self._status = error.code, error.status
        elif error is not None:
            problem = type(error).__name__
        if self._span is not None:
            self._end(seconds, problem)
        say(
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

    def _end(self, seconds: float, problem: str | None) -> None:
        told: dict[str, Any] = {
            "rpc.service": service_name(self._service),
            "rpc.method": self._operation,
        }
        if self._status is not None:
            told["http.response.status_code"] = self._status
            self._span.set_attribute("http.response.status_code", self._status)
        if problem is not None:
            told["error.type"] = problem
            failed(self._span, problem)
        self._span.end()
        meters().requests.add(1, told)
        meters().duration.record(seconds, told)


def failed_attempt(service: str, error: ServiceError, pause: float | None) -> None:
    """Tell of an attempt that failed.

    Args:
        service: such as ``s3``.
        error: how.
        pause: seconds until the next attempt; None if there is none.
    """
    if Seen.provider:
        told = {"rpc.service": service_name(service), "rpc.method": error.operation}
        if isinstance(error, ThrottledError):
            meters().throttles.add(1, told)
        if pause is not None:
            meters().retries.add(1, {**told, "error.type": error.code})
    if pause is not None:
        say(
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
