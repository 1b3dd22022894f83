"""Matches names and lines with regexes, in a bounded time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cached_property, lru_cache

from aiohaul.errors import RegexLimitError
from aiohaul.regexes.automaton import UNSUPPORTED, Automaton
from aiohaul.regexes.backtracking import MAX_STEPS, Backtracker, Slots, StepLimitError
from aiohaul.regexes.compiler import TooLargeRegexError, UnknownRegexError, compile_program
from aiohaul.regexes.growth import Growth, growth_of
from aiohaul.regexes.program import MAX_INSTRUCTIONS, Program

#: The number of steps, at some 1 to 50 ns each, that Python's matcher may need for one file name.
#: Names come by the hundred, and the loop waits for them.
_STEPS_PER_NAME = 100_000
#: As above, for one line of a log or an object.
_STEPS_PER_LINE = 1_000_000
#: The maximum number of characters of a key.
_MAX_NAME = 1_024
#: The number of characters of a name or line in an error message.
_MAX_SHOWN = 100
#: A character, or a set of characters, that a regex matches as it stands.
_CHARACTER = r"(?:[^\\.^$*+?{}\[\]|()]|\.|\\[dDwWsS]|\\[^a-zA-Z0-9]|\[\^?[^\\\[\]^]+\])"
#: Regexes with one repetition of one character at most, as most are. They are linear from the start
#: of a name, without an analysis: that takes some milliseconds, and watches come by the thousand.
_PLAIN = re.compile(rf"\^?{_CHARACTER}*(?:[*+?]\??|\{{\d+(?:,\d*)?\}})?{_CHARACTER}*\$?")
#: The maximum number of characters of such a regex.
_MAX_PLAIN = 200


class BoundedRegex:
    """A regex that matches as Python's ``re`` does, in a time that grows with the text's length.

    Python's matcher is used for each text for which its number of steps is small, which are all
    texts for nearly all regexes. For ``(a+)+$`` the number doubles with each character. Then an
    automaton or a backtracker that remembers its states is used.

    Args:
        pattern: the regex.

    Attributes:
        pattern: the regex.
        growth: how the steps of Python's matcher grow with the length of a file name.
        is_fast: True if no name takes long. Else match many names in a thread.
        matches_name: a function whose result is true if a name matches from its start, as
            ``re.Pattern.match`` does. It raises RegexLimitError if the regex refers back to a group
            and needs too many steps.
    """

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.pattern = pattern
        plain = len(pattern.pattern) <= _MAX_PLAIN and _PLAIN.fullmatch(pattern.pattern)
        self.growth = Growth(1) if plain else self._growth(anywhere=False)
        self._name_length = self.growth.longest(_STEPS_PER_NAME)
        self.is_fast = self._name_length >= _MAX_NAME and self.growth.is_linear
        # A call less for each of a million names.
        always = self._name_length >= _MAX_NAME
        self.matches_name: Callable[[str], object] = pattern.match if always else self._matches_name
        self._automata: dict[bool, Automaton] = {}

    @cached_property
    def is_fast_in_lines(self) -> bool:
        """True if a line takes a time that grows with its length alone.

        Else match many lines in a thread.
        """
        return self._growth_anywhere.is_linear

    @cached_property
    def _program(self) -> Program | None:
        try:
            return compile_program(self.pattern)
        except (TooLargeRegexError, UnknownRegexError):
            return None

    @cached_property
    def _growth_anywhere(self) -> Growth:
        return self._growth(anywhere=True)

    def _growth(self, *, anywhere: bool) -> Growth:
        try:
            program = self._program or compile_program(self.pattern)
        except UnknownRegexError:  # Python's parser is newer than this module
            return Growth(1)
        except TooLargeRegexError:
            return Growth(None)
        return growth_of(program, anywhere=anywhere)

    def _matches_name(self, name: str) -> object:
        if len(name) <= self._name_length:
            return self.pattern.match(name)
        return self._matches(name, anywhere=False)

    @cached_property
    def _line_length(self) -> int:
        return self._growth_anywhere.longest(_STEPS_PER_LINE)

    @cached_property
    def _sub_length(self) -> int:
        return self._growth_anywhere.longest(_STEPS_PER_NAME)

    def is_in_line(self, line: str) -> bool:
        """Return True if the regex matches anywhere in a line, as ``re.Pattern.search`` does.

        Raises:
            RegexLimitError: the regex refers back to a group, and needs too many steps.
        """
        if len(line) <= self._line_length:
            return self.pattern.search(line) is not None
        return self._matches(line, anywhere=True)

    def first_line(self, lines: Iterable[str]) -> str | None:
        """Return the first line for which :meth:`is_in_line` is true; None if there is none."""
        return next(filter(self.is_in_line, lines), None)

    def replace_in(self, name: str, sub: str) -> str:
        """Return a name with all matches replaced, as ``re.Pattern.sub`` does.

        Raises:
            RegexLimitError: the regex refers back to a group, and needs too many steps.
        """
        if len(name) <= self._sub_length:
            return self.pattern.sub(sub, name)
        try:
            return "".join(self._replaced(name, sub))
        except StepLimitError as error:
            raise self._limit_error(name) from error

    def _replaced(self, name: str, sub: str) -> list[str]:
        matcher = Backtracker(self._known(name), name)
        parts: list[str] = []
        at, last, not_empty = 0, 0, False
        while at <= len(name) and (found := matcher.search(at, not_empty=not_empty)):
            start, end, slots = found
            parts += name[last:start], self._expanded(name, sub, (start, end, *slots[2:]))
            at = last = end
            not_empty = start == end  # as re: then the next match there consumes something
        return [*parts, name[last:]]

    def _expanded(self, name: str, sub: str, slots: Slots) -> str:
        r"""Return a replacement with the texts of its groups, such as ``\1``.

        A regex that is made for it, and cannot fail, has the same groups with the same texts.
        """
        names = {index: name for name, index in self.pattern.groupindex.items()}
        spans = [(slots[at], slots[at + 1]) for at in range(0, 2 * self.pattern.groups + 2, 2)]
        groups, texts = [], []
        for index, (start, end) in enumerate(spans[1:], 1):
            opening = f"(?P<{names[index]}>" if index in names else "("
            if start < 0 or end < 0:
                groups.append(f"{opening}x){{0}}")
            else:
                groups.append(f"{opening}.{{{end - start}}})")
                texts.append(name[start:end])
        start, end = spans[0]
        made = re.compile(f".{{{end - start}}}(?={''.join(groups)})", re.DOTALL)
        found = made.match("".join((name[start:end], *texts)))
        if found is None:
            raise AssertionError("the regex has the lengths of the texts")
        return found.expand(sub)

    def _matches(self, text: str, *, anywhere: bool) -> bool:
        program = self._known(text)
        if not program.has(*UNSUPPORTED):
            if anywhere not in self._automata:
                self._automata[anywhere] = Automaton(program, anywhere=anywhere)
            return self._automata[anywhere].matches(text)
        try:
            matcher = Backtracker(program, text)
            return matcher.search(0) is not None if anywhere else matcher.match()
        except StepLimitError as error:
            raise self._limit_error(text) from error

    def _known(self, text: str) -> Program:
        if self._program is None:
            raise RegexLimitError(
                f"matching {_shown(text)} against the regex {self.pattern.pattern!r} was not tried:"
                f" its counted repetitions expand to more than {MAX_INSTRUCTIONS:,} instructions."
                " Use smaller numbers, or + and *"
            )
        return self._program

    def _limit_error(self, text: str) -> RegexLimitError:
        return RegexLimitError(
            f"matching {_shown(text)} against the regex {self.pattern.pattern!r} was stopped after"
            f" {MAX_STEPS:,} steps. Simplify the regex: leave out references to groups, such as"
            r" \1, or repetitions that contain a repetition"
        )


def _shown(text: str) -> str:
    return repr(text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…")


@lru_cache(maxsize=256)
def bounded(pattern: re.Pattern[str]) -> BoundedRegex:
    """Return the bounded regex of a regex. It is made once."""
    return BoundedRegex(pattern)
