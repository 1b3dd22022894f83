r"""Tells how the number of steps of Python's matcher grows with the length of a text.

The matcher tries one way after another to read a text. It needs many steps if a text can be read in
many ways: two for each character in ``(a+)+`` and ``(a|a)*``, as many as there are places for the
``_`` in ``.*_.*``, and one in ``(\d+_)*``. The numbers here are upper bounds: anchors and the rest
of the regex are taken as if they always let a way go on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from math import comb

from aiohaul.regexes.program import Op, Program

#: The place before the first character, and the one that skips what is before a match.
_START, _SKIP = -1, -2
#: The number of steps of an analysis, after which the worst is assumed: some 30 ms.
_MAX_STEPS = 20_000
#: More characters than any text has.
_ANY_LENGTH = 1 << 40

#: The places that follow a place, each with the number of ways that lead to it (1, or 2 for more).
_Follow = Mapping[int, Mapping[int, int]]


@dataclass(frozen=True, slots=True)
class Growth:
    """The growth of the number of steps.

    Attributes:
        degree: the exponent, 1 if the steps are as many as the characters; None if the steps grow
            exponentially.
        factor: the number of ways to pass what is not a loop, such as alternatives.
    """

    degree: int | None
    factor: int = 1

    @property
    def is_linear(self) -> bool:
        """True if Python's matcher is always fast."""
        return self.degree == 1

    def longest(self, steps: int) -> int:
        """Return the number of characters for which this number of steps is enough."""
        if self.degree is None:
            return 0
        if self.degree == 1:
            return _ANY_LENGTH if self.factor <= steps // 1_000 else steps // self.factor
        low, high = 0, steps
        while low < high:
            middle = (low + high + 1) // 2
            if self.factor * comb(middle + self.degree - 1, self.degree) <= steps:
                low = middle
            else:
                high = middle - 1
        return low

    def __str__(self) -> str:
        if self.degree is None:
            return "doubles with each character or so"
        return f"grows with the length to the power of {self.degree}"


class _TooComplexError(Exception):
    """The analysis takes too many steps."""


def growth_of(program: Program, *, anywhere: bool) -> Growth:
    """Return the growth of a program.

    Args:
        program: the program.
        anywhere: True if the match may start anywhere, as with ``re.Pattern.search``.
    """
    try:
        return _Analysis(program, anywhere=anywhere).growth()
    except _TooComplexError:
        return Growth(None)


class _Analysis:
    def __init__(self, program: Program, *, anywhere: bool) -> None:
        self._code = program.code
        self._steps = 0
        self._masks = _masks(program)
        follow: dict[int, dict[int, int]] = {_START: self._after(0)}
        if anywhere:
            follow[_START][_SKIP] = 1
            follow[_SKIP] = {**follow[_START]}
        todo = list(follow[_START])
        while todo:
            place = todo.pop()
            if place not in follow:
                follow[place] = self._after(place + 1)
                if self._code[place].op is Op.BACKREF:
                    follow[place][place] = 1  # it consumes any number of characters
                todo += follow[place]
        self._follow: _Follow = follow

    def growth(self) -> Growth:
        """Return the growth."""
        component = _components(self._follow)
        members: dict[int, set[int]] = defaultdict(set)
        for place, number in component.items():
            members[number].add(place)
        loops = {
            number
            for number, places in members.items()
            if len(places) > 1 or any(place in self._follow[place] for place in places)
        }
        for number in loops:
            if self._is_ambiguous(members[number]):
                return Growth(None)
        edges = self._edges(component, loops)
        ways_to = dict.fromkeys(members, 0)
        ways_to[component[_START]] = 1
        degrees = dict.fromkeys(members, 1)
        loops_to: dict[int, set[int]] = {number: set() for number in members}
        for number in _in_order(edges):
            if number in loops:
                for each in loops_to[number]:
                    if degrees[each] >= degrees[number] and self._leaves_anywhere(
                        members[each], members[number]
                    ):
                        degrees[number] = degrees[each] + 1
            for target, ways in edges[number].items():
                ways_to[target] = min(ways_to[target] + ways * ways_to[number], _ANY_LENGTH)
                degrees[target] = max(degrees[target], degrees[number])
                loops_to[target] |= loops_to[number] | ({number} & loops)
        return Growth(max(degrees.values()), max(ways_to.values()))

    def _edges(self, component: Mapping[int, int], loops: set[int]) -> dict[int, dict[int, int]]:
        """Return the number of ways from one component to another."""
        edges: dict[int, dict[int, int]] = {number: {} for number in component.values()}
        for place, following in self._follow.items():
            for other, ways in following.items():
                source, target = component[place], component[other]
                if source != target:
                    edges[source][target] = edges[source].get(target, 0) + ways
        for targets in edges.values():
            # To pass a loop without an iteration is not another way, but one of the loop's.
            for loop in loops.intersection(targets):
                for target in edges[loop]:
                    if target in targets:
                        targets[target] = 0
        return edges

    def _after(self, pc: int) -> dict[int, int]:  # noqa: C901, PLR0912  # a table
        """Return the places that consume the next character, and the number of ways to each."""
        found: dict[int, int] = {}
        stack: list[tuple[int, frozenset[int]]] = [(pc, frozenset())]
        while stack:
            self._count()
            pc, loops = stack.pop()
            step = self._code[pc]
            match step.op:
                case Op.CHAR:
                    found[pc] = min(2, found.get(pc, 0) + 1)
                case Op.BACKREF:
                    found[pc] = min(2, found.get(pc, 0) + 1)
                    if step.next:
                        stack.append((pc + 1, loops))
                case Op.SPLIT:
                    stack += (step.x, loops), (step.y, loops)
                case Op.JUMP:
                    stack.append((step.x, loops))
                case Op.SAVE:
                    stack.append((pc + 1, loops | {step.x}))
                case Op.PROGRESS if step.x in loops:  # an iteration that consumed nothing
                    stack.append((step.y, loops))
                case Op.LOOK:
                    stack.append((step.next, loops))
                    if not step.y:  # what is behind has a fixed length
                        stack.append((pc + 1, loops))
                case Op.CONDITION:
                    stack += (pc + 1, loops), (step.next, loops)
                case Op.END:
                    stack += ((each, loops) for each in self._continued(pc))
                case Op.PROGRESS | Op.ANCHOR | Op.ATOMIC:
                    stack.append((pc + 1, loops))
                case _:  # FAIL and MATCH
                    pass
        return found

    def _continued(self, end: int) -> Iterable[int]:
        """Return the instruction after the END of an ATOMIC; what is ahead is consumed later."""
        return (each.next for each in self._code if each.op is Op.ATOMIC and each.next == end + 1)

    def _count(self) -> None:
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise _TooComplexError

    def _overlap(self, *places: int) -> bool:
        """Return True if a character can be consumed by all of these places."""
        mask = -1
        for place in places:
            mask &= self._masks[place]
        return mask != 0

    def _is_ambiguous(self, loop: set[int]) -> bool:  # noqa: C901  # there, and back
        """Return True if a text leads from a place of a loop to itself in two ways."""
        start = next(iter(loop)), next(iter(loop))
        back: dict[tuple[int, int], set[tuple[int, int]]] = defaultdict(set)
        todo, seen = [start], {start}
        while todo:
            one, other = todo.pop()
            for left, ways in self._follow[one].items():
                if left not in loop:
                    continue
                if ways > 1:
                    return True
                for right in self._follow[other]:
                    self._count()
                    if right in loop and self._overlap(left, right):
                        back[left, right].add((one, other))
                        if (left, right) not in seen:
                            seen.add((left, right))
                            todo.append((left, right))
        todo, seen = [start], {start}
        while todo:
            for pair in back[todo.pop()]:
                if pair[0] != pair[1]:
                    return True
                if pair not in seen:
                    seen.add(pair)
                    todo.append(pair)
        return False

    def _leaves_anywhere(self, loop: set[int], later: set[int]) -> bool:
        """Return True if a text can be read by one loop, by a later one, and from one to the other.

        Then the second loop can start at many characters of the same text.
        """
        return any(self._reads_all(one, other, loop, later) for one in loop for other in later)

    def _reads_all(self, one: int, other: int, loop: set[int], later: set[int]) -> bool:
        start, target = (one, one, other), (one, other, other)
        todo, seen = [start], {start}
        while todo:
            first, middle, last = todo.pop()
            for right in self._follow[last]:
                if right not in later:
                    continue
                for left in self._follow[first]:
                    if left not in loop or not self._overlap(left, right):
                        continue
                    for center in self._follow[middle]:
                        self._count()
                        found = left, center, right
                        if found in seen or not self._overlap(*found):
                            continue
                        if found == target:
                            return True
                        seen.add(found)
                        todo.append(found)
        return False


def _masks(program: Program) -> dict[int, int]:
    """Return, for each place, a number with a bit for each sample that the place can consume."""
    everything = (1 << len(program.samples)) - 1
    masks = {_SKIP: everything}
    by_set: dict[int, int] = {}
    for pc, step in enumerate(program.code):
        if step.op is Op.BACKREF:
            masks[pc] = everything
        elif step.chars is not None:
            key = id(step.chars)
            if key not in by_set:
                chars = step.chars
                by_set[key] = sum(1 << at for at, c in enumerate(program.samples) if chars[c])
            masks[pc] = by_set[key]
    return masks


def _in_order(edges: Mapping[int, Mapping[int, int]]) -> Iterable[int]:
    """Return the components, each before those that follow it."""
    before: dict[int, set[int]] = {number: set() for number in edges}
    for source, targets in edges.items():
        for target in targets:
            before[target].add(source)
    return TopologicalSorter(before).static_order()


def _components(follow: _Follow) -> dict[int, int]:
    """Return the number of the strongly connected component of each place (Tarjan's algorithm)."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    component: dict[int, int] = {}
    path: list[int] = []
    for root in follow:
        if root in index:
            continue
        index[root] = low[root] = len(index)
        path.append(root)
        work = [(root, iter(follow[root]))]
        while work:
            place, following = work[-1]
            for other in following:
                if other not in index:
                    index[other] = low[other] = len(index)
                    path.append(other)
                    work.append((other, iter(follow[other])))
                    break
                if other not in component:
                    low[place] = min(low[place], index[other])
            else:
                work.pop()
                if work:
                    parent = work[-1][0]
                    low[parent] = min(low[parent], low[place])
                if low[place] == index[place]:
                    while place not in component:
                        component[path.pop()] = place
    return component
