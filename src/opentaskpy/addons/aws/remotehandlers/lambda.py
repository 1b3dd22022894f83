"""OTF's execution handler for Lambda functions."""

from __future__ import annotations

from typing import Any

from opentaskpy.exceptions import InvalidConfigError

from opentaskpy.addons.aws.remotehandlers.execution import AwsExecution


class LambdaExecution(AwsExecution):
    """Calls a Lambda function. AWS: Invoke.

    Args:
        spec: the task definition, to which OTF adds ``task_id``.

    Raises:
        InvalidConfigError: ``functionArn`` is missing.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        if "functionArn" not in spec:
            raise InvalidConfigError("functionArn not defined in spec")
