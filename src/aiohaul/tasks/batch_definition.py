"""Parses the definitions of batches and of their tasks into immutable values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal, cast

from aiohaul.errors import DefinitionError
from aiohaul.progress import PlannedTask
from aiohaul.report import Order
from aiohaul.tasks import schema
from aiohaul.tasks.definition import Task, Transfer, parse
from aiohaul.tasks.definition_json import BatchJson, BatchTaskJson
from aiohaul.tasks.definition_source import DefinitionSource, Tasks, definition_source
from aiohaul.tasks.graph import check_graph

#: The default timeout of a task in seconds, as in Open Task Framework.
DEFAULT_TIMEOUT = 300.0
#: The maximum depth of nested batches.
MAX_DEPTH = 20
#: The maximum number of tasks of a batch, including those of inner batches.
MAX_TASKS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTask:
    """One task of a batch.

    Attributes:
        order_id: the number of the task in the batch.
        task_id: the name of the task's definition.
        dependencies: the order_ids of the tasks that must end before this task starts.
        timeout: the maximum seconds of the task, without the time in the queue for a permit.
        continue_on_fail: True if the tasks that depend on this task start even if it fails.
        retry_on_rerun: True if a rerun of the batch runs this task again even if it succeeded.
        definition: the definition of the task, as JSON. Not shown in the repr.
        task: the parsed definition; None if only the graph was parsed.
    """

    order_id: int
    task_id: str
    dependencies: tuple[int, ...]
    timeout: float
    continue_on_fail: bool
    retry_on_rerun: bool
    definition: Mapping[str, object] = field(repr=False)
    task: Task | Batch | None

    @property
    def type(self) -> Literal["transfer", "execution", "batch"]:
        """The type of the task's definition."""
        match self.task:
            case Batch():
                return "batch"
            case Transfer():
                return "transfer"
            case _:
                return "execution"


@dataclass(frozen=True, slots=True)
class Batch:
    """The parsed definition of a batch.

    Attributes:
        tasks: the tasks, sorted by order_id. Their dependencies have no cycle.
        size: the number of tasks, including those of inner batches.
        identity: the SHA-256, in hexadecimal, of order_ids, task_ids and dependencies, including
            those of inner batches. It identifies the batch in a state file. A change of timeouts,
            or of the definitions of transfers and executions, does not change the identity.
    """

    tasks: tuple[BatchTask, ...]
    size: int
    identity: str

    def planned(self, above: Order = ()) -> list[PlannedTask]:
        """Return all tasks. The tasks of an inner batch follow that batch.

        Args:
            above: the order_ids that lead to this batch; () for the outermost batch.
        """
        found = []
        for each in self.tasks:
            order = (*above, each.order_id)
            waits = tuple((*above, dependency) for dependency in each.dependencies)
            found.append(PlannedTask(order, each.task_id, waits, each.type))
            if isinstance(each.task, Batch):
                found.extend(each.task.planned(order))
        return found


def parse_any(definition: Mapping[str, object], tasks: Tasks | None) -> Task | Batch:
    """Check and parse a definition of any type; for a batch, also the definitions of its tasks.

    Blocks while it reads files.

    Args:
        definition: a transfer, an execution or a batch.
        tasks: the definitions of a batch's tasks, or their folder; None checks only the graph.

    Raises:
        DefinitionError: a definition is wrong. The error has the path of the wrong value.
        UnsupportedError: a definition is valid, but only Open Task Framework can run it.
    """
    if not is_batch(definition):
        return parse(definition)
    return _BatchParser(None if tasks is None else definition_source(tasks)).batch(definition, ())


def is_batch(definition: object) -> bool:
    """Return True if the type of a definition is ``batch``, without checking the definition."""
    return isinstance(definition, Mapping) and definition.get("type") == "batch"


class _BatchParser:
    """Parses batches. A definition is loaded only once, even if several tasks use it."""

    def __init__(self, source: DefinitionSource | None) -> None:
        self._source = source
        self._parsed: dict[str, tuple[Mapping[str, object], Task | Batch]] = {}

    def batch(self, definition: Mapping[str, object], within: tuple[str, ...]) -> Batch:
        """Parse a batch.

        Args:
            definition: the definition of the batch.
            within: the task_ids of the batches that contain this batch, then its own task_id.
        """
        schema.check_whole(definition)
        schema.check("batch/batch.json", definition)
        given_tasks = cast("BatchJson", definition)["tasks"]
        graph = [_batch_task(given, {}, None) for given in given_tasks]
        check_graph(graph)
        tasks = [
            _batch_task(given, *self._task_definition(index, node.task_id, within))
            for index, (given, node) in enumerate(zip(given_tasks, graph, strict=True))
        ]
        inner = [each.task for each in tasks if isinstance(each.task, Batch)]
        size = len(tasks) + sum(each.size for each in inner)
        if size > MAX_TASKS:
            raise DefinitionError(
                "tasks",
                f"the batch has {size:,} tasks, including those of inner batches, and"
                f" {MAX_TASKS:,} are allowed. Divide the batch",
            )
        tasks.sort(key=lambda each: each.order_id)
        return Batch(tuple(tasks), size, _graph_digest(tasks))

    def _task_definition(
        self, index: int, task_id: str, within: tuple[str, ...]
    ) -> tuple[Mapping[str, object], Task | Batch | None]:
        """Return the definition of a task, and the parsed definition. Errors name the task."""
        if self._source is None:
            return {}, None
        try:
            return self._load(self._source, task_id, within)
        except DefinitionError as error:
            problem = str(error) if error.path else str(error).removeprefix("definition: ")
            raise type(error)(
                f"tasks[{index}].task_id", f"the task {task_id!r} cannot be run: {problem}"
            ) from error

    def _load(
        self, source: DefinitionSource, task_id: str, within: tuple[str, ...]
    ) -> tuple[Mapping[str, object], Task | Batch]:
        """Find and parse a definition, or return the parsed definition of an earlier call."""
        if task_id in within:
            chain = " runs ".join([*within[within.index(task_id) :], task_id])
            raise DefinitionError("", f"the batch contains itself: {chain}")
        if task_id not in self._parsed:
            definition = source.find(task_id)
            if not is_batch(definition):
                self._parsed[task_id] = definition, parse(definition)
            elif len(within) >= MAX_DEPTH:
                raise DefinitionError(
                    "", f"batches are nested more than {MAX_DEPTH} levels deep. Use fewer levels"
                )
            else:
                self._parsed[task_id] = definition, self.batch(definition, (*within, task_id))
        return self._parsed[task_id]


def _batch_task(
    given: BatchTaskJson, definition: Mapping[str, object], task: Task | Batch | None
) -> BatchTask:
    # JSON may contain 1.0 for the integer 1, and a list may contain a dependency twice.
    return BatchTask(
        order_id=int(given["order_id"]),
        task_id=given["task_id"],
        dependencies=tuple(dict.fromkeys(map(int, given.get("dependencies", ())))),
        timeout=given.get("timeout", DEFAULT_TIMEOUT),
        continue_on_fail=given.get("continue_on_fail", False),
        retry_on_rerun=given.get("retry_on_rerun", False),
        definition=definition,
        task=task,
    )


def _graph_digest(tasks: list[BatchTask]) -> str:
    graph = [
        [
            each.order_id,
            each.task_id,
            sorted(each.dependencies),
            each.task.identity if isinstance(each.task, Batch) else "",
        ]
        for each in tasks
    ]
    return sha256(json.dumps(graph).encode()).hexdigest()
