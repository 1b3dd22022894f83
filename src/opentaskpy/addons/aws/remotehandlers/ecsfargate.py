"""OTF's execution handler for Fargate tasks."""

from __future__ import annotations

from opentaskpy.addons.aws.remotehandlers.execution import AwsExecution


class FargateTaskExecution(AwsExecution):
    """Runs a Fargate task. A kill also stops the Fargate task. AWS: RunTask, StopTask."""
