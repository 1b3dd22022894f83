"""The state of one Fargate task during a run, and its result. Pure."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from aiohaul.aws.errors import translated
from aiohaul.compute.logs import LogStream, OnLog
from aiohaul.compute.task_poller import State
from aiohaul.errors import FargateTaskFailedError, FargateTaskStartError, FargateTaskTimeoutError
from aiohaul.results import TaskResult

#: The default maximum seconds in which a task is PENDING, without the time to pull images.
INIT_TIMEOUT = 60.0
#: The exit codes of containers that ECS ends, by SIGKILL or SIGTERM, after an essential one ended.
_ENDED_BY_ECS = frozenset({137, 143})
#: The beginnings of failure reasons after which ECS may be able to start the task later.
_NO_CAPACITY = (
    "RESOURCE:",
    "AGENT",
    "Capacity is unavailable",
    "EMPTY CAPACITY PROVIDER",
    "NO ACTIVE INSTANCES",
    "Timeout waiting for network interface provisioning",
)


def lacks_capacity(reason: str) -> bool:
    """Return True if a failure reason is a lack of capacity, so that ECS may start a task later."""
    return reason.removeprefix("TaskFailedToStart: ").startswith(_NO_CAPACITY)


@dataclass(slots=True)
class TaskRun:
    """The state of one call of :meth:`FargateHandler.run` and of its task.

    Attributes:
        cluster: the cluster of the task.
        container: the container whose exit code counts; None until one is selected.
        overridden: the names of the containers with overrides.
        counted: the containers whose exit codes count together, if no single container counts.
        log_group: the log group of the container; None if no log is read.
        on_log: called for every line of the log.
        begun: the time of the event loop when the call began.
        token: the clientToken and ``startedBy`` of the task.
        arn: the ARN of the task; None before the task is started.
        in_doubt: True if a task may have been started and its ARN is not known.
        state: the task in the last response of DescribeTasks or RunTask.
        secret: True if the overrides have sensitive values.
        log: the log stream; None until it is found.
        log_problem: the reason why the log stream was not found.
        pending_since: the time of the event loop since which the task is PENDING.
        pulling_at: the time of the event loop at the last poll during which an image was pulled.
    """

    cluster: str
    container: str | None
    log_group: str | None
    on_log: OnLog | None
    begun: float
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    arn: str | None = None
    in_doubt: bool = False
    state: State = field(default_factory=dict, repr=False)  # with the container's environment
    secret: bool = False
    log: LogStream | None = None
    log_problem: str | None = None
    overridden: frozenset[str] = frozenset()
    counted: tuple[str, ...] = ()
    pending_since: float | None = None
    pulling_at: float = -math.inf

    def on_run_task(self, answer: Mapping[str, Any]) -> None:
        """Store the task in the response of RunTask, if ECS started a task."""
        with translated("RunTask", self.cluster):
            if started := answer.get("tasks"):
                self.arn = started[0]["taskArn"]
                self.update(started[0])
        self.in_doubt = False

    def on_list_tasks(self, answer: Mapping[str, Any]) -> None:
        """Store the ARN in the response of ListTasks.

        After an empty response, it is still not known if a task was started, because ListTasks may
        show a new task late.
        """
        if arns := answer.get("taskArns"):
            self.arn, self.in_doubt = arns[0], False

    @property
    def where_to_look(self) -> str:
        """The advice in errors on how to find a task whose ARN is not known."""
        return (
            f"the task may have been started: look in {self.cluster} for a task whose startedBy is"
            f" {self.token}, and stop it"
        )

    def update(self, state: State | None) -> None:
        """Store the task in the response of a poll. None is ignored."""
        if state is None:
            return
        self.state = state
        if self.pending:
            now = anyio.current_time()
            self.pending_since = now if self.pending_since is None else self.pending_since
            self.pulling_at = now if self._pulling else self.pulling_at

    def init_deadline(self, init_timeout: float | None) -> float:
        """Return the time of the event loop until which the task may be PENDING.

        The time in PROVISIONING does not count. If ``init_timeout`` is None, the time to pull an
        image does not count either.
        """
        if not self.pending or self.pending_since is None:
            return math.inf
        if init_timeout is not None:
            return self.pending_since + init_timeout
        return (
            math.inf if self._pulling else max(self.pending_since, self.pulling_at) + INIT_TIMEOUT
        )

    def is_late(self, deadline: float) -> bool:
        """Return True if the task has not ended, and the deadline has passed."""
        return not self.ended and anyio.current_time() >= deadline

    @property
    def pending(self) -> bool:
        """True while ECS prepares the containers and pulls their images."""
        return self.state.get("lastStatus") == "PENDING"

    @property
    def _pulling(self) -> bool:
        return "pullStartedAt" in self.state and "pullStoppedAt" not in self.state

    @property
    def running(self) -> bool:
        """True if the task has reached the state RUNNING, even if it has ended since."""
        return "startedAt" in self.state or self.state.get("lastStatus") == "RUNNING" or self.ended

    @property
    def ended(self) -> bool:
        """True if the exit code is final.

        In the state DEPROVISIONING, ECS removes the network, and the containers may have ended.
        """
        status = self.state.get("lastStatus")
        if status == "DEPROVISIONING":
            containers = self._containers() if self.container is None else [self.watched]
            return all(each.get("exitCode") is not None for each in containers)
        return status in ("STOPPED", "DELETED")

    @property
    def names(self) -> list[str]:
        """The names of the containers in the last response of ECS."""
        return [each["name"] for each in self.state.get("containers", ()) if "name" in each]

    def _containers(self) -> Sequence[Mapping[str, Any]]:
        """Return the containers whose exit codes may count, from the last response of ECS."""
        containers: Sequence[Mapping[str, Any]] = self.state.get("containers", ())
        names = self.counted if self.container is None else (self.container,)
        return [each for each in containers if not names or each.get("name") in names]

    @property
    def watched(self) -> Mapping[str, Any]:
        """The container whose exit code counts, from the last response of ECS; {} if there is none.

        If many containers count, this is one that failed, or else one that ended with 0. A
        container that ECS ended counts only if ECS ended all of them, because then no container
        succeeded.
        """
        containers = self._containers()
        if not self.counted:
            return containers[0] if containers else {}
        ranked = sorted(containers, key=_rank)
        return ranked[0] if ranked else {}

    def result(self) -> TaskResult:
        """Return the result of the task, with the values that are known so far."""
        return TaskResult(
            arn=self.arn or "",
            cluster=self.cluster,
            status=self.state.get("lastStatus", "UNKNOWN"),
            container=self.watched.get("name", self.container),
            exit_code=self.watched.get("exitCode"),
            reason=self.watched.get("reason") or self.state.get("stoppedReason") or None,
            logs=self.log.lines if self.log else (),
            log_problem=self.log.problem if self.log else self.log_problem,
            seconds=round(anyio.current_time() - self.begun, 3),
        )


def _rank(container: Mapping[str, Any]) -> int:
    """Return the rank of a container: failed, without exit code, with exit code 0, ended by ECS."""
    code = container.get("exitCode")
    if code is None:
        return 1
    if code == 0:
        return 2
    out_of_memory = str(container.get("reason", "")).startswith("OutOfMemory")
    return 3 if code in _ENDED_BY_ECS and not out_of_memory else 0


def essential_containers(definition: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the names of the essential containers of a task definition.

    Args:
        definition: the task definition, from DescribeTaskDefinition.

    Returns:
        The names of all essential containers, and the names of those that are not log routers.
    """
    essential = [
        each for each in definition.get("containerDefinitions", ()) if each.get("essential", True)
    ]
    others = [each["name"] for each in essential if not each.get("firelensConfiguration")]
    return [each["name"] for each in essential], others


def check_container(run: TaskRun) -> None:
    """Check, before the task runs for hours, that the task has the container that counts.

    Raises:
        FargateTaskStartError: the task has no container with this name.
    """
    names = run.names
    if run.container is not None and names and run.container not in names:
        raise FargateTaskStartError(
            f"{run.arn} has no container {run.container!r}, only {', '.join(names)}",
            run.result(),
        )


def out_of_time(
    run: TaskRun, timeout: float | None, init_timeout: float | None, *, stopped: bool
) -> FargateTaskTimeoutError:
    """Return the error for a task that was not running, or had not ended, in time."""
    init_timeout = INIT_TIMEOUT if init_timeout is None else init_timeout
    seconds = anyio.current_time() - run.begun
    whole = timeout is not None and seconds >= timeout
    problem = f"done within {timeout:g} s" if whole else f"running within {init_timeout:g} s"
    if run.arn is None:
        doubt = f"; {run.where_to_look}" if run.in_doubt else ""
        return FargateTaskTimeoutError(
            f"the task was not started within {timeout:g} s{doubt}", None
        )
    outcome = "ECS stops it" if stopped else "it could not be stopped: stop it by hand"
    status = run.state.get("lastStatus", "UNKNOWN")
    return FargateTaskTimeoutError(
        f"{run.arn} was not {problem} (it was {status}); {outcome}", run.result()
    )


def result_or_raise(run: TaskRun) -> TaskResult:
    """Return the result of a task that has ended with exit code 0.

    Raises:
        FargateTaskStartError: the task stopped before it ran.
        FargateTaskFailedError: the exit code is not 0, or there is no exit code.
    """
    result = run.result()
    reason = result.reason or "ECS gives no reason"
    if result.exit_code == 0:
        return result
    if result.exit_code is not None:
        message = (
            f"{run.arn} ended with exit code {result.exit_code} ({result.container}): {reason}"
        )
        raise FargateTaskFailedError(message, result)
    if run.state.get("stopCode") == "TaskFailedToStart" or "startedAt" not in run.state:
        message = f"{run.arn} stopped before it ran: {reason}"
        raise FargateTaskStartError(message, result, retryable=lacks_capacity(reason))
    raise FargateTaskFailedError(f"{run.arn} ended without an exit code: {reason}", result)
