"""OpenTelemetry, where it is installed: its tracer, its instruments, its names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from aiohaul.version import own_version

try:
    from opentelemetry import metrics, trace
except ModuleNotFoundError:  # the extra "otel"
    INSTALLED = False
else:
    INSTALLED = True

Attributes = Mapping[str, Any]


class Seen:
    """Whether an application was seen to have set up a provider: it cannot take that back."""

    provider = False


def active() -> bool:
    """True where there is anything that spans or numbers would go to.

    That is looked up when a Session is made and when a run or a copy begins, as it takes its time;
    requests go by what was seen then. The API alone, which many packages bring along, does nothing
    with spans: that is not worth the making of them.
    """
    if INSTALLED and not Seen.provider:
        providers = (trace.get_tracer_provider(), metrics.get_meter_provider())
        names = [type(each).__name__.lstrip("_") for each in providers]
        Seen.provider = not all(name.startswith("Proxy") for name in names)
    return Seen.provider


class Meters:
    """The instruments, of whatever provider the application has set."""

    def __init__(self) -> None:
        meter = metrics.get_meter("aiohaul", own_version())
        self.requests = meter.create_counter(
            "aiohaul.requests", "{request}", "Requests to AWS, each attempt by itself"
        )
        self.duration = meter.create_histogram(
            "aiohaul.request.duration", "s", "From the sending of a request to its whole answer"
        )
        self.retries = meter.create_counter(
            "aiohaul.retries", "{request}", "Requests that are sent again"
        )
        self.throttles = meter.create_counter(
            "aiohaul.throttles", "{request}", "Answers that ask for fewer requests"
        )
        self.objects = meter.create_counter(
            "aiohaul.objects", "{object}", "Objects at a destination, or failed there"
        )
        self.bytes = meter.create_counter("aiohaul.bytes", "By", "Bytes of objects at destinations")


@lru_cache(maxsize=1)
def meters() -> Meters:
    """The instruments, made once."""
    return Meters()


@lru_cache(maxsize=1)
def tracer() -> Any:
    """The tracer, made once."""
    return trace.get_tracer("aiohaul", own_version())


def failed(span: Any, problem: str) -> None:
    """Mark a span as failed, by the kind of what was raised: texts may repeat too much."""
    span.set_attribute("error.type", problem)
    span.set_status(trace.StatusCode.ERROR, problem)


def request_span(name: str, attributes: Attributes) -> Any:
    """A span for a request to another service; not the current one."""
    return tracer().start_span(name, kind=trace.SpanKind.CLIENT, attributes=attributes)


@contextmanager
def spanned(name: str, attributes: Attributes) -> Iterator[Any]:
    """A span around what is done herein; what is raised is told by its kind alone."""
    with tracer().start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except BaseException as error:
            failed(span, type(error).__name__)
            raise


@lru_cache(maxsize=32)
def service_name(service: str) -> str:
    """``s3`` -> ``S3``, as OpenTelemetry has it."""
    return {"secretsmanager": "SecretsManager", "logs": "CloudWatchLogs", "lambda": "Lambda"}.get(
        service, service.upper()
    )
