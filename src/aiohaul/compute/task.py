"""Pure: one Fargate task while it is under way, and what became of it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from aiohaul.aws.errors import translated
from aiohaul.compute.following import State
from aiohaul.compute.logs import LogLine, LogStream, OnLog
from aiohaul.errors import TaskFailedError, TaskStartError, TaskTimeoutError


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """What became of a Fargate task.

    Attributes:
        arn: the task.
        cluster: where it ran.
        status: the last that was known, such as ``STOPPED``.
        container: the one whose exit code counts; None if none was known.
        exit_code: its exit code; None if it has none.
        reason: why it stopped, in ECS's words, or None.
        logs: the last 10,000 lines of the container's log. Not in a repr.
        log_problem: why there is no log, or None.
        seconds: from the call to the end.
    """

    arn: str
    cluster: str
    status: str
    container: str | None
    exit_code: int | None
    reason: str | None
    logs: tuple[LogLine, ...] = field(repr=False)
    log_problem: str | None
    seconds: float


@dataclass(slots=True)
class Run:
    """One task while it is under way.

    Attributes:
        cluster: where it runs.
        container: the container whose exit code counts; None is the first.
        log_group: where its log is, or None.
        on_log: told of every line.
        begun: when the call began, on the clock of the event loop.
        token: makes RunTask idempotent, and stands in the task's ``startedBy``.
        arn: the task; None before it was started.
        in_doubt: a task may have been started, and nobody knows its ARN.
        state: the last that DescribeTasks, or RunTask, told of it.
        secret: what it is started with hides something.
        log: its log, once that is found.
        log_problem: why it cannot be found.
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

    def keep(self, answer: Mapping[str, Any]) -> None:
        """Take what RunTask answered: the task, or that there is none."""
        with translated("RunTask", self.cluster):
            if started := answer.get("tasks"):
                self.arn, self.state = started[0]["taskArn"], started[0]
        self.in_doubt = False

    def found(self, answer: Mapping[str, Any]) -> None:
        """Take what ListTasks answered; that there is none yet settles nothing."""
        if arns := answer.get("taskArns"):
            self.arn, self.in_doubt = arns[0], False

    @property
    def where_to_look(self) -> str:
        """What to say of a task that may have been started, where nobody knows its ARN."""
        return (
            f"it may have been started all the same: look in {self.cluster} for a task whose"
            f" startedBy is {self.token}, and stop it"
        )

    def take(self, state: State | None) -> None:
        """Take what a look showed; None is nothing."""
        if state is not None:
            self.state = state

    @property
    def running(self) -> bool:
        """True from RUNNING on."""
        return "startedAt" in self.state or self.state.get("lastStatus") == "RUNNING" or self.ended

    @property
    def ended(self) -> bool:
        """True once its exit code is settled.

        While ECS takes the network away (DEPROVISIONING), containers have ended already.
        """
        status = self.state.get("lastStatus")
        if status == "DEPROVISIONING":
            return self.watched.get("exitCode") is not None
        return status in ("STOPPED", "DELETED")

    @property
    def watched(self) -> Mapping[str, Any]:
        """The container whose exit code counts, as ECS describes it; {} if there is none."""
        containers: Sequence[Mapping[str, Any]] = self.state.get("containers", ())
        for each in containers:
            if self.container in (None, each.get("name")):
                return each
        return {}

    def result(self) -> TaskResult:
        """What is known so far."""
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


def check_container(run: Run) -> None:
    """Refuse a name that no container has, before the task has run for hours.

    Raises:
        TaskStartError: there is no such container.
    """
    names = [each["name"] for each in run.state.get("containers", ()) if "name" in each]
    if run.container is not None and names and run.container not in names:
        raise TaskStartError(
            f"{run.arn} has no container {run.container!r}, only {', '.join(names)}",
            run.result(),
        )


def too_late(run: Run, *, whole: bool) -> bool:
    """Whether a task whose time is up (the whole of it, or that to its start) has missed it."""
    return not run.ended if whole else not run.running


def out_of_time(
    run: Run, timeout: float | None, init_timeout: float, *, stopped: bool
) -> TaskTimeoutError:
    """The error for a task that was not running, or not done, in time."""
    seconds = anyio.current_time() - run.begun
    whole = timeout is not None and seconds >= timeout
    problem = f"done within {timeout:g} s" if whole else f"running within {init_timeout:g} s"
    if run.arn is None:
        doubt = f"; {run.where_to_look}" if run.in_doubt else ""
        return TaskTimeoutError(f"the task was not started within {timeout:g} s{doubt}", None)
    fate = "it was told to stop" if stopped else "it could not be stopped: stop it by hand"
    status = run.state.get("lastStatus", "UNKNOWN")
    return TaskTimeoutError(f"{run.arn} was not {problem} (it was {status}); {fate}", run.result())


def judged(run: Run) -> TaskResult:
    """The result of a task that has ended.

    Raises:
        TaskStartError: it never ran.
        TaskFailedError: it failed, or what counts is not known.
    """
    result = run.result()
    why = result.reason or "ECS gives no reason"
    if result.exit_code == 0:
        return result
    if result.exit_code is not None:
        code = f"{run.arn} ended with exit code {result.exit_code} ({result.container}): {why}"
        raise TaskFailedError(code, result)
    if run.state.get("stopCode") == "TaskFailedToStart" or "startedAt" not in run.state:
        raise TaskStartError(f"{run.arn} stopped before it ran: {why}", result)
    raise TaskFailedError(f"{run.arn} ended without an exit code: {why}", result)
