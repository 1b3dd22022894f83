"""Executions that compute: Lambda calls and Fargate tasks, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohaul.compute.fargate import INIT_TIMEOUT
from aiohaul.compute.invocation import InvocationType, check_function, encoded
from aiohaul.errors import DefinitionError, FunctionNameError, PayloadError
from aiohaul.hidden import Hidden
from aiohaul.settings import Settings
from aiohaul.tasks import schema

LAMBDA_EXECUTION = "opentaskpy.addons.aws.remotehandlers.lambda.LambdaExecution"
FARGATE_EXECUTION = "opentaskpy.addons.aws.remotehandlers.ecsfargate.FargateTaskExecution"


@dataclass(frozen=True, slots=True, kw_only=True)
class LambdaCall:
    """A Lambda execution; the attributes are the arguments of ``LambdaHandler.invoke``."""

    function: str
    payload: Mapping[str, Any] | Hidden | None = field(repr=False)
    invocation_type: InvocationType
    timeout: float | None
    read_timeout: float | None
    max_attempts: int
    settings: Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class FargateCall:
    """A Fargate execution; the attributes are the arguments of ``FargateHandler.run``."""

    cluster: str
    task_family: str
    network: Mapping[str, Any]
    overrides: tuple[Mapping[str, Any], ...] = field(repr=False)
    container: str | None
    log_group: str | None
    timeout: float | None
    init_timeout: float
    settings: Settings


def lambda_call(definition: Mapping[str, Any]) -> LambdaCall:
    """The value of a Lambda execution.

    Raises:
        DefinitionError: something in it is wrong: where, and what was expected.
    """
    schema.check("execution/lambda.json", definition)
    protocol = definition["protocol"]
    invocation_type: InvocationType = definition.get("invocationType", "Event")
    payload = definition.get("payload")
    try:
        check_function(definition["functionArn"])
    except FunctionNameError as error:
        raise DefinitionError("functionArn", str(error)) from error
    try:
        encoded(payload, invocation_type)
    except PayloadError as error:
        raise DefinitionError("payload", str(error)) from error
    return LambdaCall(
        function=definition["functionArn"],
        payload=Hidden(payload) if definition.get("secretPayload", False) else payload,
        invocation_type=invocation_type,
        timeout=definition.get("timeout"),
        read_timeout=protocol.get("botocoreReadTimeout"),
        # 0 is how definitions written for botocore say that there is no retry.
        max_attempts=max(protocol.get("max_attempts", 1), 1),
        settings=Settings.from_protocol(protocol),
    )


def fargate_call(definition: Mapping[str, Any]) -> FargateCall:
    """The value of a Fargate execution.

    Raises:
        DefinitionError: something in it is wrong: where, and what was expected.
    """
    schema.check("execution/fargate.json", definition)
    overrides = definition.get("containerOverrides")
    return FargateCall(
        cluster=definition["clusterName"],
        task_family=definition["taskFamily"],
        network=definition["networkConfiguration"],
        overrides=() if overrides is None else (overrides,),
        container=definition.get("containerName"),
        log_group=definition.get("cloudwatchLogGroupName") or None,
        timeout=timeout if (timeout := definition.get("timeout", -1)) > 0 else None,
        init_timeout=definition.get("initTimeout", INIT_TIMEOUT),
        settings=Settings.from_protocol(definition["protocol"]),
    )
