"""What happens, told to the log, and to OpenTelemetry where it is installed.

Spans: ``aiohaul.run``; ``aiohaul.read`` (one object, on its way to all that it goes to at once) and
in it ``aiohaul.copy`` (one object at one destination); and one for every attempt of a request to
AWS, such as ``S3.CopyObject``. Metrics: see :class:`aiohaul.telemetry.otel.Meters`. Where
OpenTelemetry is not installed, and nobody listens to ``aiohaul.requests``, a request costs one look
at that.
"""
