"""Compiles a regex to a program, from the tree of Python's own parser.

Python's parser and its sets of characters are used, so that a program has the regex's meaning. They
are private modules of Python. A part of the tree that is not known here is an error, and never a
guess.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, cast

from aiohaul.regexes.program import (
    MAX_INSTRUCTIONS,
    Anchor,
    Boundary,
    Chars,
    Instruction,
    Op,
    Program,
    is_end,
    is_line_end,
    is_line_start,
    is_start,
    is_text_end,
)

#: The flags of which one replaces another, as in ``(?a:...)``.
_CHARACTER_TYPES = re.ASCII | re.LOCALE | re.UNICODE

#: A node of the tree: the name of an operation, and its arguments.
Node = tuple[object, object]


class _Tree(Protocol):
    """A part of the tree, as ``re._parser.SubPattern``."""

    data: list[Node]
    state: object

    def getwidth(self) -> tuple[int, int]:
        """Return the minimum and maximum number of characters."""


class _Parser(Protocol):
    """The module ``re._parser``."""

    MAXREPEAT: int

    def parse(self, text: str, flags: int) -> _Tree:
        """Return the tree of a regex."""

    def State(self) -> object:  # noqa: N802  # Python's name
        """Return the state of a parser."""

    def SubPattern(self, state: object, data: list[Node]) -> _Tree:  # noqa: N802  # Python's name
        """Return a tree with these nodes."""


class _Compiler(Protocol):
    """The module ``re._compiler``."""

    def compile(self, tree: _Tree, flags: int) -> re.Pattern[str]:
        """Return the regex of a tree."""


class UnknownRegexError(Exception):
    """A regex has a part that the compiler does not know."""


class TooLargeRegexError(Exception):
    """The counted repetitions of a regex expand to too many instructions."""


def compile_program(pattern: re.Pattern[str]) -> Program:
    """Return the program of a regex.

    Raises:
        UnknownRegexError: the regex has a part that is not known here.
        TooLargeRegexError: the counted repetitions expand to too many instructions.
    """
    try:
        return _Builder(pattern).build()
    except (AttributeError, ImportError, RecursionError, TypeError, ValueError) as error:
        raise UnknownRegexError(f"the tree is not as expected: {error!r}") from error


class _Builder:
    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._parser = cast("_Parser", importlib.import_module("re._parser"))
        self._compiler = cast("_Compiler", importlib.import_module("re._compiler"))
        self._pattern = pattern
        self._state: object = None
        self._code: list[Instruction] = []
        self._slots = 2 * (pattern.groups + 1)
        self._loops: tuple[int, ...] = ()
        self._sets: dict[str, Chars] = {}
        self._samples = {*map(chr, range(256)), *"ЖжΣσς٣一\u0130\u0131\u017f\u1e9e\u2028\u3000😀"}

    def build(self) -> Program:
        pattern = self._pattern
        flags = pattern.flags & ~re.DEBUG
        tree = self._parser.parse(pattern.pattern, flags)
        self._state = tree.state
        self._sequence(tree.data, flags)
        self._add(Op.MATCH)
        groups = pattern.groups + 1
        return Program(self._code, self._slots, groups, "".join(sorted(self._samples)))

    def _add(self, op: Op, x: int = 0, y: int = 0, **more: object) -> int:
        """Add an instruction, and return its index."""
        if len(self._code) >= MAX_INSTRUCTIONS:
            raise TooLargeRegexError
        self._code.append(
            Instruction(
                op,
                x,
                y,
                chars=cast("Chars | None", more.get("chars")),
                anchor=cast("Anchor | None", more.get("anchor")),
                loops=self._loops,
            )
        )
        return len(self._code) - 1

    def _set(self, at: int, op: Op, x: int = 0, y: int = 0, to: int = 0) -> None:
        """Replace an instruction whose targets are known now."""
        self._code[at] = Instruction(op, x, y, to, loops=self._code[at].loops)

    def _sequence(self, nodes: Iterable[Node], flags: int) -> None:
        for op, argument in nodes:
            self._node(str(op), argument, flags, (op, argument))

    def _node(self, op: str, argument: object, flags: int, node: Node) -> None:  # noqa: C901  # a table
        match op, argument:
            case (("LITERAL" | "NOT_LITERAL" | "IN" | "ANY" | "CATEGORY"), _):
                self._add(Op.CHAR, chars=self._chars(node, flags))
            case "SUBPATTERN", (group, int(added), int(removed), tree):
                kept = flags & ~_CHARACTER_TYPES if added & _CHARACTER_TYPES else flags
                flags = (kept | added) & ~removed
                self._group(cast("int | None", group), cast("_Tree", tree), flags)
            case "BRANCH", (_, branches):
                self._branch([each.data for each in cast("list[_Tree]", branches)], flags)
            case (("MAX_REPEAT" | "MIN_REPEAT"), (int(least), int(most), tree)):
                self._repeat(least, most, cast("_Tree", tree), flags, lazy=op == "MIN_REPEAT")
            case "POSSESSIVE_REPEAT", (int(least), int(most), tree):
                start = self._add(Op.ATOMIC)
                self._repeat(least, most, cast("_Tree", tree), flags, lazy=False)
                self._add(Op.END)
                self._set(start, Op.ATOMIC, to=len(self._code))
            case "ATOMIC_GROUP", tree:
                start = self._add(Op.ATOMIC)
                self._sequence(cast("_Tree", tree).data, flags)
                self._add(Op.END)
                self._set(start, Op.ATOMIC, to=len(self._code))
            case (("ASSERT" | "ASSERT_NOT"), (int(direction), tree)):
                inner = cast("_Tree", tree)
                back = inner.getwidth()[0] if direction < 0 else 0
                start = self._add(Op.LOOK)
                self._sequence(inner.data, flags)
                self._add(Op.END)
                self._set(start, Op.LOOK, int(op == "ASSERT_NOT"), back, len(self._code))
            case "AT", _:
                self._add(Op.ANCHOR, anchor=self._anchor(str(argument), flags))
            case "GROUPREF", int(group):
                nullable = self._parser.SubPattern(self._state, [node]).getwidth()[0] == 0
                at = self._add(Op.BACKREF)
                self._set(at, Op.BACKREF, group, int(bool(flags & re.IGNORECASE)), int(nullable))
            case "GROUPREF_EXISTS", (int(group), yes, no):
                self._condition(group, cast("_Tree", yes), cast("_Tree | None", no), flags)
            case "FAILURE", _:
                self._add(Op.FAIL)
            case _:
                raise UnknownRegexError(f"{op} is not known")

    def _group(self, group: int | None, tree: _Tree, flags: int) -> None:
        if group is None:
            self._sequence(tree.data, flags)
            return
        self._add(Op.SAVE, 2 * group)
        self._sequence(tree.data, flags)
        self._add(Op.SAVE, 2 * group + 1)

    def _branch(self, branches: Sequence[Iterable[Node]], flags: int) -> None:
        ends = []
        for nodes in branches[:-1]:
            split = self._add(Op.SPLIT)
            self._sequence(nodes, flags)
            ends.append(self._add(Op.JUMP))
            self._set(split, Op.SPLIT, split + 1, len(self._code))
        self._sequence(branches[-1], flags)
        for each in ends:
            self._set(each, Op.JUMP, len(self._code))

    def _repeat(self, least: int, most: int, tree: _Tree, flags: int, *, lazy: bool) -> None:
        for _ in range(least):
            self._sequence(tree.data, flags)
        endless = most == self._parser.MAXREPEAT
        nullable = tree.getwidth()[0] == 0
        exits, checks = [], []
        for _ in range(1 if endless else most - least):
            split = self._add(Op.SPLIT)
            exits.append(split)
            if nullable:
                slot, outside = self._slots, self._loops
                self._slots += 1
                self._add(Op.SAVE, slot)
                self._loops = (*outside, slot)
                self._sequence(tree.data, flags)
                checks.append((self._add(Op.PROGRESS), slot))
                self._loops = outside
            else:
                self._sequence(tree.data, flags)
            if endless:
                self._add(Op.JUMP, split)
        end = len(self._code)
        for split in exits:
            self._set(split, Op.SPLIT, *((end, split + 1) if lazy else (split + 1, end)))
        for at, slot in checks:
            self._set(at, Op.PROGRESS, slot, end)

    def _condition(self, group: int, yes: _Tree, no: _Tree | None, flags: int) -> None:
        start = self._add(Op.CONDITION)
        self._sequence(yes.data, flags)
        jump = self._add(Op.JUMP)
        self._set(start, Op.CONDITION, group, to=len(self._code))
        if no is not None:
            self._sequence(no.data, flags)
        self._set(jump, Op.JUMP, len(self._code))

    def _chars(self, node: Node, flags: int) -> Chars:
        key = f"{flags} {node}"
        if key not in self._sets:
            tree = self._parser.SubPattern(self._parser.State(), [node])
            self._sets[key] = Chars(self._compiler.compile(tree, flags))
            self._samples.update(_samples(node))
        return self._sets[key]

    def _anchor(self, name: str, flags: int) -> Anchor:
        multiline = bool(flags & re.MULTILINE)
        match name:
            case "AT_BEGINNING":
                return is_line_start if multiline else is_start
            case "AT_BEGINNING_STRING":
                return is_start
            case "AT_END":
                return is_line_end if multiline else is_end
            case "AT_END_STRING":
                return is_text_end
            case "AT_BOUNDARY" | "AT_NON_BOUNDARY":
                word = Chars(re.compile(r"\w", flags & re.ASCII))
                return Boundary(word, inside=name == "AT_NON_BOUNDARY")
            case _:
                raise UnknownRegexError(f"{name} is not known")


def _samples(node: object) -> Iterator[str]:
    """Yield the characters that a set names, those at the ends of its ranges, and their cases."""
    if isinstance(node, list | tuple):
        for each in node:
            yield from _samples(each)
    elif isinstance(node, int) and type(node) is int:
        for code in (node - 1, node, node + 1):
            if 0 <= code < 0x110000:  # noqa: PLR2004  # the end of Unicode
                yield from {chr(code), *chr(code).lower()[:1], *chr(code).upper()[:1]}
