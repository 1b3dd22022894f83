"""Pure: the graph of a batch. Whether it can be run, what is ready, and what is not to be run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Protocol

from aiohaul.errors import DefinitionError

#: How many order_ids, or tasks of a cycle, a refusal names.
_NAMED = 12


class Node(Protocol):
    """What the graph knows of a task."""

    @property
    def order_id(self) -> int:
        """Its number."""

    @property
    def task_id(self) -> str:
        """The name of its definition."""

    @property
    def dependencies(self) -> tuple[int, ...]:
        """The order_ids of those that it waits for."""


def check_graph(nodes: Sequence[Node]) -> None:
    """Refuse what cannot be run: a number that stands twice, one that is missing, a cycle.

    Raises:
        DefinitionError: with the place in the batch.
    """
    places: dict[int, int] = {}
    for index, node in enumerate(nodes):
        if node.order_id in places:
            raise DefinitionError(
                f"tasks[{index}].order_id",
                f"{node.order_id} is the order_id of tasks[{places[node.order_id]}] already",
            )
        places[node.order_id] = index
    for index, node in enumerate(nodes):
        for number, dependency in enumerate(node.dependencies):
            if dependency not in places:
                raise DefinitionError(
                    f"tasks[{index}].dependencies[{number}]",
                    f"there is no task with order_id {dependency}; {_known(places)}",
                )
    cycle = find_cycle({node.order_id: node.dependencies for node in nodes})
    if cycle:
        names = [f"{each} ({nodes[places[each]].task_id})" for each in cycle]
        if len(names) > _NAMED:
            names[_NAMED - 2 : -1] = ["…"]
        raise DefinitionError(
            f"tasks[{places[cycle[0]]}].dependencies",
            f"a cycle: {' waits for '.join(names)}. None of these could ever start",
        )


def _known(places: Iterable[int]) -> str:
    ids = sorted(places)
    more = ", …" if len(ids) > _NAMED else ""
    return f"known are {', '.join(map(str, ids[:_NAMED]))}{more}"


def find_cycle(dependencies: Mapping[int, Collection[int]]) -> list[int]:
    """A cycle, each of which waits for the next, the first being also the last; [] if none."""
    try:
        TopologicalSorter(dependencies).prepare()
    except CycleError as error:
        # There each is waited for by the next.
        cycle: list[int] = list(reversed(error.args[1]))
        return cycle
    return []


@dataclass(frozen=True, slots=True)
class Consequences:
    """What follows from the end of a task.

    Attributes:
        ready: the tasks that can start now, in the order of the batch.
        skipped: those that will never start, each with the one that is to blame.
    """

    ready: tuple[int, ...]
    skipped: tuple[tuple[int, int], ...]


class Schedule:
    """What is ready, and what is not to be run. Makes no decision twice, and waits for nothing.

    Args:
        nodes: the tasks of a graph that was checked.
        kept: those that an earlier run had done. They count as done, whatever they wait for.

    Attributes:
        first: what can start at once, in the order of the batch.
    """

    def __init__(self, nodes: Sequence[Node], kept: Collection[int] = ()) -> None:
        self._place = {node.order_id: index for index, node in enumerate(nodes)}
        self._waits: dict[int, set[int]] = {}
        self._waited_for: dict[int, list[int]] = {node.order_id: [] for node in nodes}
        for node in nodes:
            if node.order_id in kept:
                continue
            self._waits[node.order_id] = set(node.dependencies).difference(kept)
            for dependency in self._waits[node.order_id]:
                self._waited_for[dependency].append(node.order_id)
        self.first = self._take(self._waits)

    def ended(self, order_id: int, *, lets_on: bool) -> Consequences:
        """Say that a task has ended.

        Args:
            order_id: which one; it was ready.
            lets_on: True if those that wait for it may start: it succeeded, or it failed and the
                batch continues.
        """
        if lets_on:
            for waiting in self._waited_for[order_id]:
                if waiting in self._waits:  # not if it was skipped because of another
                    self._waits[waiting].discard(order_id)
            return Consequences(self._take(self._waited_for[order_id]), ())
        skipped: list[tuple[int, int]] = []
        doomed = list(self._waited_for[order_id])
        for each in doomed:  # grows
            if self._waits.pop(each, None) is not None:
                skipped.append((each, order_id))
                doomed.extend(self._waited_for[each])
        skipped.sort(key=lambda pair: self._place[pair[0]])
        return Consequences((), tuple(skipped))

    @property
    def waiting(self) -> tuple[int, ...]:
        """What has neither started nor been skipped, in the order of the batch."""
        return tuple(sorted(self._waits, key=self._place.__getitem__))

    def _take(self, candidates: Iterable[int]) -> tuple[int, ...]:
        """Those of them that wait for nothing any more; they are not given again."""
        ready = [each for each in candidates if each in self._waits and not self._waits[each]]
        for each in ready:
            del self._waits[each]
        return tuple(sorted(ready, key=self._place.__getitem__))
