"""The events that a running transfer, watch or batch passes to ``on_progress``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from aiohaul.report import BatchReport, Order
from aiohaul.report_json import TaskState


@dataclass(frozen=True, slots=True)
class WatchPolled:
    """A watch polled without a match, and will poll again.

    Attributes:
        where: the directory, object or log that is polled, such as ``s3://bucket/src/``.
        seconds_left: the seconds until the timeout of the watch.
        failure: the transient error of the poll (throttled, 5xx, no response), or None.
    """

    where: str
    seconds_left: float
    failure: Exception | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The sources of a transfer are selected, and copying starts.

    Attributes:
        objects: the number of sources.
        size: the total size of the sources, in bytes.
        destinations: the names of the destinations, as in later events.
    """

    objects: int
    size: int
    destinations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Copied:
    """The copy of one object to one destination is complete and verified.

    Attributes:
        source: the URI or path of the source.
        target: the URI or path of the copy.
        destination: the name of the destination.
        size: the size of the object, in bytes.
        already_there: True if an earlier, interrupted run copied the object.
    """

    source: str
    target: str
    destination: str
    size: int
    already_there: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """The copy of one object to one destination failed, or the post-copy action on the object.

    Attributes:
        source: the URI or path of the source.
        destination: the name of the destination, or of the action, such as ``delete``.
        error: the cause of the failure.
    """

    source: str
    destination: str
    error: Exception


@dataclass(frozen=True, slots=True)
class FlagWritten:
    """All copies to a destination are complete, and the flag of the destination is written.

    Attributes:
        target: the URI or path of the flag.
        destination: the name of the destination.
    """

    target: str
    destination: str


@dataclass(frozen=True, slots=True)
class SourceActionDone:
    """The post-copy action on one source succeeded.

    Attributes:
        action: ``move``, ``rename`` or ``delete``.
        source: the URI or path of the source.
    """

    action: str
    source: str


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """A task in the plan of a batch that starts.

    Attributes:
        order: the order_ids of the batches that contain the task, then the task's own order_id.
            ``(3,)`` is task 3 of the outermost batch, ``(3, 1)`` is task 1 of the batch in task 3.
        task_id: the name of the task definition.
        dependencies: the ``order`` of each task for which this task waits.
        type: the type in the task definition.
    """

    order: Order
    task_id: str
    dependencies: tuple[Order, ...]
    type: Literal["transfer", "execution", "batch"]


@dataclass(frozen=True, slots=True)
class BatchStarted:
    """A batch starts. Sent once, for the outermost batch.

    Attributes:
        tasks: all tasks. The tasks of a nested batch follow that batch.
    """

    tasks: tuple[PlannedTask, ...]


@dataclass(frozen=True, slots=True)
class TaskQueued:
    """A task of a batch waits, because ``max_concurrency`` other tasks are running.

    Sent before TaskStarted. For a task with a file watch, sent after TaskStarted, when the watch
    has ended.

    Attributes:
        order: the order of the task, as in PlannedTask.
        task_id: the name of the task definition.
    """

    order: Order
    task_id: str


@dataclass(frozen=True, slots=True)
class TaskStarted:
    """A task of a batch starts. Sent at most once for each task.

    Attributes:
        order: the order of the task, as in PlannedTask.
        task_id: the name of the task definition.
    """

    order: Order
    task_id: str


@dataclass(frozen=True, slots=True)
class TaskResumed:
    """A task continues after it was queued with TaskQueued while it was running.

    Attributes:
        order: the order of the task, as in PlannedTask.
        task_id: the name of the task definition.
    """

    order: Order
    task_id: str


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """An event of one task of a batch, such as Copied.

    Attributes:
        order: the order of the task, as in PlannedTask.
        task_id: the name of the task definition.
        event: the event of the task.
    """

    order: Order
    task_id: str
    event: Event


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """A task of a batch has ended, or will not be started.

    Attributes:
        order: the order of the task, as in PlannedTask.
        task_id: the name of the task definition.
        state: the final state of the task, such as ``succeeded``.
        seconds: the seconds from the start to the end of the task.
        why: the error of a task that failed or timed out, or the reason why the task was not run;
            else None.
    """

    order: Order
    task_id: str
    state: TaskState
    seconds: float = 0.0
    why: str | None = None


@dataclass(frozen=True, slots=True)
class BatchEnded:
    """A batch has ended: succeeded, failed or cancelled. Sent once, for the outermost batch.

    Attributes:
        report: the report of the batch.
    """

    report: BatchReport


#: The events of a batch.
BatchEvent = (
    BatchStarted | TaskQueued | TaskStarted | TaskResumed | TaskProgress | TaskEnded | BatchEnded
)

Event = WatchPolled | Found | Copied | Failed | FlagWritten | SourceActionDone | BatchEvent

#: A callback that aiohaul calls on the event loop for every event. The callback must not block. If
#: it raises an exception, the task fails.
OnProgress = Callable[[Event], None]


def ignore(event: object) -> None:
    """Do nothing. The default of ``on_progress``."""
