"""What the README shows is true: no block that is not executed, and names that are there."""

from __future__ import annotations

import ast
import json
import re

import pytest

import aiohaul
from aiohaul.cli import _parser
from readme import (
    BLOCKS,
    PROJECT,
    README,
    blocks,
    executed_elsewhere,
    executed_here,
    known_sessions,
    not_executed,
)

DEFINITIONS = [text for text in blocks("json") if "type" in json.loads(text)]
MARKS = [*executed_here(), *executed_elsewhere()]


def test_every_block_is_executed() -> None:
    left = not_executed(README, MARKS)
    assert not left, f"add a test with @executes for those of lines {[b.line for b in left]}"


@pytest.mark.parametrize("language", ["python", "json", "sh", "console", "", "toml title=x"])
def test_block_that_is_added_has_to_be_executed(language: str) -> None:
    more = f"{README}\n```{language}\nsomething new\n```\n"
    assert [block.text for block in not_executed(more, MARKS)] == ["something new\n"]


def test_block_is_not_executed_by_two() -> None:
    assert len(MARKS) == len(set(MARKS)) == len(BLOCKS)
    assert set(executed_elsewhere().values()) == {
        "test_airflow_readme.py",
        "test_backgrounds.py",
        "test_cancelled.py",
        "test_celery.py",
        "test_kernel.py",
        "test_other_loops.py",
        "test_prefect.py",
        "test_servers.py",
    }


def test_every_block_says_its_language() -> None:
    assert {block.language for block in BLOCKS} <= {"python", "json", "sh", "text"}


@pytest.mark.parametrize("text", DEFINITIONS)
def test_definitions_are_valid(text: str) -> None:
    aiohaul.validate(json.loads(text))


@pytest.mark.parametrize("text", blocks("python"))
def test_code_imports_what_is_there(text: str) -> None:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module == "aiohaul":
            assert {alias.name for alias in node.names} <= {*aiohaul.__all__, "blocking"}


def test_files_and_sessions_that_are_named_are_there() -> None:
    named = set(re.findall(r"`((?:tests|benchmarks|aiohaul|src)/[\w./]+)", README))
    named |= {target for target in re.findall(r"\]\(([^)]+)\)", README) if "://" not in target}
    named = {each for each in named if not each.startswith("#")}
    assert named
    for each in named:
        assert (PROJECT / each).exists() or (PROJECT / "src" / each).exists(), each
    sessions = set(re.findall(r"nox -s ((?:\w+ ?)+)", README))
    assert sessions
    for each in sessions:
        assert set(each.split()[:1]) <= known_sessions(), each
    for module in re.findall(r"python -m (benchmarks[\w.]+)", README):
        assert (PROJECT / f"{module.replace('.', '/')}.py").exists(), module


def test_options_that_are_named_are_there() -> None:
    """Of every command that is named, and of those that stand alone in the text."""
    (commands,) = [each for each in _parser()._actions if each.dest == "==SUPPRESS=="] or [
        each for each in _parser()._actions if each.choices
    ]
    assert isinstance(commands.choices, dict)
    options = {
        name: set(command._option_string_actions) for name, command in commands.choices.items()
    }
    named = re.findall(r"(?:^|[`/ ])aiohaul (\w+)((?: [^`\n]*)?)", README, flags=re.MULTILINE)
    of_commands = [(name, rest) for name, rest in named if name in options]
    assert {name for name, _ in of_commands} == {"run", "watch", "clean", "validate", "demo"}
    for name, rest in of_commands:
        assert set(re.findall(r"(?<= )--\w[\w-]*", rest.split(" #")[0])) <= options[name], rest


def test_anchors_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", README, flags=re.MULTILINE)
    there = {re.sub(r"[^\w\- ]", "", each).strip().lower().replace(" ", "-") for each in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= there
