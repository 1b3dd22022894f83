"""TaskPoller: polls the ECS tasks of a Session together, up to a hundred in one request."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import anyio

from aiohaul.aws.service import Service
from aiohaul.concurrency import Lock
from aiohaul.errors import EndpointError, FargateTaskError, HaulError, ServiceError

#: The maximum number of ARNs in one DescribeTasks.
DESCRIBE_BATCH = 100
#: The maximum seconds of one poll, including retries.
_POLL_TIMEOUT = 15.0
#: The seconds that an immediate poll waits, so that one poll serves several callers.
_COLLECT_TIME = 0.25
#: The maximum seconds between two polls while polls fail.
_MAX_FAILURE_INTERVAL = 60.0
#: The seconds without a successful poll after which the waits for all tasks of the batch fail.
_FAILURE_TIMEOUT = 600.0
#: The maximum seconds for which ECS may not know a task, which is normal shortly after RunTask.
_MISSING_TIMEOUT = 60.0

_log = logging.getLogger(__name__)

State = Mapping[str, Any]


class TaskPoller:
    """Polls all ECS tasks for which the handlers of a Session wait.

    The tasks of a cluster are polled in batches of up to a hundred. The poller starts no asyncio
    task. When a poll is due, one of the callers that wait polls the whole batch, under a lock. If
    this caller is cancelled, another caller polls. Without callers there are no polls. If ECS does
    not respond to the poll of one batch, other batches are not delayed.
    """

    def __init__(self) -> None:
        self._batches: dict[tuple[Service, str], list[_PollGroup]] = {}

    @contextmanager
    def track(self, ecs: Service, cluster: str, arn: str, interval: float) -> Iterator[TrackedTask]:
        """Return a context manager that includes a task in the polls until the block ends.

        Args:
            ecs: the client of ECS.
            cluster: the cluster of the task.
            arn: the ARN of the task.
            interval: the seconds between two polls, with a random deviation of up to 20 %.
        """
        key = (ecs, cluster)
        batches = self._batches.setdefault(key, [])
        batch = next((each for each in batches if len(each.tracked) < DESCRIBE_BATCH), None)
        if batch is None:
            batch = _PollGroup(ecs, cluster, interval)
            batches.append(batch)
        tracked = batch.tracked[arn] = TrackedTask(batch)
        try:
            yield tracked
        finally:
            del batch.tracked[arn]
            if not batch.tracked:
                batches.remove(batch)
            if not batches:
                self._batches.pop(key, None)


class TrackedTask:
    """One ECS task that is polled.

    Attributes:
        state: the task in the last DescribeTasks response; None before the first response.
        failure: the error that ended the polls of the task; None without an error.
        missing_since: the time of the event loop since which ECS does not know the task; None if
            ECS knows the task.
    """

    def __init__(self, batch: _PollGroup) -> None:
        self._batch = batch
        self.state: State | None = None
        self.failure: Exception | None = None
        self.missing_since: float | None = None

    async def poll(self, *, now: bool = False) -> State | None:
        """Return the state of this task from the next DescribeTasks, which asks for many tasks.

        Args:
            now: send that request within 0.25 s, instead of at its usual time.

        Raises:
            ServiceError: the task cannot be polled.
            FargateTaskError: ECS does not know the task.
        """
        batch = self._batch
        wanted = (batch.begun if now else batch.ended) + 1
        if now:
            batch.poll_now()
        async with batch.lock:
            if batch.ended < wanted:  # no other waiter polled meanwhile
                if now:
                    batch.poll_now()
                await batch.poll()
        if self.failure is not None:
            raise self.failure
        return self.state


class _PollGroup:
    """Up to a hundred tasks of one cluster that are polled with one request.

    Attributes:
        tracked: the tasks by ARN.
        lock: held by the caller that polls.
        begun: the number of the last poll that has begun.
        ended: the number of the last poll that has ended.
    """

    def __init__(self, ecs: Service, cluster: str, interval: float) -> None:
        self.tracked: dict[str, TrackedTask] = {}
        self.lock = Lock()
        self.begun = 0
        self.ended = 0
        self._ecs = ecs
        self._cluster = cluster
        self._interval = interval
        self._pause = interval
        self._failing_since: float | None = None
        # Not at once, because a task needs time to start, and other tasks may be started now.
        self._due = anyio.current_time() + interval
        self._due_changed = anyio.Event()

    def poll_now(self) -> None:
        """Make the next poll due within 0.25 s, so that one poll serves several callers."""
        self._due = min(self._due, anyio.current_time() + _COLLECT_TIME)
        self._due_changed.set()

    async def poll(self) -> None:
        """Wait until the poll is due, and poll all tasks once. The caller must hold the lock."""
        while (pause := self._due - anyio.current_time()) > 0:
            self._due_changed = anyio.Event()
            with anyio.move_on_after(pause):
                await self._due_changed.wait()
        self.begun += 1
        failure = await self._try_poll()
        if failure is None:
            self._failing_since, self._pause = None, self._interval
        else:
            self._tolerate_or_fail(failure)
            self._pause = min(max(self._pause, 1.0) * 2, max(_MAX_FAILURE_INTERVAL, self._interval))
        self.ended = self.begun
        self._due = anyio.current_time() + self._pause * random.uniform(0.8, 1.2)  # noqa: S311  # no secret

    async def _try_poll(self) -> HaulError | None:
        """Poll all tasks (DescribeTasks); return the error if the poll fails."""
        try:
            with anyio.move_on_after(_POLL_TIMEOUT):
                await self._describe(list(self.tracked))
                return None
        except HaulError as error:
            return error
        return EndpointError(
            f"no response came within {_POLL_TIMEOUT:g} s.",
            operation="DescribeTasks",
            target=self._cluster,
            code="Timeout",
            retryable=True,
        )

    async def _describe(self, arns: Sequence[str]) -> None:
        cluster = self._cluster
        answer = await self._ecs.call("describe_tasks", cluster, cluster=cluster, tasks=arns)
        for state in answer.get("tasks", ()):
            if (tracked := self.tracked.get(state.get("taskArn", ""))) is not None:
                tracked.state, tracked.missing_since = state, None
        self._record_missing([each.get("arn", "") for each in answer.get("failures", ())])

    def _tolerate_or_fail(self, error: HaulError) -> None:
        """Log a transient error; any other error fails the waits for all tasks of the batch."""
        now = anyio.current_time()
        if self._failing_since is None:
            self._failing_since = now
        transient = isinstance(error, ServiceError) and error.retryable
        if transient and now - self._failing_since < _FAILURE_TIMEOUT:
            _log.warning("polling tasks in %s failed, and is retried: %s", self._cluster, error)
            return
        for tracked in self.tracked.values():
            tracked.failure = error

    def _record_missing(self, arns: Sequence[str]) -> None:
        """Record tasks that ECS does not know; fail the waits for those missing for too long."""
        now = anyio.current_time()
        for arn in arns:
            tracked = self.tracked.get(arn)
            if tracked is None:
                continue
            if tracked.missing_since is None:
                tracked.missing_since = now
            if now - tracked.missing_since >= _MISSING_TIMEOUT:
                tracked.failure = FargateTaskError(
                    f"ECS does not know the task {arn} in {self._cluster}"
                )
