"""Lambda functions as executions."""

from __future__ import annotations

from typing import Any

from opentaskpy.exceptions import InvalidConfigError

from opentaskpy.addons.aws.remotehandlers.execution import AwsExecution


class LambdaExecution(AwsExecution):
    """A call of a Lambda function.

    Args:
        spec: its definition, with OTF's task_id.

    Raises:
        InvalidConfigError: it names no function.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        if "functionArn" not in spec:
            raise InvalidConfigError("functionArn not defined in spec")
