"""TaskStopper: sends StopTask until ECS accepts it, at a rate that all stops of a Session share."""

from __future__ import annotations

import logging
import math
import random
from functools import partial
from weakref import WeakKeyDictionary

import anyio

from aiohaul.aws.service import Service
from aiohaul.cancellation import run_shielded
from aiohaul.compute.task_run import TaskRun
from aiohaul.compute.task_starter import find
from aiohaul.concurrency import Lock
from aiohaul.errors import HaulError, ServiceError

#: The maximum seconds of one StopTask.
_ATTEMPT_TIMEOUT = 5.0
#: The seconds without a StopTask that ECS accepted after which no more StopTask is sent.
_GIVE_UP_AFTER = 30.0
#: The seconds between two requests after ECS throttles for the first time, and at most.
_FIRST_GAP = 0.1
_MAX_GAP = 2.0
#: The factor by which each accepted request shortens the gap, and the gap that counts as none.
_DECREASE = 0.95
_NO_GAP = 0.005

_log = logging.getLogger(__name__)


class RequestPacer:
    """Delays requests: at first not at all, and longer and longer while ECS throttles.

    Attributes:
        gap: the seconds between two requests, with a random deviation of up to 20 %.
        accepted_at: the time of the event loop when a request was last accepted.
    """

    def __init__(self) -> None:
        self.gap = 0.0
        self.accepted_at = -math.inf
        self._next = -math.inf
        self._slowed_at = -math.inf
        self._lock = Lock()

    async def wait(self) -> float:
        """Wait until the next request may be sent, in the order of the calls; return the time."""
        async with self._lock:
            # In a loop, because slow_down() may change the time during the sleep.
            while (now := anyio.current_time()) < self._next:  # noqa: ASYNC110
                await anyio.sleep_until(self._next)
            self._next = now + self.gap * random.uniform(0.8, 1.2)  # noqa: S311  # no secret
            return now

    def slow_down(self, sent_at: float, retry_after: float | None = None) -> None:
        """Double the time between two StopTask requests, because ECS throttled one.

        A request that was sent before the last doubling does not double the time again.

        Args:
            sent_at: the time of the event loop when the throttled request was sent.
            retry_after: the seconds to wait, from the response; None without a value.
        """
        if sent_at < self._slowed_at:
            return
        self._slowed_at = now = anyio.current_time()
        self.gap = min(max(self.gap * 2, _FIRST_GAP), _MAX_GAP)
        self._next = max(self._next, now + max(self.gap, retry_after or 0.0))

    def speed_up(self) -> None:
        """Shorten the gap, because a request was accepted."""
        self.accepted_at = anyio.current_time()
        self.gap = gap if (gap := self.gap * _DECREASE) > _NO_GAP else 0.0


class TaskStopper:
    """Stops the tasks of all calls of :meth:`FargateHandler.run` of a Session."""

    def __init__(self) -> None:
        self._pacers: WeakKeyDictionary[Service, RequestPacer] = WeakKeyDictionary()

    async def ensure_stopped(self, ecs: Service, run: TaskRun) -> bool:
        """Stop the task of a run if it may still run, even if the caller is cancelled.

        Returns:
            False if the task may still run.
        """
        if run.ended or (run.arn is None and not run.in_doubt):
            return True
        stopped: list[bool] = []
        await run_shielded(partial(self._find_and_stop, ecs, run), math.inf, stopped.append)
        return any(stopped)

    async def _find_and_stop(self, ecs: Service, run: TaskRun) -> bool:
        if run.arn is None:
            await find(ecs, run)
        if run.arn is None:
            _log.error("%s", run.where_to_look)
            return False
        accepted = await self._stop_until_accepted(ecs, run)
        if not accepted:
            _log.error("%s may still be running: stop it by hand", run.arn)
        return accepted

    async def _stop_until_accepted(self, ecs: Service, run: TaskRun) -> bool:
        pacer = self._pacers.setdefault(ecs, RequestPacer())
        begun = anyio.current_time()
        # While ECS accepts stops of other tasks, it will accept this stop too.
        while (
            remaining := max(begun, pacer.accepted_at) + _GIVE_UP_AFTER - anyio.current_time()
        ) > 0:
            with anyio.move_on_after(remaining):
                accepted = await _attempt(ecs, run, pacer)
                if accepted is not None:
                    return accepted
        return False


async def _attempt(ecs: Service, run: TaskRun, pacer: RequestPacer) -> bool | None:
    """Send StopTask once.

    Returns:
        True if ECS accepted the stop, False if a retry is useless, None to retry.
    """
    sent_at = await pacer.wait()
    retry_after = None
    with anyio.move_on_after(_ATTEMPT_TIMEOUT):
        try:
            await ecs.attempt(
                "stop_task",
                run.arn or "",
                cluster=run.cluster,
                task=run.arn,
                reason="aiohaul: the wait for it was cancelled, timed out or failed",
            )
        except HaulError as error:
            if not (isinstance(error, ServiceError) and error.retryable):
                _log.error("%s", error)
                return False
            _log.info("stopping %s failed, and is retried: %s", run.arn, error)
            retry_after = error.retry_after
        else:
            pacer.speed_up()
            _log.info("ECS accepted the stop of %s", run.arn)
            return True
    pacer.slow_down(sent_at, retry_after)
    return None
