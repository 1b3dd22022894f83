"""Parses the definitions of Lambda and Fargate executions into immutable values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohaul.aws.shapes import parameter_problems
from aiohaul.compute.invocation import InvocationType, check_function, encoded, encoded_context
from aiohaul.errors import DefinitionError, FunctionNameError, PayloadError
from aiohaul.sensitive import Sensitive
from aiohaul.settings import Settings
from aiohaul.tasks import schema
from aiohaul.tasks.protocol import protocol_settings

LAMBDA_EXECUTION = "opentaskpy.addons.aws.remotehandlers.lambda.LambdaExecution"
FARGATE_EXECUTION = "opentaskpy.addons.aws.remotehandlers.ecsfargate.FargateTaskExecution"


#: The parameters of RunTask that are not allowed in ``runTask``, and the keys to use instead.
_RUN_TASK_KEYS = {
    "cluster": "clusterName",
    "taskDefinition": "taskFamily",
    "count": "one task of a batch for each",
    "clientToken": "nothing: each run has its own",
    "startedBy": "nothing: each run has its own",
    "networkConfiguration": "networkConfiguration",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LambdaCall:
    """A Lambda execution. Its attributes are the arguments of ``LambdaHandler.invoke``."""

    function: str
    payload: object = field(repr=False)
    client_context: Mapping[str, Any] | None = field(repr=False)
    qualifier: str | None
    tenant_id: str | None
    invocation_type: InvocationType
    timeout: float | None
    read_timeout: float | None
    retries: int
    settings: Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class FargateCall:
    """A Fargate execution. Its attributes are the arguments of ``FargateHandler.run``."""

    cluster: str
    task_family: str
    network: Mapping[str, Any] | None
    overrides: tuple[Mapping[str, Any], ...] = field(repr=False)
    container: str | None
    log_group: str | None
    timeout: float | None
    init_timeout: float | None
    retry_start: bool
    run_task: Mapping[str, Any] = field(repr=False)
    settings: Settings


def with_parsed_payload(definition: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a definition whose payload is parsed if the payload is a JSON text.

    Airflow renders a template such as ``"{{ dag_run.conf | tojson }}"`` to a text, unless the DAG
    has ``render_template_as_native_obj=True``. Only the JSON text of an object or a list is parsed.
    Any other text stays a text.
    """
    payload = definition.get("payload")
    if not isinstance(payload, str):
        return definition
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return definition
    return {**definition, "payload": value} if isinstance(value, dict | list) else definition


def lambda_call(definition: Mapping[str, Any]) -> LambdaCall:
    """Check and parse the definition of a Lambda execution.

    Raises:
        DefinitionError: the definition is wrong. The error has the path of the wrong value.
    """
    schema.check("execution/lambda.json", definition)
    protocol = definition["protocol"]
    invocation_type: InvocationType = definition.get("invocationType", "Event")
    payload = definition.get("payload")
    try:
        check_function(definition["functionArn"])
    except FunctionNameError as error:
        raise DefinitionError("functionArn", str(error)) from error
    context = definition.get("clientContext")
    try:
        encoded(payload, invocation_type)
    except PayloadError as error:
        raise DefinitionError("payload", str(error)) from error
    try:
        if context is not None:
            encoded_context(context, invocation_type)
    except PayloadError as error:
        raise DefinitionError("clientContext", str(error)) from error
    return LambdaCall(
        function=definition["functionArn"],
        payload=Sensitive(payload) if definition.get("secretPayload", False) else payload,
        client_context=context,
        qualifier=definition.get("qualifier"),
        tenant_id=definition.get("tenantId"),
        invocation_type=invocation_type,
        timeout=definition.get("timeout"),
        read_timeout=protocol.get("botocoreReadTimeout"),
        retries=protocol.get("max_attempts", 0),  # botocore's "max_attempts" counts retries
        settings=protocol_settings(protocol, ("protocol",)),
    )


def fargate_call(definition: Mapping[str, Any]) -> FargateCall:
    """Check and parse the definition of a Fargate execution.

    Raises:
        DefinitionError: the definition is wrong. The error has the path of the wrong value.
    """
    schema.check("execution/fargate.json", definition)
    overrides = definition.get("containerOverrides", ())
    run_task = definition.get("runTask", {})
    _check_run_task(definition["taskFamily"], run_task)
    network = definition.get("networkConfiguration")
    return FargateCall(
        cluster=definition["clusterName"],
        task_family=definition["taskFamily"],
        network=network,
        overrides=(overrides,) if isinstance(overrides, Mapping) else tuple(overrides),
        container=definition.get("containerName"),
        log_group=definition.get("cloudwatchLogGroupName") or None,
        timeout=timeout if (timeout := definition.get("timeout", -1)) > 0 else None,
        init_timeout=definition.get("initTimeout"),
        retry_start=definition.get("retryStart", False),
        run_task=run_task,
        settings=protocol_settings(definition["protocol"], ("protocol",)),
    )


def _check_run_task(task_family: str, run_task: Mapping[str, Any]) -> None:
    """Check the parameters in ``runTask``.

    Raises:
        DefinitionError: RunTask does not have a parameter, or another key of the definition sets
            this parameter.
    """
    for name, key in _RUN_TASK_KEYS.items():
        if name in run_task:
            raise DefinitionError(f"runTask.{name}", f"is not allowed here: use {key}")
    if "containerOverrides" in run_task.get("overrides", ()):
        raise DefinitionError("runTask.overrides.containerOverrides", "use containerOverrides")
    problems = parameter_problems("ecs", "RunTask", {**run_task, "taskDefinition": task_family})
    if problems:
        raise DefinitionError("runTask", problems)
