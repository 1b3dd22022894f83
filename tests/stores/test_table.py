"""The table of README.md is of these tests, and says what came of them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.stores.table import README, Result, features_in, table

HERE = Path(__file__).parent


def features_of_tests() -> set[str]:
    """The argument of each ``@pytest.mark.feature``."""
    return {
        node.args[0].value
        for file in HERE.glob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "pytest.mark.feature"
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    }


def test_committed_table_names_the_features_of_the_tests() -> None:
    assert sorted(features_in(README.read_text())) == sorted(features_of_tests())


def test_every_test_on_a_store_names_its_feature() -> None:
    for file in HERE.glob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names = {each.arg for each in node.args.args}
                marks = " ".join(map(ast.unparse, node.decorator_list))
                if node.name.startswith("test_") and names & {"store_s3", "killable", "cloud_s3"}:
                    assert "pytest.mark.feature(" in marks, node.name


@pytest.mark.parametrize(
    ("outcomes", "cell"),
    [
        (["passed", "passed"], "ran on 4.48"),
        (["passed", "failed"], "failed on 4.48"),
        (["passed", "xfailed"], "not on 4.48 (1)"),
    ],
)
def test_a_feature_ran_where_each_of_its_tests_passed(outcomes: list[str], cell: str) -> None:
    results = [
        Result("moves", "seaweedfs", "4.48", each, "it cannot" if each == "xfailed" else "")
        for each in outcomes
    ]
    written = table([*results, Result("copies", "moto", "5", "passed")])
    assert f"| moves | {cell} | - |" in written
    assert "| copies | - | ran on 5 |" in written
    assert ("1. it cannot" in written) == ("xfailed" in outcomes)
    assert features_in(written) == ["moves", "copies"]
