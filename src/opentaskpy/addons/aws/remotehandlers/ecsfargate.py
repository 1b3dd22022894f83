"""Fargate tasks as executions."""

from __future__ import annotations

from opentaskpy.addons.aws.remotehandlers.execution import AwsExecution


class FargateTaskExecution(AwsExecution):
    """A run of a Fargate task; a kill stops the task as well."""
