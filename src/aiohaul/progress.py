"""What a running task tells whoever asked to be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from aiohaul.report import BatchReport, Order, TaskState


@dataclass(frozen=True, slots=True)
class Watching:
    """A watch looked, found nothing that counts, and will look again.

    Attributes:
        where: the directory, such as ``s3://bucket/src/``.
        seconds_left: until the watch's timeout.
        failure: why it could not look (throttled, 5xx, no answer); None if it could.
    """

    where: str
    seconds_left: float
    failure: Exception | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The sources are settled; copying starts.

    Attributes:
        objects: how many.
        size: bytes of all of them.
        destinations: the names by which later events speak of the destinations.
    """

    objects: int
    size: int
    destinations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Copied:
    """One object is at one destination, whole and verified.

    Attributes:
        source: where it came from.
        target: where it is now.
        destination: the destination's name.
        size: bytes.
        kept: an interrupted run had copied it.
    """

    source: str
    target: str
    destination: str
    size: int
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """One object did not get to one destination, or its post-copy action failed.

    Attributes:
        source: where it is.
        destination: the destination's name, or the action's.
        error: why.
    """

    source: str
    destination: str
    error: Exception


@dataclass(frozen=True, slots=True)
class Flagged:
    """A destination is complete, and its flag is written.

    Attributes:
        target: the flag.
        destination: the destination's name.
    """

    target: str
    destination: str


@dataclass(frozen=True, slots=True)
class Acted:
    """The post-copy action is done for one source.

    Attributes:
        action: ``move``, ``rename`` or ``delete``.
        source: what it was done to.
    """

    action: str
    source: str


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """A task of a batch that is about to start.

    Attributes:
        order: its order_id, after those of the batches that it is in: ``(3,)``, ``(3, 1)``.
        task_id: the name of its definition.
        dependencies: the orders of those that it waits for.
        type: what it is.
    """

    order: Order
    task_id: str
    dependencies: tuple[Order, ...]
    type: Literal["transfer", "execution", "batch"]


@dataclass(frozen=True, slots=True)
class BatchStarted:
    """A batch starts. Told once, of the outermost.

    Attributes:
        tasks: all of them, those of a batch in the batch behind it.
    """

    tasks: tuple[PlannedTask, ...]


@dataclass(frozen=True, slots=True)
class TaskQueued:
    """A task of a batch is ready, and waits its turn: as many run as may run at once.

    Attributes:
        order: its place, as in PlannedTask.
        task_id: the name of its definition.
    """

    order: Order
    task_id: str


@dataclass(frozen=True, slots=True)
class TaskStarted:
    """A task of a batch starts.

    Attributes:
        order: its place, as in PlannedTask.
        task_id: the name of its definition.
    """

    order: Order
    task_id: str


@dataclass(frozen=True, slots=True)
class TaskTold:
    """Something happened within a task of a batch.

    Attributes:
        order: the place of the task, as in PlannedTask.
        task_id: the name of its definition.
        event: what happened.
    """

    order: Order
    task_id: str
    event: Event


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """A task of a batch has ended, or will not be started.

    Attributes:
        order: its place, as in PlannedTask.
        task_id: the name of its definition.
        state: what it was.
        seconds: from its start to its end.
        why: the error of one that failed or timed out, or why it was skipped or kept.
    """

    order: Order
    task_id: str
    state: TaskState
    seconds: float = 0.0
    why: str | None = None


@dataclass(frozen=True, slots=True)
class BatchEnded:
    """A batch has ended. Told once, of the outermost, however it ended: cancelled as well.

    Attributes:
        report: what each task was.
    """

    report: BatchReport


#: What happens in a batch.
BatchEvent = BatchStarted | TaskQueued | TaskStarted | TaskTold | TaskEnded | BatchEnded

Event = Watching | Found | Copied | Failed | Flagged | Acted | BatchEvent

#: Called on the event loop for every event: it must return at once. What it raises ends the task.
OnProgress = Callable[[Event], None]


def ignore(event: object) -> None:
    """Do nothing: the default of ``on_progress``."""
