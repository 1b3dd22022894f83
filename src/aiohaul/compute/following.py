"""Fargate tasks of one session, looked at together: one request for up to a hundred of them."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import anyio

from aiohaul.aws.service import Service
from aiohaul.concurrency import Lock
from aiohaul.errors import EndpointError, HaulError, ServiceError, TaskError

#: ARNs that one DescribeTasks takes.
DESCRIBE_BATCH = 100
#: Seconds that one look may take, its retries included.
_LOOK_TIMEOUT = 15.0
#: Who wants to look at once waits for so many seconds, for others who want to as well.
_TOGETHER = 0.25
#: The longest pause while looks fail, and how long they may go on failing, in seconds.
_LONGEST_PAUSE = 60.0
_PATIENCE = 600.0
#: How long a task may be unknown to ECS: right after its start it may be.
_MISSING_PATIENCE = 60.0

_log = logging.getLogger(__name__)

State = Mapping[str, Any]


class Following:
    """All tasks that the handlers of a session follow, by cluster, in batches of a hundred.

    No task of its own runs here. Whoever follows a task and finds that the next look is due
    takes it for its whole batch, under a lock; when it is cancelled, the next in line does. When
    nobody follows, nobody looks. A batch that gets no answer holds up no other.
    """

    def __init__(self) -> None:
        self._batches: dict[tuple[Service, str], list[_Batch]] = {}

    @contextmanager
    def follow(self, ecs: Service, cluster: str, arn: str, interval: float) -> Iterator[Followed]:
        """Follow a task until the block is left.

        Args:
            ecs: the way to ECS.
            cluster: the task's cluster.
            arn: the task's ARN.
            interval: seconds between two looks, give or take a fifth.
        """
        key = (ecs, cluster)
        batches = self._batches.setdefault(key, [])
        batch = next((each for each in batches if len(each.followed) < DESCRIBE_BATCH), None)
        if batch is None:
            batch = _Batch(ecs, cluster, interval)
            batches.append(batch)
        followed = batch.followed[arn] = Followed(batch)
        try:
            yield followed
        finally:
            del batch.followed[arn]
            if not batch.followed:
                batches.remove(batch)
            if not batches:
                self._batches.pop(key, None)


class Followed:
    """One task that is followed.

    Attributes:
        state: what DescribeTasks told of it last; None before the first look.
        failure: why it cannot be looked at any more.
        missing_since: since when ECS has not known it.
    """

    def __init__(self, batch: _Batch) -> None:
        self._batch = batch
        self.state: State | None = None
        self.failure: Exception | None = None
        self.missing_since: float | None = None

    async def look(self, *, now: bool = False) -> State | None:
        """Wait for the next look at all tasks of the batch, and give this one's state.

        Args:
            now: a look that begins from now on, as soon as those who ask for one too are heard.

        Raises:
            ServiceError: it cannot be looked at.
            TaskError: ECS does not know it.
        """
        batch = self._batch
        wanted = (batch.begun if now else batch.ended) + 1
        if now:
            batch.hurry()
        async with batch.lock:
            if batch.ended < wanted:  # nobody looked while the lock was waited for
                if now:
                    batch.hurry()
                await batch.look()
        if self.failure is not None:
            raise self.failure
        return self.state


class _Batch:
    """Up to a hundred tasks of one cluster, and when to look at them next.

    Attributes:
        followed: by ARN.
        lock: held by the one that looks.
        begun: the number of the last look that has begun.
        ended: the number of the last one that has ended.
    """

    def __init__(self, ecs: Service, cluster: str, interval: float) -> None:
        self.followed: dict[str, Followed] = {}
        self.lock = Lock()
        self.begun = 0
        self.ended = 0
        self._ecs = ecs
        self._cluster = cluster
        self._interval = interval
        self._pause = interval
        self._failing_since: float | None = None
        # Not at once: a task takes its time to start, and more of them may be about to.
        self._due = anyio.current_time() + interval
        self._hurried = anyio.Event()

    def hurry(self) -> None:
        """Make the next look due: all who want it at the same time get the same."""
        self._due = min(self._due, anyio.current_time() + _TOGETHER)
        self._hurried.set()

    async def look(self) -> None:
        """Look at every task, as soon as that is due. Under the lock only."""
        while (pause := self._due - anyio.current_time()) > 0:
            self._hurried = anyio.Event()
            with anyio.move_on_after(pause):
                await self._hurried.wait()
        self.begun += 1
        failure = await self._failure()
        if failure is None:
            self._failing_since, self._pause = None, self._interval
        else:
            self._put_up_with(failure)
            self._pause = min(max(self._pause, 1.0) * 2, max(_LONGEST_PAUSE, self._interval))
        self.ended = self.begun
        self._due = anyio.current_time() + self._pause * random.uniform(0.8, 1.2)  # noqa: S311  # no secret

    async def _failure(self) -> HaulError | None:
        """Look, and give what prevented it."""
        try:
            with anyio.move_on_after(_LOOK_TIMEOUT):
                await self._look_at(list(self.followed))
                return None
        except HaulError as error:
            return error
        return EndpointError(
            f"no answer came within {_LOOK_TIMEOUT:g} s.",
            operation="DescribeTasks",
            target=self._cluster,
            code="Timeout",
            retryable=True,
        )

    async def _look_at(self, arns: Sequence[str]) -> None:
        cluster = self._cluster
        answer = await self._ecs.call("describe_tasks", cluster, cluster=cluster, tasks=arns)
        for state in answer.get("tasks", ()):
            if (followed := self.followed.get(state.get("taskArn", ""))) is not None:
                followed.state, followed.missing_since = state, None
        self._note_missing([told.get("arn", "") for told in answer.get("failures", ())])

    def _put_up_with(self, error: HaulError) -> None:
        """Let a look fail that may well succeed later; any other ends the following."""
        now = anyio.current_time()
        if self._failing_since is None:
            self._failing_since = now
        passing = isinstance(error, ServiceError) and error.retryable
        if passing and now - self._failing_since < _PATIENCE:
            _log.warning("%s; another look follows", error)
            return
        for followed in self.followed.values():
            followed.failure = error

    def _note_missing(self, arns: Sequence[str]) -> None:
        now = anyio.current_time()
        for arn in arns:
            followed = self.followed.get(arn)
            if followed is None:
                continue
            if followed.missing_since is None:
                followed.missing_since = now
            if now - followed.missing_since >= _MISSING_PATIENCE:
                followed.failure = TaskError(f"ECS does not know the task {arn} in {self._cluster}")
