"""Definitions of batches, with everything in them, as frozen values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

from aiohaul.errors import DefinitionError
from aiohaul.progress import PlannedTask
from aiohaul.report import Order
from aiohaul.tasks import schema
from aiohaul.tasks.definition import Task, Transfer, parse
from aiohaul.tasks.graph import check_graph
from aiohaul.tasks.library import Library, Tasks, library

#: Seconds that a task of a batch may take unless it says otherwise, as under OTF.
DEFAULT_TIMEOUT = 300.0
#: How deep batches may stand in batches.
MAX_DEPTH = 20
#: How many tasks a batch may have, with those of the batches in it.
MAX_TASKS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTask:
    """One task of a batch.

    Attributes:
        order_id: its number, by which others depend on it.
        task_id: the name of its definition.
        dependencies: the order_ids of those that it waits for.
        timeout: seconds, from its start.
        continue_on_fail: whether those that wait for it start though it failed.
        retry_on_rerun: whether a rerun of the batch runs it again though it had succeeded.
        definition: what it is, as JSON. Not in a repr.
        task: what it is, as a value; None where only the graph was asked for.
    """

    order_id: int
    task_id: str
    dependencies: tuple[int, ...]
    timeout: float
    continue_on_fail: bool
    retry_on_rerun: bool
    definition: Mapping[str, Any] = field(repr=False)
    task: Task | Batch | None

    @property
    def type(self) -> Literal["transfer", "execution", "batch"]:
        """What it is."""
        match self.task:
            case Batch():
                return "batch"
            case Transfer():
                return "transfer"
            case _:
                return "execution"


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch: its tasks by order_id.

    Attributes:
        tasks: a graph without cycles.
        size: how many there are, with those of the batches in it.
        identity: what tells it from other batches: who waits for whom, by name, with the batches
            in it. Timeouts and the tasks' own definitions may change and it is still the same.
    """

    tasks: tuple[BatchTask, ...]
    size: int
    identity: str

    def planned(self, above: Order = ()) -> list[PlannedTask]:
        """Every task, those of a batch in this batch behind it."""
        found = []
        for each in self.tasks:
            order = (*above, each.order_id)
            waits = tuple((*above, dependency) for dependency in each.dependencies)
            found.append(PlannedTask(order, each.task_id, waits, each.type))
            if isinstance(each.task, Batch):
                found.extend(each.task.planned(order))
        return found


def parse_any(definition: Mapping[str, Any], tasks: Tasks | None) -> Task | Batch:
    """Check a definition as a whole, with those of all its tasks. Reads files: it blocks.

    Args:
        definition: a transfer, an execution or a batch.
        tasks: where the tasks of a batch are; None checks its graph alone.

    Raises:
        DefinitionError: something is wrong: where, and what was expected.
        UnsupportedError: it is right, but for another tool to run.
    """
    if not is_batch(definition):
        return parse(definition)
    return _Reader(None if tasks is None else library(tasks)).batch(definition, ())


def is_batch(definition: Any) -> bool:
    """Whether a definition says that it is a batch."""
    return isinstance(definition, Mapping) and definition.get("type") == "batch"


class _Reader:
    """Reads definitions, each once, however often it is named."""

    def __init__(self, found: Library | None) -> None:
        self._library = found
        self._known: dict[str, tuple[Mapping[str, Any], Task | Batch]] = {}

    def batch(self, definition: Mapping[str, Any], within: tuple[str, ...]) -> Batch:
        """The value of a batch.

        Args:
            definition: as JSON.
            within: the task_ids of the batches that it is in, itself the last.
        """
        schema.check_whole(definition)
        schema.check("batch/batch.json", definition)
        bare = [_task(given, {}, None) for given in definition["tasks"]]
        check_graph(bare)
        made = [
            _task(given, *self._definition(index, node.task_id, within))
            for index, (given, node) in enumerate(zip(definition["tasks"], bare, strict=True))
        ]
        inner = [each.task for each in made if isinstance(each.task, Batch)]
        size = len(made) + sum(each.size for each in inner)
        if size > MAX_TASKS:
            raise DefinitionError("tasks", f"are more than {MAX_TASKS:,}, with those of batches")
        made.sort(key=lambda each: each.order_id)
        return Batch(tuple(made), size, _identity(made))

    def _definition(
        self, index: int, task_id: str, within: tuple[str, ...]
    ) -> tuple[Mapping[str, Any], Task | Batch | None]:
        """A task's definition and its value; refusals say which task it is."""
        if self._library is None:
            return {}, None
        try:
            return self._found(self._library, task_id, within)
        except DefinitionError as error:
            problem = str(error) if error.path else str(error).removeprefix("definition: ")
            raise type(error)(
                f"tasks[{index}].task_id", f"the task {task_id!r} cannot be run: {problem}"
            ) from error

    def _found(
        self, found: Library, task_id: str, within: tuple[str, ...]
    ) -> tuple[Mapping[str, Any], Task | Batch]:
        if task_id in within:
            chain = " runs ".join([*within[within.index(task_id) :], task_id])
            raise DefinitionError("", f"a batch within itself: {chain}")
        if task_id not in self._known:
            definition = found.find(task_id)
            if not is_batch(definition):
                self._known[task_id] = definition, parse(definition)
            elif len(within) >= MAX_DEPTH:
                raise DefinitionError("", f"batches stand more than {MAX_DEPTH} deep in batches")
            else:
                self._known[task_id] = definition, self.batch(definition, (*within, task_id))
        return self._known[task_id]


def _task(given: Mapping[str, Any], definition: Mapping[str, Any], task: Any) -> BatchTask:
    # A whole number may be written 1.0, and a dependency twice.
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


def _identity(tasks: list[BatchTask]) -> str:
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
