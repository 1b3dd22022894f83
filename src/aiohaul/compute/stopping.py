"""StopTask, sent until ECS takes it, at a pace that all stops of a session share."""

from __future__ import annotations

import logging
import math
import random
from functools import partial
from weakref import WeakKeyDictionary

import anyio

from aiohaul.aws.service import Service
from aiohaul.cancellation import to_its_end
from aiohaul.compute.starting import find
from aiohaul.compute.task import Run
from aiohaul.concurrency import Lock
from aiohaul.errors import HaulError, ServiceError

#: Seconds that one StopTask may take.
_ATTEMPT_TIMEOUT = 5.0
#: Seconds without any StopTask that ECS took, after which those that are left are given up.
_PATIENCE = 30.0
#: Seconds between two requests: the first time that ECS throttles, and at most.
_FIRST_GAP = 0.1
_LONGEST_GAP = 2.0
#: What a request that was taken makes of the gap, and the gap that is none any more.
_FASTER = 0.95
_NO_GAP = 0.005

_log = logging.getLogger(__name__)


class Spacing:
    """How fast requests may follow each other: at once, and slower while ECS throttles them.

    Attributes:
        gap: seconds between two requests, give or take a fifth.
        taken: when one was last taken, on the clock of the event loop.
    """

    def __init__(self) -> None:
        self.gap = 0.0
        self.taken = -math.inf
        self._next = -math.inf
        self._slowed = -math.inf
        self._lock = Lock()

    async def turn(self) -> float:
        """Wait for a turn, in the order of asking: when it came."""
        async with self._lock:
            # It may be put off while it is waited for.
            while (now := anyio.current_time()) < self._next:  # noqa: ASYNC110
                await anyio.sleep_until(self._next)
            self._next = now + self.gap * random.uniform(0.8, 1.2)  # noqa: S311  # no secret
            return now

    def slow_down(self, turn: float, retry_after: float | None = None) -> None:
        """Note that the request of this turn was throttled.

        Those that were under way together space them out only once: they tell the same.
        """
        if turn < self._slowed:
            return
        self._slowed = now = anyio.current_time()
        self.gap = min(max(self.gap * 2, _FIRST_GAP), _LONGEST_GAP)
        self._next = max(self._next, now + max(self.gap, retry_after or 0.0))

    def speed_up(self) -> None:
        """Note that a request was taken."""
        self.taken = anyio.current_time()
        self.gap = faster if (faster := self.gap * _FASTER) > _NO_GAP else 0.0


class Stopping:
    """The stops of all runs of a session."""

    def __init__(self) -> None:
        self._spacings: WeakKeyDictionary[Service, Spacing] = WeakKeyDictionary()

    async def leave_nothing(self, ecs: Service, run: Run) -> bool:
        """Stop the task of a run if it may still run, whatever happens to the caller.

        Returns:
            False if it may run on.
        """
        if run.ended or (run.arn is None and not run.in_doubt):
            return True
        stopped: list[bool] = []
        await to_its_end(partial(self._find_and_stop, ecs, run), math.inf, stopped.append)
        return any(stopped)

    async def _find_and_stop(self, ecs: Service, run: Run) -> bool:
        if run.arn is None:
            await find(ecs, run)
        if run.arn is None:
            _log.error("%s", run.where_to_look)
            return False
        taken = await self._until_taken(ecs, run)
        if not taken:
            _log.error("%s may still be running: stop it by hand", run.arn)
        return taken

    async def _until_taken(self, ecs: Service, run: Run) -> bool:
        spacing = self._spacings.setdefault(ecs, Spacing())
        begun = anyio.current_time()
        # As long as ECS takes those of others, this one's turn will come.
        while (left := max(begun, spacing.taken) + _PATIENCE - anyio.current_time()) > 0:
            with anyio.move_on_after(left):
                taken = await _attempt(ecs, run, spacing)
                if taken is not None:
                    return taken
        return False


async def _attempt(ecs: Service, run: Run, spacing: Spacing) -> bool | None:
    """Tell the task to stop: True if ECS took that, False if it never will, None if it may yet."""
    turn = await spacing.turn()
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
            _log.info("%s; it is sent again", error)
            retry_after = error.retry_after
        else:
            spacing.speed_up()
            _log.info("%s was told to stop", run.arn)
            return True
    spacing.slow_down(turn, retry_after)
    return None
