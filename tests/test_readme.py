"""What the README shows is true: valid definitions, and names that are there."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

import aiohaul

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


DEFINITIONS = [text for text in blocks("json") if "type" in json.loads(text)]


@pytest.mark.parametrize("text", DEFINITIONS)
def test_definitions_are_valid(text: str) -> None:
    aiohaul.validate(json.loads(text))


@pytest.mark.parametrize("text", blocks("python"))
def test_code_imports_what_is_there(text: str) -> None:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module == "aiohaul":
            assert {alias.name for alias in node.names} <= set(aiohaul.__all__)


def test_there_is_something_to_check() -> None:
    assert len(DEFINITIONS) == 5
    assert len(blocks("json")) == 8
    assert len(blocks("python")) == 9  # those of orchestrators are run in tests/orchestrators
