"""FargateHandler: runs Fargate tasks, and stops tasks when the wait for them ends early."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import anyio

from aiohaul.aws.clients import Clients
from aiohaul.aws.errors import translated
from aiohaul.aws.service import Service
from aiohaul.cancellation import in_own_task, run_shielded
from aiohaul.compute.logs import LogStream, OnLog, no_stream_problem, stream_name
from aiohaul.compute.task_poller import TaskPoller, TrackedTask
from aiohaul.compute.task_run import (
    INIT_TIMEOUT,
    TaskRun,
    check_container,
    essential_containers,
    out_of_time,
    result_or_raise,
)
from aiohaul.compute.task_starter import (
    check_token,
    find,
    run_task_request,
    start,
    start_with_retries,
)
from aiohaul.compute.task_stopper import TaskStopper
from aiohaul.errors import HaulError, ServiceError
from aiohaul.pickling import NotPicklable
from aiohaul.results import TaskResult
from aiohaul.sensitive import reveal
from aiohaul.settings import Settings
from aiohaul.single_flight import SingleFlight
from aiohaul.user_code import guarded, user_code

#: The seconds between two polls of the running tasks of a cluster.
INTERVAL = 5.0
#: The maximum seconds of the last poll, and of the last read of the log, after a timeout.
_LAST_POLL_TIMEOUT = 5.0
#: The maximum seconds of reading the task definition, and of reading the log of an ended task.
_LOG_TIMEOUT = 60.0
#: The maximum seconds of reading the log of a running task, because its next poll waits meanwhile.
_LIVE_LOG_TIMEOUT = 10.0
#: The maximum seconds of reading the log of a task whose call was cancelled.
_CANCELLED_LOG_TIMEOUT = 0.7
#: The seconds that the last lines of a log need to reach CloudWatch.
_LOG_LAG = 2.0
#: The number of containers from which on it is not clear whose exit code counts.
_MANY = 2
#: The seconds before each ListTasks for a task whose ARN is not known.
_FIND_PAUSES = (0.0, 1.0, 2.0)
#: The name of the container in an override without a name, as in OTF.
_DEFAULT_CONTAINER = "default"

_log = logging.getLogger(__name__)

OnStart = Callable[[str], Awaitable[None]]
OnCancelled = Callable[[TaskResult], None]


class FargateHandler(NotPicklable):
    """Runs and stops Fargate tasks with one set of credentials.

    Created by :meth:`aiohaul.Session.fargate`. A handler is cheap to create, because equal handlers
    share clients and polls.
    """

    def __init__(
        self,
        clients: Clients,
        poller: TaskPoller,
        stopper: TaskStopper,
        reads: SingleFlight,
        settings: Settings | None = None,
        *,
        interval: float = INTERVAL,
    ) -> None:
        self._clients = clients
        self._poller = poller
        self._stopper = stopper
        self._reads = reads
        self._settings = settings
        self._interval = interval

    @in_own_task
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
        init_timeout: float | None = None,
        retry_start: bool = False,
        run_task: Mapping[str, Any] | None = None,
        on_log: OnLog | None = None,
        token: str | None = None,
        task: str | None = None,
        on_start: OnStart | None = None,
        on_cancelled: OnCancelled | None = None,
        stop: bool = True,
    ) -> TaskResult:
        """Run a Fargate task and wait for its end.

        If the call is cancelled, times out or fails, it first stops the task if the task has not
        ended, and waits until ECS accepts the stop. With ``stop=False``, a cancelled call leaves
        the task running, so that another call can wait for the task. A timeout or an error still
        stops the task.

        A cancelled call ends within a second if ECS responds in this time. If ECS does not respond,
        a RunTask that was sent gets five more seconds, and then ListTasks gets five seconds to find
        the task. StopTask is sent until ECS accepts it. All stops of the Session share one rate of
        requests, and give up after ECS has accepted no stop for 30 seconds. If the call is
        cancelled before RunTask is sent, while it waits for a connection or the next attempt, it
        ends at once, and no task was started.

        AWS: RunTask with a clientToken; DescribeTasks, one request for up to a hundred tasks of a
        cluster; StopTask; ListTasks if RunTask got no response; DescribeTaskDefinition and
        GetLogEvents if ``log_group`` is given. DescribeTaskDefinition also if the task has many
        containers, and neither ``container`` nor ``overrides`` names one.

        Args:
            cluster: the name or ARN of the cluster.
            task_family: the task definition, as family, ``family:revision`` or ARN.
            network: the networkConfiguration of ECS.
            overrides: one or many containerOverrides of ECS. An override without a name is for the
                container "default". A value may be :class:`aiohaul.Sensitive`. Then no error
                contains the response of ECS, which may contain the value. DescribeTasks returns the
                value.
            container: the container whose exit code counts and whose log is read. None selects the
                container that ``overrides`` names, or else the only essential container that is not
                a log router. If there are many, the run fails if one of them ends with a code other
                than 0, 137 and 143, or if none of them ends with 0.
            log_group: the CloudWatch log group of the container; None reads no log.
            timeout: the maximum seconds from the call to the end of the task; None for no limit.
            init_timeout: the maximum seconds in which the task is PENDING. None allows 60 seconds,
                without the time to pull an image.
            retry_start: send RunTask again, for up to ``init_timeout`` seconds, if ECS has no
                capacity, network interface or agent for the task.
            run_task: more parameters of RunTask, with the names of AWS: launchType,
                capacityProviderStrategy, platformVersion, tags, overrides (cpu, memory, roles)
                and others. botocore checks them before the request.
            on_log: called for every line of the log while the task runs; needs ``log_group``.
            token: the clientToken, and the ``startedBy`` of the task. Calls with the same token and
                the same arguments start only one task, for at least a day while the task runs. None
                creates a new token.
            task: the ARN of a task that another call started. This call then starts no task, and
                waits for that task.
            on_start: awaited with the ARN after the task was started.
            on_cancelled: called with the last known state of the task if this call is cancelled and
                stops the task. While ECS stops the task, the newest lines of its log are read, for
                up to 0.7 seconds, if ``log_group`` is given.
            stop: stop the task if this call is cancelled. False leaves the task running.

        Returns:
            The result of the task, whose exit code is 0.

        Raises:
            FargateTaskStartError: ECS did not start the task, the task stopped before it ran, or
                the task has no container with the name ``container``.
            FargateTaskFailedError: the exit code is not 0, or there is no exit code.
            FargateTaskTimeoutError: the task was not running, or had not ended, in time.
            OutcomeUnknownError: RunTask was sent and got no response, so a task may be running.
            SessionError: the Session ended, and a stop of the task was requested.
            ClusterNotFoundError: the cluster does not exist.
            AccessDeniedError: the credentials do not allow a request.
            ServiceError: a request failed for another reason.
        """
        named = _named(overrides)
        (plain, more), secret = reveal((named, run_task or {}))
        begun = anyio.current_time()
        if on_log is not None:
            on_log = guarded("on_log", on_log)
        if on_cancelled is not None:
            on_cancelled = guarded("on_cancelled", on_cancelled)
        run = TaskRun(cluster, container, log_group, on_log, begun=begun, arn=task, secret=secret)
        run.overridden = frozenset(each["name"] for each in named)
        if token is not None:
            run.token = check_token(token)
        request = run_task_request(run, task_family, network, plain, more)
        deadline = math.inf if timeout is None else run.begun + timeout
        async with self._clients.cancel_on_close(f"{task_family} in {cluster} had ended"):
            return await self._run(
                run,
                request,
                deadline,
                timeout,
                init_timeout,
                retry_start=retry_start,
                on_start=on_start,
                on_cancelled=on_cancelled,
                stop=stop,
            )
        raise AssertionError  # pragma: no cover  # cancel_on_close raises if it swallows

    async def _run(
        self,
        run: TaskRun,
        request: Mapping[str, Any],
        deadline: float,
        timeout: float | None,
        init_timeout: float | None,
        *,
        retry_start: bool,
        on_start: OnStart | None,
        on_cancelled: OnCancelled | None,
        stop: bool,
    ) -> TaskResult:
        """Start the task, wait for its end, and stop it if this call ends first."""
        in_time, stopped, detached = False, True, False
        ecs: Service | None = None
        try:
            # Stopping a task that already runs needs a client, even after the deadline.
            with anyio.CancelScope(deadline=math.inf if run.arn else deadline) as starting:
                ecs = await self._clients.service("ecs", self._settings)
                if run.arn is None and retry_start:
                    give_up_at = run.begun + (
                        INIT_TIMEOUT if init_timeout is None else init_timeout
                    )
                    await start_with_retries(ecs, run, request, give_up_at)
                elif run.arn is None:
                    await start(ecs, run, request)
            if run.arn is not None and on_start is not None:
                with user_code("on_start"):
                    await on_start(run.arn)
            if not starting.cancelled_caught and ecs is not None:
                check_container(run)
                in_time = await self._wait_for_end(ecs, run, deadline, init_timeout)
        except anyio.get_cancelled_exc_class():
            detached = not stop
            if stop and ecs is not None and on_cancelled is not None:
                detached = True  # stopped here
                await run_shielded(partial(self._stop_and_report, ecs, run, on_cancelled), math.inf)
            raise
        finally:
            if ecs is not None and not detached:
                stopped = await self._stopper.ensure_stopped(ecs, run)
        if not in_time:
            await self._read_log(run, 0.0, _LAST_POLL_TIMEOUT)
            raise out_of_time(run, timeout, init_timeout, stopped=stopped)
        await self._choose_container(run)
        await self._read_log(run, _LOG_LAG, _LOG_TIMEOUT)
        return result_or_raise(run)

    async def _stop_and_report(self, ecs: Service, run: TaskRun, on_cancelled: OnCancelled) -> None:
        """Stop the task of a cancelled call; pass its last known state to ``on_cancelled``."""
        async with anyio.create_task_group() as group:
            read_log = partial(self._read_log, run, 0.0, _CANCELLED_LOG_TIMEOUT, newest=True)
            group.start_soon(read_log)
            await self._stopper.ensure_stopped(ecs, run)
        if run.arn is not None:
            on_cancelled(run.result())

    @in_own_task
    async def stop(self, cluster: str, token: str, *, task: str | None = None) -> bool:
        """Stop the task that a call of :meth:`run` with this token left running.

        Once begun, it goes on to its end even if the caller is cancelled.

        AWS: StopTask, sent until ECS accepts it, for 30 seconds without success at most; and
        ListTasks, three times in three seconds at most, if the ARN is not known.

        Args:
            cluster: the name or ARN of the cluster.
            token: the token of that call.
            task: the ARN of the task; None if the ARN is not known.

        Returns:
            True if ECS accepted the stop, even if the task had ended before. False if the task was
            not found, or if ECS did not accept the stop, which is logged.

        Raises:
            FargateTaskStartError: ``token`` is not a valid token.
            SettingsError: credentials or region are missing.
        """
        run = TaskRun(cluster, None, None, None, begun=anyio.current_time(), arn=task)
        run.token = check_token(token)
        stopped: list[bool] = []

        async def stop_it() -> bool:
            ecs = await self._clients.service("ecs", self._settings)
            for pause in _FIND_PAUSES:  # ListTasks may lag behind
                if run.arn is None:
                    await anyio.sleep(pause)
                    await find(ecs, run)
            return run.arn is not None and await self._stopper.ensure_stopped(ecs, run)

        await run_shielded(stop_it, math.inf, stopped.append)
        return any(stopped)

    async def _wait_for_end(
        self, ecs: Service, run: TaskRun, deadline: float, init_timeout: float | None
    ) -> bool:
        """Poll until the task has ended; return False if it has not ended in time.

        After a timeout, the task is polled once more, because it may have ended, or begun to run,
        since the last poll.
        """
        arn = run.arn or ""
        with self._poller.track(ecs, run.cluster, arn, self._interval) as tracked:
            while not run.ended:
                time_up = min(deadline, run.init_deadline(init_timeout))
                with anyio.CancelScope(deadline=time_up) as scope:
                    run.update(await tracked.poll())
                    if run.on_log is not None and run.running and not run.ended:
                        await self._read_log(run, None, _LIVE_LOG_TIMEOUT)
                if scope.cancelled_caught:
                    await _poll_once_more(tracked, run)
                    time_up = min(deadline, run.init_deadline(init_timeout))
                    if run.is_late(time_up):
                        return False
        return True

    async def _choose_container(self, run: TaskRun) -> None:
        """Select the container whose exit code counts, if the caller named no container."""
        if run.container is not None or run.counted or len(run.names) < _MANY:
            return
        overridden = run.overridden.intersection(run.names)
        if len(overridden) == 1:
            (run.container,) = overridden
            return
        try:
            with anyio.fail_after(_LOG_TIMEOUT):
                essential, others = essential_containers(await self._task_definition(run))
        except (ServiceError, TimeoutError) as error:
            run.container = run.names[0]
            _log.warning(
                "selecting the container of %s failed, so the exit code of its first container, %s,"
                " counts. Pass the name of the container: %s",
                run.arn,
                run.container,
                str(error) or "DescribeTaskDefinition got no response",
            )
            return
        if len(others) == 1:
            run.container = others[0]
            return
        run.counted = tuple(essential) or tuple(run.names)
        _log.warning(
            "no single container of %s was selected, so the run fails if one of these containers"
            " fails: %s. Pass the name of the container",
            run.arn,
            ", ".join(run.counted),
        )

    async def _read_log(
        self, run: TaskRun, lag: float | None, timeout: float, *, newest: bool = False
    ) -> None:
        """Read the new lines of the log.

        Args:
            run: the task.
            lag: the seconds to wait for the last lines of an ended task; None while the task runs.
            timeout: the maximum seconds of the read.
            newest: read only the newest lines of a log that was not read yet.
        """
        if run.log_group is None or run.arn is None:
            return
        with anyio.move_on_after(timeout) as scope:
            await self._choose_container(run)
            if run.log is None and run.log_problem is None:
                await self._find_log(run)
            if run.log is None:
                return
            await (run.log.read_last() if newest else run.log.read_on())
            if lag:
                await anyio.sleep(lag)
                await run.log.read_on()
        if scope.cancelled_caught and lag is not None:
            problem = run.log.problem if run.log else None
            reason = problem or "CloudWatch did not respond"
            _log.warning(
                "the log of %s was not read to its end within %g s: %s", run.arn, timeout, reason
            )

    async def _task_definition(self, run: TaskRun) -> Mapping[str, Any]:
        """Return the task definition of a task (DescribeTaskDefinition).

        Raises:
            ServiceError: the task definition cannot be read.
        """
        ecs = await self._clients.service("ecs", self._settings)
        definition = run.state.get("taskDefinitionArn", "")
        # Shared, because tasks with the same task definition often end at the same time.
        answer = await self._reads.read(
            (ecs, "definition", definition),
            lambda: ecs.call("describe_task_definition", definition, taskDefinition=definition),
        )
        with translated("DescribeTaskDefinition", definition):
            described: Mapping[str, Any] = answer["taskDefinition"]
        return described

    async def _find_log(self, run: TaskRun) -> None:
        """Find the log stream of the container by the prefix in the task definition."""
        try:
            definition = await self._task_definition(run)
        except ServiceError as error:
            run.log_problem = str(error)
            _log.warning("the log of %s was not read: %s", run.arn, error)
            return
        container = run.watched.get("name", run.container)
        stream = stream_name(definition, container, run.log_group, run.arn)
        if stream is None:
            run.log_problem = no_stream_problem(definition, container, run.log_group or "")
            _log.warning("the log of %s was not read: %s", run.arn, run.log_problem)
            return
        logs = await self._clients.service("logs", self._settings)
        run.log = LogStream(logs, run.log_group or "", stream, run.on_log)


async def _poll_once_more(tracked: TrackedTask, run: TaskRun) -> None:
    """Poll a task once more after a timeout. All tasks that time out together share one poll."""
    with anyio.move_on_after(_LAST_POLL_TIMEOUT):
        try:
            run.update(await tracked.poll(now=True))
        except HaulError as error:
            _log.warning("the last poll failed, so the state before it counts: %s", error)


def _named(
    overrides: Mapping[str, Any] | Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Return the overrides as a list, each with the name of a container."""
    many = [overrides] if isinstance(overrides, Mapping) else overrides
    return [{"name": _DEFAULT_CONTAINER, **each} for each in many]
