"""The graph of a batch: what is refused, what is ready when, what is skipped and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aiohaul
from aiohaul.tasks.graph import Schedule, check_graph, find_cycle

Edges = Mapping[int, tuple[int, ...]]


@dataclass(frozen=True)
class Node:
    order_id: int
    dependencies: tuple[int, ...] = ()
    task_id: str = "t"


def nodes(edges: Edges) -> list[Node]:
    return [Node(each, waits) for each, waits in edges.items()]


@st.composite
def any_edges(draw: st.DrawFn) -> dict[int, tuple[int, ...]]:
    """Every graph: cycles and waits for itself are among them."""
    ids = draw(st.lists(st.integers(-3, 30), unique=True, max_size=12))
    waits = st.lists(st.sampled_from(ids), unique=True, max_size=4) if ids else st.just([])
    return {each: tuple(draw(waits)) for each in ids}


@st.composite
def edges_without_cycles(draw: st.DrawFn) -> dict[int, tuple[int, ...]]:
    ids = draw(st.permutations(range(draw(st.integers(0, 12)))))
    found: dict[int, tuple[int, ...]] = {}
    for index, each in enumerate(ids):
        before = st.lists(st.sampled_from(ids[:index]), unique=True, max_size=4)
        found[each] = tuple(draw(before)) if index else ()
    return found


def reachable(edges: Edges, start: int) -> set[int]:
    """What a task waits for, directly or not."""
    found: set[int] = set()
    looked_at = [*edges[start]]
    while looked_at:
        each = looked_at.pop()
        if each not in found:
            found.add(each)
            looked_at += edges[each]
    return found


@given(any_edges())
def test_cycle_is_found_if_there_is_one_and_is_one(edges: Edges) -> None:
    cycle = find_cycle(edges)
    if cycle:
        assert cycle[0] == cycle[-1]
        assert len(cycle) > 1
        assert all(after in edges[before] for before, after in pairwise(cycle))
    else:
        assert not any(each in reachable(edges, each) for each in edges)


def test_cycle_is_named_in_the_order_of_waiting() -> None:
    graph = [Node(1, (3,), "a"), Node(2, (1,), "b"), Node(3, (2,), "c"), Node(4, (1,), "d")]
    with pytest.raises(aiohaul.DefinitionError, match="a cycle: ") as caught:
        check_graph(graph)
    said = str(caught.value)
    turns = ["1 (a) waits for 3 (c) waits for 2 (b) waits for 1 (a)"]
    turns += ["2 (b) waits for 1 (a) waits for 3 (c) waits for 2 (b)"]
    turns += ["3 (c) waits for 2 (b) waits for 1 (a) waits for 3 (c)"]
    assert any(turn in said for turn in turns)
    assert "4 (d)" not in said


def test_task_that_waits_for_itself() -> None:
    with pytest.raises(aiohaul.DefinitionError, match=r"1 \(t\) waits for 1 \(t\)") as caught:
        check_graph([Node(1, (1,))])
    assert caught.value.path == "tasks[0].dependencies"


def test_long_cycle_is_cut_short() -> None:
    graph = [Node(each, ((each + 1) % 5000,)) for each in range(5000)]
    with pytest.raises(aiohaul.DefinitionError, match="waits for … waits for") as caught:
        check_graph(graph)
    assert len(str(caught.value)) < 500


def test_order_id_that_stands_twice() -> None:
    with pytest.raises(
        aiohaul.DefinitionError, match=r"tasks\[0\] already has the order_id 7"
    ) as caught:
        check_graph([Node(7), Node(8), Node(7)])
    assert caught.value.path == "tasks[2].order_id"


def test_dependency_that_is_missing() -> None:
    with pytest.raises(aiohaul.DefinitionError, match="order_id 9; known are 1, 2") as caught:
        check_graph([Node(1), Node(2, (1, 9))])
    assert caught.value.path == "tasks[1].dependencies[1]"


@given(any_edges())
def test_graph_is_refused_for_a_cycle_alone(edges: Edges) -> None:
    if find_cycle(edges):
        with pytest.raises(aiohaul.DefinitionError, match="a cycle"):
            check_graph(nodes(edges))
    else:
        check_graph(nodes(edges))


@given(edges_without_cycles(), st.data())
def test_schedule_runs_what_it_may_in_any_order_of_endings(
    edges: Edges, data: st.DataObject
) -> None:
    """Held against the definition of what is ready, whatever ends first and however."""
    kept = data.draw(st.sets(st.sampled_from(sorted(edges)))) if edges else set()
    schedule = Schedule(nodes(edges), kept)
    started = set(schedule.first)
    running = list(schedule.first)
    let_on, barred = set(kept), set[int]()
    skipped: dict[int, int] = {}
    while True:
        expected = {
            each
            for each in edges
            if each not in kept and each not in skipped and set(edges[each]) <= let_on
        }
        assert started == expected
        if not running:
            break
        ended = running.pop(data.draw(st.integers(0, len(running) - 1)))
        lets_on = data.draw(st.booleans())
        (let_on if lets_on else barred).add(ended)
        follows = schedule.ended(ended, allows_dependents=lets_on)
        for each, cause in follows.skipped:
            assert each not in skipped
            assert cause == ended
            skipped[each] = cause
        assert not started.intersection(follows.ready)
        started.update(follows.ready)
        running += follows.ready
    bars = {  # directly or not, through tasks that were not run either
        each for each in edges if each not in kept and _waits_in_vain(edges, each, barred, kept)
    }
    assert set(skipped) == bars
    assert started | set(skipped) | kept == set(edges)
    assert not started.intersection(skipped)
    assert schedule.waiting == ()


def _waits_in_vain(edges: Edges, each: int, barred: set[int], kept: set[int]) -> bool:
    return any(
        other in barred or (other not in kept and _waits_in_vain(edges, other, barred, kept))
        for other in edges[each]
    )


def test_long_chain_is_followed_and_given_up() -> None:
    chain = {each: (each - 1,) if each else () for each in range(20_000)}
    schedule = Schedule(nodes(chain))
    assert schedule.first == (0,)
    assert schedule.ended(0, allows_dependents=True).ready == (1,)
    given_up = schedule.ended(1, allows_dependents=False).skipped
    assert len(given_up) == 19_998
    assert {cause for _, cause in given_up} == {1}


def test_what_is_ready_comes_in_the_order_of_the_batch() -> None:
    schedule = Schedule(nodes({5: (), 1: (5,), 9: (5,), 3: (5,)}))
    assert schedule.ended(5, allows_dependents=True).ready == (1, 9, 3)
