"""Fargate tasks of one session, looked at together: one request for up to a hundred of them."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import anyio

from aiohaul.aws.service import Service
from aiohaul.errors import ServiceError, TaskError

#: ARNs that one DescribeTasks takes.
DESCRIBE_BATCH = 100
#: The longest pause while looks fail, and how long they may go on failing, in seconds.
_LONGEST_PAUSE = 60.0
_PATIENCE = 600.0
#: How long a task may be unknown to ECS: right after its start it may be.
_MISSING_PATIENCE = 60.0

_log = logging.getLogger(__name__)

State = Mapping[str, Any]


class Following:
    """All tasks that the handlers of a session follow, by cluster.

    No task of its own runs here. Whoever follows a task and finds that the next look is due
    takes it for all, under a lock; when it is cancelled, the next in line does. When nobody
    follows, nobody looks.
    """

    def __init__(self) -> None:
        self._clusters: dict[tuple[Service, str], _Cluster] = {}

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
        group = self._clusters.setdefault(key, _Cluster(ecs, cluster, interval))
        followed = Followed(group)
        group.followed[arn] = followed
        try:
            yield followed
        finally:
            del group.followed[arn]
            if not group.followed:
                del self._clusters[key]


class Followed:
    """One task that is followed.

    Attributes:
        state: what DescribeTasks told of it last; None before the first look.
        failure: why it cannot be looked at any more.
        missing_since: since when ECS has not known it.
    """

    def __init__(self, cluster: _Cluster) -> None:
        self._cluster = cluster
        self.state: State | None = None
        self.failure: Exception | None = None
        self.missing_since: float | None = None

    async def look(self) -> State | None:
        """Wait for the next look at all tasks, and give this one's state.

        Raises:
            ServiceError: it cannot be looked at.
            TaskError: ECS does not know it.
        """
        turn = self._cluster.turn
        async with self._cluster.lock:
            if self._cluster.turn == turn:  # nobody took this turn while the lock was waited for
                await self._cluster.look()
        if self.failure is not None:
            raise self.failure
        return self.state


class _Cluster:
    """The tasks of one cluster that are followed, and when to look at them next."""

    def __init__(self, ecs: Service, name: str, interval: float) -> None:
        self.followed: dict[str, Followed] = {}
        self.lock = anyio.Lock()
        self.turn = 0
        self._ecs = ecs
        self._name = name
        self._interval = interval
        self._pause = interval
        self._failing_since: float | None = None
        # Not at once: a task takes its time to start, and more of them may be about to.
        self._due = anyio.current_time() + interval

    async def look(self) -> None:
        """Look at every task, as soon as that is due."""
        await anyio.sleep_until(self._due)
        arns = list(self.followed)
        failed = False
        for start in range(0, len(arns), DESCRIBE_BATCH):
            batch = arns[start : start + DESCRIBE_BATCH]
            try:
                await self._look_at(batch)
            except ServiceError as error:
                failed = True
                self._put_up_with(error, batch)
        if failed:
            self._pause = min(max(self._pause, 1.0) * 2, max(_LONGEST_PAUSE, self._interval))
        else:
            self._failing_since, self._pause = None, self._interval
        self.turn += 1
        self._due = anyio.current_time() + self._pause * random.uniform(0.8, 1.2)  # noqa: S311  # no secret

    async def _look_at(self, arns: Sequence[str]) -> None:
        answer = await self._ecs.call("describe_tasks", self._name, cluster=self._name, tasks=arns)
        for state in answer.get("tasks", ()):
            if (followed := self.followed.get(state.get("taskArn", ""))) is not None:
                followed.state, followed.missing_since = state, None
        self._note_missing([told.get("arn", "") for told in answer.get("failures", ())])

    def _put_up_with(self, error: ServiceError, arns: Sequence[str]) -> None:
        """Let a look fail that may well succeed later; any other ends the following."""
        now = anyio.current_time()
        if self._failing_since is None:
            self._failing_since = now
        if error.retryable and now - self._failing_since < _PATIENCE:
            _log.warning("%s; another look follows", error)
            return
        for arn in arns:
            if arn in self.followed:
                self.followed[arn].failure = error

    def _note_missing(self, arns: Sequence[str]) -> None:
        now = anyio.current_time()
        for arn in arns:
            followed = self.followed.get(arn)
            if followed is None:
                continue
            if followed.missing_since is None:
                followed.missing_since = now
            if now - followed.missing_since >= _MISSING_PATIENCE:
                followed.failure = TaskError(f"ECS does not know the task {arn} in {self._name}")
