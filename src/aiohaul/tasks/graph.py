"""Checks the graph of a batch's tasks, and decides which tasks are ready or skipped. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Protocol

from aiohaul.errors import DefinitionError

#: The maximum number of order_ids, or of tasks of a cycle, in an error message.
_MAX_LISTED = 12


class Node(Protocol):
    """The attributes of a task that the graph needs."""

    @property
    def order_id(self) -> int:
        """The number of the task in the batch."""

    @property
    def task_id(self) -> str:
        """The name of the task's definition."""

    @property
    def dependencies(self) -> tuple[int, ...]:
        """The order_ids of the tasks that must end before this task starts."""


def check_graph(nodes: Sequence[Node]) -> None:
    """Check the graph of a batch.

    Raises:
        DefinitionError: two tasks have the same order_id, a dependency does not exist, or the
            dependencies have a cycle. The error has the path of the wrong value.
    """
    positions: dict[int, int] = {}
    for index, node in enumerate(nodes):
        if node.order_id in positions:
            raise DefinitionError(
                f"tasks[{index}].order_id",
                f"tasks[{positions[node.order_id]}] already has the order_id {node.order_id}",
            )
        positions[node.order_id] = index
    for index, node in enumerate(nodes):
        for number, dependency in enumerate(node.dependencies):
            if dependency not in positions:
                raise DefinitionError(
                    f"tasks[{index}].dependencies[{number}]",
                    f"there is no task with order_id {dependency}; {_known_ids(positions)}",
                )
    cycle = find_cycle({node.order_id: node.dependencies for node in nodes})
    if cycle:
        names = [f"{each} ({nodes[positions[each]].task_id})" for each in cycle]
        if len(names) > _MAX_LISTED:
            names[_MAX_LISTED - 2 : -1] = ["…"]
        raise DefinitionError(
            f"tasks[{positions[cycle[0]]}].dependencies",
            f"a cycle: {' waits for '.join(names)}. None of these tasks could ever start",
        )


def _known_ids(order_ids: Iterable[int]) -> str:
    ids = sorted(order_ids)
    more = ", …" if len(ids) > _MAX_LISTED else ""
    return f"known are {', '.join(map(str, ids[:_MAX_LISTED]))}{more}"


def find_cycle(dependencies: Mapping[int, Collection[int]]) -> list[int]:
    """Return the order_ids of a cycle; [] if there is no cycle.

    Each task of the cycle depends on the next one. The first task is also the last.
    """
    try:
        TopologicalSorter(dependencies).prepare()
    except CycleError as error:
        # Reversed, because graphlib lists each node before the node that depends on it.
        cycle: list[int] = list(reversed(error.args[1]))
        return cycle
    return []


@dataclass(frozen=True, slots=True)
class Consequences:
    """The effects of the end of a task on the tasks that depend on that task.

    Attributes:
        ready: the order_ids of the tasks that can start now, in the order of the batch.
        skipped: pairs of order_ids. The first task will never start, because the second task did
            not succeed.
    """

    ready: tuple[int, ...]
    skipped: tuple[tuple[int, int], ...]


class Schedule:
    """Decides when tasks become ready, and which tasks are skipped.

    Args:
        nodes: the tasks, after :func:`check_graph` has found no error.
        already_done: the order_ids of the tasks that succeeded in an earlier run. They count as
            done, even if the tasks on which they depend are not done.

    Attributes:
        first: the order_ids of the tasks that can start at once, in the order of the batch.
    """

    def __init__(self, nodes: Sequence[Node], already_done: Collection[int] = ()) -> None:
        self._position = {node.order_id: index for index, node in enumerate(nodes)}
        self._unmet: dict[int, set[int]] = {}
        self._dependents: dict[int, list[int]] = {node.order_id: [] for node in nodes}
        for node in nodes:
            if node.order_id in already_done:
                continue
            self._unmet[node.order_id] = set(node.dependencies).difference(already_done)
            for dependency in self._unmet[node.order_id]:
                self._dependents[dependency].append(node.order_id)
        self.first = self._take_ready(self._unmet)

    def ended(self, order_id: int, *, allows_dependents: bool) -> Consequences:
        """Record the end of a task, and return its consequences.

        Args:
            order_id: a task that was ready before.
            allows_dependents: True if the tasks that depend on this task may start, because it
                succeeded, or failed and has ``continue_on_fail``.
        """
        if allows_dependents:
            for dependent in self._dependents[order_id]:
                if dependent in self._unmet:  # not if it was skipped because of another task
                    self._unmet[dependent].discard(order_id)
            return Consequences(self._take_ready(self._dependents[order_id]), ())
        skipped: list[tuple[int, int]] = []
        affected = list(self._dependents[order_id])
        for each in affected:  # the list grows during the loop
            if self._unmet.pop(each, None) is not None:
                skipped.append((each, order_id))
                affected.extend(self._dependents[each])
        skipped.sort(key=lambda pair: self._position[pair[0]])
        return Consequences((), tuple(skipped))

    @property
    def waiting(self) -> tuple[int, ...]:
        """The order_ids of the tasks that are not ready or skipped yet, in the batch's order."""
        return tuple(sorted(self._unmet, key=self._position.__getitem__))

    def _take_ready(self, candidates: Iterable[int]) -> tuple[int, ...]:
        """Remove and return the candidates all of whose dependencies have ended."""
        ready = [each for each in candidates if each in self._unmet and not self._unmet[each]]
        for each in ready:
            del self._unmet[each]
        return tuple(sorted(ready, key=self._position.__getitem__))
