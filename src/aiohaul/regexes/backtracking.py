"""Runs a program by backtracking, in Python's order, and never twice from the same state.

What follows from an instruction and a position does not depend on the way to them, but on which
iterations around them are empty so far. So a state that failed once fails again, and a text of
``n`` characters takes ``n`` steps or less for each instruction. A regex that refers back to a group
has no such bound, and neither has one that looks ahead in a loop: their steps are counted.
"""

from __future__ import annotations

from aiohaul.regexes.program import Op, Program

#: The maximum number of counted steps: some 0.2 s.
MAX_STEPS = 200_000
#: The maximum number of states of other regexes, which take a byte each.
_MAX_STATES = 100_000_000

#: The positions of the groups and loops; -1 is none.
Slots = tuple[int, ...]


class StepLimitError(Exception):
    """A match was stopped after its maximum number of steps."""


class Backtracker:
    """Matches one text.

    Args:
        program: the program.
        text: the text.

    Raises:
        StepLimitError: the text is too long for this program.
    """

    def __init__(self, program: Program, text: str) -> None:
        self._code = program.code
        self._text = text
        self._empty: Slots = (-1,) * program.slots
        self._groups = 2 * program.groups
        self._refers = program.has(Op.BACKREF, Op.CONDITION)
        self._width = len(text) + 1
        self._depth = max(len(each.loops) for each in program.code)
        self._states = 0 if self._refers else len(program.code) * self._width << self._depth
        self._steps = 0
        #: A byte for each instruction and position: 1 if it was tried, and did not lead to a match.
        self._tried = bytearray()
        #: The results of parts (LOOK and ATOMIC) by instruction and position.
        self._parts: dict[tuple[int, int], tuple[int, Slots] | None] = {}
        if self._states > _MAX_STATES:
            raise StepLimitError

    def search(self, start: int, *, not_empty: bool = False) -> tuple[int, int, Slots] | None:
        """Find the first match at or after a position, as ``re.Pattern.search`` does.

        Args:
            start: the position.
            not_empty: a match at ``start`` itself must not be empty.

        Returns:
            The start and end of the match, and its slots; None without a match.
        """
        self._tried = self._bitmap()
        for at in range(start, self._width):
            found = self._run(0, at, self._empty, at if not_empty and at == start else -1)
            if found is not None:
                return at, *found
        return None

    def match(self) -> bool:
        """Return True if the text matches from its start, as ``re.Pattern.match`` does."""
        self._tried = self._bitmap()
        return self._run(0, 0, self._empty) is not None

    def _bitmap(self) -> bytearray:
        return bytearray(self._states)

    def _run(  # noqa: C901, PLR0912, PLR0915  # one loop, because calls are slow
        self,
        pc: int,
        at: int,
        slots: Slots,
        forbidden_end: int = -1,
        *,
        tried_here: list[int] | None = None,
    ) -> tuple[int, Slots] | None:
        code, text, width, tried = self._code, self._text, self._width, self._tried
        size, depth, remember = len(text), self._depth, not self._refers
        stack = [(pc, at, slots)]
        seen: set[tuple[int, int, Slots]] = set()
        while stack:
            pc, at, slots = stack.pop()
            while True:
                step = code[pc]
                op = step.op
                if op is Op.CHAR:
                    if at >= size or not step.chars[text[at]]:  # type: ignore[index]  # never None here
                        break
                    at += 1
                    pc += 1
                    continue
                if remember:
                    state = pc * width + at << depth
                    for bit, slot in enumerate(step.loops):
                        state += (slots[slot] == at) << bit
                    if tried[state]:
                        break
                    tried[state] = 1
                    if tried_here is not None:
                        tried_here.append(state)
                        self._count()
                else:
                    self._count()
                    if (pc, at, slots) in seen:
                        break
                    seen.add((pc, at, slots))
                pc += 1
                if op is Op.SPLIT:
                    stack.append((step.y, at, slots))
                    pc = step.x
                elif op is Op.JUMP:
                    pc = step.x
                elif op is Op.SAVE:
                    slots = (*slots[: step.x], at, *slots[step.x + 1 :])
                elif op is Op.PROGRESS:
                    if slots[step.x] == at:
                        pc = step.y
                elif op is Op.ANCHOR:
                    before = text[at - 1] if at else ""
                    after = text[at] if at < size else ""
                    if not step.anchor(before, after, last=at == size - 1):  # type: ignore[misc]  # as above
                        break
                elif op is Op.MATCH:
                    if at != forbidden_end:
                        return at, slots
                    break
                elif op is Op.END:
                    return at, slots
                elif op is Op.LOOK:
                    found = self._part(pc, at - step.y, slots) if at >= step.y else None
                    if (found is None) is not bool(step.x):
                        break
                    if found is not None:
                        slots = self._merged(slots, found[1])
                    pc = step.next
                elif op is Op.ATOMIC:
                    found = self._part(pc, at, slots)
                    if found is None:
                        break
                    at, slots = found[0], self._merged(slots, found[1])
                    pc = step.next
                elif op is Op.BACKREF:
                    end = self._repeated(step.x, at, slots, ignore_case=bool(step.y))
                    if end is None:
                        break
                    at = end
                elif op is Op.CONDITION:
                    if slots[2 * step.x + 1] < 0:
                        pc = step.next
                else:
                    break
        return None

    def _count(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise StepLimitError

    def _part(self, pc: int, at: int, slots: Slots) -> tuple[int, Slots] | None:
        """Return the end and slots of the first match of a LOOK or ATOMIC."""
        if self._refers:
            return self._run(pc, at, slots)
        key = pc, at
        if key not in self._parts:
            tried_here: list[int] = []
            found = self._parts[key] = self._run(pc, at, self._empty, tried_here=tried_here)
            if found is not None:  # then some of these states lead to a match
                for state in tried_here:
                    self._tried[state] = 0
        return self._parts[key]

    def _merged(self, slots: Slots, found: Slots) -> Slots:
        if self._refers:
            return found
        return tuple(new if new >= 0 else old for old, new in zip(slots, found, strict=True))

    def _repeated(self, group: int, at: int, slots: Slots, *, ignore_case: bool) -> int | None:
        """Return the end of the text of a group that is repeated at a position, or None."""
        start, end = slots[2 * group], slots[2 * group + 1]
        if start < 0 or end < start:
            return None
        wanted = self._text[start:end]
        there = self._text[at : at + len(wanted)]
        if there == wanted or (
            ignore_case
            and len(there) == len(wanted)
            and all(a == b or a.lower() == b.lower() for a, b in zip(wanted, there, strict=True))
        ):
            return at + len(wanted)
        return None
