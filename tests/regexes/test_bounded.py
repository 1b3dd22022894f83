"""Regexes have Python's meaning, and no name takes long: each with every matcher, beside ``re``."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiohaul import RegexLimitError
from aiohaul.regexes.bounded import _PLAIN, BoundedRegex, bounded
from aiohaul.regexes.compiler import TooLargeRegexError, compile_program
from aiohaul.regexes.growth import Growth, growth_of

# Python's matcher takes 18 s for some of these, and hours for others.
pytestmark = pytest.mark.timeout(15)

EXPONENTIAL = ["(a+)+$", "(a|a)*$", "(a*)*$", "(a|aa)+$", r"(\w+_?)+\.csv", "(x+x+)+y", "(a*b*)*c"]
CUBIC = [r".*_.*_.*\.csv", "(.*)(.*)(.*)x", r"a*a*a*$"]
LINEAR = [
    "",
    "^",
    "go",
    r".*\.csv",
    r"report_\d{4}-?\d{2}-?\d{2}(_\d+)?\.(csv|txt)(\.gz)?$",
    r"(\w+-)+\d+\.csv",
    r"(a|b)*$",
    r"^(?!.*\.tmp$).*\.csv$",
    r"(?:\d{1,3}\.){3}\d{1,3}",
    r"[^/]+/[^/]+/.*",
]


@pytest.mark.parametrize("regex", LINEAR)
def test_regex_that_is_plainly_linear_is_left_to_python(regex: str) -> None:
    pattern = re.compile(regex)
    assert bounded(pattern).growth.is_linear
    match: Any = bounded(pattern).matches_name
    assert (match.__self__, match.__name__) == (pattern, "match")  # not a call more for each name


@pytest.mark.parametrize(
    ("regexes", "degree"), [(EXPONENTIAL, None), (CUBIC, 3), ([r".*_.*\.csv"], 2)]
)
def test_growth_is_named(regexes: list[str], degree: int | None) -> None:
    assert {bounded(re.compile(each)).growth.degree for each in regexes} == {degree}


@pytest.mark.parametrize("regex", EXPONENTIAL)
@pytest.mark.parametrize("name", ["a" * 40 + "!", "x" * 1000 + "!", "a_" * 500 + "!"])
def test_exponential_regex_answers_soon(regex: str, name: str) -> None:
    pattern = bounded(re.compile(f"{regex}="))
    assert not pattern.matches_name(name)
    assert not pattern.is_in_line(name)
    assert pattern.replace_in(name, "") == name


@pytest.mark.parametrize("regex", CUBIC)
def test_cubic_regex_answers_soon_for_a_listing_of_long_names(regex: str) -> None:
    matches = bounded(re.compile(regex)).matches_name
    name = ("_" if "_" in regex else "a") * 1000 + "!"
    assert not any(matches(f"{name}{number}") for number in range(100))


def test_long_lines_are_searched_soon() -> None:
    regex = bounded(re.compile("ERROR.*timeout"))
    assert not regex.is_in_line("ERROR" * 50_000)
    assert regex.is_in_line("ERROR" * 50_000 + " timeout")


def test_regex_that_refers_back_is_stopped_and_nothing_is_skipped() -> None:
    regex, name = r"(a*)(a*)(a*)(a*)(a*)\1\2\3\4\5b", "a" * 90
    with pytest.raises(RegexLimitError) as stopped:
        bounded(re.compile(regex)).matches_name(name)
    told = str(stopped.value)
    assert told.startswith(f"matching {name!r} against the regex ")
    assert repr(regex) in told
    assert "was stopped after 200,000 steps. Simplify the regex" in told


def test_regex_that_is_too_large_is_refused_in_a_sentence() -> None:
    pattern = re.compile("(?:(?:a{1,300}){1,300})*")
    with pytest.raises(TooLargeRegexError):
        compile_program(pattern)
    with pytest.raises(RegexLimitError, match=r"expand to more than 20,000 instructions"):
        bounded(pattern).matches_name("a")


def test_unknown_tree_of_a_newer_python_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(_text: str, _flags: int) -> object:
        return object()

    pattern = re.compile("(a|a)*b")
    monkeypatch.setattr("re._parser.parse", parse)
    assert BoundedRegex(pattern).matches_name == pattern.match


@pytest.mark.parametrize(
    ("growth", "length"),
    [(Growth(2), 446), (Growth(3), 83), (Growth(None), 0), (Growth(1, 1 << 30), 0)],
)
def test_length_up_to_which_python_matches(growth: Growth, length: int) -> None:
    assert growth.longest(100_000) == length


def always_bounded(pattern: re.Pattern[str]) -> BoundedRegex:
    """One that never asks Python's matcher."""
    regex = BoundedRegex(pattern)
    regex._name_length = regex._line_length = regex._sub_length = -1
    return regex


def same(regex: str, flags: int, name: str, sub: str) -> None:
    pattern = re.compile(regex, flags)
    mine = always_bounded(pattern)
    assert bool(mine._matches_name(name)) is (pattern.match(name) is not None)
    assert mine.is_in_line(name) is (pattern.search(name) is not None)
    assert mine.replace_in(name, sub) == pattern.sub(sub, name)


@pytest.mark.parametrize("flags", [0, re.IGNORECASE, re.MULTILINE, re.DOTALL, re.ASCII, re.VERBOSE])
@pytest.mark.parametrize(
    "regex",
    [
        *EXPONENTIAL,
        *CUBIC,
        *LINEAR,
        r"^a$",
        r"a\Z",
        r"\Aa\b",
        r"\b\w+\b|\B",
        r"(?P<one>a)(b)?",
        r"(a)?(?(1)b|c)",
        r"(a|b)\1",
        r"(?i:A)b(?-i:C)?",
        r"(?=a+b)a|(?!a)b|(?<=a)c|(?<!b)_",
        r"(?>a+)b|a++b?",
        r"a??b+?c{2,3}?",
        r"(?:|a)*b",
        r"[^\W\d]+ [é-ü]*",
        "ß|\u017f|\u212a",
        r"(?#c)(a|(?:b|)+)*",
    ],
)
@pytest.mark.parametrize(
    "name", ["", "a", "aab\n", "a_b_c.csv", "ABC aac\nab", "bß_K éa1\n\n", "cc"]
)
def test_regex_has_pythons_meaning(regex: str, flags: int, name: str) -> None:
    groups = re.compile(regex, flags).groups
    same(regex, flags, name, r"<\g<0>" + (r"\1>" if groups else ">"))


def test_names_of_groups_in_a_replacement() -> None:
    same(r"(?P<day>\d+)-(?P<rest>x)?", 0, "1-2-x", r"\g<rest>[\g<day>]\n\\")


_atoms = st.sampled_from(["a", "b", "_", ".", "[ab]", "[^a]", r"\w", r"\d", r"\W", "^", "$", r"\b"])
_regexes = st.recursive(
    _atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
        st.builds(
            "(?:{}){}".format,
            inner,
            st.sampled_from(["*", "+", "?", "*?", "+?", "??", "{2}", "{0,2}", "{1,}"]),
        ),
        st.builds("(?{}{})".format, st.sampled_from(["=", "!", ">", ":", "i:"]), inner),
    ),
    max_leaves=8,
)


@given(
    _regexes,
    st.sampled_from([0, re.IGNORECASE, re.MULTILINE, re.DOTALL]),
    st.text("aabA_1é\n ", max_size=8),
)
def test_any_regex_has_pythons_meaning(regex: str, flags: int, name: str) -> None:
    same(regex, flags, name, r"<\g<0>>")


def test_automaton_forgets_states_of_texts_that_make_many() -> None:
    regex = always_bounded(re.compile("(?:.*a.{12})+z"))
    names = [f"{number:b}".replace("0", "a").replace("1", "b") * 8 for number in range(1, 600)]
    assert not any(regex._matches_name(each) for each in names)
    assert regex._automata[False]._transitions <= 20_000
    assert regex._matches_name("a" * 13 + "z")


@given(st.from_regex(_PLAIN, fullmatch=True).filter(lambda made: len(made) <= 20))
def test_what_is_plain_is_linear_by_analysis_too(regex: str) -> None:
    try:
        pattern = re.compile(regex)
    except (re.error, OverflowError):
        return
    assert growth_of(compile_program(pattern), anywhere=False).is_linear


@pytest.mark.parametrize("regex", [r".*\.csv", r"12\.csv", r"^report-\d{8}\.txt$", r"[^_]+_x"])
def test_usual_regexes_need_no_analysis(regex: str) -> None:
    assert "_program" not in vars(BoundedRegex(re.compile(regex)))
