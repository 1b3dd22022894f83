"""Writes log lines, and OpenTelemetry's spans and metrics if OpenTelemetry is installed.

A run has the span ``aiohaul.run``. Each object that is read has a span ``aiohaul.read``, which
contains a span ``aiohaul.copy`` for each destination. Each attempt of a request to AWS has a span
with the name of the operation, such as ``S3.CopyObject``. The metrics are in
:class:`aiohaul.telemetry.otel.Meters`. Without a provider of OpenTelemetry, and without DEBUG for
the logger ``aiohaul.requests``, the library makes nothing for a request.
"""
