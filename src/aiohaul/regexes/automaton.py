"""Runs a program as a deterministic automaton, whose states are made when a text needs them.

This tells if a text matches, in one dictionary lookup for each character, and not what its groups
match.
"""

from __future__ import annotations

from aiohaul.regexes.program import Op, Program

#: The operations that an automaton cannot have.
UNSUPPORTED = (Op.LOOK, Op.ATOMIC, Op.BACKREF, Op.CONDITION)
#: The number of transitions that are kept.
_MAX_TRANSITIONS = 20_000
#: What comes after the last character, and instead of a newline that is the last character.
_END, _LAST_NEWLINE = "", "\n\n"


class _State(dict[str, "_State"]):
    """A state: the next state by the next character.

    Args:
        automaton: the automaton; None if the state stays the same for every character.
        places: the instructions that the next character may continue.
        before: the character before, as far as the anchors can tell.
    """

    __slots__ = ("_automaton", "before", "places")

    def __init__(self, automaton: Automaton | None, places: frozenset[int], before: str) -> None:
        super().__init__()
        self._automaton = automaton
        self.places = places
        self.before = before

    def __missing__(self, char: str) -> _State:
        if self._automaton is None:
            return self
        return self._automaton.advance(self, char)


class Automaton:
    """Tells if texts match.

    Args:
        program: the program, without operations that are :data:`UNSUPPORTED`.
        anywhere: True finds a match anywhere in the text, as ``re.Pattern.search`` does; False
            only at its start, as ``re.Pattern.match`` does.
    """

    def __init__(self, program: Program, *, anywhere: bool) -> None:
        self._code = program.code
        self._anywhere = anywhere
        self._has_anchors = program.has(Op.ANCHOR)
        self._matched = _State(None, frozenset(), "")
        self._failed = _State(None, frozenset(), "")
        self._start = _State(self, frozenset({0}), "")
        self._states: dict[tuple[frozenset[int], str], _State] = {}
        self._transitions = 0

    def matches(self, text: str) -> bool:
        """Return True if the text matches."""
        state = self._start
        newline = text.endswith("\n")
        for char in text[:-1] if newline else text:
            state = state[char]
        if newline:
            state = state[_LAST_NEWLINE]
        return state[_END] is self._matched

    def advance(self, state: _State, symbol: str) -> _State:
        """Make the state that follows a state after a character."""
        if self._transitions >= _MAX_TRANSITIONS:
            # Some texts make a new state for each of their characters.
            for each in (self._start, *self._states.values()):
                each.clear()
            self._states.clear()
            self._transitions = 0
        self._transitions += 1
        state[symbol] = found = self._next(state, symbol)
        return found

    def _next(self, state: _State, symbol: str) -> _State:
        char, last = ("\n", True) if symbol == _LAST_NEWLINE else (symbol, False)
        following: set[int] = set()
        for pc in self._closure(state, char, last=last):
            step = self._code[pc]
            if step.op is Op.MATCH:
                return self._matched
            if char and step.chars is not None and step.chars[char]:
                following.add(pc + 1)
        if self._anywhere:
            following.add(0)
        if not char or not following:
            return self._failed
        key = frozenset(following), self._kind(char)
        if key not in self._states:
            self._states[key] = _State(self, *key)
        return self._states[key]

    def _kind(self, char: str) -> str:
        """Return a character that the anchors cannot tell from ``char``."""
        if not self._has_anchors or not char.isascii():
            return char if self._has_anchors else "a"
        if char == "\n":
            return char
        return "a" if char.isalnum() or char == "_" else "-"

    def _closure(self, state: _State, char: str, *, last: bool) -> set[int]:
        """Return the instructions that consume a character, or match, at a position."""
        code, before = self._code, state.before
        found: set[int] = set()
        seen: set[int] = set()
        stack = list(state.places)
        while stack:
            pc = stack.pop()
            if pc in seen:
                continue
            seen.add(pc)
            step = code[pc]
            if step.op in {Op.CHAR, Op.MATCH}:
                found.add(pc)
            elif step.op is Op.SPLIT:
                stack += (step.x, step.y)
            elif step.op is Op.JUMP:
                stack.append(step.x)
            elif step.op is Op.PROGRESS:
                stack += (pc + 1, step.y)
            elif step.op is Op.SAVE or (
                step.anchor is not None and step.anchor(before, char, last=last)
            ):
                stack.append(pc + 1)
        return found
