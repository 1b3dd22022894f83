"""FargateHandler: tasks that are started, followed to their end, and never left behind."""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio

from aiohaul.aws.clients import Clients
from aiohaul.aws.service import Service
from aiohaul.compute.following import Following, State
from aiohaul.compute.logs import LogLine, LogStream, OnLog, stream_name
from aiohaul.concurrency import to_its_end
from aiohaul.errors import ServiceError, TaskFailedError, TaskStartError, TaskTimeoutError
from aiohaul.settings import Settings

#: Seconds until a task has to run.
INIT_TIMEOUT = 60.0
#: Seconds between two looks at all running tasks of a cluster.
INTERVAL = 5.0
#: Seconds that a request in flight, and then StopTask, may take once a run is over.
CLEANUP_TIMEOUT = 5.0
#: Seconds that reading the log may take at the end, and the time that its last lines need.
_LOG_TIMEOUT = 60.0
_LOG_LAG = 2.0
#: The container that an override without a name is for, as users of OTF know it.
_DEFAULT_CONTAINER = "default"

_log = logging.getLogger(__name__)


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
class _Run:
    """One task while it is under way.

    Attributes:
        cluster: where it runs.
        container: the container whose exit code counts; None is the first.
        log_group: where its log is, or None.
        on_log: told of every line.
        begun: when the call began, on the clock of the event loop.
        arn: the task; None before it was started.
        state: the last that DescribeTasks, or RunTask, told of it.
        log: its log, once that is found.
        log_problem: why it cannot be found.
    """

    cluster: str
    container: str | None
    log_group: str | None
    on_log: OnLog | None
    begun: float
    arn: str | None = None
    state: State = field(default_factory=dict)
    log: LogStream | None = None
    log_problem: str | None = None

    def keep(self, answer: Mapping[str, Any]) -> None:
        """Take what RunTask answered."""
        if answer.get("tasks"):
            self.state = answer["tasks"][0]
            self.arn = self.state["taskArn"]

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


class FargateHandler:
    """Fargate as one identity sees it. Cheap to make: equal ones share clients and looks.

    Made by :meth:`aiohaul.Session.fargate`.
    """

    def __init__(
        self,
        clients: Clients,
        following: Following,
        settings: Settings | None = None,
        *,
        interval: float = INTERVAL,
    ) -> None:
        self._clients = clients
        self._following = following
        self._settings = settings
        self._interval = interval

    async def run(
        self,
        cluster: str,
        task_family: str,
        *,
        network: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Any] | Sequence[Mapping[str, Any]] = (),
        container: str | None = None,
        log_group: str | None = None,
        timeout: float | None = None,
        init_timeout: float = INIT_TIMEOUT,
        on_log: OnLog | None = None,
    ) -> TaskResult:
        """Run a task and wait for its end.

        However this call ends (cancelled, timed out, or by an error), a task that has not ended
        is told to stop first, and the call waits until AWS took that. A RunTask that is
        cancelled while it is in flight is waited for, so that its task is not lost.

        AWS: RunTask with a clientToken; DescribeTasks, shared by all tasks that the session
        follows in a cluster; StopTask; with ``log_group`` DescribeTaskDefinition and GetLogEvents.

        Args:
            cluster: name or ARN.
            task_family: a task definition: its family, with a revision if need be, or ARN.
            network: ECS's networkConfiguration.
            overrides: containerOverrides, one or many; one without a name is for ``container``,
                or for the container "default".
            container: whose exit code counts, and whose log is read; None is the first.
            log_group: the CloudWatch log group of the container; None reads no log.
            timeout: seconds from the call to the task's end; None is as long as it takes.
            init_timeout: seconds from the task's creation until it has to run.
            on_log: told of every line while the task runs; needs ``log_group``.

        Returns:
            What became of it; the exit code is 0.

        Raises:
            TaskStartError: it could not be started, stopped before it ran, or has no such
                container.
            TaskFailedError: its exit code is not 0, or it has none.
            TaskTimeoutError: it was not running, or not done, in time.
            ClusterNotFoundError: there is no such cluster.
            AccessDeniedError: the credentials may not do this.
            ServiceError: another failure.
        """
        run = _Run(cluster, container, log_group, on_log, begun=anyio.current_time())
        ecs = await self._clients.service("ecs", self._settings)
        start = partial(
            ecs.call,
            "run_task",
            f"{task_family} in {cluster}",
            cluster=cluster,
            taskDefinition=task_family,
            launchType="FARGATE",
            count=1,
            clientToken=uuid.uuid4().hex,
            startedBy="aiohaul",
            overrides={"containerOverrides": _named(overrides, container)},
            **({"networkConfiguration": network} if network else {}),
        )
        deadline = math.inf if timeout is None else run.begun + timeout
        in_time, stopped = False, True
        try:
            with anyio.CancelScope(deadline=deadline) as starting:
                await to_its_end(partial(_started, start, task_family), CLEANUP_TIMEOUT, run.keep)
            if not starting.cancelled_caught:
                _check_container(run)
                in_time = await self._follow(ecs, run, deadline, init_timeout)
        finally:
            if run.arn is not None and not run.ended:
                stopped = await _stop(ecs, run)
        if not in_time:
            await self._read_log(run, 0.0, CLEANUP_TIMEOUT)
            raise _out_of_time(run, timeout, init_timeout, stopped=stopped)
        await self._read_log(run, _LOG_LAG, _LOG_TIMEOUT)
        return _judged(run)

    async def _follow(self, ecs: Service, run: _Run, deadline: float, init_timeout: float) -> bool:
        """Look until the task has ended: True if it has in time.

        A task whose time is up is looked at once more, by itself: since the last look at all of
        them it may have ended, or begun to run.
        """
        arn = run.arn or ""
        init_deadline = min(deadline, anyio.current_time() + init_timeout)
        with self._following.follow(ecs, run.cluster, arn, self._interval) as followed:
            while not run.ended:
                time_up = deadline if run.running else init_deadline
                with anyio.CancelScope(deadline=time_up) as turn:
                    run.take(await followed.look())
                    if run.on_log is not None and run.running and not run.ended:
                        await self._read_log(run, None, _LOG_TIMEOUT)
                if turn.cancelled_caught:
                    await _look_alone(ecs, run)
                    if _too_late(run, whole=time_up == deadline):
                        return False
        return True

    async def _read_log(self, run: _Run, lag: float | None, within: float) -> None:
        """Read what the log has more; ``lag`` is how long to wait for its last lines."""
        if run.log_group is None or run.arn is None:
            return
        with anyio.move_on_after(within):
            if run.log is None and run.log_problem is None:
                await self._find_log(run)
            if run.log is None:
                return
            await run.log.read_on()
            if lag:
                await anyio.sleep(lag)
                await run.log.read_on()

    async def _find_log(self, run: _Run) -> None:
        """Settle the log stream of the container: its prefix stands in the task definition."""
        ecs = await self._clients.service("ecs", self._settings)
        definition = run.state.get("taskDefinitionArn", "")
        try:
            answer = await ecs.call(
                "describe_task_definition", definition, taskDefinition=definition
            )
        except ServiceError as error:
            run.log_problem = str(error)
            _log.warning("the log of %s was not read: %s", run.arn, error)
            return
        container = run.watched.get("name", run.container)
        stream = stream_name(answer["taskDefinition"], container, run.log_group, run.arn)
        if stream is None:
            run.log_problem = f"the task definition sends no log to {run.log_group}"
            _log.warning("the log of %s was not read: %s", run.arn, run.log_problem)
            return
        logs = await self._clients.service("logs", self._settings)
        run.log = LogStream(logs, run.log_group or "", stream, run.on_log)


async def _started(start: partial[Any], task_family: str) -> Mapping[str, Any]:
    answer: Mapping[str, Any] = await start()
    if not answer.get("tasks"):
        told = answer.get("failures") or [{}]
        reason = ": ".join(told[0][key] for key in ("reason", "detail") if told[0].get(key))
        raise TaskStartError(f"{task_family} was not started: {reason or 'ECS gives no reason'}")
    return answer


def _check_container(run: _Run) -> None:
    """Refuse a name that no container has, before the task has run for hours.

    Raises:
        TaskStartError: there is no such container.
    """
    names = [each["name"] for each in run.state.get("containers", ()) if "name" in each]
    if run.container is not None and names and run.container not in names:
        raise TaskStartError(
            f"{run.arn} has no container {run.container!r}, only {', '.join(names)}; it was told"
            " to stop",
            run.result(),
        )


def _too_late(run: _Run, *, whole: bool) -> bool:
    """Whether a task whose time is up (the whole of it, or that to its start) has missed it."""
    return not run.ended if whole else not run.running


async def _look_alone(ecs: Service, run: _Run) -> None:
    """Look at one task now, if that can be had soon."""
    with anyio.move_on_after(CLEANUP_TIMEOUT):
        try:
            answer = await ecs.call(
                "describe_tasks", run.cluster, cluster=run.cluster, tasks=[run.arn]
            )
        except ServiceError as error:
            _log.warning("%s; the look before counts", error)
        else:
            run.take(next(iter(answer.get("tasks", ())), None))


async def _stop(ecs: Service, run: _Run) -> bool:
    """Tell the task to stop, whatever happens to the caller: True if AWS took that."""
    with anyio.move_on_after(CLEANUP_TIMEOUT, shield=True):
        try:
            await ecs.call(
                "stop_task",
                run.arn or "",
                cluster=run.cluster,
                task=run.arn,
                reason="aiohaul: the wait for it was cancelled, timed out or failed",
            )
        except ServiceError as error:
            _log.error("%s; it may still be running: stop it by hand", error)
            return False
        _log.info("%s was told to stop", run.arn)
        return True
    _log.error("%s was not stopped within %g s: stop it by hand", run.arn, CLEANUP_TIMEOUT)
    return False


def _named(
    overrides: Mapping[str, Any] | Sequence[Mapping[str, Any]], container: str | None
) -> list[dict[str, Any]]:
    """The overrides as a list, each with the name of a container."""
    many = [overrides] if isinstance(overrides, Mapping) else overrides
    return [{"name": container or _DEFAULT_CONTAINER, **each} for each in many]


def _out_of_time(
    run: _Run, timeout: float | None, init_timeout: float, *, stopped: bool
) -> TaskTimeoutError:
    seconds = anyio.current_time() - run.begun
    whole = timeout is not None and seconds >= timeout
    problem = f"done within {timeout:g} s" if whole else f"running within {init_timeout:g} s"
    if run.arn is None:
        return TaskTimeoutError(f"the task was not started within {timeout:g} s", None)
    fate = "it was told to stop" if stopped else "it could not be stopped: stop it by hand"
    status = run.state.get("lastStatus", "UNKNOWN")
    return TaskTimeoutError(f"{run.arn} was not {problem} (it was {status}); {fate}", run.result())


def _judged(run: _Run) -> TaskResult:
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
