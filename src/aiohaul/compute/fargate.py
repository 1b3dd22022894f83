"""FargateHandler: tasks that are started, followed to their end, and never left behind."""

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
from aiohaul.cancellation import in_own_task, to_its_end
from aiohaul.compute.following import Followed, Following
from aiohaul.compute.logs import LogStream, OnLog, stream_name
from aiohaul.compute.starting import check_token, find, start
from aiohaul.compute.stopping import Stopping
from aiohaul.compute.task import Run, TaskResult, check_container, judged, out_of_time, too_late
from aiohaul.errors import HaulError, ServiceError
from aiohaul.hidden import revealed
from aiohaul.parameters.single_flight import SingleFlight
from aiohaul.pickling import NotPicklable
from aiohaul.settings import Settings
from aiohaul.user_code import guarded, user_code

#: Seconds until a task has to run.
INIT_TIMEOUT = 60.0
#: Seconds between two looks at all running tasks of a cluster.
INTERVAL = 5.0
#: Seconds that a last look at a task whose time is up, and at its log, may take.
_LAST_LOOK_TIMEOUT = 5.0
#: Seconds that reading the log may take at the end, and the time that its last lines need.
_LOG_TIMEOUT = 60.0
#: Seconds that reading on may take while the task runs: the looks at it wait for that.
_LIVE_LOG_TIMEOUT = 10.0
_LOG_LAG = 2.0
#: Seconds before each look for a task whose ARN is not known.
_FIND_PAUSES = (0.0, 1.0, 2.0)
#: The container that an override without a name is for, as users of OTF know it.
_DEFAULT_CONTAINER = "default"

_log = logging.getLogger(__name__)

OnStart = Callable[[str], Awaitable[None]]


class FargateHandler(NotPicklable):
    """Fargate as one identity sees it. Cheap to make: equal ones share clients and looks.

    Made by :meth:`aiohaul.Session.fargate`.
    """

    def __init__(
        self,
        clients: Clients,
        following: Following,
        stopping: Stopping,
        reads: SingleFlight,
        settings: Settings | None = None,
        *,
        interval: float = INTERVAL,
    ) -> None:
        self._clients = clients
        self._following = following
        self._stopping = stopping
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
        init_timeout: float = INIT_TIMEOUT,
        on_log: OnLog | None = None,
        token: str | None = None,
        task: str | None = None,
        on_start: OnStart | None = None,
        stop: bool = True,
    ) -> TaskResult:
        """Run a task and wait for its end.

        However this call ends (cancelled, timed out, or by an error), a task that has not ended
        is told to stop first, and the call waits until AWS took that. With ``stop=False`` a
        cancellation, and that alone, leaves it running, for another call to go on with it.

        So a cancelled call ends within a second where ECS answers in that time. Where it does
        not, a RunTask under way has five seconds more, and where no answer comes ListTasks five
        to find the task; StopTask is sent until ECS takes it, at a pace that all stops of the
        session share, and given up once ECS took none for 30 seconds. Cancelled while nothing is
        under way (no slot is free, no connection has come about, or it pauses between two
        attempts), it ends at once, and nothing was started.

        AWS: RunTask with a clientToken; DescribeTasks, shared by all tasks that the session
        follows in a cluster; StopTask; ListTasks if RunTask was not answered; with ``log_group``
        DescribeTaskDefinition and GetLogEvents.

        Args:
            cluster: name or ARN.
            task_family: a task definition: its family, with a revision if need be, or ARN.
            network: ECS's networkConfiguration.
            overrides: containerOverrides, one or many; one without a name is for the container
                "default". A value in them may be :class:`aiohaul.Hidden`: then no error repeats
                what ECS says of them, which they are in. Who may describe the task sees it.
            container: whose exit code counts, and whose log is read; None is the first.
            log_group: the CloudWatch log group of the container; None reads no log.
            timeout: seconds from the call to the task's end; None is as long as it takes.
            init_timeout: seconds from the task's creation until it has to run.
            on_log: told of every line while the task runs; needs ``log_group``.
            token: the clientToken, which is the task's ``startedBy`` too: calls with the same
                token and the same task start it once, for a day at least while it runs. None is
                a new one.
            task: the ARN of a task that another call started: it is followed, and none started.
            on_start: awaited with the ARN once the task is started.
            stop: False leaves the task running when this call is cancelled.

        Returns:
            What became of it; the exit code is 0.

        Raises:
            TaskStartError: it could not be started, stopped before it ran, or has no such
                container.
            TaskFailedError: its exit code is not 0, or it has none.
            TaskTimeoutError: it was not running, or not done, in time.
            OutcomeUnknownError: RunTask was sent and not answered: a task may be running.
            SessionError: the Session ended; the task was told to stop.
            ClusterNotFoundError: there is no such cluster.
            AccessDeniedError: the credentials may not do this.
            ServiceError: another failure.
        """
        plain, secret = revealed(_named(overrides))
        begun = anyio.current_time()
        if on_log is not None:
            on_log = guarded("on_log", on_log)
        run = Run(cluster, container, log_group, on_log, begun=begun, arn=task, secret=secret)
        if token is not None:
            run.token = check_token(token)
        request = {
            "cluster": cluster,
            "taskDefinition": task_family,
            "launchType": "FARGATE",
            "count": 1,
            "clientToken": run.token,
            "startedBy": run.token,
            "overrides": {"containerOverrides": plain},
            **({"networkConfiguration": network} if network else {}),
        }
        deadline = math.inf if timeout is None else run.begun + timeout
        async with self._clients.undoable(f"{task_family} in {cluster} had ended"):
            return await self._run(
                run, request, deadline, timeout, init_timeout, on_start=on_start, stop=stop
            )
        raise AssertionError  # pragma: no cover  # undoable raises where it swallows

    async def _run(
        self,
        run: Run,
        request: Mapping[str, Any],
        deadline: float,
        timeout: float | None,
        init_timeout: float,
        *,
        on_start: OnStart | None,
        stop: bool,
    ) -> TaskResult:
        """Start the task, follow it, and see that it does not outlive this call."""
        in_time, stopped, left = False, True, False
        ecs: Service | None = None
        try:
            # A task that runs already is stopped when its time is up: that takes a client.
            with anyio.CancelScope(deadline=math.inf if run.arn else deadline) as starting:
                ecs = await self._clients.service("ecs", self._settings)
                if run.arn is None:
                    await start(ecs, run, request)
            if run.arn is not None and on_start is not None:
                with user_code("on_start"):
                    await on_start(run.arn)
            if not starting.cancelled_caught and ecs is not None:
                check_container(run)
                in_time = await self._follow(ecs, run, deadline, init_timeout)
        except anyio.get_cancelled_exc_class():
            left = not stop
            raise
        finally:
            if ecs is not None and not left:
                stopped = await self._stopping.leave_nothing(ecs, run)
        if not in_time:
            await self._read_log(run, 0.0, _LAST_LOOK_TIMEOUT)
            raise out_of_time(run, timeout, init_timeout, stopped=stopped)
        await self._read_log(run, _LOG_LAG, _LOG_TIMEOUT)
        return judged(run)

    @in_own_task
    async def stop(self, cluster: str, token: str, *, task: str | None = None) -> bool:
        """Stop what a call of :meth:`run` with this token left running.

        Once begun, it goes on to its end even when cancelled.

        AWS: StopTask, sent until ECS takes it, for 30 seconds without success at most; and
        ListTasks, three times in three seconds at most, if the ARN is not known.

        Args:
            cluster: name or ARN.
            token: that of the call.
            task: the ARN, if it is known.

        Returns:
            True once ECS took it, which it also does for a task that has ended; False if no such
            task is found, or ECS does not take it, which is logged.

        Raises:
            TaskStartError: no token can be like this.
            SettingsError: no credentials or region.
        """
        run = Run(cluster, None, None, None, begun=anyio.current_time(), arn=task)
        run.token = check_token(token)
        stopped: list[bool] = []

        async def stop_it() -> bool:
            ecs = await self._clients.service("ecs", self._settings)
            for pause in _FIND_PAUSES:  # ListTasks may lag behind
                if run.arn is None:
                    await anyio.sleep(pause)
                    await find(ecs, run)
            return run.arn is not None and await self._stopping.leave_nothing(ecs, run)

        await to_its_end(stop_it, math.inf, stopped.append)
        return any(stopped)

    async def _follow(self, ecs: Service, run: Run, deadline: float, init_timeout: float) -> bool:
        """Look until the task has ended: True if it has in time.

        A task whose time is up is looked at once more: since the last look at all of them it may
        have ended, or begun to run.
        """
        arn = run.arn or ""
        init_deadline = min(deadline, anyio.current_time() + init_timeout)
        with self._following.follow(ecs, run.cluster, arn, self._interval) as followed:
            while not run.ended:
                time_up = deadline if run.running else init_deadline
                with anyio.CancelScope(deadline=time_up) as turn:
                    run.take(await followed.look())
                    if run.on_log is not None and run.running and not run.ended:
                        await self._read_log(run, None, _LIVE_LOG_TIMEOUT)
                if turn.cancelled_caught:
                    await _look_once_more(followed, run)
                    if too_late(run, whole=time_up == deadline):
                        return False
        return True

    async def _read_log(self, run: Run, lag: float | None, within: float) -> None:
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

    async def _find_log(self, run: Run) -> None:
        """Settle the log stream of the container: its prefix stands in the task definition."""
        ecs = await self._clients.service("ecs", self._settings)
        definition = run.state.get("taskDefinitionArn", "")
        try:
            # Tasks of one definition often end together.
            answer = await self._reads.read(
                (ecs, "definition", definition),
                partial(
                    ecs.call, "describe_task_definition", definition, taskDefinition=definition
                ),
            )
            with translated("DescribeTaskDefinition", definition):
                told: Mapping[str, Any] = answer["taskDefinition"]
        except ServiceError as error:
            run.log_problem = str(error)
            _log.warning("the log of %s was not read: %s", run.arn, error)
            return
        container = run.watched.get("name", run.container)
        stream = stream_name(told, container, run.log_group, run.arn)
        if stream is None:
            run.log_problem = f"the task definition sends no log to {run.log_group}"
            _log.warning("the log of %s was not read: %s", run.arn, run.log_problem)
            return
        logs = await self._clients.service("logs", self._settings)
        run.log = LogStream(logs, run.log_group or "", stream, run.on_log)


async def _look_once_more(followed: Followed, run: Run) -> None:
    """Look at a task whose time is up, if that can be had soon; all of these share a look."""
    with anyio.move_on_after(_LAST_LOOK_TIMEOUT):
        try:
            run.take(await followed.look(now=True))
        except HaulError as error:
            _log.warning("%s; the look before counts", error)


def _named(
    overrides: Mapping[str, Any] | Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """The overrides as a list, each with the name of a container."""
    many = [overrides] if isinstance(overrides, Mapping) else overrides
    return [{"name": _DEFAULT_CONTAINER, **each} for each in many]
