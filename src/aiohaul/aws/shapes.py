"""Checks the parameters of an operation against botocore's model, without sending a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def parameter_problems(service: str, operation: str, parameters: Mapping[str, Any]) -> str:
    """Return the errors that botocore's model finds in parameters, without values; "" if none.

    Call this function in a thread, because it reads a file for up to 0.1 s.

    Args:
        service: the service, such as ``ecs``.
        operation: the operation, such as ``RunTask``.
        parameters: the parameters of the operation.
    """
    from aiobotocore.session import AioSession  # noqa: PLC0415  # few definitions need it
    from botocore.model import ServiceModel  # noqa: PLC0415  # as above
    from botocore.validate import ParamValidator  # noqa: PLC0415  # as above

    from aiohaul.aws.botocore_errors import REFUSED_VALUE  # noqa: PLC0415  # as above
    from aiohaul.aws.models import loader  # noqa: PLC0415  # as above

    model = ServiceModel(loader(AioSession()).load_service_model(service, "service-2"), service)
    report = ParamValidator().validate(parameters, model.operation_model(operation).input_shape)
    lines = report.generate_report().splitlines() if report.has_errors() else []
    return "; ".join(REFUSED_VALUE.sub("", line) for line in lines)
