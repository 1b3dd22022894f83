"""Returns OpenTelemetry's tracer and instruments, if the application uses OpenTelemetry.

OpenTelemetry is imported only then: an application that has set a provider has imported it.
"""

# ruff: noqa: PLC0415  # OpenTelemetry is imported where it is used

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from aiohaul.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

#: The attributes of a span or a metric, by name.
SpanAttributes = Mapping[str, str | int | float | Sequence[str]]


_PROVIDER_VARIABLES = ("OTEL_PYTHON_TRACER_PROVIDER", "OTEL_PYTHON_METER_PROVIDER")


class ProviderState:
    """Stores whether the application has set a provider.

    An application cannot remove a provider of OpenTelemetry, so True stays True.
    """

    is_set = False


def is_active() -> bool:
    """Return True if the application has set a provider for spans or metrics.

    The check is slow. So it runs when a Session is made and when a run or a copy starts, and
    requests use the last result. Many packages install the OpenTelemetry API, which discards all
    spans if no provider is set, so the library makes no spans then.
    """
    if not ProviderState.is_set and _may_be_set():
        try:
            from opentelemetry import metrics, trace
        except ModuleNotFoundError:  # OpenTelemetry comes with aiohaul[otel]
            return False
        providers = (trace.get_tracer_provider(), metrics.get_meter_provider())
        names = [type(each).__name__.lstrip("_") for each in providers]
        ProviderState.is_set = not all(name.startswith("Proxy") for name in names)
    return ProviderState.is_set


def _may_be_set() -> bool:
    """Return True if the application may have set a provider."""
    # OpenTelemetry itself loads a provider that these variables name.
    return "opentelemetry" in sys.modules or not os.environ.keys().isdisjoint(_PROVIDER_VARIABLES)


class Meters:
    """The instruments that count and time requests and objects.

    The provider of the application makes the instruments, and exports their values.
    """

    def __init__(self) -> None:
        from opentelemetry import metrics

        meter = metrics.get_meter("aiohaul", VERSION)
        self.requests = meter.create_counter(
            "aiohaul.requests", "{request}", "Attempts of requests to AWS"
        )
        self.duration = meter.create_histogram(
            "aiohaul.request.duration", "s", "Time from sending a request to its complete response"
        )
        self.retries = meter.create_counter(
            "aiohaul.retries", "{request}", "Attempts that are retried"
        )
        self.throttles = meter.create_counter(
            "aiohaul.throttles", "{request}", "Throttling responses"
        )
        self.objects = meter.create_counter(
            "aiohaul.objects", "{object}", "Objects copied to a destination, or failed"
        )
        self.bytes = meter.create_counter("aiohaul.bytes", "By", "Bytes copied to destinations")


@lru_cache(maxsize=1)
def meters() -> Meters:
    """Return the instruments. The first call makes them."""
    return Meters()


@lru_cache(maxsize=1)
def tracer() -> Tracer:
    """Return the tracer. The first call makes the tracer."""
    from opentelemetry import trace

    return trace.get_tracer("aiohaul", VERSION)


def mark_failed(span: Span, problem: str) -> None:
    """Mark a span as failed.

    Args:
        span: the span.
        problem: the class or the error code of an error. The message of an error may contain
            secrets, so do not pass it.
    """
    from opentelemetry import trace

    span.set_attribute("error.type", problem)
    span.set_status(trace.StatusCode.ERROR, problem)


def request_span(name: str, attributes: SpanAttributes) -> Span:
    """Start a client span for a request, without making it the current span."""
    from opentelemetry import trace

    return tracer().start_span(name, kind=trace.SpanKind.CLIENT, attributes=attributes)


@contextmanager
def span_scope(name: str, attributes: SpanAttributes) -> Iterator[Span]:
    """Start a span, and make it the current span until the context ends.

    An exception marks the span as failed, with the class of the exception only.
    """
    with tracer().start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except BaseException as error:
            mark_failed(span, type(error).__name__)
            raise


@lru_cache(maxsize=32)
def service_name(service: str) -> str:
    """Return the name of an AWS service in OpenTelemetry, for example ``S3`` for ``s3``."""
    return {"secretsmanager": "SecretsManager", "logs": "CloudWatchLogs", "lambda": "Lambda"}.get(
        service, service.upper()
    )
