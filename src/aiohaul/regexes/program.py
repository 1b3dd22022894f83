"""Programs: what a regex does, as a list of instructions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import Protocol

#: The maximum number of instructions, to which counted repetitions such as ``{2,50}`` expand.
MAX_INSTRUCTIONS = 20_000


class Op(IntEnum):
    """What an instruction does. The next instruction follows, unless another one is named.

    Attributes:
        CHAR: consume a character that is in ``chars``.
        SPLIT: try the instruction ``x``, and ``y`` if this fails.
        JUMP: continue with ``x``.
        SAVE: store the position in slot ``x``: the start or end of a group, or of an iteration.
        PROGRESS: continue with ``y`` if the position is still the one in slot ``x``: an iteration
            that consumed nothing ends its loop.
        ANCHOR: continue if the position is one of kind ``anchor``.
        LOOK: continue at the same position if the instructions up to an END match (``x`` is 0), or
            do not match (1). ``y`` is the number of characters to go back first. The instruction
            after the END is ``next``.
        ATOMIC: continue where the instructions up to an END match first. ``next`` as for LOOK.
        END: the end of what LOOK or ATOMIC begins.
        BACKREF: consume the text of group ``x``. ``y`` is 1 to ignore the case, ``next`` is 1 if
            the text may be empty.
        CONDITION: continue with ``next`` if group ``x`` did not match.
        FAIL: never match.
        MATCH: the regex matches.
    """

    CHAR = auto()
    SPLIT = auto()
    JUMP = auto()
    SAVE = auto()
    PROGRESS = auto()
    ANCHOR = auto()
    LOOK = auto()
    ATOMIC = auto()
    END = auto()
    BACKREF = auto()
    CONDITION = auto()
    FAIL = auto()
    MATCH = auto()


class Chars(dict[str, bool]):
    """A set of characters: ``chars[c]`` is True if the regex of one character matches ``c``.

    Args:
        pattern: the regex of one character.
    """

    def __init__(self, pattern: re.Pattern[str]) -> None:
        super().__init__()
        self._match = pattern.match

    def __missing__(self, char: str) -> bool:
        if len(self) > 1_000:  # noqa: PLR2004  # a text may have a million different ones
            self.clear()
        found = self[char] = self._match(char) is not None
        return found


class Anchor(Protocol):
    """A condition on the position."""

    def __call__(self, before: str, after: str, *, last: bool) -> bool:
        """Return True if the position is of this kind.

        Args:
            before: the character before the position; "" at the start.
            after: the character after the position; "" at the end.
            last: True if ``after`` is the last character.
        """


@dataclass(frozen=True, slots=True)
class Instruction:
    """One step of a program; :class:`Op` says what its fields mean.

    Attributes:
        loops: the slots of the iterations around it that may be empty.
    """

    op: Op
    x: int = 0
    y: int = 0
    next: int = 0
    chars: Chars | None = None
    anchor: Anchor | None = None
    loops: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Program:
    """The instructions of a regex.

    Attributes:
        code: the instructions; the first one is where a match starts.
        slots: the number of slots, two for each group (0 is the whole match) and one for each loop.
        groups: the number of groups, the whole match included.
        samples: characters that tell all sets of characters in the regex apart.
    """

    code: Sequence[Instruction]
    slots: int
    groups: int
    samples: str

    def has(self, *ops: Op) -> bool:
        """Return True if an instruction has one of these operations."""
        return any(each.op in ops for each in self.code)


def is_start(before: str, after: str, *, last: bool) -> bool:  # noqa: ARG001  # an Anchor
    """Return True at the start of the text."""
    return not before


def is_line_start(before: str, after: str, *, last: bool) -> bool:  # noqa: ARG001  # an Anchor
    """Return True at the start of a line."""
    return before in {"", "\n"}


def is_end(before: str, after: str, *, last: bool) -> bool:  # noqa: ARG001  # an Anchor
    """Return True at the end of the text, and before a newline at its end."""
    return not after or (last and after == "\n")


def is_line_end(before: str, after: str, *, last: bool) -> bool:  # noqa: ARG001  # an Anchor
    """Return True at the end of a line."""
    return after in {"", "\n"}


def is_text_end(before: str, after: str, *, last: bool) -> bool:  # noqa: ARG001  # an Anchor
    """Return True at the end of the text."""
    return not after


class Boundary:
    r"""The anchors ``\b`` and ``\B``.

    Args:
        word: the characters of words.
        inside: True for ``\B``.
    """

    def __init__(self, word: Chars, *, inside: bool) -> None:
        self._word = word
        self._inside = inside
        # Before Python 3.14, \B does not match the empty text.
        self._empty = inside and re.match(r"\B", "") is not None

    def __call__(self, before: str, after: str, *, last: bool) -> bool:  # noqa: ARG002  # an Anchor
        """Return True between a word and something else; with ``inside``, elsewhere."""
        if not before and not after:
            return self._empty
        left, right = bool(before) and self._word[before], bool(after) and self._word[after]
        return (left == right) is self._inside
